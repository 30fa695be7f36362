"""SPD: selective projection decay (Tian et al. 2024, arXiv 2411.01713)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.training.objectives import Regulariser, RegulariserInputs

if TYPE_CHECKING:
    import torch

    from lingraft.training.learnt_weights import Update, Whole


class SPD(Regulariser):
    """Decay towards the base, only of weights whose update disagrees with the gradient, and by no more than they have
    just moved away (algorithm 1 of the paper).

    With d = W - W_base of a weight before the step and g its gradient: if -<g, d> < 0, so that going down the gradient
    would bring it nearer to the base, and the optimiser has taken it further away all the same, from |d| to |d'|, then
    W <- W - weight x (|d'| - |d|) / |d'| x (W - W_base). With weight 1 it so ends at its old distance from the base.

    A low-rank update is one weight: d = s B A, the change of the layer's weight, for which <g, d> = <grad B, B>, and
    its decay is that of B. It is pulled to zero, that is to what the adapter is put on, also where the stage continues
    an adapter. Layers that learn whole are pulled to the base's, each of their tensors by itself; rows of embeddings
    and lengths of DoRA to what they were when the stage began.
    """

    name: ClassVar[str] = "spd"
    summary: ClassVar[str] = "weights that move away from the base against the gradient are taken back"
    paper: ClassVar[str] = "arXiv 2411.01713"
    cite: ClassVar[tuple[str, ...]] = ("tian-2024-spd",)

    class Params(Regulariser.Params):
        """Parameters of selective projection decay."""

        weight: float = Field(
            1.0,
            ge=0,
            description="share of the last move away that is taken back; may be above 1; 0 is as without it",
        )

    _updates: list[Update]
    _whole: list[tuple[Whole, torch.Tensor]]
    _before: list[tuple[bool, float]]

    def begin(self, inputs: RegulariserInputs) -> None:
        """Take down what is decayed to."""
        from lingraft.training.learnt_weights import learnt_weights

        self._updates, whole = learnt_weights(inputs.model)
        self._whole = [
            (one, one.weight.detach().clone() if one.of_base is None else one.of_base.detach()) for one in whole
        ]

    def add_gradient(self) -> float:
        """Take down, before the step, which weights the gradient would bring nearer, and how far they are."""
        import torch

        with torch.no_grad():
            along = [(one.b.grad, one.b) for one in self._updates]
            along += [(one.weight.grad, one.weight - base) for one, base in self._whole]
            towards = [grad is not None and bool((grad * moved).sum() > 0) for grad, moved in along]
        self._before = list(zip(towards, self._distances(), strict=True))
        return 0.0

    def after_step(self, learning_rate: float) -> None:
        """Take back what has moved away although the gradient would bring it nearer."""
        import torch

        with torch.no_grad():
            shares = [
                min(1.0, self.params.weight * (now - before) / now) if towards and now > before else 0.0
                for (towards, before), now in zip(self._before, self._distances(), strict=True)
            ]
            for update, share in zip(self._updates, shares, strict=False):
                if share:
                    update.b.mul_(1 - share)
            for (one, base), share in zip(self._whole, shares[len(self._updates) :], strict=True):
                if share:
                    one.weight.lerp_(base.to(one.weight.dtype), share)

    def _distances(self) -> list[float]:
        """Return how far each weight is from what it is decayed to."""
        import torch

        from lingraft.training.learnt_weights import squared_norm

        with torch.no_grad():
            squares = [squared_norm(*one.factors()) for one in self._updates]
            squares += [(one.weight - base).square().sum() for one, base in self._whole]
        return [max(0.0, float(square)) ** 0.5 for square in squares]
