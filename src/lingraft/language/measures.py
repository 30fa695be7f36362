"""Small measures of a text alone: words, letters, scripts, language, looping, echo. No model, no files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from lingraft.language.characters import letters_of
from lingraft.language.codes import script
from lingraft.language.identification import identifier_label, identify, may_be

# Scripts written without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, Han.
_SPACELESS = (
    "\u0e00-\u0e7f\u0e80-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
_RUN = re.compile(f"[{_SPACELESS}]+|[^\\s{_SPACELESS}]+")
_SPACELESS_RUN = re.compile(f"[{_SPACELESS}]")


def words(text: str) -> list[str]:
    """Return the words of `text`: split at white space, one word a character in scripts written without spaces.

    A combining mark belongs to the character before it, so that a Thai syllable is not torn apart.

    Example:
        >>> words("GPT-4 写 得好")
        ['GPT-4', '写', '得', '好']
    """
    found: list[str] = []
    for run in _RUN.findall(text):
        if not _SPACELESS_RUN.match(run):
            found.append(run)
            continue
        start = len(found)
        for character in run:
            if len(found) > start and unicodedata.category(character).startswith("M"):
                found[-1] += character
            else:
                found.append(character)
    return found


def without_spaces(word: str) -> bool:
    """Say whether a word begins with a letter of a script that is written without spaces between words."""
    return _SPACELESS_RUN.match(word) is not None


def letter_count(text: str) -> int:
    """Return the number of letters (Unicode category L) in `text`."""
    return sum(map(str.isalpha, text))


def is_looping(text: str, window: int = 40) -> bool:
    """Say whether `text` repeats itself instead of going on, as weak models do until the token limit.

    It loops when, with letters lower-cased,
      - in its last `window` words (at least 20 words are needed) some n-gram of 1 to 8 words follows itself so often
        that the repeats after the first cover more than half of them, or
      - it has more than `window` words and fewer than 35 % of its 4-grams of words are distinct, which finds
        repeated sentences and paragraphs.
    """
    units = [word.lower() for word in words(text)]
    tail = units[-window:]
    if len(tail) >= 20:
        for period in range(1, 9):
            run = longest = 0
            for position in range(period, len(tail)):
                run = run + 1 if tail[position] == tail[position - period] else 0
                longest = max(longest, run)
            if longest > len(tail) / 2:
                return True
    if len(units) <= window:
        return False
    grams = [tuple(units[start : start + 4]) for start in range(len(units) - 3)]
    return len(set(grams)) < 0.35 * len(grams)


def is_echo(text: str, of: str, threshold: float = 0.7) -> bool:
    """Say whether `text` copies `of` instead of adding something to it.

    Both are reduced to case-folded letters and digits (NFKC). `text` is an echo when one contains the other and the
    shorter makes up at least `threshold` of the longer, or when the F1 of their character 4-grams (as multisets) is at
    least `threshold`. A short quotation, or an answer that repeats the question and goes on, is not an echo.

    Args:
        text: what was written.
        of: what may have been copied.
        threshold: share from 0 to 1.
    """
    written, original = _skeleton(text), _skeleton(of)
    if not written or not original:
        return False
    shorter, longer = sorted((written, original), key=len)
    if shorter in longer:
        return len(shorter) >= threshold * len(longer)
    return _gram_f1(written, original) >= threshold


def _skeleton(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Marks are kept: without its vowel signs a Thai or Hindi text would equal many others.
    return "".join(character for character in folded if unicodedata.category(character)[0] in "LMN")


def _gram_f1(one: str, other: str, order: int = 4) -> float:
    counts: dict[str, int] = {}
    for start in range(len(one) - order + 1):
        gram = one[start : start + order]
        counts[gram] = counts.get(gram, 0) + 1
    total = max(0, len(one) - order + 1) + max(0, len(other) - order + 1)
    shared = 0
    for start in range(len(other) - order + 1):
        gram = other[start : start + order]
        if counts.get(gram, 0) > 0:
            counts[gram] -= 1
            shared += 1
    return 2 * shared / total if total else 0.0


def in_script_of(text: str, code: str, share: float = 0.5) -> bool:
    """Say whether at least `share` of the letters of `text` belong to the script of language `code`.

    A text without letters is in every script, and every text in that of a language whose script is not known.
    """
    found = letters_of(text, script(code))
    return found is None or found >= share * letter_count(text)


def written_in(
    text: str, code: str, among: Iterable[str] = (), min_letters: int = 10, min_probability: float = 0.5
) -> bool:
    """Say whether `text` is in language `code`, judging only as far as a text of its length allows.

    With at least `min_letters` letters (a third of that in scripts written without spaces, where a letter says more)
    the language identifier decides: the text is in `code` unless another language is named with at least
    `min_probability`, or fewer than a tenth of the letters are of the language's script (the identifier must choose
    among its candidates even for a script that none of them uses). A shorter text, or one in a language that the
    identifier does not know, is judged by its script alone: at least half of its letters.

    Args:
        text: a phrase or more.
        code: BCP-47 code of the language expected.
        among: further languages that may occur (common ones are always considered).
        min_letters: below this, only the script is judged.
        min_probability: the identifier's confidence from which another language counts.
    """
    needed = min_letters / 3 if _SPACELESS_RUN.search(text) else min_letters
    if identifier_label(code) is None or letter_count(text) < needed:
        return in_script_of(text, code)
    if not in_script_of(text, code, share=0.1):
        return False
    named, probability = identify(text, {code, *among})
    return may_be(named, code) or probability < min_probability


def translated_into(
    text: str,
    references: Sequence[str],
    code: str,
    among: Iterable[str] = (),
    min_letters: int = 10,
    min_probability: float = 0.5,
) -> bool:
    """Say whether a translation is in language `code`, judged beside its references.

    What equals a reference is. Any other text is judged by `written_in`; where that takes all references for another
    language, too (names, a few characters of Japanese that might be Chinese), it tells nothing of this text, which then
    is in the language if it is in the script, or if no reference is.

    Args:
        text: the translation.
        references: right translations; at least one.
        code: BCP-47 code of the language expected.
        among: further languages that may occur, as for `written_in`.
        min_letters: below this, only the script is judged; see `written_in`.
        min_probability: the identifier's confidence from which another language counts.
    """
    among = tuple(among)
    if normalise(text) in map(normalise, references):
        return True
    if written_in(text, code, among, min_letters, min_probability):
        return True
    if any(written_in(reference, code, among, min_letters, min_probability) for reference in references):
        return False
    return in_script_of(text, code) or not any(in_script_of(reference, code) for reference in references)


class _Kept(dict[int, int | None]):
    """Character -> itself if it is a letter, digit or mark, else None (deleted); filled as characters occur.

    Marks are kept because Thai and Indic vowels are marks: without them different words would be equal.
    """

    def __missing__(self, code: int) -> int | None:
        value = code if unicodedata.category(chr(code))[0] in "LMN" else None
        self[code] = value
        return value


_KEPT = _Kept()


def normalise(text: str) -> str:
    """Return what is compared: letters, digits and marks of `text` in NFKC, case-folded.

    A text without any of them ("???") is returned without its white space, so that it equals only itself.
    """
    if text.isascii():
        kept = text.lower().translate(_KEPT)
    else:
        folded = unicodedata.normalize("NFKC", text).casefold()
        # Case-folding and deleting bring characters together that NFKC composes.
        kept = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).translate(_KEPT))
    return kept or "".join(text.split())
