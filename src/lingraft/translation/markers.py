"""The control tokens of the translation chain of thought: one that opens English text, one that opens the English
answer, and one for each language carried to.

Source: Geng et al. 2024 (arXiv 2405.13923), whose tokens are `<EN>`, `<RESPONSE>` and `<TH>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lingraft.core.record import Record
from lingraft.data.records import Span
from lingraft.language.codes import base_language

ENGLISH, RESPONSE = "<EN>", "<RESPONSE>"


@dataclass(frozen=True)
class Markers(Record):
    """The markers of a graft.

    Attributes:
        native: (language code, token) of each language carried to, in the order of the recipe.
        english: token that opens English text.
        response: token that opens the English answer.
    """

    native: tuple[tuple[str, str], ...]
    english: str = ENGLISH
    response: str = RESPONSE

    @classmethod
    def for_languages(cls, codes: Iterable[str]) -> Markers:
        """Return the markers of some languages: `<TH>` for Thai; English has its own."""
        bases = dict.fromkeys(base_language(code) for code in codes)
        return cls(tuple((code, f"<{code.upper()}>") for code in bases if code != "en"))

    @property
    def tokens(self) -> tuple[str, ...]:
        """All of them."""
        return (self.english, self.response, *(token for _, token in self.native))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages carried to."""
        return tuple(code for code, _ in self.native)

    def of(self, lang: str) -> str:
        """Return the token that opens text of a language.

        Raises:
            KeyError: the language has none.
        """
        code = base_language(lang)
        return self.english if code == "en" else dict(self.native)[code]

    def span(self, token: str) -> Span:
        """Return a marker as a span."""
        return Span(token, "marker")
