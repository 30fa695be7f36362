"""EWC: elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.training.objectives import Regulariser, RegulariserInputs

if TYPE_CHECKING:
    from lingraft.training.fisher import Fisher
    from lingraft.training.learnt_weights import Start


class EWC(Regulariser):
    """penalty = 1/2 sum_i F_i (W_i - W_start,i)^2 over all that learns, with the diagonal Fisher information of the
    base's own answers to general prompts (equation 3 of the paper).

    F_i = sum over answers of (d log p(answer) / d W_i)^2 / number of their tokens, from `samples` of the stage's rows
    that have spans of role reply, at the weights the stage begins with; it is computed anew where a run is resumed, to
    the same. So measured, the penalty is, near the start, the diagonal's part of the KL divergence from the base in
    nats a token, and `weight` 1 stands beside the loss a token as that.

    Departures: W of a low-rank update is the layer's weight, which changes by s B A, and not the factors (whose
    information would be zero for a first factor, as the second begins at zero). A Fisher as large as the model is not
    kept: of each layer its sums over rows and columns are, and F_ij is their product over the whole, as Adafactor
    keeps squared gradients (arXiv 1804.04235). Weights that learn whole have the diagonal itself. Layers of experts in
    one tensor and embeddings with an update are taken by their factors.
    """

    name: ClassVar[str] = "ewc"
    summary: ClassVar[str] = "weights that the base's own answers depend on stay near the start"
    paper: ClassVar[str] = "arXiv 1612.00796"
    cite: ClassVar[tuple[str, ...]] = ("kirkpatrick-2017-ewc",)
    replay: ClassVar[bool] = True

    class Params(Regulariser.Params):
        """Parameters of EWC."""

        samples: int = Field(256, gt=0, description="answers that the Fisher information is taken from")

    params: Params
    _start: Start
    _fisher: Fisher

    def begin(self, inputs: RegulariserInputs) -> None:
        """Take down the weights and the Fisher information.

        Raises:
            DataError: no row is an answer to a general prompt.
        """
        from lingraft.training.fisher import measure_fisher
        from lingraft.training.learnt_weights import Start

        self._start = Start(inputs.model)
        self._fisher = measure_fisher(
            inputs.model, self._start, inputs.rows, inputs.loss, samples=self.params.samples, seed=inputs.seed
        )

    def add_gradient(self) -> float:
        """Add the gradient of the penalty, and return it."""
        from lingraft.training.learnt_weights import add_to_gradients

        penalty = self._fisher.weighed(self._start) / 2
        add_to_gradients(penalty, self._start.parameters, self.params.weight)
        return float(penalty.detach())
