"""What is said of a source of pairs beside its rows: what was read as something else, or left out within a row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lingraft.core.errors import setting


@dataclass
class Remarks:
    """Counted while a source is read (see `readers.read_pairs`).

    Attributes:
        regions: sides by (code in the file, code declared), where these name different regions of one language.
        codes: inline codes of a TMX file by element.
        variants: texts by (side, their code, code of the text taken) that were left out, since their row or unit has
            another text in the language.
    """

    regions: Counter[tuple[str, str]] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    variants: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def sentences(self, inline_codes: str) -> list[str]:
        """Return what there is to say; `inline_codes`: what becomes of inline codes."""
        said = (self._regions(), self._variants(), self._codes(inline_codes))
        return [text for text in said if text]

    def _regions(self) -> str:
        return "; ".join(
            f"{_texts(count)} in {given}, read as {code}" for (given, code), count in (+self.regions).items()
        )

    def _variants(self) -> str:
        said = []
        for (side, left, taken), count in (+self.variants).items():
            if left == taken:
                said.append(f"{_texts(count)} left out, the second and later ones in {left} of a row or unit")
            else:
                remedy = f"to take them: {setting(side, left)}"
                said.append(f"{_texts(count)} in {left} and left out, where there is one in {taken}; {remedy}")
        return "; ".join(said)

    def _codes(self, treatment: str) -> str:
        done = {"drop": "left out, variables aside", "keep": "kept as text", "placeholder": "numbered"}[treatment]
        count = (+self.codes).total()
        kinds = ", ".join(f"{name} {number:,}" for name, number in sorted((+self.codes).items()))
        return f"{count:,} inline codes ({kinds}) are {done}: {setting('inline_codes')}" if count else ""


def _texts(count: int) -> str:
    return f"{count:,} text{'s are' if count > 1 else ' is'}"
