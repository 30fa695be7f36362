"""Prompts that a model writes itself: its own chat template opened at the user's turn, what it writes there, filtered.

After Magpie (Xu et al. 2024, arXiv 2406.08464): an aligned model that is shown nothing but the beginning of a user's
turn writes what a user might ask. SA-SFT (arXiv 2602.20162) trains on dialogues that a model has so written itself,
beside the new task, and finds that to keep what it could do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from pydantic import Field, field_validator

from lingraft.core.hashing import text_hash
from lingraft.core.validation import as_value_error
from lingraft.data.contamination import units
from lingraft.data.records import Generation, Message, Prompt, Request, Sampling, UserTurn
from lingraft.language.characters import is_blank
from lingraft.language.codes import language
from lingraft.language.measures import is_looping, letter_count, normalise, words, written_in
from lingraft.language.thinking import thinks
from lingraft.methods.base_distillation import DistillationParams

SHINGLE = 3
"""Words of the runs by which near duplicates are found."""

ALIKE = 0.6
"""Share of common runs (Jaccard) from which two prompts are near duplicates."""

LETTERS = 0.4
"""Share of letters that a prompt has at least among what shows."""

QUOTED = 8
"""So many words in a row of what stands before the user's turn are a copy of it."""

_TRANSLATION = re.compile(
    r"\btranslat(?:e|es|ed|ing|ions?|ors?)\b|\bübersetz|\btradui|\btraduc|\btraduzi|\bperevod|перев[её]д|перевод"
    r"|翻译|翻譯|翻訳|번역|แปล(?:ภาษา|เป็น|ข้อความ|ประโยค)",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\W*(?:i['’]?m (?:very |really |so )?sorry,? but|sorry,? but|i (?:cannot|can['’]?t|am unable|['’]?m unable)"
    r"|as an? (?:ai|large language)\b|i['’]?m (?:just )?an ai\b|i am an ai\b|i apologi[sz]e)",
    re.IGNORECASE,
)


class SelfPromptParams(DistillationParams):
    """Parameters of prompts that the model writes itself; of text written by the base in general beside them."""

    prompts: Literal["given", "self"] = Field(
        "given",
        description="given: those of the recipe; self: the base writes them, from its chat template opened at the "
        "user's turn, so that no data is needed",
    )
    self_prompts: int = Field(1000, ge=1, description="prompts: self: how many the base writes, before any is dropped")
    prompt_temperature: float = Field(1.0, gt=0, description="prompts: self: of the sampling")
    prompt_top_p: float = Field(0.9, gt=0, le=1, description="prompts: self: nucleus of the sampling")
    prompt_language: str = Field("en", description="prompts: self: those in another language are dropped")
    prompt_system: str | None = Field(
        None, description="prompts: self: system message before the user's turn; default: what the chat template has"
    )
    max_prompt_tokens: int = Field(128, ge=8, description="prompts: self: longer ones are dropped, in tokens")
    min_prompt_words: int = Field(3, ge=1, description="prompts: self: shorter ones are dropped")

    @field_validator("prompt_language")
    @classmethod
    def _known_language(cls, value: str) -> str:
        with as_value_error():
            return language(value)

    @field_validator("prompt_system")
    @classmethod
    def _says_something(cls, value: str | None) -> str | None:
        if value is not None and is_blank(value):
            raise ValueError("a system message that says nothing; leave it out for that of the chat template")
        return value


@dataclass(frozen=True)
class SelfPrompts(Sequence[Prompt]):
    """The prompts that a model has written and that are fit, and how many are not, by reason."""

    kept: tuple[Prompt, ...]
    dropped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.kept)

    @overload
    def __getitem__(self, at: int) -> Prompt: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Prompt]: ...

    def __getitem__(self, at: int | slice) -> Prompt | Sequence[Prompt]:
        return self.kept[at]


def self_requests(params: SelfPromptParams, turn: UserTurn, seed: int, count: int) -> Iterator[Request]:
    """Yield requests for prompts; each draws by its own id.

    Args:
        params: of the method.
        turn: the chat template opened at the user's turn.
        seed: of the run.
        count: of prompts.
    """
    sampling = Sampling(params.max_prompt_tokens, params.prompt_temperature, params.prompt_top_p, turn.stop, seed)
    for number in range(count):
        yield Request(_id(number), (), sampling, prompt_ids=turn.ids, ends=turn.ends)


def written_prompts(
    params: SelfPromptParams,
    turn: UserTurn,
    answers: Mapping[str, Generation],
    count: int,
    held_out: Callable[[str], bool] | None = None,
) -> SelfPrompts:
    """Return the prompts among what a model has written that are fit to be asked.

    Args:
        params: of the method.
        turn: with which they were asked for.
        answers: by the ids of `self_requests`.
        count: of prompts that were asked for.
        held_out: whether a text shares a whole text or a long run of words with what is measured.
    """
    opening = () if params.prompt_system is None else (Message("system", params.prompt_system),)
    dropped: Counter[str] = Counter()
    kept: list[Prompt] = []
    seen, near = set[str](), _Near()
    for number in range(count):
        generation = answers[_id(number)]
        text = generation.text.strip()
        reason = _fault(text, generation.finish_reason == "length", params, turn.before)
        if not reason and held_out is not None and held_out(text):
            reason = "held_out"
        if not reason and (normal := normalise(text)) in seen:
            reason = "duplicate"
        elif not reason:
            seen.add(normal)
            reason = "" if near.add(text) else "near_duplicate"
        if reason:
            dropped[reason] += 1
        else:
            kept.append(Prompt(_id(number), (*opening, Message("user", text)), params.prompt_language))
    return SelfPrompts(tuple(kept), dropped)


def _id(number: int) -> str:
    return f"self:{number}"


def _fault(text: str, cut: bool, params: SelfPromptParams, before: str) -> str:
    """Return the first reason against a prompt, "" if there is none.

    Args:
        text: as the model wrote it.
        cut: whether it reached the token limit: it is no whole prompt then.
        params: of the method.
        before: what stood before it.
    """
    if is_blank(text):
        return "empty"
    if thinks(text):
        return "thinking"
    if cut:
        return "too_long"
    if len(words(text)) < params.min_prompt_words:
        return "too_short"
    if is_looping(text):
        return "looping"
    if letter_count(text) < LETTERS * sum(not character.isspace() for character in text):
        return "few_letters"
    if not written_in(text, params.prompt_language):
        return "wrong_language"
    if _REFUSAL.match(text):
        return "refusal"
    if _quotes(text, before):
        return "echo"
    return "translation" if _TRANSLATION.search(text) else ""


def _quotes(text: str, before: str) -> bool:
    """Whether a text repeats a run of words of what stood before it."""
    runs = {tuple(run) for run in _runs(units(before), QUOTED)}
    return bool(runs) and any(run in runs for run in _runs(units(text), QUOTED))


def _runs(found: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(found[start : start + length]) for start in range(len(found) - length + 1))


class _Near:
    """Texts with runs of words of which none is much like another."""

    def __init__(self) -> None:
        self._with: dict[int, list[int]] = {}  # of each run, the texts that hold it
        self._sizes: list[int] = []

    def add(self, text: str) -> bool:
        """Add a text, unless it is much like one that is here; return whether it was added."""
        runs = {text_hash(*run) for run in _runs(units(text), SHINGLE)}
        common = Counter(number for run in runs for number in self._with.get(run, ()))
        if any(count >= ALIKE * (len(runs) + self._sizes[number] - count) for number, count in common.items()):
            return False
        for run in runs:
            self._with.setdefault(run, []).append(len(self._sizes))
        self._sizes.append(len(runs))
        return True
