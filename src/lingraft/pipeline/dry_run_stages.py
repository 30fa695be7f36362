"""What the stages of a recipe's systems generate and train on, with the hours that takes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lingraft.methods.base import METHODS, MethodInputs, Tally
from lingraft.methods.rounds import Of, own_name
from lingraft.pipeline.dry_run_development import DevPlan
from lingraft.pipeline.dry_run_device import Size, generation_hours
from lingraft.pipeline.dry_run_prompts import BY_BEFORE, Prompts, translation
from lingraft.recipe.objectives import objectives_of
from lingraft.recipe.stages import Part, SystemPlan
from lingraft.training.tuners import TUNERS

TOKENS_PER_CHARACTER = 0.3
"""Of files that methods have of their own: English has fewer, most other languages more."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stage of one system. `hours` 0: not known, or not counted. `steps`: of the optimiser, where it trains."""

    stage: str
    tokens: float
    supervised: float
    hours: float
    note: str = ""
    steps: int = 0


def _written_each(part: Part) -> float:
    method, params = METHODS.read(part)
    return method.expected_tokens(params)


@dataclass(kw_only=True)
class StagePlan:
    """What the systems of a recipe generate and train on, each shared part counted once.

    Attributes:
        pairs: training pairs.
        request: tokens of a mean one.
        answer: tokens of a mean reference.
        prompts: general prompts, and what is written for them.
        texts: tokens of the documents.
        size: of the base.
        flops: floating-point operations a second.
        dev: the development set.
    """

    pairs: int
    request: float
    answer: float
    prompts: Prompts
    texts: float
    size: Size
    flops: float
    dev: DevPlan
    _made: set[str] = field(default_factory=set)
    _names: set[str] = field(default_factory=set)

    def _new(self, *what: Any) -> bool:
        """Whether something is made for the first time."""
        key = json.dumps(what, sort_keys=True)
        known = key in self._made
        self._made.add(key)
        return not known

    def stage_lines(self, system: SystemPlan, number: int) -> list[Line]:
        """Return what a stage has generated and translated, and its training; nothing if it is shared."""
        stage, last = system.stages[number], number == len(system.stages) - 1
        begun = [one.model_dump(mode="json") for one in system.stages[: number + 1]]
        if not last and not self._new("train", begun, system.seed, system.vocabulary):
            return []  # systems that begin alike share their first stages
        name = system.name if last else stage.label + (f"#{system.seed}" if system.group else "")
        if name in self._names:
            name = f"{name}, {system.name}"
        self._names.add(name)
        first, *others = stage.parts
        rows, length, learnt = self._examples(first)
        own = _written_each(first)
        tokens, supervised = rows * (length + own), rows * (learnt + own)
        shares = [(other, other.share or 0.0) for other in others]
        alone = 1 - sum(share for _, share in shares)
        for other, share in shares:
            each = _written_each(other)
            supervised += tokens * share / alone * each / (each + self.prompts.request)
        lines = [line for part in stage.parts for line in self._rounds(system, part, begun[:-1])]
        epochs = stage.train.epochs
        whole, used = epochs * tokens / alone, stage.train.max_tokens or math.inf
        used = min(used, (stage.train.max_steps or math.inf) * stage.train.tokens_per_step)
        supervised *= epochs * min(1.0, used / whole) if whole else 0.0
        whole = min(whole, used)
        tuner = TUNERS.create(stage.tuner)
        operations = tuner.operations
        if stage.train.gradient_checkpointing:
            operations += 2  # another forward pass
        if any(one.base for one in objectives_of(stage)):
            operations += 2  # a forward pass of the base
        hours = tuner.passes * operations * self.size.parameters * whole / self.flops / 3600
        steps = math.ceil(whole / stage.train.tokens_per_step)
        lines.append(Line(stage=f"train-{name}", tokens=whole, supervised=supervised, hours=hours, steps=steps))
        written, hours, times = self.dev.work(stage, tuner.passes * steps)
        if times:
            note = f"the development set, measured {times:,} times"
            lines.append(Line(stage=f"dev-{name}", tokens=written, supervised=0, hours=hours, note=note))
        return lines

    def _examples(self, first: Part) -> tuple[float, float, float]:
        """Return how many examples a stage's first method makes, and their tokens and supervised tokens beside those
        that the base writes."""
        entry = METHODS.get(first.kind)
        if entry.consumes == "texts":
            return 1, self.texts, self.texts
        if entry.consumes == "pairs":
            return self.pairs * entry.rows_each, self.request + self.answer, self.answer
        if entry.consumes == "files":
            return self._mixed(first)
        questions, answers = entry.cost
        answer = self.prompts.answers(first).tokens
        learnt = questions * self.prompts.questions.tokens + answers * answer
        learnt -= _written_each(first)
        return self.prompts.used(first), self.prompts.request + learnt, learnt

    def _mixed(self, first: Part) -> tuple[float, float, float]:
        """Return the same of a method of files, or of what of the recipe's it takes in their place."""
        method = METHODS.create(first)
        rows, length, supervised = _of_files(first)
        asked, learnt = rows * (length - supervised), rows * supervised
        if "prompts" in method.made_of and self.prompts.references:
            rows += self.prompts.count
            asked += self.prompts.count * self.prompts.request
            learnt += self.prompts.count * self.prompts.references.tokens
        if "texts" in method.made_of:
            rows, learnt = rows + 1, learnt + self.texts
        return rows, (asked + learnt) / max(1, rows), learnt / max(1, rows)

    def _rounds(self, system: SystemPlan, part: Part, before: list[dict[str, Any]]) -> Iterator[Line]:
        """Yield what a method asks in its rounds; systems share it where whoever answers and the requests are the same.

        Args:
            system: whose stage it is.
            part: the method.
            before: the stages before its own.
        """
        method = METHODS.create(part)
        asked = self.pairs if method.consumes == "pairs" else self.prompts.used(part)
        for number, one in enumerate(method.expected_rounds()):
            name = f"{one.kind}-{one.name or own_name(method.name, number, one.kind)}"
            of = one.of if isinstance(one.of, str) else dict(one.of)
            graft = [before, system.seed, system.vocabulary] if of == "before" else []
            engine = "" if isinstance(of, str) else str(of["kind"])
            if one.tokens is None:
                work = translation(self.prompts, part, engine)
                key, tokens, note = _asked_next(part), work.tokens, work.note
            else:
                key, tokens, note = {"each": one.tokens}, asked * one.tokens, _asked_of(of)
            if tokens and self._new(name, key, of, graft):
                hours = 0.0 if engine else self._generation_hours(tokens)
                yield Line(stage=name, tokens=tokens, supervised=0, hours=hours, note=note)

    def _generation_hours(self, tokens: float) -> float:
        return generation_hours(tokens, self.size, self.flops)


def _asked_of(of: Of) -> str:
    if isinstance(of, str):
        return f"by {BY_BEFORE}" if of == "before" else ""
    return f"by engine {of['kind']}; its time is not counted"


def _of_files(part: Part) -> tuple[float, float, float]:
    """Return the examples of a method with files of its own, and their mean tokens and supervised tokens."""
    method, inputs = METHODS.create(part), MethodInputs(())
    inputs = replace(inputs, prepared=method.prepare(inputs))
    count = asked = learnt = 0
    for example in method.examples(inputs, {}, Tally()):
        count += 1
        asked += sum(len(message.content) for message in example.messages)
        learnt += sum(len(span.text) for span in example.spans)
    each = TOKENS_PER_CHARACTER / max(1, count)
    return count, (asked + learnt) * each, learnt * each


def _asked_next(part: Part) -> dict[str, Any]:
    """Return the parameters of a method that decide its follow-ups: those which all have that share them."""
    entry, params = METHODS.read(part)
    alike = [METHODS.get(name) for name in METHODS] if entry.follow_up_cache else [entry]
    shared = [set(one.Params.model_fields) for one in alike if one.follow_up_cache == entry.follow_up_cache]
    fields = set.intersection(*shared)
    return dict(params.model_dump(mode="json", include=fields))
