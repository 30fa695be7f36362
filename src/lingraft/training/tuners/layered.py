"""What tuners share whose parameter `layers` says which decoder layers learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lingraft.training.decoder_layers import decoder_layers
from lingraft.training.layer_choice import LayerChoice
from lingraft.training.tuners import ALL, Tuner, TunerInputs

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel


class LayeredTuner(Tuner):
    """Base of the tuners with a parameter `layers`. By the rule `drift` they train twice, see `LayerChoice`."""

    @property
    def rule(self) -> LayerChoice | None:
        """The rule that chooses layers, if one does."""
        params: Any = self.params
        return params.layers if isinstance(params.layers, LayerChoice) else None

    @property
    def _by_drift(self) -> LayerChoice | None:
        return self.rule if self.rule and self.rule.by == "drift" else None

    @property
    def passes(self) -> int:  # type: ignore[override]
        """Two where a first training selects the layers."""
        return 2 if self._by_drift else 1

    @property
    def needs_prompts(self) -> bool:  # type: ignore[override]
        """Whether drift is measured, on general prompts."""
        return self._by_drift is not None

    @property
    def selects(self) -> bool:
        """Whether it needs a training to choose."""
        return self._by_drift is not None

    def select(self, model: PreTrainedModel, inputs: TunerInputs) -> Mapping[str, Tensor]:
        """Return masks of whole layers: those that the first training has moved least.

        Raises:
            UsageError, ModelError: as `least_drifted`.
        """
        from lingraft.training.tuners.layer_drift import least_drifted

        return least_drifted(model, self, inputs, self._by_drift) if self._by_drift else ALL

    def learning(self, adapted: PeftModel) -> int:
        """Return how many numbers learn, before layers are selected those of as many layers as will be."""
        if not self._by_drift:
            return super().learning(adapted)
        base: Any = adapted.get_base_model()
        counts = [
            sum(weight.numel() for weight in base.get_submodule(name).parameters() if weight.requires_grad)
            for name in decoder_layers(base)
        ]
        kept = len(counts) - self._by_drift.frozen(len(counts))
        return super().learning(adapted) - sum(sorted(counts)[: len(counts) - kept])
