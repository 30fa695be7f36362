"""Decoder `tear`: translate, estimate, refine (Feng et al. 2025, arXiv 2402.16379)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lingraft.core.validation import HOLDS_ENGINE, HOLDS_METRIC
from lingraft.data.records import Generation, Message, Pair, Request
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep, Of, Surroundings
from lingraft.decoders.choosing import signed, unfit
from lingraft.decoders.direct import DRAFTS, drafts
from lingraft.decoders.error_lists import AGAIN, WORKED, ErrorList, estimate_messages, read_errors, refine_messages
from lingraft.methods.rounds import checked_engine
from lingraft.metrics.base import open_metric
from lingraft.translation.by_sentence import stops_for
from lingraft.translation.direct import Source, Translation, extract
from lingraft.translation.wording import TranslationSystem

Who = Literal["system", "base"] | dict[str, Any]

NO_ERROR = "draft kept, no error found"
UNREAD = "draft kept, its error list cannot be read"
UNUSED = "draft kept, nothing usable was written"
SAME = "draft kept, refined to the same"
UNREAD_AGAIN = "draft kept, the error list of what was refined cannot be read"
NO_BETTER = "draft kept, the gate finds what was refined no better"
REFINED = "refined"


@dataclass
class _Segment:
    """One source on its way. `text`: the draft, or what took its place `kept` times; `errors`: of that, once known."""

    source: Source
    draft: Translation
    tokens: int
    calls: int
    steps: dict[str, str] = field(default_factory=dict)
    text: str = ""
    errors: ErrorList | None = None
    refined: str = ""
    kept: int = 0
    outcome: str = ""

    def note(self, step: str, answer: Generation) -> None:
        """Count an answer, and keep what it says for the report."""
        self.tokens += len(answer.token_ids)
        self.calls += 1
        self.steps[step] = answer.text

    def translation(self) -> Translation:
        """Return the outcome."""
        outcome = self.outcome if not self.kept else REFINED if self.kept == 1 else f"{REFINED} {self.kept} times"
        return replace(
            self.draft,
            text=self.text,
            failure="" if self.kept else self.draft.failure,
            tokens=self.tokens,
            calls=self.calls,
            steps={**self.steps, "outcome": outcome},
            outcome=outcome,
        )


class Tear(Decoder):
    """Translate; let the errors be listed; where there are some, let them be corrected; keep what is better.

    1. translate; 2. list errors by severity (critical, major, minor), as JSON that is read strictly: an answer that is
    not what was asked for is asked for once more, and the draft stays where that fails, too; 3. without errors the
    draft stays; 4. refine by source, draft and list. With more `rounds`, what took the draft's place goes through 2 to
    4 again. Departures from the paper: worked examples of lists are shown only where `examples` says so, and are our
    own; what was refined takes the draft's place only where a gate says that it is better (`accept`); `always` is the
    paper's. The gate never sees a reference and may not be a reported metric.
    """

    name: ClassVar[str] = "tear"
    summary: ClassVar[str] = "translate, list the errors, correct them; the draft stays unless that is better"
    paper: ClassVar[str] = "Feng et al. 2025, TEaR, arXiv 2402.16379"
    cite: ClassVar[tuple[str, ...]] = ("feng-2025-tear",)
    lengthened_by: ClassVar[tuple[str, ...]] = ("max_estimate_tokens", "examples")

    class Params(Decoder.Params):
        """Parameters of `tear`."""

        estimator: Who = Field(
            "system",
            description="who lists the errors: `system`, the `base`, or an engine as under `engine:`",
            json_schema_extra=HOLDS_ENGINE,
        )
        refiner: Who = Field("system", description="who corrects them: as `estimator`", json_schema_extra=HOLDS_ENGINE)
        accept: Literal["errors", "metric", "always"] = Field(
            "errors",
            description="when what was refined takes the draft's place: `errors`: its errors, listed again, weigh less "
            "(critical 25, major 5, minor 1); `metric`: `metric` says that it is better; `always`: as in the paper",
        )
        metric: str | dict[str, Any] | None = Field(
            None,
            description="of `accept: metric`: one that estimates quality without references (COMET with a CometKiwi "
            "model, or a program), and is not reported",
            json_schema_extra=HOLDS_METRIC,
        )
        max_estimate_tokens: int = Field(200, ge=16, description="longest list of errors, in tokens")
        examples: int = Field(
            0,
            ge=0,
            le=len(WORKED),
            description="worked examples of lists of errors that are shown before the question, as turns: one with "
            "errors, one with a critical one, one without any",
        )
        rounds: int = Field(
            1,
            ge=1,
            le=5,
            description="most times that errors are listed and corrected; a text goes on while it is "
            "refined and has errors",
        )

        _engines = field_validator("estimator", "refiner", mode="before")(checked_engine)

        @model_validator(mode="after")
        def _one_gate(self) -> Self:
            if (self.metric is not None) != (self.accept == "metric"):
                wanted = "`accept: metric` needs a `metric`; name one" if self.metric is None else (
                    f"`metric` is for `accept: metric`, and `accept` is {self.accept}; drop one of the two"
                )  # fmt: skip
                raise ValueError(wanted)
            return self

    def lacks(self, available: Surroundings) -> str:
        """Say where the gate cannot judge, or would judge by what is reported."""
        metric = self.params.metric
        if metric is None:
            return ""
        if not available.scores:
            return "`accept: metric` needs a metric, and nothing scores here; set `accept: errors`"
        own = open_metric(metric).metric
        for other in map(open_metric, available.reported):
            if (other.metric.name, other.metric.measures()) == (own.name, own.measures()):
                return (
                    f"`metric`: {other.name} is reported, too, and would judge its own choice; name another one, or "
                    f"set `accept: errors`"
                )
        return unfit(metric, references=False, key="metric")

    @property
    def selects_by(self) -> Sequence[str | Mapping[str, Any]]:
        """The metric of the gate, if it is one."""
        return () if self.params.metric is None else (self.params.metric,)

    def stand_in(self, step: str, mark: str) -> str:
        """Let no first list be readable, and each second one hold an error."""
        return json.dumps({"critical": [mark], "major": [], "minor": []}) if step.endswith("-again") else mark

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the steps, as if three in four drafts had errors and one list in five could not be read."""
        params = self.params
        estimator: dict[str, Any] = {
            "of": params.estimator,
            "tokens": params.max_estimate_tokens / 2,
            "key": "estimator",
        }
        steps = [ExpectedStep(name=DRAFTS)]
        for number in range(1, params.rounds + 1):
            share = 0.5 ** (number - 1)  # of the texts, about, go on
            if number == 1 or params.accept != "errors":
                listed = _named("estimate", number)
                steps += [
                    ExpectedStep(name=listed, answers=share, **estimator),
                    ExpectedStep(name=f"{listed}-again", answers=0.2 * share, **estimator),
                ]
            steps.append(
                ExpectedStep(name=_named("refine", number), of=params.refiner, answers=0.75 * share, key="refiner")
            )
            if params.accept == "errors":
                listed = _named("check", number)
                steps += [
                    ExpectedStep(name=listed, answers=0.75 * share, **estimator),
                    ExpectedStep(name=f"{listed}-again", answers=0.15 * share, **estimator),
                ]
        return steps

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield drafts and refined translations; see `Decoder.run`."""
        found = [
            _Segment(source, draft, draft.tokens, draft.calls, {DRAFTS: draft.text}, draft.text)
            for source, draft in zip(sources, drafts(sources, system, inputs), strict=True)
        ]
        for one in found:
            one.outcome = "" if one.text else UNUSED
        for number in range(1, self.params.rounds + 1):
            self._round(number, [one for one in found if not one.outcome], system, inputs)
        yield from (one.translation() for one in found)

    def _round(
        self, number: int, segments: Sequence[_Segment], system: TranslationSystem, inputs: DecoderInputs
    ) -> None:
        """List the errors of texts, correct them, and keep what is better; who goes on has no outcome afterwards."""
        unlisted = [one for one in segments if one.errors is None]
        listed = self._listed(unlisted, [one.text for one in unlisted], _named("estimate", number), inputs)
        for one, errors in zip(unlisted, listed, strict=True):
            one.errors = errors
            one.outcome = "" if errors is not None else UNREAD
        for one in segments:
            if one.errors is not None and not one.errors.weight:
                one.outcome = NO_ERROR
        self._refine([one for one in segments if not one.outcome], number, system, inputs)
        self._judge([one for one in segments if not one.outcome], number, inputs)
        for one in segments:
            if one.outcome == REFINED:
                one.text, one.kept, one.outcome = one.refined, one.kept + 1, ""

    def _listed(
        self, segments: Sequence[_Segment], texts: Sequence[str], step: str, inputs: DecoderInputs
    ) -> list[ErrorList | None]:
        """Return the errors of a text of each segment, None where no answer can be read."""
        sampling = replace(inputs.sampling, max_new_tokens=self.params.max_estimate_tokens, stop=())
        asked = {
            one.source.id: Request(
                one.source.id, estimate_messages(one.source, text, self.params.examples), sampling, direct=True
            )
            for one, text in zip(segments, texts, strict=True)
        }
        answers = self._ask(segments, step, list(asked.values()), self.params.estimator, inputs)
        read = {id_: read_errors(answer.text, asked[id_].given) for id_, answer in answers.items()}
        unread = [one for one in segments if read[one.source.id] is None]
        again = []
        for one in unread:
            before, answer = asked[one.source.id], answers[one.source.id]
            messages = (*before.messages, Message("assistant", answer.text.strip() or "-"), Message("user", AGAIN))
            again.append(replace(before, messages=messages))
        second = self._ask(unread, f"{step}-again", again, self.params.estimator, inputs)
        read |= {request.id: read_errors(second[request.id].text, request.given) for request in again}
        return [read[one.source.id] for one in segments]

    def _refine(
        self, segments: Sequence[_Segment], number: int, system: TranslationSystem, inputs: DecoderInputs
    ) -> None:
        asked = []
        for one in segments:
            assert one.errors is not None, "it has been read"
            messages = refine_messages(one.source, one.text, one.errors)
            sampling = replace(inputs.sampling, stop=stops_for(one.source.text, system.stop))
            asked.append(Request(one.source.id, messages, sampling, direct=True))
        answers = self._ask(segments, _named("refine", number), asked, self.params.refiner, inputs)
        for one in segments:
            refined = extract(one.source, answers[one.source.id], system.stop)
            one.refined = refined.text
            if refined.failure or not refined.text:
                one.outcome = UNUSED
            elif refined.text == one.text:
                one.outcome = SAME

    def _judge(self, segments: Sequence[_Segment], number: int, inputs: DecoderInputs) -> None:
        """Say of each segment whether what was refined takes the place of its text, and what errors are known of it."""
        listed: Sequence[ErrorList | None] = [None] * len(segments)
        if self.params.accept == "always":
            better = [True for _ in segments]
        elif self.params.accept == "metric":
            scores = [self._scores(segments, inputs, refined) for refined in (False, True)]
            better = [after > before for before, after in zip(*scores, strict=True)]  # NaN is no better
        else:
            refined = [one.refined for one in segments]
            listed = self._listed(segments, refined, _named("check", number), inputs)
            better = []
            for one, errors in zip(segments, listed, strict=True):
                better.append(errors is not None and one.errors is not None and errors.weight < one.errors.weight)
                one.outcome = UNREAD_AGAIN if errors is None else ""
        for one, is_better, errors in zip(segments, better, listed, strict=True):
            one.outcome = REFINED if is_better else one.outcome or NO_BETTER
            one.errors = errors if is_better else one.errors

    def _scores(self, segments: Sequence[_Segment], inputs: DecoderInputs, refined: bool) -> list[float]:
        assert self.params.metric is not None, "`accept: metric` has one"
        pairs = [
            Pair(one.source.id, one.source.text, "", one.source.source_lang, one.source.target_lang) for one in segments
        ]
        return signed(inputs, self.params.metric, pairs, [one.refined if refined else one.text for one in segments])

    @staticmethod
    def _ask(
        segments: Sequence[_Segment], step: str, asked: Sequence[Request], of: Of, inputs: DecoderInputs
    ) -> Mapping[str, Generation]:
        """Ask a step, and note the answers with their segments."""
        if not asked:
            return {}
        answers = inputs.ask(step, asked, of)
        found = {one.source.id: answers[one.source.id] for one in segments}
        for one in segments:
            one.note(step, found[one.source.id])
        return found


def _named(step: str, number: int) -> str:
    """Return the name of a step of a round; those of the first have no number."""
    return step if number == 1 else f"{step}-{number}"
