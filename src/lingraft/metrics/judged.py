"""What metrics share whose scores another model gives: what it is asked, asking again, and reading what it says.

Such a metric asks nobody by itself. The pipeline asks what `questions` wants until it wants nothing more, keeps what is
said, and hands it on as `verdicts` before anything is scored: verdicts survive kills, and equal texts of several
systems are judged once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.data.records import Generation, Pair, Request
from lingraft.metrics.base import CorpusMetric, MeanMetric, Metric

Rows = Sequence[tuple[Pair, str]]
"""Segments, each with a translation of it."""


def _named(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


JudgeOfMetric = Annotated[
    dict[str, Any] | None,
    BeforeValidator(_named),
    WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "null"}], "holds": "judge"}),
]
"""Type of a parameter that names a judge; a recipe checks the engine, which metrics know nothing of."""


class JudgedMetric(Metric):
    """Base of metrics whose scores a judge gives.

    A subclass says what the judge is asked next about a translation (`ask`) and what it has said (`read`).

    Attributes:
        verdicts: what the judge has said, by id of request; set by whoever asks, before anything is scored.
    """

    references: bool = False
    asks_judge: ClassVar[bool] = True

    class Params(Metric.Params):
        """Of the judge."""

        judge: JudgeOfMetric = Field(
            None, description="engine that gives verdicts, such as {kind: openai, base_url: ..., model: ...}"
        )
        retries: int = Field(2, ge=0, le=10, description="times a verdict that cannot be read is asked for again")
        verdict_tokens: int = Field(512, ge=16, description="longest answer of the judge, in tokens")

    params: Params

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        if params.judge is None or not isinstance(params.judge.get("kind"), str):
            raise UsageError(
                f"metric {self.name} needs a judge; add `judge: {{kind: openai, base_url: http://127.0.0.1:8000/v1, "
                f"model: NAME}}`, or `judge: transformers` for the base itself"
            )
        self.verdicts: Mapping[str, Generation] = {}

    @property
    def judge(self) -> Mapping[str, Any]:
        """The engine that gives verdicts."""
        assert self.params.judge is not None  # refused without one
        return self.params.judge

    @abstractmethod
    def ask(self, key: str, pair: Pair, text: str, verdicts: Mapping[str, Generation]) -> Request | None:
        """Return what the judge is asked next about a translation; None if there is nothing more to ask.

        Args:
            key: of the translation, with which ids of requests begin.
            pair: the segment.
            text: its translation, not empty.
            verdicts: what the judge has said so far, by id of request.
        """

    @abstractmethod
    def read(self, key: str, verdicts: Mapping[str, Generation]) -> float | None:
        """Return the score of a translation, 0 to 100, by what the judge has said; None where it cannot be read."""

    @abstractmethod
    def prompts(self) -> str:
        """Return what names the wording of what the judge is asked, for signatures."""

    def questions(self, rows: Rows, verdicts: Mapping[str, Generation]) -> list[Request]:
        """Return what the judge is asked next, equal translations of equal segments once."""
        asked: dict[str, Request] = {}
        for pair, text in rows:
            request = self.ask(self.key(pair, text), pair, text, verdicts) if text.strip() else None
            if request is not None:
                asked[request.id] = request
        return list(asked.values())

    def key(self, pair: Pair, text: str) -> str:
        """Return by what the judge's answers on a translation are found."""
        return content_hash([self.name, pair.source_lang, pair.target_lang, pair.source, text])[:16]

    def verdict_rows(self, rows: Rows) -> Iterator[dict[str, Any]]:
        """Yield what the judge has said of each translation, and the score that was read."""
        for pair, text in rows:
            yield {
                "item": pair.id,
                "score": self._value(pair, text),
                "verdict": "\n\n".join(one.text for one in self._said(pair, text).values()),
                "judge": judge_label(self.judge),
                "prompts": self.prompts(),
            }

    def _said(self, pair: Pair, text: str) -> dict[str, Generation]:
        """Return what the judge has said of a translation, in the order in which it was asked."""
        known: dict[str, Generation] = {}
        key = self.key(pair, text)
        while text.strip() and (asked := self.ask(key, pair, text, known)) and asked.id in self.verdicts:
            known[asked.id] = self.verdicts[asked.id]
        return known

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        signature = (
            f"{self.name}|judge:{judge_label(self.judge)}|prompts:{self.prompts()}|retries:{self.params.retries}"
        )
        return MeanMetric(self._values, signature, keeps_lines=True, aggregation="percent")

    def _values(self, texts: Sequence[str], pairs: Sequence[Pair]) -> Iterable[tuple[float, float]]:
        """Return the scores; a translation on which no verdict could be read does not count.

        Raises:
            DataError: nobody has asked the judge, or none of its verdicts could be read.
        """
        values = [self._value(pair, text) for pair, text in zip(pairs, texts, strict=True)]
        if all(value is None for value in values):
            raise DataError(
                f"metric {self.name}: of {len(values):,} verdicts of {judge_label(self.judge)} none could be read; see "
                f"how it answers, and take another judge"
            )
        return [((value or 0.0) / 100, float(value is not None)) for value in values]

    def _value(self, pair: Pair, text: str) -> float | None:
        """Return the score of a translation; an empty one has 0 without being judged."""
        if not text.strip():
            return 0.0
        said = self._said(pair, text)
        if not said:
            raise DataError(f"metric {self.name} has no verdict on {pair.id!r}; ask the judge about every translation")
        return self.read(self.key(pair, text), said)


def judge_label(choice: Mapping[str, Any]) -> str:
    """Return the name of a judge for signatures: its model, or the engine that answers with the base."""
    return str(choice.get("model") or f"the base ({choice['kind']})")
