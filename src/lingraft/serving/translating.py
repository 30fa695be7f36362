"""Texts of translation endpoints in the parts that are asked for one by one, and their translations put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lingraft.conversation.decoding import TOO_LONG
from lingraft.language.measures import letter_count
from lingraft.translation.blocks import TextBlock, document_blocks, joined, line_blocks
from lingraft.translation.direct import Translation
from lingraft.translation.markup import Run, TagRules, runs

Split = Literal["paragraphs", "lines", "none"]
"""What is asked for by itself: what blank lines separate, each line, or a text as a whole."""

UNUSABLE = (TOO_LONG, "empty", "thinking", "unfinished", "no_code")
"""Failures of which the text is none, or a part, of the translation."""

Found = Mapping[str, Translation]
"""The translations of parts, by their texts."""

KEPT, APART = "kept", "apart"
"""How the tags of a text came into its translation: where the model put them, or since the texts between them were
translated one by one."""


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The translation of one text.

    Attributes:
        text: all of it.
        source: language code of the text.
        failure: what went wrong first, see `lingraft.translation.direct.extract`; "" for nothing.
        tokens: that were written.
        calls: requests that it took.
        tags: `KEPT`, `APART`, or "" where there are none.
        rationale: what the model wrote behind the translation, where that was asked for.
    """

    text: str
    source: str
    failure: str = ""
    tokens: int = 0
    calls: int = 0
    tags: str = ""
    rationale: str = ""


@dataclass(frozen=True, kw_only=True)
class Cutter:
    """Cuts texts into what is asked for by itself.

    Attributes:
        split: see `Split`.
        most: tokens of a part, if it has places to be cut at.
        count: says how many tokens a text has.
        rules: how tags are taken; None where the texts have none.
    """

    split: Split
    most: int
    count: Callable[[str], int]
    rules: TagRules | None = None

    def blocks(self, text: str, source: str, target: str) -> list[TextBlock]:
        """Return the parts of a text."""
        if self.split == "none":
            return [TextBlock(1, text, "", translate=letter_count(text) > 0)]
        lines = text.split("\n")
        if self.split == "paragraphs":
            return document_blocks(lines, self.most, self.count, source, target)
        found = list[TextBlock]()
        for block in line_blocks(lines):
            long = document_blocks([block.text], self.most, self.count, source, target)
            found += long if block.translate else [block]
        return found


@dataclass
class Text:
    """One text on its way to a translation.

    Attributes:
        source: its language code.
        target: language code of the translation.
        parts: runs of a text with tags; else the text itself is one.
    """

    source: str
    target: str
    cutter: Cutter
    parts: list[Run]
    newline: str = "\n"
    _blocks: dict[str, list[TextBlock]] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, source: str, target: str, cutter: Cutter) -> Text:
        """Return a text that is to be translated.

        Raises:
            DataError: its tags cannot be read.
        """
        newline = "\r\n" if "\r\n" in text else "\n"
        text = text.replace("\r\n", "\n")
        if cutter.rules is not None:
            return cls(source, target, cutter, runs(text, cutter.rules), newline)
        core = text.strip()
        begin = text.find(core) if core else len(text)
        return cls(source, target, cutter, [Run(text[:begin], core, text[begin + len(core) :], (core,))], newline)

    def wanted(self) -> Iterator[str]:
        """Yield what is asked for at first."""
        for part in self.parts:
            if part.asked:
                yield from self._asked(part.asked)

    def wanted_apart(self, found: Found) -> Iterator[str]:
        """Yield what is asked for then, since the tags were not kept in the first translations."""
        for part in self.parts:
            if self._marked(part, found) is None:
                for text in part.texts:
                    yield from self._asked(text)

    def translated(self, found: Found) -> Translated:
        """Return the translation."""
        written, made, failures, count, tags = list[str](), list[Translation](), list[str](), 0, ""
        for part in self.parts:
            text = self._marked(part, found)
            made += self._made(part.asked, found) if part.asked else ()
            failures += [one.failure for one in made[count:] if text is not None]
            count = len(made)
            if text is None:
                tags = APART
                text = part.filled_apart([self._whole(one, found).text for one in part.texts])
                made += [one for text_ in part.texts for one in self._made(text_, found)]
                failures += [one.failure for one in made[count:]]
                count = len(made)
            elif part.marks:
                tags = tags or KEPT
            written.append(text)
        return Translated(
            text="".join(written).replace("\n", self.newline),
            source=self.source,
            failure=next((one for one in (*UNUSABLE, *failures) if one and one in failures), ""),
            tokens=sum(one.tokens for one in made),
            calls=sum(one.calls for one in made),
            tags=tags,
            rationale="\n".join(filter(None, (one.steps.get("rationale", "") for one in made))),
        )

    def _marked(self, part: Run, found: Found) -> str | None:
        """Return a part with its tags; None where they were not kept."""
        if not part.asked:
            return part.lead
        whole = self._whole(part.asked, found)
        if self.cutter.rules is None:
            return part.lead + whole.text + part.trail
        return None if part.marks and whole.failure in UNUSABLE else part.filled(whole.text)

    def _asked(self, text: str) -> Iterator[str]:
        if text not in self._blocks:
            self._blocks[text] = self.cutter.blocks(text, self.source, self.target)
        return (block.text for block in self._blocks[text] if block.translate)

    def _made(self, text: str, found: Found) -> list[Translation]:
        return [found[one] for one in self._asked(text)]

    def _whole(self, text: str, found: Found) -> Translation:
        list(self._asked(text))
        return joined("", self._blocks[text], found)


def unique(texts: Sequence[Text]) -> dict[tuple[str, str, str], None]:
    """Return what is asked for at first, each once: text, source and target language."""
    return dict.fromkeys((one, text.source, text.target) for text in texts for one in text.wanted())
