"""Suite "mt_bench": conversations of two turns, each answer graded from 1 to 10 by a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeGuard

from pydantic import Field, field_validator, model_validator

from lingraft.core.errors import DataError
from lingraft.core.validation import IS_PATH
from lingraft.data.records import Generation, Message, Request, Sampling
from lingraft.data.sampling import draw
from lingraft.language.characters import is_blank
from lingraft.language.codes import match_column
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

FIRST_ID = 81
CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""Of the published questions 81 to 160, ten each."""

WITH_REFERENCE = ("math", "reasoning", "coding")
"""Categories judged against a reference answer."""

TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
"""At which the published answers are sampled (FastChat, `llm_judge/common.py`); all others are greedy."""


@dataclass(frozen=True)
class MTBenchQuestion:
    """One conversation: one or two turns of the user, and reference answers where it is judged against them."""

    id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


_CITE = ("zheng-2023-judging",)


class MTBenchSuite(JudgedSuite):
    """Two-turn conversations graded 1 to 10 by a judge: `score`, retained, and the diagnostics by turn.

    Metrics: `score` (mean over all turns; the turns of a question are one cluster), `score_turn1`, `score_turn2`,
    `unreadable` (% of verdicts without a readable rating).

    Source: Zheng et al. 2023 (arXiv 2306.05685): single-answer grading with the prompts of FastChat, reference answers
    for math, reasoning and coding. With `language`, graded as in TransLLM (arXiv 2405.13923). The questions shipped are
    eight of our own; give `questions` and `references` the published files for published figures.
    """

    name: ClassVar[str] = "mt_bench"
    paper: ClassVar[str] = "arXiv 2306.05685"
    metrics: ClassVar[Mapping[str, MetricFacts]] = {
        "score": replace(grade_facts(), cite=_CITE),
        "score_turn1": replace(grade_facts("Grade, turn 1", retains=False), cite=_CITE),
        "score_turn2": replace(grade_facts("Grade, turn 2", retains=False), cite=_CITE),
        **UNREADABLE,
    }
    prompt_names = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")

    class Params(JudgedSuite.Params):
        """Parameters of the suite."""

        questions: Annotated[str, IS_PATH] = Field(
            "starter:mt_bench.jsonl", description="file of questions, as FastChat or TransLLM publish them"
        )
        references: Annotated[str | None, IS_PATH] = Field(
            None,
            description="file of reference answers, as FastChat publishes them; default: `reference` of a question",
        )
        language: str = Field("", description="language of questions and answers, if not English: picks the columns")
        max_prompts: int = Field(80, ge=1, description="questions asked, drawn by seed when there are more")
        max_new_tokens: int = Field(1024, ge=1, description="longest answer of a turn, in tokens")
        temperatures: Literal["published", "greedy"] = Field(
            "published", description="published: writing and roleplay 0.7, stem and humanities 0.1, the others greedy"
        )

        _language = field_validator("language")(language_code)

        @model_validator(mode="after")
        def _judged(self) -> Self:
            required(self.judge)
            return self

    params: Params

    @property
    def prompt_language(self) -> str:  # type: ignore[override]
        """The prompts are adapted to the language of the answers."""
        return self.params.language

    @cached_property
    def _questions(self) -> dict[str, MTBenchQuestion]:
        return read_questions(self.params.questions, self.params.references, self.params.language)

    def _asked(self, inputs: SuiteInputs) -> list[MTBenchQuestion]:
        return [self._questions[id_] for id_ in draw(self._questions, self.params.max_prompts, inputs.seed)]

    def _request(self, question: MTBenchQuestion, turn: int, answers: Sequence[str], seed: int) -> Request:
        messages = []
        for number in range(turn):
            messages.append(Message("user", question.turns[number]))
            if number < len(answers):
                messages.append(Message("assistant", answers[number]))
        temperature = TEMPERATURES.get(question.category, 0.0) if self.params.temperatures == "published" else 0.0
        sampling = Sampling(max_new_tokens=self.params.max_new_tokens, temperature=temperature, seed=seed)
        return Request(turn_id(question.id, turn), tuple(messages), sampling)

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask the first turn of every question.

        Raises:
            DataError: the questions or their reference answers cannot be read.
        """
        return [self._request(question, 1, (), inputs.seed) for question in self._asked(inputs)]

    def follow_ups(self, inputs: SuiteInputs, generations: Mapping[str, Generation]) -> list[Request]:
        """Ask the second turn, quoting the system's own first answer."""
        return [
            self._request(question, 2, [generations[turn_id(question.id, 1)].text], inputs.seed)
            for question in self._asked(inputs)
            if len(question.turns) > 1 and turn_id(question.id, 2) not in generations
        ]

    def cases(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[Case]:
        """Show the judge each answer, the second one within its conversation.

        Raises:
            DataError: an answer is missing.
        """
        cases = []
        for question in self._asked(inputs):
            answers = [
                self.answer_to(system.generations, turn_id(question.id, turn + 1)).text
                for turn in range(len(question.turns))
            ]
            for turn in range(1, len(answers) + 1):
                messages = self._shown(question, turn, answers)
                cases.append(Case(turn_id(question.id, turn), messages))
        return cases

    def _shown(self, question: MTBenchQuestion, turn: int, answers: Sequence[str]) -> tuple[Message, ...]:
        numbered = range(1, turn + 1)
        name = "single-math-v1" if question.references else "single-v1"
        values = {f"ref_answer_{n}": question.references[n - 1] for n in numbered} if question.references else {}
        if turn == 1:
            values |= {"question": question.turns[0], "answer": answers[0]}
        else:
            name += "-multi-turn"
            values |= {f"question_{n}": question.turns[n - 1] for n in numbered}
            values |= {f"answer_{n}": answers[n - 1] for n in numbered}
        return prompt_messages(name, self.prompt_language, **values)

    def read(self, verdict: str) -> float | None:
        """Read the rating."""
        return read_rating(verdict)

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Return the grades of all turns; a turn counts where the verdicts on system and base could be read."""
        own, theirs = self.readings(inputs, base, system), self.readings(inputs, base, base)
        settings = f"temperatures:{self.params.temperatures}|max_new_tokens:{self.params.max_new_tokens}"
        signature = f"{self.judge_signature()}|questions:{Path(self.params.questions).name}|{settings}"
        clusters = {turn_id(question.id, turn): question.id for question in self._asked(inputs) for turn in (1, 2)}
        of = self.metrics
        out = judged_scores("score", own, theirs, of["score"], signature=f"mean of 1-10|{signature}", clusters=clusters)
        for turn in (1, 2):
            part = {id_: value for id_, value in own.items() if id_.endswith(f"/{turn}")}
            metric = f"score_turn{turn}"
            out += judged_scores(metric, part, theirs, of[metric], signature=f"turn {turn}|{signature}")
        return [*out, self.unreadable({id_: float(value is None) for id_, value in own.items()})]

    def workload(self, at_hand: AtHand) -> Workload:
        """Count turns of the questions."""
        limit = self.params.max_prompts / max(self.params.max_prompts, len(self._questions))
        turns = round(limit * sum(len(question.turns) for question in self._questions.values()))
        return self.judge_workload(turns, turns, 2, self.params.max_new_tokens)


def turn_id(question_id: str, turn: int) -> str:
    """Return the id of one turn of a question."""
    return f"{question_id}/{turn}"


def read_questions(path: str, references: str | None = None, lang: str = "") -> dict[str, MTBenchQuestion]:
    """Return the questions of a file by id.

    Args:
        path: rows as FastChat publishes them (`question_id`, `category`, `turns`, `reference`), or as TransLLM does
            (`Instruct_id` from 0, `instruction1_th`, `instruction2_th`).
        references: reference answers in FastChat's layout (`question_id`, `choices[0].turns`); they come before a
            question's own `reference`.
        lang: picks the columns `turns_LANG` or `instruction1_LANG`, if there are any.

    Raises:
        DataError: rows without these fields, or a question that needs reference answers and has none.
    """
    answers: dict[str, Any] = {}
    for line, row in read_rows(references, MTBenchSuite.name) if references else []:
        try:
            answers[str(row["question_id"])] = row["choices"][0]["turns"]
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"suite 'mt_bench': {references}, line {line} has no `question_id` with `choices[0].turns`; give "
                f"reference answers as FastChat publishes them"
            ) from error
    found: dict[str, MTBenchQuestion] = {}
    for line, row in read_rows(path, MTBenchSuite.name):
        where = f"suite 'mt_bench': {path}, line {line}"
        id_ = str(row["question_id"]) if "question_id" in row else _from_instruct_id(row, where)
        if id_ in found:
            raise DataError(f"{where} repeats question {id_}; give every question an id of its own")
        turns = _turns(row, lang, where)
        category = str(row.get("category") or _category(id_))
        own = answers.get(id_) or row.get("reference") or ()
        if category in WITH_REFERENCE:
            if not _texts(own) or len(own) < len(turns):
                raise DataError(
                    f"{where}: question {id_} ({category}) is judged against reference answers, one for each turn; "
                    f"give the file of them as `references:`, or the question a `reference`"
                )
            found[id_] = MTBenchQuestion(id_, category, turns, tuple(own))
        else:
            found[id_] = MTBenchQuestion(id_, category, turns)
    return found


def _from_instruct_id(row: Mapping[str, Any], where: str) -> str:
    try:
        return str(FIRST_ID + int(row["Instruct_id"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} has no `question_id`; give questions as FastChat publishes them") from error


def _category(id_: str) -> str:
    """Return the category of a published question that does not state it."""
    number = int(id_) - FIRST_ID if id_.isdecimal() and len(id_) < 5 else -1
    return CATEGORIES[number // 10] if 0 <= number < 80 else ""


def _texts(value: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, str) for item in value)


def _turns(row: Mapping[str, Any], lang: str, where: str) -> tuple[str, ...]:
    own = match_column(row, "turns_", lang) if lang else None
    suffix = own.removeprefix("turns") if own else f"_{lang}" if lang and "instruction1" in row else ""
    if "turns" in row or f"turns{suffix}" in row:
        turns = row.get(f"turns{suffix}")
    else:
        named = [match_column(row, f"{name}_", lang) if lang else name for name in ("instruction1", "instruction2")]
        turns = [row[key] for key in named if key is not None and row.get(key)]
    if not _texts(turns) or len(turns) > 2 or any(map(is_blank, turns)):
        columns = f" in the columns of language {lang!r}" if suffix else ""
        raise DataError(f"{where} has no `turns`{columns}: one or two texts; give questions as FastChat publishes them")
    return tuple(turns)
