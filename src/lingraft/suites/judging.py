"""What all suites with a judge share: its engine and prompts, asking again, reading verdicts, counting unreadable ones.

The prompts are in `judge_prompts.json`, in the published wording of FastChat (Zheng et al. 2023, "Judging
LLM-as-a-Judge with MT-Bench and Chatbot Arena", arXiv 2306.05685) and AlpacaEval, both Apache-2.0.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from lingraft.core.errors import DataError, UsageError
from lingraft.core.validation import as_value_error, validated
from lingraft.data.columns import Columns, any_columns
from lingraft.data.files import locate
from lingraft.data.formats import json_rows, jsonl_rows
from lingraft.data.records import Generation, Message, Rejected, Request, Sampling
from lingraft.data.tables import csv_rows
from lingraft.engines.base import ENGINES
from lingraft.language.codes import language, language_name
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import Answers, ItemScores, Suite, SuiteInputs, Workload

RETRY_TEMPERATURE = 0.7
"""The first verdict is greedy; asked the same again, a greedy judge would write the same again."""

_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")
_YES_NO = re.compile(r"\[\[\s*(yes|no)\s*\]\]", re.IGNORECASE)
_CHARACTERS_PER_TOKEN = 3.0


def judge_engine(value: Any) -> dict[str, Any] | None:
    """Check an engine given as a judge, and fill in its defaults.

    A server is asked through its chat interface and for text alone, because the judge is another model than the base:
    it has its own template and its own token ids. An answer that the server's content filter withholds counts as a
    verdict that cannot be read. `model` names the judge, also for engines that otherwise answer with the base.

    Raises:
        UsageError: no such engine, or wrong parameters of it.
    """
    if value is None:
        return None
    given = {"kind": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or not isinstance(given.get("kind"), str):
        raise UsageError(
            "a judge is an engine, such as {kind: openai, base_url: http://127.0.0.1:8000/v1, model: NAME}"
        )
    kind = ENGINES.get(given["kind"])
    own = {key: item for key, item in given.items() if key not in ("kind", "model")}
    named = {"model": given["model"]} if given.get("model") is not None else {}
    if "model" in kind.Params.model_fields:
        own, named = own | named, {}
    elif named and not isinstance(named["model"], str):
        raise UsageError("`model` of a judge is an alias, a path or a hub id")
    own = {**kind.as_judge, **own}
    return {"kind": kind.name, **named, **validated(kind.Params, own, "judge").model_dump(mode="json")}


def required(judge: dict[str, Any] | None) -> None:
    """Refuse a suite that cannot do without a judge.

    Raises:
        ValueError: there is none.
    """
    if judge is None:
        raise ValueError("needs a judge; add `judge: {kind: openai, base_url: http://127.0.0.1:8000/v1, model: NAME}`")


JudgeEngine = Annotated[
    dict[str, Any] | None,
    BeforeValidator(judge_engine),
    WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "null"}], "holds": "judge"}),
]
"""Type of a parameter that names a judge."""


def language_code(value: str) -> str:
    """Return a language code normalised; the empty one stays.

    Raises:
        ValueError: not a language.
    """
    with as_value_error():
        return language(value) if value else ""


def judge_name(choice: Mapping[str, Any]) -> str:
    """Return the name of a judge for signatures."""
    if choice.get("model"):
        return str(choice["model"])
    return ENGINES.get(choice["kind"]).model_named(choice)


@cache
def _templates() -> dict[str, dict[str, str]]:
    text = files("lingraft.suites").joinpath("judge_prompts.json").read_text("utf-8")
    return dict(json.loads(text)["prompts"])


def template(name: str, lang: str = "") -> dict[str, str]:
    """Return the system and user part of a judge prompt.

    Args:
        name: in `judge_prompts.json`.
        lang: for single-answer grading in another language, the wording is adapted as in TransLLM (hy5468/TransLLM,
            `eval/gpt4_eval.py`): it says that question and answer are in this language, and that the reference answer
            is English.
    """
    found = _templates()[name]
    if not lang:
        return found
    named = language_name(lang)
    changes = {
        "quality of the response": f"quality of the {named} response",
        "to the user question": f"to the user {named} question",
        "given a reference answer": "given an English reference answer",
    }
    for old, new in changes.items():
        found = {part: text.replace(old, new) for part, text in found.items()}
    return found


def prompt_messages(name: str, lang: str = "", **values: str) -> tuple[Message, ...]:
    """Return the conversation that asks for a verdict."""
    parts = template(name, lang)
    return (Message("system", parts["system"]), Message("user", parts["user"].format(**values)))


def prompt_hash(names: Sequence[str], lang: str = "") -> str:
    """Return eight hex digits of the SHA-256 of the prompts' wording."""
    text = json.dumps([template(name, lang) for name in names], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_rating(text: str) -> float | None:
    """Return the rating in double square brackets; None unless there is one value only, from 1 to 10.

    FastChat takes the first of several, also a single bracket, and does not check the range.
    """
    found = {float(digits) for digits in _RATING.findall(text)}
    value = found.pop() if len(found) == 1 else None
    return value if value is not None and 1 <= value <= 10 else None


def read_yes_no(text: str) -> float | None:
    """Return 1 for "[[yes]]", 0 for "[[no]]", also bare if nothing else is written; None for anything else."""
    found = {word.lower() for word in _YES_NO.findall(text)}
    if not found and (bare := text.strip().strip('".').lower()) in ("yes", "no"):
        found = {bare}
    return float(found == {"yes"}) if len(found) == 1 else None


def read_rows(path: str, what: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of a JSON Lines, JSON or CSV file with their lines.

    Args:
        path: a file, or `starter:NAME`.
        what: the suite, for messages.

    Raises:
        DataError: the file cannot be read, has a bad row or none.
    """
    place = locate(path, "auto", Path())
    match place.format:
        case "jsonl":
            rows = jsonl_rows(place)
        case "json":
            rows = json_rows(place)
        case "csv":
            rows = csv_rows(place, Columns((), any_columns, {}))
        case other:
            raise DataError(f"suite {what!r}: {path} has the format {other}; give JSON Lines, JSON or CSV")
    out = []
    for row in rows:
        if isinstance(row, Rejected):
            why = f"{row.reason}: {row.detail}" if row.detail else row.reason
            raise DataError(f"suite {what!r}: {path}, line {row.line} cannot be used ({why}); correct it")
        out.append((row.line, row.record))
    if not out:
        raise DataError(f"suite {what!r}: {path} has no rows; give a file with at least one")
    return out


@dataclass(frozen=True)
class Case:
    """A verdict that is wanted: its id within the suite, and what the judge is shown."""

    id: str
    messages: tuple[Message, ...]


UNREADABLE = {
    "unreadable": MetricFacts(label="Unreadable verdicts", better="lower", decimals=1, unit="%", retains=False)
}
"""Given by every suite with a judge."""


def grade_facts(label: str = "Grade", *, retains: bool = True) -> MetricFacts:
    """Return what a mean grade says about itself."""
    return MetricFacts(label=label, decimals=2, unit="1-10", retains=retains)


class JudgedSuite(Suite):
    """Base of suites whose answers are judged by another model.

    A subclass says what the judge is shown (`cases`), how a verdict is read (`read`), and with which prompts
    (`prompt_names`); a verdict that cannot be read is asked for again, sampled, up to `retries` times.
    """

    class Params(Suite.Params):
        """Parameters of suites with a judge."""

        judge: JudgeEngine = Field(
            None, description="engine that gives verdicts, such as {kind: openai, base_url: ..., model: ...}"
        )
        retries: int = Field(2, ge=0, le=10, description="times a verdict that cannot be read is asked for again")
        verdict_tokens: int = Field(2048, ge=1, description="longest verdict, in tokens")

    params: Params
    metrics: ClassVar[Mapping[str, MetricFacts]] = UNREADABLE
    prompt_names: Sequence[str] = ()
    prompt_language: str = ""
    shown_as: ClassVar[str] = "judge"

    @property
    def judge(self) -> Mapping[str, Any] | None:
        """The engine that gives verdicts."""
        return self.params.judge

    @abstractmethod
    def cases(self, inputs: SuiteInputs, base: Answers, system: Answers) -> Sequence[Case]:
        """Return the verdicts wanted on a system."""

    @abstractmethod
    def read(self, verdict: str) -> float | None:
        """Return what a verdict says; None where it cannot be read."""

    @property
    def verdict_tokens(self) -> int:
        """Longest verdict, in tokens."""
        return self.params.verdict_tokens

    def verdict_requests(
        self, inputs: SuiteInputs, base: Answers, system: Answers, verdicts: Mapping[str, Generation]
    ) -> list[Request]:
        """Ask for each verdict once, and again while it cannot be read."""
        wanted = []
        for case in self.cases(inputs, base, system):
            attempts, value = self._attempts(case, verdicts)
            if value is None and len(attempts) <= self.params.retries:
                number = len(attempts) + 1
                sampling = Sampling(
                    max_new_tokens=self.verdict_tokens,
                    temperature=RETRY_TEMPERATURE if attempts else 0.0,
                    seed=inputs.seed + len(attempts),
                )
                wanted.append(Request(_attempt_id(number, case.id), case.messages, sampling))
        return wanted

    def _attempts(
        self, case: Case, verdicts: Mapping[str, Generation]
    ) -> tuple[list[tuple[str, float | None]], float | None]:
        """Return the verdicts given on a case with what they say, and the first that says something."""
        given: list[tuple[str, float | None]] = []
        for number in range(1, self.params.retries + 2):
            verdict = verdicts.get(_attempt_id(number, case.id))
            if verdict is None:
                break
            given.append((verdict.text, self.read(verdict.text)))
        return given, next((value for _, value in given if value is not None), None)

    def readings(self, inputs: SuiteInputs, base: Answers, system: Answers) -> dict[str, float | None]:
        """Return what the verdict on each case says, None where none could be read.

        Raises:
            DataError: a case has no verdict.
        """
        out = {}
        for case in self.cases(inputs, base, system):
            attempts, out[case.id] = self._attempts(case, system.verdicts)
            if not attempts:
                raise DataError(f"suite {self.name!r} has no verdict on {case.id!r}; ask the judge about every system")
        return out

    def verdict_rows(self, inputs: SuiteInputs, base: Answers, system: Answers) -> Iterator[dict[str, Any]]:
        """Yield every verdict, also those that could not be read, with what was read."""
        if self.judge is None:
            return
        judge = judge_name(self.judge)
        prompts = self.prompt_label
        for case in self.cases(inputs, base, system):
            for number, (text, value) in enumerate(self._attempts(case, system.verdicts)[0], start=1):
                yield {
                    "item": case.id,
                    "attempt": number,
                    "score": value,
                    "verdict": text,
                    "judge": judge,
                    "prompts": prompts,
                }

    @property
    def prompt_label(self) -> str:
        """Names of the prompts and hash of their wording."""
        if not self.prompt_names:
            return "its own"
        return f"{'+'.join(self.prompt_names)}-{prompt_hash(self.prompt_names, self.prompt_language)}"

    def judge_signature(self) -> str:
        """Return the part of a signature that says who judged, and how."""
        assert self.judge is not None  # asked for only where there are verdicts
        adapted = f"|language:{self.prompt_language}" if self.prompt_language else ""
        return f"{self.shown_as}:{judge_name(self.judge)}|prompts:{self.prompt_label}{adapted}"

    def judge_workload(self, items: int, verdicts: int, answers: int, max_new_tokens: int) -> Workload:
        """Estimate: an answer and a verdict are taken to be half as long as they may be.

        Args:
            items: answers written.
            verdicts: asked for.
            answers: shown for one verdict.
            max_new_tokens: of an answer.
        """
        written = 0.5 * max_new_tokens
        lengths = [sum(map(len, template(name).values())) for name in self.prompt_names]
        prompt = max(lengths, default=0) / _CHARACTERS_PER_TOKEN
        return Workload(
            items * written, verdicts, verdicts * (prompt + answers * written), verdicts * 0.5 * self.verdict_tokens
        )

    def unreadable(self, shares: Mapping[str, float]) -> ItemScores:
        """Return the diagnostic row: share of verdicts that could not be read, by item."""
        return self.item_scores(
            "unreadable",
            dict(shares),
            scale=100.0,
            signature=f"verdicts without a readable score after {self.params.retries} retries|{self.judge_signature()}",
        )


def judged_scores(
    metric: str,
    own: Mapping[str, float | None],
    base: Mapping[str, float | None],
    facts: MetricFacts | None = None,
    **fields: Any,
) -> list[ItemScores]:
    """Return a metric whose items count only where the verdicts on both the system and the base could be read.

    Args:
        metric: its name.
        own: item -> score, None if it could not be read.
        base: the same of the base.
        facts: what the metric says about itself.
        **fields: of `ItemScores`.

    Returns:
        Nothing where no item is left.
    """
    weights = {id_: float(value is not None and base.get(id_) is not None) for id_, value in own.items()}
    if not any(weights.values()):
        return []
    values = {id_: value if value is not None else 0.0 for id_, value in own.items()}
    return [ItemScores(metric, values, facts or MetricFacts(), weights=weights, **fields)]


def _attempt_id(number: int, case_id: str) -> str:
    return f"{number}:{case_id}"
