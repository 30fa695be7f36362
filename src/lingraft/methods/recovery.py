"""Recovery: train on the base's own answers to general prompts, so that what it could do is rehearsed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from lingraft.data.records import Example, Generation
from lingraft.language.codes import base_language
from lingraft.methods.base import MethodInputs, MethodParams, Tally
from lingraft.methods.base_replay import Replay, ReplayParams


class RecoveryParams(ReplayParams):
    """Parameters of recovery."""


class Recovery(Replay):
    """Recovery knowledge distillation (Geng et al. 2024, arXiv 2405.13923, section 3.3), after SeqKD (Kim & Rush 2016,
    arXiv 1606.07947) with the base as its own teacher.

    Alone it teaches nothing new; it stands beside a method that does, at a given share of the tokens. Only prompts of
    the replay half are asked, so that retention is measured on others. Where the graft holds conversations through the
    translation chain of thought, the answer to an English prompt comes after the marker `<RESPONSE>`, as in the paper:
    English requests take a part of the chain. Without `tcot` it is asked, and trained, without the marker. With
    `answers: reference` it is the paper's comparison with answers of a stronger model. With `prompts: self` the base
    writes the prompts, too (Magpie, arXiv 2406.08464; SA-SFT, arXiv 2602.20162, trains on such dialogues beside the new
    task), so that replay needs no data: its chat template is opened at the user's turn, and what it writes there is
    filtered.

    Departures: answers that loop or are empty are dropped and counted; with soft targets the base's distribution at
    each token is matched instead of the token it chose. Of the prompts that the base writes, those are dropped and
    counted that are empty, cut, too short, looping, hardly made of letters, in another language, refusals, a copy of
    what stood before them, requests for a translation, shared with what is measured, or much like an earlier one.
    """

    name: ClassVar[str] = "recovery"
    summary: ClassVar[str] = "replay of the base's own answers to general prompts, beside another method"
    paper: ClassVar[str] = "arXiv 2405.13923"
    cite: ClassVar[tuple[str, ...]] = ("geng-2024-transllm",)
    version: ClassVar[int] = 2
    Params: ClassVar[type[MethodParams]] = RecoveryParams

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield prompt and answer, where the answer passes the filters."""
        inputs = self.asking(inputs, generations)
        self.count_prompts(inputs, tally)
        markers = inputs.markers if inputs.english_opening else None
        for item in self.answered(inputs, generations):
            tally.filters[item.reason or ("kept_truncated" if item.cut else "kept")] += 1
            if item.span is None:
                continue
            english = base_language(item.prompt.lang) == "en"
            opening = (markers.span(markers.response),) if markers and english else ()
            yield Example(
                f"recovery:{item.prompt.id}", item.prompt.messages, (*opening, item.span), end_turn=not item.cut
            )
