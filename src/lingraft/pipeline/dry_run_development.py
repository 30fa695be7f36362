"""What measuring a development set while stages train takes: tokens and hours."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lingraft.pipeline.development import ANSWER_TOKENS, MOST_ROWS
from lingraft.pipeline.dry_run_device import Size, generation_hours
from lingraft.recipe.stages import Stage
from lingraft.training.development import TIMES


@dataclass(frozen=True, kw_only=True)
class DevPlan:
    """A development set, and what a measurement of it does.

    Attributes:
        pairs: of the set; 0 where there is none.
        prompts: general prompts that are held back for it.
        request: tokens of a mean pair's request.
        answer: tokens of a mean reference.
        question: tokens of a mean general prompt.
        size: of the base.
        flops: floating-point operations a second.
    """

    pairs: int
    prompts: int
    request: float
    answer: float
    question: float
    size: Size
    flops: float

    def work(self, stage: Stage, steps: int) -> tuple[float, float, int]:
        """Return the tokens that measurements of one training write, their hours, and how many there are.

        The loss of all references, translations of a sample, and a pass of model and base over the base's answers to
        general prompts, which are written once.

        Args:
            stage: that is trained.
            steps: of its optimiser; where patience ends it early there are fewer measurements.
        """
        if not self.pairs or not steps:
            return 0.0, 0.0, 0
        every = stage.train.dev_every_steps or math.ceil(steps / TIMES)
        times = 1 + math.ceil(steps / every)  # before the first step, and after the last one
        asked = min(stage.train.dev_sample, self.prompts)
        written = times * min(stage.train.dev_sample, self.pairs) * self.answer + asked * ANSWER_TOKENS
        read = min(MOST_ROWS, self.pairs) * (self.request + self.answer)
        read += 2 * asked * (self.question + ANSWER_TOKENS)
        passes = 2 * self.size.parameters * times * read / self.flops / 3600
        return written, passes + generation_hours(written, self.size, self.flops), times
