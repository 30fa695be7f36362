"""Preferences: pairs of answers that are given, one better than the other (Xu et al. 2024, arXiv 2401.08417)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import file_hash
from lingraft.core.validation import IS_PATH, as_value_error
from lingraft.data import reasons
from lingraft.data.files import locate
from lingraft.data.formats import json_rows
from lingraft.data.records import Example, Generation, Message, Pair, Rejected, Span
from lingraft.data.row_shapes import RowProblem, chat_messages, missing, prompt_parts
from lingraft.language.characters import is_blank
from lingraft.language.codes import language
from lingraft.methods.base import Available, Consumed, Method, MethodInputs, MethodParams, Tally
from lingraft.translation.wording import ask_for

NO_PREFERENCE = "no_preference"
"""Reason: chosen and rejected answer are the same text, or have the same score."""


class PreferencesParams(MethodParams):
    """Parameters of given preferences."""

    path: Annotated[str, IS_PATH] = Field(
        "",
        description="JSON or JSON Lines; rows of `source` (or `prompt`, `messages`) with `chosen` and `rejected`, or "
        "with `candidates` and their `scores`, of which the best is chosen and the worst rejected",
    )
    holds: Literal["translations", "answers"] = Field(
        "translations", description="what is preferred: translations of `source`, or answers to general prompts"
    )
    source: str = Field("", description="language of `source`, where rows have no `source_lang`")
    target: str = Field("", description="language of translations, where rows have no `target_lang`")
    loss: Literal["cpo", "dpo", "ipo"] = Field(
        "cpo", description="objective that compares the answers; its parameters stand in the stage's `objective`"
    )

    @field_validator("source", "target")
    @classmethod
    def _known(cls, value: str) -> str:
        with as_value_error():
            return language(value) if value else value

    @model_validator(mode="after")
    def _two_languages(self) -> PreferencesParams:
        given = self.source or self.target
        if given and self.holds == "answers":
            raise ValueError("`source` and `target` are languages of translations, and answers have none; drop them")
        if given and self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; give two languages")
        return self


class Preference(NamedTuple):
    """A row of the file: what is asked, and two answers."""

    id: str
    asked: Pair | tuple[Message, ...]
    chosen: str
    rejected: str


class Preferences(Method):
    """Trains on given preference pairs, as CPO does on translations that a quality estimator has ranked.

    Each row becomes two examples of one group, the chosen and the rejected answer to the same request. Of `candidates`
    with `scores` the best is chosen, the worst rejected and the others are left out (section 3.1 of the paper, where
    the candidates are a reference and two systems' translations, scored without reference). The default loss is the
    paper's, `cpo`: it needs no pass of the base. It has no anchor to the base either: what is to be kept is kept by
    `recovery` beside it, or by `loss: dpo`. Training pairs of the recipe are not used; what rows share with test sets
    is reported, as for all that is trained on.

    Departure: none of the rule; the paper trains on 22,000 triplets after fine-tuning on references, so that this is
    usually a stage after `vanilla` or `radis`, with the same `instructions`.
    """

    name: ClassVar[str] = "preferences"
    summary: ClassVar[str] = "given pairs of a better and a worse answer, such as translations ranked by a metric"
    paper: ClassVar[str] = "arXiv 2401.08417"
    cite: ClassVar[tuple[str, ...]] = ("xu-2024-cpo",)
    version: ClassVar[int] = 2
    Params: ClassVar[type[MethodParams]] = PreferencesParams
    consumes: ClassVar[Consumed] = "files"

    params: PreferencesParams

    @property
    def paired(self) -> bool:
        """Its examples are preference pairs."""
        return True

    def objective(self) -> Sequence[Mapping[str, Any]]:
        """Return the loss that compares the answers."""
        return ({"kind": self.params.loss},)

    def teaches_translation(self) -> bool:
        """Whether what is preferred are translations."""
        return self.params.holds == "translations"

    def lacks(self, available: Available) -> str:
        """Say so where no file is named."""
        if self.params.path:
            return ""
        wanted = "`source` (or `prompt`), `chosen` and `rejected`"
        return f"it has no file of pairs; give its parameter `path`, a JSONL file with {wanted}"

    def check(self, languages: Sequence[str]) -> None:
        """Look for a row that can be used.

        Raises:
            DataError: no such file, or none of its rows can be used.
        """
        problem = "it has no rows"
        for row in self._rows():
            if not isinstance(row, Rejected):
                return
            problem = f"line {row.line}: {row.detail}"
        raise DataError(f"method preferences: no row of {self.params.path} can be used ({problem})")

    def prepare(self, inputs: MethodInputs) -> dict[str, Any]:
        """Return the hash of the file."""
        return {"file": file_hash(locate(self.params.path, "json", Path()).path)} if self.params.path else {}

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield two examples a row, the chosen answer first."""
        role = "translation" if self.params.holds == "translations" else "given_reply"
        for row in self._rows():
            if isinstance(row, Rejected):
                tally.filters[row.reason] += 1
                continue
            tally.filters["kept"] += 1
            asked = row.asked
            if isinstance(asked, Pair):
                asked = tuple(ask_for(asked, self.params.instructions, inputs.seed))
            for label, sign, text in (("chosen", 1, row.chosen), ("rejected", -1, row.rejected)):
                yield Example(f"{row.id}:{label}", asked, (Span(text, role),), group=row.id, sign=sign)

    def _rows(self) -> Iterator[Preference | Rejected]:
        place = locate(self.params.path, "json", Path())
        for row in json_rows(place):
            if isinstance(row, Rejected):
                yield row
                continue
            try:
                yield self._preference(f"preferences:{row.line}", row.record)
            except RowProblem as problem:
                yield Rejected(place.shown, row.line, problem.reason, problem.detail)

    def _preference(self, id_: str, values: Mapping[str, Any]) -> Preference:
        chosen, rejected = _answers(values)
        if is_blank(chosen) or is_blank(rejected):
            raise RowProblem(reasons.EMPTY_TARGET, "an answer has no text")
        if chosen.strip() == rejected.strip():
            raise RowProblem(NO_PREFERENCE, "chosen and rejected are the same text")
        if self.params.holds == "answers":
            return Preference(id_, _question(values), chosen, rejected)
        if not isinstance(values.get("source"), str) or is_blank(values["source"]):
            raise missing(values, "fields in the row, of which `source` is to be translated")
        source, target = (self._language(values, side) for side in ("source", "target"))
        return Preference(id_, Pair(id_, values["source"], chosen, source, target), chosen, rejected)

    def _language(self, values: Mapping[str, Any], side: str) -> str:
        code = values.get(f"{side}_lang") or getattr(self.params, side)
        if not isinstance(code, str) or not code:
            raise RowProblem(
                reasons.MISSING_FIELD, f"no `{side}_lang`; give it in each row, or as the parameter `{side}`"
            )
        try:
            return language(code)
        except UsageError as error:
            raise RowProblem(reasons.LANGUAGE_MISMATCH, str(error)) from error


def _answers(values: Mapping[str, Any]) -> tuple[str, str]:
    """Return the chosen and the rejected answer of a row."""
    if "candidates" not in values:
        return _answer(values, "chosen"), _answer(values, "rejected")
    texts: Any = values["candidates"]
    scores: Any = values.get("scores")
    sound = isinstance(texts, list) and isinstance(scores, list) and len(texts) == len(scores) > 1
    if not sound or not all(isinstance(text, str) for text in texts) or not all(map(_is_number, scores)):
        raise RowProblem(reasons.MALFORMED, "`candidates` are two texts or more, and `scores` as many numbers")
    best, worst = max(scores), min(scores)
    if best == worst:
        raise RowProblem(NO_PREFERENCE, "all candidates have the same score")
    return texts[scores.index(best)], texts[scores.index(worst)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _answer(values: Mapping[str, Any], field: str) -> str:
    """Return an answer: a text, or the last turn of a conversation."""
    if field not in values:
        raise missing(values, "fields in the row")
    value = values[field]
    if isinstance(value, str):
        return value
    turns = chat_messages(values, field)
    if not turns or turns[-1].role != "assistant":
        raise RowProblem(reasons.MALFORMED, f"the field {field!r} is neither a text nor turns that end with an answer")
    return turns[-1].content


def _question(values: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return what both answers are to: `prompt` as a text or as turns, or the turns before the chosen answer."""
    turns: tuple[Message, ...] = ()
    if isinstance(values.get("prompt"), list):
        turns = chat_messages(values, "prompt")
    elif isinstance(values["chosen"], list) and len(values["chosen"]) > 1:
        turns = chat_messages(values, "chosen")[:-1]
    else:
        return prompt_parts(values).messages
    if not turns or turns[-1].role != "user":
        raise RowProblem(reasons.MALFORMED, "there is no user turn to answer")
    return turns
