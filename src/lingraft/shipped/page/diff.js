  // Word-level difference: what a longest common subsequence of words leaves over. White space does not count.
  const segmenter = window.Intl && Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;
  const splitWords = (text) => {
    const pieces = segmenter ? [...segmenter.segment(text)].map((part) => part.segment)
      : text.match(/\s+|[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}]/gu) || [];
    return pieces;
  };
  const MOST_CELLS = 4e6;
  // Returns for both texts a list of [piece, whether only this text has it].
  const diffWords = (leftText, rightText) => {
    const sides = [leftText, rightText].map((text) => {
      const pieces = splitWords(text);
      const places = [];
      pieces.forEach((piece, place) => { if (piece.trim()) places.push(place); });
      return { pieces, places, words: places.map((place) => pieces[place]), only: new Set() };
    });
    const [a, b] = sides.map((side) => side.words);
    let start = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
    let end = 0;
    while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
    const n = a.length - start - end;
    const m = b.length - start - end;
    const mark = (side, place) => sides[side].only.add(sides[side].places[start + place]);
    if (n * m > MOST_CELLS) {
      for (let i = 0; i < n; i += 1) mark(0, i);
      for (let j = 0; j < m; j += 1) mark(1, j);
    } else {
      const width = m + 1;
      const best = new Uint16Array((n + 1) * width);
      for (let i = n - 1; i >= 0; i -= 1) {
        for (let j = m - 1; j >= 0; j -= 1) {
          best[i * width + j] = a[start + i] === b[start + j] ? best[(i + 1) * width + j + 1] + 1
            : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
        }
      }
      let i = 0;
      let j = 0;
      while (i < n || j < m) {
        if (i < n && j < m && a[start + i] === b[start + j]) { i += 1; j += 1; }
        else if (j >= m || (i < n && best[(i + 1) * width + j] >= best[i * width + j + 1])) { mark(0, i); i += 1; }
        else { mark(1, j); j += 1; }
      }
    }
    return sides.map((side) => side.pieces.map((piece, place) => [piece, side.only.has(place)]));
  };
