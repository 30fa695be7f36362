"""Metric `terms`: whether the terms of a glossary are translated as it says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import Field

from lingraft.core.errors import UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.validation import IS_PATH
from lingraft.data.glossary import Glossary, read_glossary
from lingraft.data.records import Pair
from lingraft.metrics.base import CorpusMetric, MeanMetric, Metric


class Terms(Metric):
    """Share, in %, of the terms that occur in the sources whose translation is in the hypothesis.

    A term counts once a segment, however often it occurs there; segments without a term are not measured. Terms are
    found, and may be inflected, as `lingraft.language.terms.find_term` has it; one that is to stay must stand there as
    it is. References are not looked at.
    """

    name: ClassVar[str] = "terms"
    summary: ClassVar[str] = "% of a glossary's terms that are translated as it says"
    label: str = "Terms"
    decimals: int | None = 1
    unit: str = "%"
    references: bool = False

    class Params(Metric.Params):
        """Of terms."""

        path: Annotated[str, IS_PATH] = Field(
            "",
            description="CSV file of the terms: source,target[,source_lang,target_lang]; no target: it is kept",
        )

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        if not params.path:
            raise UsageError("metric terms: give it a glossary, such as {kind: terms, path: terms.csv}")

    @cached_property
    def glossary(self) -> Glossary:
        """The terms.

        Raises:
            DataError: the file cannot be read.
        """
        return read_glossary(self.params.path)

    def identity(self) -> str:
        """Return a hash of the terms."""
        return content_hash(["terms", self.glossary.hash])

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        glossary = self.glossary

        def values(texts: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[float, float]]:
            rows = []
            for text, pair in zip(texts, pairs, strict=True):
                terms = glossary.terms_in(pair.source, source_lang, target_lang)
                found = sum(term.is_in(text, target_lang) for term in terms)
                rows.append((100.0 * found / len(terms), float(len(terms))))
            return rows

        return MeanMetric(
            values,
            f"terms|glossary:{glossary.hash[:12]}|match:words,inflected|each:once",
            lambda pair: bool(glossary.terms_in(pair.source, source_lang, target_lang)),
        )
