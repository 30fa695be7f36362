"""Decoder `code`: a program in another language, mended by what the compiler says and by the values that differ."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import Field

from lingraft.core.allowance import OutOfTimeError
from lingraft.core.code_languages import NAMES
from lingraft.core.consent import RunsPrograms
from lingraft.core.errors import UsageError
from lingraft.core.sandbox import refusal
from lingraft.core.tasks import Task
from lingraft.core.toolchains import missing_toolchain
from lingraft.data.records import Generation, Message, Request
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep, Surroundings
from lingraft.decoders.code_wordings import (
    ALIGN,
    INPUTS,
    MISSING,
    MOST_VALUE,
    SEMANTIC,
    SYNTAX,
    numbered,
    shown,
    where,
)
from lingraft.decoders.direct import DRAFTS
from lingraft.language.code_calls import FAILED, Calls, Trace, compiled, literal, made_calls, parameters, same
from lingraft.language.programs import before_function, defined_last, defines
from lingraft.language.thinking import said
from lingraft.language.written_calls import defaults, read_calls
from lingraft.translation.code import declared, entry_point, extract, filled, requests
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

OUT_OF_TIME = "out_of_time"
"""`Translation.failure` of a program that was not tested and mended to the end."""
_MOST_SAID = 1500


@dataclass
class Work:
    """A program on its way. `calls`: arguments as JSON; `wanted`: what the source did; `now`: what the program does."""

    source: Source
    translation: Translation
    calls: list[list[Any]] = field(default_factory=list)
    wanted: tuple[Trace, ...] = ()
    now: Calls | None = None
    asked: int = 1
    tokens: int = 0
    steps: dict[str, str] = field(default_factory=dict)
    going: bool = True

    @property
    def code(self) -> str:
        """The program as it is."""
        return self.translation.text

    @property
    def right(self) -> int:
        """How many calls give what the source gives; -1 where it does not compile, -2 where the function is missing."""
        if self.now is None or not self.now.built:
            return -1 if self.now is None or self.now.defined else -2
        pairs = zip(self.wanted, self.now.traces, strict=False)
        return sum(same(one.result, other.result) for one, other in pairs)

    @property
    def failing(self) -> int:
        """The place of the first call that gives something else; -1 if none."""
        if self.now is None or not self.now.built:
            return -1
        pairs = enumerate(zip(self.wanted, self.now.traces, strict=False))
        return next((place for place, (one, other) in pairs if not same(one.result, other.result)), -1)


class Code(Decoder):
    """A program is translated, then mended: by what the compiler says, then by the first values that differ.

    Steps: initial translation; calls to test with, written by the model and run on the source, whose results are what
    is right; syntax fixer (`syntax-n`), by the compiler's messages, or by what is not defined; block alignment
    (`align-n`), by the model; semantic fixer, first with the values of the first block that differs (`values-n`), then
    without them (`plain-n`). It goes on only while the last repair changed something for the better, `rounds` times at
    most. The tests by which the translation is measured are never seen.

    Source: Yuan et al. 2024, "TRANSAGENT" (arXiv 2409.19894). Departures: the wordings are our own, without worked
    examples; the calls are not in the first request, which is that of the weights themselves; blocks are statements of
    the function's own level, told without Joern (see `code_blocks`); the whole program is asked for, not the block.
    """

    name: ClassVar[str] = "code"
    summary: ClassVar[str] = (
        "programs: translate, mend by the compiler's messages, then by the first values that differ"
    )
    paper: ClassVar[str] = "arXiv 2409.19894"
    cite: ClassVar[tuple[str, ...]] = ("yuan-2024-transagent",)
    version: ClassVar[int] = 3
    tasks: ClassVar[frozenset[Task]] = frozenset({"code"})

    class Params(RunsPrograms, Decoder.Params):
        """Parameters of the decoder."""

        inputs: int = Field(
            default=5, ge=0, le=20, description="calls to test with; 0: none, so that values are not mended"
        )
        rounds: int = Field(default=2, ge=0, le=5, description="most repairs of each kind")

    params: Params

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return that programs of models are run."""
        return ["runs programs that its models write, in a sandbox without network and files"]

    def check(self) -> None:
        """Refuse a machine on which programs cannot be shut in.

        Raises:
            UsageError: it does not allow the sandbox.
        """
        if why := refusal():
            raise UsageError(f"decoder 'code': {why}")

    def lacks(self, available: Surroundings) -> str:
        """Return which language this machine cannot run."""
        languages = {code for direction in available.directions for code in direction if code in NAMES}
        return "; ".join(filter(None, map(missing_toolchain, sorted(languages))))

    def stand_in(self, step: str, mark: str) -> None:
        """Stop at the first step: what is asked then depends on what programs do."""
        return

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return all steps; repairs are asked for where they are needed."""
        repairs = [
            ExpectedStep(name=f"{kind}-{number}", answers=0.3, tokens=40 if kind == "align" else None)
            for number in range(1, self.params.rounds + 1)
            for kind in ("syntax", "align", "values", "plain")
        ]
        inputs = [ExpectedStep(name="inputs", tokens=40.0 * self.params.inputs)] if self.params.inputs else []
        return (ExpectedStep(name=DRAFTS), *inputs, *repairs)

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield the programs as they are in the end; see `Decoder.run`.

        Raises:
            SandboxError: the machine does not allow the sandbox.
            UsageError: it lacks what runs a language.
        """
        answers = inputs.ask(DRAFTS, list(requests(sources, inputs.sampling)))
        works = []
        for source in sources:
            draft = extract(source, answers[source.id])
            works.append(Work(source, draft, tokens=draft.tokens, steps={"draft": draft.text}))
        try:
            self._mend(works, inputs)
        except OutOfTimeError:
            for work in works:
                work.translation = replace(work.translation, failure=work.translation.failure or OUT_OF_TIME)
        for work in works:
            yield finished(work)

    def _mend(self, works: Sequence[Work], inputs: DecoderInputs) -> None:
        """Let programs be tested and mended.

        Raises:
            SandboxError, UsageError: see `run`.
            OutOfTimeError: programs may be run no longer; what was kept until then stays.
        """
        if self.params.inputs:
            self._find_inputs(works, inputs)
        for work in works:
            work.now = executed(work, work.code)
        for number in range(1, self.params.rounds + 1):
            broken = [work for work in works if work.going and work.right < 0]
            self._repair(f"syntax-{number}", broken, inputs, lambda work: self._syntax(work))
        for work in works:
            work.going = True
        for number in range(1, self.params.rounds + 1):
            wrong = [work for work in works if work.going and work.failing >= 0]
            places = self._places(f"align-{number}", wrong, inputs)
            before = {work.source.id: work.right for work in wrong}
            self._repair(f"values-{number}", wrong, inputs, lambda work: semantic(work, places[work.source.id]))  # noqa: B023
            left = [work for work in wrong if work.right == before[work.source.id] and work.failing >= 0]
            for work in left:
                work.going = True
            self._repair(f"plain-{number}", left, inputs, lambda work: semantic(work, ""))

    def _find_inputs(self, every: Sequence[Work], inputs: DecoderInputs) -> None:
        works = [work for work in every if entry_point(work.source)]

        def wording(work: Work) -> str:
            name = defined_last(work.source.text, work.source.source_lang)
            return filled(INPUTS, work.source, count=str(self.params.inputs), name=name)

        answers = self._asked("inputs", works, inputs, wording)
        for work in works:
            source = work.source
            name = defined_last(source.text, source.source_lang)
            own = parameters(source.text, name)
            theirs = parameters(source.declaration if declared(source) else work.code, entry_point(source))
            text = said(answers[source.id].text).text
            read = read_calls(text, name, [one for _, one in own], defaults(source.text, name))
            found = [call for call in read.calls if fits(call, source, own, theirs)]
            tried = found[: self.params.inputs]
            ran = made_calls(source.text, name, source.source_lang, json.dumps(tried), tuple(kind for kind, _ in own))
            kept = [(call, one) for call, one in zip(tried, ran.traces, strict=False) if one.result is not FAILED]
            work.calls, work.wanted = [call for call, _ in kept], tuple(one for _, one in kept)
            lines = [f"{json.dumps(call)} -> {shown(one.result)}" for call, one in kept]
            unfit, failed = read.left_out + len(read.calls) - len(found), len(tried) - len(kept)
            lines += [f"(left out, as they do not fit {name}: {unfit})"] if unfit else []
            lines += [f"(left out, as the source fails on them: {failed})"] if failed else []
            work.steps["inputs"] = "\n".join(lines)

    def _asked(
        self, step: str, works: Sequence[Work], inputs: DecoderInputs, wording: Callable[[Work], str]
    ) -> Mapping[str, Generation]:
        asked = [
            Request(work.source.id, (Message("user", wording(work)),), inputs.sampling, direct=True) for work in works
        ]
        answers = inputs.ask(step, asked) if asked else {}
        for work in works:
            work.asked += 1
            work.tokens += len(answers[work.source.id].token_ids)
        return answers

    def _repair(self, step: str, works: Sequence[Work], inputs: DecoderInputs, wording: Callable[[Work], str]) -> None:
        """Ask for repairs; each is kept if the program does more of what it should, and ends the work else."""
        answers = self._asked(step, works, inputs, wording)
        for work in works:
            repaired = extract(work.source, answers[work.source.id])
            changed = repaired.text.split() != work.code.split() and repaired.failure != "no_code"
            now = executed(work, repaired.text) if changed else None
            better = now is not None and replace_now(work, now).right > work.right
            work.steps[step] = repaired.text if better else f"{repaired.text}\n\n(not kept)"
            work.going = better
            if better:
                work.translation, work.now = repaired, now

    def _syntax(self, work: Work) -> str:
        text = work.now.said if work.now else ""
        if work.right < -1:
            return filled(MISSING, work.source, code=work.code, lacking=lacking(work.source, work.code))
        return filled(SYNTAX, work.source, code=work.code, said=text.strip()[:_MOST_SAID])

    def _places(self, step: str, works: Sequence[Work], inputs: DecoderInputs) -> dict[str, str]:
        """Return of each program what is to be said of the first block whose values differ; "" where none is found."""
        traced = {work.source.id: traces(work) for work in works}
        able = [work for work in works if all(one.blocks for one in traced[work.source.id])]

        def wording(work: Work) -> str:
            ours, theirs = traced[work.source.id]
            return filled(ALIGN, work.source, ours=numbered(ours.blocks), theirs=numbered(theirs.blocks))

        answers = self._asked(step, able, inputs, wording)
        found = dict.fromkeys((work.source.id for work in works), "")
        for work in able:
            ours, theirs = traced[work.source.id]
            text = said(answers[work.source.id].text).text
            mapped = read_alignment(text, len(ours.blocks), len(theirs.blocks))
            place = diverging(ours, theirs, mapped)
            if place is not None:
                found[work.source.id] = where(work.source, ours, theirs, *place)
        return found


def replace_now(work: Work, now: Calls) -> Work:
    """Return the work with what another program does."""
    return replace(work, now=now)


def lacking(source: Source, code: str) -> str:
    """Return the name of what a translated program has to define and does not; "" if nothing, as far as text tells."""
    name = entry_point(source)
    if not name:
        return ""
    if source.target_lang == "java" and not re.search(r"\bclass\s+Solution\b", code):
        return f"class Solution with {name}"
    return "" if defines(code, name, source.target_lang) else name


def executed(work: Work, code: str, traced: bool = False, only: Sequence[Any] | None = None) -> Calls:
    """Return what a translated program does; one without the function does nothing, whether it compiles or not."""
    source, name = work.source, entry_point(work.source)
    if not name:
        return compiled(code, source.target_lang)
    kinds = tuple(kind for kind, _ in parameters(source.declaration if declared(source) else code, name))
    calls = work.calls if only is None else [list(only)]
    whole = before_function(source.declaration, name) + code if source.target_lang == "python" else code
    try:
        done = made_calls(whole, name, source.target_lang, json.dumps(calls), kinds, traced)
    except ValueError as error:  # it declares other parameters than the program for which the calls were found to fit
        failed = Trace(FAILED, f"the call cannot be written: {error}")
        done = replace(made_calls(whole, name, source.target_lang, "[]", kinds), traces=(failed,) * len(calls))
    if lacking(source, code) and all(one.result is FAILED for one in done.traces):  # else it is defined unusually
        return Calls(False, done.said, defined=False)
    if done.built or not calls or not made_calls(whole, name, source.target_lang, "[]", kinds).built:
        return done
    # The program compiles, and the calls of it do not: it does not take what it was declared to take.
    failed = Trace(FAILED, f"the call does not compile: {done.said.strip()[:MOST_VALUE]}")
    return Calls(True, done.said, (failed,) * len(calls))


def traces(work: Work) -> tuple[Calls, Calls]:
    """Return what source and program do at the first call that differs, with values."""
    source, call = work.source, work.calls[work.failing]
    name = defined_last(source.text, source.source_lang)
    kinds = tuple(kind for kind, _ in parameters(source.text, name))
    ours = made_calls(source.text, name, source.source_lang, json.dumps([call]), kinds, True)
    return ours, executed(work, work.code, traced=True, only=call)


def fits(
    call: Sequence[Any], source: Source, own: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]]
) -> bool:
    """Say whether arguments can be written in both languages."""
    try:
        for value, (kind, _), (other, _) in zip(call, own, theirs, strict=True):
            literal(value, kind, source.source_lang)
            literal(value, other, source.target_lang)
    except ValueError:
        return False
    return True


def read_alignment(text: str, ours: int, theirs: int) -> dict[int, int]:
    """Return which block stands for which; in their order where the answer names none."""
    pairs = re.findall(r"^\W*(\d{1,4})\W+(\d{1,4})\W*$", text, re.M)
    found = {int(one): int(other) for one, other in pairs if int(one) < ours and int(other) < theirs}
    return found or {number: number for number in range(min(ours, theirs))}


def _bare(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "").lower(): value for name, value in values.items()}


def diverging(
    ours: Calls, theirs: Calls, mapped: Mapping[int, int]
) -> tuple[int, int, dict[str, Any], dict[str, Any]] | None:
    """Return the first pair of blocks behind which variables of the same name differ, with their values."""
    if not ours.traces or not theirs.traces:
        return None
    there = {block: _bare(values) for block, values in theirs.traces[0].values}
    for block, values in ours.traces[0].values:
        other = mapped.get(block)
        if other is None:
            continue
        if other not in there:  # it was not reached, or left before
            return block, other, {}, _bare(values)
        need, have = _bare(values), there[other]
        names = [name for name in need if name in have and not same(need[name], have[name])]
        if names:
            return block, other, {name: have[name] for name in names}, {name: need[name] for name in names}
    return None


def semantic(work: Work, place: str) -> str:
    """Return the request to mend what a program does; `place`: what is known of the first block that differs."""
    at = work.failing
    got = work.now.traces[at] if work.now else Trace(FAILED)
    result = f"an error ({got.error})" if got.result is FAILED else shown(got.result)
    fields = {"code": work.code, "call": shown(work.calls[at]), "got": result, "wanted": shown(work.wanted[at].result)}
    return filled(SEMANTIC, work.source, **fields, where=place)


def finished(work: Work) -> Translation:
    """Return the program as it is, with what it took and what it does."""
    right = f"{work.right} of {len(work.calls)} calls as the source"
    outcome = "some" if 0 < work.right < len(work.calls) else "all" if work.right else "none"
    outcome = f"calls as the source: {outcome}" if work.calls else "compiles, no calls to compare"
    if work.now is None:
        right = outcome = "not run"
    elif work.right < 0:
        right = "does not compile" if work.right == -1 else f"does not define {lacking(work.source, work.code)}"
        outcome = "does not compile" if work.right == -1 else "does not define the function"
    steps = {**work.steps, "result": right}
    return replace(work.translation, tokens=work.tokens, calls=work.asked, steps=steps, outcome=outcome)
