"""L2 towards the start (Kumar et al. 2023, arXiv 2308.11958), on what an adapter changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.training.objectives import Regulariser, RegulariserInputs

if TYPE_CHECKING:
    from lingraft.training.learnt_weights import Start


class L2Init(Regulariser):
    """penalty = 1/2 sum |W - W_start|^2 over all that learns, W_start being the weights the stage begins with.

    For a low-rank update W - W_start is s B A - s B_start A_start, the change of the layer's weight itself, and not of
    the factors: a first factor may turn as it likes while the second is zero, and a larger scale counts. It is computed
    from products as large as the rank. Rows of embeddings, lengths of DoRA and layers that learn whole are compared as
    they are. Unlike weight decay, which pulls factors to zero through the optimiser, it does nothing to what has not
    moved.
    """

    name: ClassVar[str] = "l2_init"
    summary: ClassVar[str] = "the weights stay near those the stage begins with"
    paper: ClassVar[str] = "arXiv 2308.11958"
    cite: ClassVar[tuple[str, ...]] = ("kumar-2025-l2init",)

    class Params(Regulariser.Params):
        """Parameters of L2 towards the start."""

        weight: float = Field(0.01, ge=0, description="strength of the penalty; 0 is as without it")

    _start: Start

    def begin(self, inputs: RegulariserInputs) -> None:
        """Take down the weights."""
        from lingraft.training.learnt_weights import Start

        self._start = Start(inputs.model)

    def add_gradient(self) -> float:
        """Add the gradient of the penalty, and return it."""
        from lingraft.training.learnt_weights import add_to_gradients, squared_norm

        start = self._start
        parts = [squared_norm(*start.moved(number)) for number in range(len(start.updates))]
        parts += [moved.square().sum() for moved in start.moved_whole()]
        penalty = sum(parts[1:], parts[0]) / 2
        add_to_gradients(penalty, start.parameters, self.params.weight)
        return float(penalty.detach())
