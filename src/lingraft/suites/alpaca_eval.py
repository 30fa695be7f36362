"""Suite "alpaca_eval": single instructions; a judge says whose answer is better, or grades it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lingraft.core.errors import DataError
from lingraft.core.validation import IS_PATH
from lingraft.data.records import Message, Request, Sampling
from lingraft.data.sampling import draw
from lingraft.language.characters import is_blank
from lingraft.language.codes import match_column
from lingraft.statistics.length_control import FEWEST, length_controlled
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import Answers, AtHand, ItemScores, SuiteInputs, Workload
from lingraft.suites.judging import (
    UNREADABLE,
    Case,
    JudgedSuite,
    grade_facts,
    judged_scores,
    language_code,
    prompt_messages,
    read_rating,
    read_rows,
    required,
)

ORDERS = (1, 2)
"""1: the system's answer is shown first; 2: the other's."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, with the answer of the opponent where it comes from a file."""

    id: str
    text: str
    reference: str | None = None


_CITE = ("dubois-2024-length",)


class AlpacaEvalSuite(JudgedSuite):
    """Win rate against the base, or against a file of answers, in %: `win_rate`, retained, and length-controlled.

    Metrics: `win_rate` (a judge is asked in both orders; one win each is a tie, and so are identical answers),
    `win_rate_lc` (see `length_control.py`), `consistent` (% of items on which both orders agree), `unreadable` (% of
    verdicts); with `grading: single` instead `score`, the mean grade from 1 to 10. Against itself the base wins 50 %.

    Source: Li et al. 2023, AlpacaEval, with the prompt `alpaca_eval_clf`; Dubois et al. 2024 (arXiv 2404.04475).
    Departures: both orders instead of one drawn at random, and the judge's word instead of the probability of its
    token. Single-answer grading of AlpacaEval instructions in other languages follows TransLLM (arXiv 2405.13923). The
    instructions shipped are ten of our own.
    """

    name: ClassVar[str] = "alpaca_eval"
    paper: ClassVar[str] = "arXiv 2404.04475"
    metrics: ClassVar[Mapping[str, MetricFacts]] = {
        "score": replace(grade_facts(), cite=_CITE),
        "win_rate": MetricFacts(label="Win rate", decimals=1, unit="%", cite=_CITE),
        "win_rate_lc": MetricFacts(
            label="Win rate, length-controlled", decimals=1, unit="%", cite=_CITE, retains=False
        ),
        "consistent": MetricFacts(label="Same verdict in both orders", decimals=1, unit="%", retains=False),
        **UNREADABLE,
    }

    class Params(JudgedSuite.Params):
        """Parameters of the suite."""

        prompts: Annotated[str, IS_PATH] = Field(
            "starter:alpaca_eval.jsonl", description="file of instructions, as AlpacaEval or TransLLM publish them"
        )
        references: Annotated[str | None, IS_PATH] = Field(
            None, description="file of `instruction` and `output` to win against; default: the base's answers"
        )
        grading: Literal["pairwise", "single"] = Field("pairwise", description="win rate, or a grade from 1 to 10")
        language: str = Field("", description="language of prompts and answers, if not English: picks the column")
        max_prompts: int = Field(805, ge=1, description="instructions asked, drawn by seed when there are more")
        max_new_tokens: int = Field(1024, ge=1, description="longest answer, in tokens")
        verdict_tokens: int = Field(
            0, ge=0, description="longest verdict, in tokens; 0: 16 for pairwise, which is one word, else 2048"
        )

        _language = field_validator("language")(language_code)

        @model_validator(mode="after")
        def _consistent(self) -> Self:
            required(self.judge)
            if self.grading == "single" and self.references:
                raise ValueError("single grading compares with nothing; drop `references` or set `grading: pairwise`")
            return self

    params: Params

    @property
    def _pairwise(self) -> bool:
        return self.params.grading == "pairwise"

    @property
    def prompt_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The published pairwise prompt, or that of single-answer grading."""
        return ("alpaca-eval-clf",) if self._pairwise else ("single-v1",)

    @property
    def prompt_language(self) -> str:  # type: ignore[override]
        """The grading prompt is adapted; the pairwise one says nothing of languages."""
        return "" if self._pairwise else self.params.language

    @property
    def verdict_tokens(self) -> int:
        """Longest verdict, in tokens."""
        return self.params.verdict_tokens or (16 if self._pairwise else 2048)

    @cached_property
    def _instructions(self) -> dict[str, Instruction]:
        return read_instructions(self.params.prompts, self.params.references, self.params.language)

    def _asked(self, inputs: SuiteInputs) -> list[Instruction]:
        return [self._instructions[id_] for id_ in draw(self._instructions, self.params.max_prompts, inputs.seed)]

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask every system each instruction, greedily.

        Raises:
            DataError: the files cannot be read, or do not belong together.
        """
        sampling = Sampling(max_new_tokens=self.params.max_new_tokens, seed=inputs.seed)
        return [Request(item.id, (Message("user", item.text),), sampling) for item in self._asked(inputs)]

    def _pair(self, item: Instruction, base: Answers, system: Answers) -> tuple[str, str]:
        """Return the answers of the system and of its opponent."""
        other = self.answer_to(base.generations, item.id).text if item.reference is None else item.reference
        return self.answer_to(system.generations, item.id).text, other

    def cases(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[Case]:
        """Show the judge both answers in both orders, unless they are the same; or each answer alone."""
        cases = []
        for item in self._asked(inputs):
            own, other = self._pair(item, base, system)
            if not self._pairwise:
                messages = prompt_messages("single-v1", self.prompt_language, question=item.text, answer=own)
                cases.append(Case(item.id, messages))
            elif own != other:
                for order in ORDERS:
                    shown = (own, other) if order == 1 else (other, own)
                    messages = prompt_messages(
                        "alpaca-eval-clf", instruction=item.text, output_1=shown[0], output_2=shown[1]
                    )
                    cases.append(Case(_order_id(item.id, order), messages))
        return cases

    def read(self, verdict: str) -> float | None:
        """Read a rating, or 1 for "m" (the first answer) and 0 for "M"; anything more than that cannot be read."""
        if not self._pairwise:
            return read_rating(verdict)
        return {"m": 1.0, "M": 0.0}.get(verdict.strip().strip("\"'`."))

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Return the values of all items; those without readable verdicts do not count."""
        own = self.readings(inputs, base, system)
        settings = f"prompts:{Path(self.params.prompts).name}|greedy|max_new_tokens:{self.params.max_new_tokens}"
        signature = f"{self.judge_signature()}|{settings}"
        if not self._pairwise:
            theirs = self.readings(inputs, base, base)
            rows = judged_scores("score", own, theirs, self.metrics["score"], signature=f"mean of 1-10|{signature}")
            return [*rows, self.unreadable({id_: float(value is None) for id_, value in own.items()})]
        opponent = Path(self.params.references).name if self.params.references else "base"
        return self._win_rates(inputs, base, system, own, f"against:{opponent}|both orders|{signature}")

    def _win_rates(
        self,
        inputs: SuiteInputs,
        base: Answers,
        system: Answers,
        own: Mapping[str, float | None],
        signature: str,
    ) -> list[ItemScores]:
        asked = self._asked(inputs)
        wins = {item.id: _won(item.id, own) for item in asked}
        theirs: dict[str, float | None] = dict.fromkeys(wins, 0.5)
        if self.params.references:
            verdicts = self.readings(inputs, base, base)
            theirs = {item.id: _won(item.id, verdicts) for item in asked}
        rows = judged_scores("win_rate", wins, theirs, self.metrics["win_rate"], scale=100.0, signature=signature)
        weights = (rows[0].weights or {}) if rows else {}
        counted = [item for item in asked if weights.get(item.id)]
        if len(counted) >= FEWEST:
            pairs = [self._pair(item, base, system) for item in counted]
            _, values = length_controlled(
                [rows[0].values[item.id] for item in counted], [len(mine) - len(other) for mine, other in pairs]
            )
            controlled = {item.id: value for item, value in zip(counted, values.tolist(), strict=True)}
            rows.append(
                self.item_scores(
                    "win_rate_lc",
                    {id_: controlled.get(id_, 0.0) for id_ in wins},
                    weights=weights,
                    scale=100.0,
                    signature=f"sigmoid(a) of a + b tanh(excess characters / sd), no difficulty term|{signature}",
                )
            )
        both = {item.id: [own.get(_order_id(item.id, order)) for order in ORDERS] for item in asked}
        # A reading names the place of the better answer: the orders agree where they differ.
        agreed = {id_: float(a != b) for id_, (a, b) in both.items() if a is not None and b is not None}
        if agreed:
            rows.append(self.item_scores("consistent", agreed, scale=100.0, signature=signature))
        shares = {
            item.id: sum(own.get(_order_id(item.id, order), 0.5) is None for order in ORDERS) / 2 for item in asked
        }
        return [*rows, self.unreadable(shares)]

    def workload(self, at_hand: AtHand) -> Workload:
        """Count verdicts: two for each pair."""
        count = min(self.params.max_prompts, len(self._instructions))
        shown = 2 if self._pairwise else 1
        return self.judge_workload(count, count * shown, shown, self.params.max_new_tokens)


def _order_id(item_id: str, order: int) -> str:
    return f"{item_id}/{order}"


def _won(item_id: str, readings: Mapping[str, float | None]) -> float | None:
    """Return 1 for a win, 0 for a loss, 0.5 for a tie; None where one of the two verdicts could not be read."""
    first = readings.get(_order_id(item_id, 1), 0.5)  # no verdict was asked for: the answers are the same
    second = readings.get(_order_id(item_id, 2), 0.5)
    return None if first is None or second is None else (first + 1 - second) / 2


def read_instructions(path: str, references: str | None = None, lang: str = "") -> dict[str, Instruction]:
    """Return the instructions of a file by id: the row's own (`id`, `Instruct_id`), else `line-N`.

    Args:
        path: rows with `instruction`, or `instruction_LANG` where there is one.
        references: rows with `instruction` (in either language) and `output`.
        lang: code of the language in which instructions are taken; "" for the field `instruction`.

    Raises:
        DataError: rows without these fields, repeated ids, or an instruction without an answer in `references`.
    """
    outputs = {}
    for line, row in read_rows(references, AlpacaEvalSuite.name) if references else []:
        if not isinstance(row.get("instruction"), str) or not isinstance(row.get("output"), str):
            raise DataError(
                f"suite 'alpaca_eval': {references}, line {line} needs the texts `instruction` and `output`"
            )
        outputs[row["instruction"]] = row["output"]
    found: dict[str, Instruction] = {}
    for line, row in read_rows(path, AlpacaEvalSuite.name):
        where = f"suite 'alpaca_eval': {path}, line {line}"
        column = match_column(row, "instruction_", lang) if lang else None
        text = row.get(column or "instruction")
        if not isinstance(text, str) or is_blank(text):
            raise DataError(f"{where} has no text `instruction`; give instructions as AlpacaEval publishes them")
        id_ = str(next((row[key] for key in ("id", "Instruct_id") if key in row), f"line-{line}"))
        if id_ in found:
            raise DataError(f"{where} repeats the id {id_!r}; give every instruction an id of its own")
        reference = outputs.get(text, outputs.get(str(row.get("instruction"))))
        if references and reference is None:
            raise DataError(f"{where}: {references} holds no answer to this instruction; leave it out or add one")
        found[id_] = Instruction(id_, text, reference)
    return found
