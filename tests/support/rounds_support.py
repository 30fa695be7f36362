"""A method of three rounds: the base explains, a teacher shortens that, and the base or the graft before judges it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from lingraft.data.records import Example, Generation, Message, Request, Sampling, Span
from lingraft.methods.base import ExpectedRound, Method, MethodInputs, Of, Round, Tally
from lingraft.methods.base_distillation import DistillationParams
from lingraft.translation.wording import ask_for

TEACHER = {"kind": "scripted", "rules": [{"pattern": "^Shorten: (\\w?)", "answer": "Short \\1."}]}


class Reviewed(Method):
    """Trains on the reference and on what the last round says of the explanation of it."""

    name = "reviewed"
    summary = "explained, shortened, judged"
    paper = "none: for tests"
    steps: ClassVar[Sequence[str]] = ("explain", "shorten", "judge")

    class Params(DistillationParams):
        """Parameters of the method."""

        teacher: dict[str, Any] = TEACHER
        judge: Literal["base", "before"] = "base"
        words: int = 6

    params: Params

    def _of(self, step: str) -> Of:
        of: dict[str, Of] = {"shorten": self.params.teacher, "judge": self.params.judge}
        return of.get(step, "base")

    def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
        if number == len(self.steps):
            return None
        step = self.steps[number]
        requests = lambda: self._asked(step, inputs, answers)  # noqa: E731
        return Round(requests=requests, of=self._of(step), name=f"reviewed-{step}")

    def expected_rounds(self) -> Sequence[ExpectedRound]:
        tokens = 0.75 * self.params.words
        return [
            ExpectedRound(
                of=self._of(step), name=f"reviewed-{step}", tokens=tokens, key=step, logprobs=self.params.soft
            )
            for step in self.steps
        ]

    def _asked(self, step: str, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Iterator[Request]:
        said = {"explain": "", "shorten": "explain", "judge": "shorten"}[step]
        for pair in inputs.pairs:
            text = answers[f"{said}:{pair.id}"].text if said else pair.target
            message = Message("user", f"{step.capitalize()}: {text}")
            yield Request(f"{step}:{pair.id}", (message,), Sampling(self.params.words, seed=inputs.seed))

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        for pair in inputs.pairs:
            tally.filters["kept"] += 1
            said = generations[f"{self.steps[-1]}:{pair.id}"].text
            spans = (Span(pair.target, "translation"), Span(f"\n{said}", "rationale"))
            yield Example(pair.id, ask_for(pair, self.params.instructions, inputs.seed), spans)
