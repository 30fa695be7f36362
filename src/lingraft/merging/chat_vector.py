"""Chat Vector: what made a chat model of a base, added to a model that learnt a language from that base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.merging.base import Merger, Weight

if TYPE_CHECKING:
    from torch import Tensor


class ChatVector(Merger):
    """theta = theta_1 + ratio * (theta_2 - theta_0) (arXiv 2310.04799).

    theta_0 is a base that does not chat, theta_1 was pre-trained further from it in another language, and theta_2 is
    the chat model that was made of it. Where theta_1 has another vocabulary, its embeddings and output head stay as
    they are, but for the rows of control tokens that the chat model's template needs: they are copied from theta_2.
    """

    name: ClassVar[str] = "chat_vector"
    summary: ClassVar[str] = "what made a chat model of its base, added to a model that learnt a language"
    paper: ClassVar[str] = "arXiv 2310.04799"
    cite: ClassVar[tuple[str, ...]] = ("huang-2024-chat",)
    fewest: ClassVar[int] = 2
    most: ClassVar[int] = 2
    other_vocabularies: ClassVar[bool] = True
    asked_as_last: ClassVar[bool] = True

    class Params(Merger.Params):
        """Parameters of Chat Vector."""

        ratio: float = Field(
            1.0, description="By which the vector is multiplied; less where the learnt language is lost, as 0.5."
        )

    params: Params

    def merge(self, weight: Weight, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        """Return the first model with the vector added, or with rows of the second."""
        learnt, chat = models
        if weight.rows is None:
            return learnt.add_(chat.sub_(backbone), alpha=self.params.ratio)
        for row, source in weight.rows.items():
            learnt[row] = chat[source]
        return learnt
