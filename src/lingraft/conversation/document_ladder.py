"""A segment of a document until its translation keeps all of it: asked once, drawn anew, at last in pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lingraft.core.record import Record
from lingraft.documents.base import Segment, State
from lingraft.documents.inline import breaks_fit, problems
from lingraft.documents.pieces import cut, rejoined
from lingraft.translation.direct import Translation, one_line

Asked = Callable[[Mapping[str, str], int], Mapping[str, Translation]]
"""Translates texts by their ids; the number draws others where it is not 0."""

FIRST, DRAWN, PIECES, MEMORY = "first", "drawn", "pieces", "memory"
"""How a translation was made: of the whole, of the whole once more, of its pieces, taken from a memory."""
_USABLE = ("", "extra_text")
"""Failures of a piece by which its text is one nevertheless."""


@dataclass(frozen=True)
class TranslatedSegment(Record):
    """What became of a segment of a document.

    Attributes:
        id: names it in the file: "line 12", "menu.open".
        line: of the source file, from 1.
        source: its text, with placeholders for inline codes.
        translation: likewise; empty if it was lost.
        state: "translated"; "doubtful", if its score is low; "lost", if no translation kept all of it.
        how: "first"; "drawn": once more; "pieces": cut at codes and sentences; "memory": taken from one.
        problem: of a lost one: what its last translation did not keep.
        score: estimate of its quality, if one was wanted.
        tokens: that the model wrote for it.
        context: words about it from the file.
    """

    id: str
    line: int
    source: str
    translation: str = ""
    state: State = "translated"
    how: str = FIRST
    problem: str = ""
    score: float | None = None
    tokens: int = 0
    context: str = ""


@dataclass
class Ladder:
    """Asks for segments of a document.

    Attributes:
        ask: translates.
        source: language code of the texts.
        retries: how often a segment is drawn anew before it is cut.
    """

    ask: Asked
    source: str
    retries: int = 2

    def translated(self, segments: Sequence[Segment]) -> list[TranslatedSegment]:
        """Return what becomes of segments, in their order."""
        waiting = {str(number): segment for number, segment in enumerate(segments)}
        done: dict[str, TranslatedSegment] = {}
        tokens = dict.fromkeys(waiting, 0)
        for draw in range(self.retries + 1):
            if not waiting:
                break
            answers = self.ask({key: segment.text for key, segment in waiting.items()}, draw)
            for key, answer in answers.items():
                segment = waiting[key]
                tokens[key] += answer.tokens
                text = answer.text if "\n" in segment.text else one_line(answer.text)
                if not (answer.failure or self._problem(segment, text)):
                    done[key] = _made(segment, text, DRAWN if draw else FIRST, tokens[key])
            waiting = {key: segment for key, segment in waiting.items() if key not in done}
        for key, segment in waiting.items():
            done[key] = self._in_pieces(segment, tokens[key])
        return [done[str(number)] for number in range(len(segments))]

    def _problem(self, segment: Segment, text: str) -> str:
        found = problems(segment, text)
        if not found and not breaks_fit(segment, text):
            found = [f"it has no place for {len(segment.breaks)} ends of lines"]
        return "; ".join(found)

    def _in_pieces(self, segment: Segment, tokens: int) -> TranslatedSegment:
        pieces = cut(segment, self.source)
        wanted = dict.fromkeys(piece.text for piece in pieces if piece.translate)
        answers = self.ask(dict(zip(map(str, range(len(wanted))), wanted, strict=True)), 0)
        tokens += sum(answer.tokens for answer in answers.values())
        failed = next((one.failure for one in answers.values() if one.failure not in _USABLE), "")
        if failed:
            return _lost(segment, f"no translation could be taken from what was answered ({failed})", tokens)
        found = {text: answers[str(number)].text for number, text in enumerate(wanted)}
        text = rejoined(pieces, found)
        if problem := self._problem(segment, text):
            return _lost(segment, problem, tokens)
        return _made(segment, text, PIECES, tokens)


def _made(segment: Segment, text: str, how: str, tokens: int) -> TranslatedSegment:
    return TranslatedSegment(
        segment.id, segment.line, segment.text, text, how=how, tokens=tokens, context=segment.context
    )


def _lost(segment: Segment, problem: str, tokens: int) -> TranslatedSegment:
    made = _made(segment, "", PIECES, tokens)
    return replace(made, state="lost", problem=problem)
