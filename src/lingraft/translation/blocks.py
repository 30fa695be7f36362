"""A text or its lines as blocks: what is asked for, what is copied as it is, and how the answers are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lingraft.language.characters import is_blank
from lingraft.language.codes import joins_sentences
from lingraft.language.measures import letter_count
from lingraft.language.sentences import fenced, split_text
from lingraft.translation.direct import Translation


@dataclass(frozen=True)
class TextBlock:
    """A part of the input, asked for by itself.

    Attributes:
        line: its first line, from 1.
        text: of one line or several.
        end: what follows it in the output.
        translate: whether it is translated; else it is copied.
    """

    line: int
    text: str
    end: str = "\n"
    translate: bool = True


def line_blocks(lines: Sequence[str]) -> list[TextBlock]:
    """Return a block for each line.

    Copied are lines without a letter (numbers, the times of subtitles, rules of tables) and fenced code; a line that
    shows nothing is empty.
    """
    return [
        TextBlock(number, _shown(line), translate=not copied)
        for number, (line, copied) in enumerate(zip(lines, _copied(lines), strict=True), start=1)
    ]


def document_blocks(
    lines: Sequence[str], most: int, count: Callable[[str], int], source_lang: str, target_lang: str
) -> list[TextBlock]:
    """Return a block for each paragraph of one text, and for each line that is copied.

    A paragraph is cut at its lines, and a line at its sentences, where it has too many tokens.

    Args:
        lines: of the text, without their ends.
        most: tokens of a block, if the text has places to be cut at.
        count: says how many tokens a text has.
        source_lang: language code of the text.
        target_lang: tells whether sentences are set apart by a space.
    """
    blocks: list[TextBlock] = []
    paragraph: list[str] = []
    for number, (line, copied) in enumerate(zip(lines, _copied(lines), strict=True), start=1):
        if not copied:
            paragraph.append(line)
            continue
        blocks += _parts(number - len(paragraph), paragraph, most, count, source_lang, target_lang)
        blocks.append(TextBlock(number, _shown(line), translate=False))
        paragraph = []
    blocks += _parts(len(lines) + 1 - len(paragraph), paragraph, most, count, source_lang, target_lang)
    return blocks


def joined(key: str, blocks: Sequence[TextBlock], found: Mapping[str, Translation]) -> Translation:
    """Return the translation of a text from those of its blocks.

    Args:
        key: its id.
        blocks: of the text, in order.
        found: the translation of each block's text that was asked for.
    """
    if len(blocks) == 1 and blocks[0].translate and not blocks[0].end:
        return replace(found[blocks[0].text], id=key)
    made = [found[block.text] for block in blocks if block.translate]
    text = "".join((found[one.text].text if one.translate else one.text) + one.end for one in blocks)
    failure = next((one.failure for one in made if one.failure), "")
    thought = any(one.thought for one in made)
    tokens, calls = (sum(getattr(one, name) for one in made) for name in ("tokens", "calls"))
    return Translation(key, text.removesuffix("\n"), tokens, failure, thought, calls)


def _copied(lines: Sequence[str]) -> list[bool]:
    return [code or not letter_count(line) or is_blank(line) for line, code in zip(lines, fenced(lines), strict=True)]


def _shown(line: str) -> str:
    return "" if is_blank(line) else line


def _parts(
    first: int, paragraph: Sequence[str], most: int, count: Callable[[str], int], source_lang: str, target_lang: str
) -> Iterator[TextBlock]:
    if not paragraph:
        return
    whole = "\n".join(paragraph)
    if count(whole) <= most:
        yield TextBlock(first, whole)
        return
    for number, line in enumerate(paragraph, start=first):
        sentences = _grouped(line, most, count, source_lang)
        space = "" if joins_sentences(target_lang) else " "
        for place, text in enumerate(sentences, start=1):
            yield TextBlock(number, text.strip(), "\n" if place == len(sentences) else space, letter_count(text) > 0)


def _grouped(line: str, most: int, count: Callable[[str], int], lang: str) -> list[str]:
    """Return a line cut between sentences into as few texts of `most` tokens as going through it once gives."""
    groups = [""]
    for piece in split_text(line, lang=lang):
        if not is_blank(groups[-1]) and piece.translate and count(groups[-1] + piece.text) > most:
            groups.append("")
        groups[-1] += piece.text
    return groups
