"""Decider "form": the graft answers what is worded as it was trained to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, field_validator

from lingraft.core.validation import as_value_error
from lingraft.data.records import Request
from lingraft.routing.base import BASE, GRAFT, Decider, Route, RouteInputs
from lingraft.routing.wordings import filled_in
from lingraft.translation.wording import VARIANTS, check_wording


class FormDecider(Decider):
    """Sends to the graft what its last turn words as a request for a translation; it reads no model.

    The wordings are those that the graft was trained with, the package's variants, and the user's own. It never takes
    a general question for a translation unless it is worded as one, and takes every translation that is asked for in
    other words for a general question.
    """

    name: ClassVar[str] = "form"
    summary: ClassVar[str] = "the request is worded as the graft was trained to be asked; reads no model"

    class Params(Decider.Params):
        """Parameters of the decider."""

        wordings: list[str] = Field(
            default_factory=list,
            max_length=64,
            description="further wordings of a request, with {source} and, where wanted, {source_name}, {target_name}",
        )

        @field_validator("wordings")
        @classmethod
        def _fillable(cls, value: list[str]) -> list[str]:
            with as_value_error():
                return [check_wording(wording) for wording in value]

    params: Params

    def decide(self, requests: Sequence[Request], inputs: RouteInputs) -> list[Route]:
        """Return who answers each request; see `Decider.decide`."""
        wordings = dict.fromkeys((*inputs.wordings, *VARIANTS, *self.params.wordings))
        return [GRAFT if one.messages and filled_in(one.messages[-1].content, wordings) else BASE for one in requests]
