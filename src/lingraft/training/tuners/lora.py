"""LoRA: low-rank updates beside frozen weights (Hu et al. 2021, arXiv 2106.09685), through PEFT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.core.errors import UsageError, first_line
from lingraft.training.tuners import ALL, Tuner, TunerInputs

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel


class LoraTuner(Tuner):
    """Low-rank adapters on linear layers; a standard PEFT adapter, float32 whatever the type of the base.

    Departure from the paper: all linear layers of the language part but the output head are adapted by default, as in
    QLoRA (arXiv 2305.14314), not the attention projections alone; what that leaves out is told in
    `lingraft.training.targets`. `rslora` scales by alpha / sqrt(rank) (arXiv 2312.03732).
    """

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = "low-rank updates beside frozen weights"
    paper: ClassVar[str] = "arXiv 2106.09685"
    cite: ClassVar[tuple[str, ...]] = ("hu-2022-lora",)

    class Params(Tuner.Params):
        """Parameters of LoRA."""

        rank: int = Field(16, gt=0, le=4096, description="Rank of each update.")
        alpha: float = Field(32.0, gt=0, description="Updates are scaled by alpha / rank.")
        dropout: float = Field(
            0.05, ge=0, lt=1, description="Dropout on the adapters' input; 0 trains about a fifth faster on a CPU."
        )
        targets: Literal["all-linear"] | tuple[str, ...] = Field(
            "all-linear", description="Names of the layers to adapt; all-linear leaves out the output head."
        )
        rslora: bool = Field(False, description="Scale by alpha / sqrt(rank), for high ranks.")
        embeddings: Literal["none", "new", "all"] = Field(
            "none",
            description="Rows of the embeddings and of the output head that learn beside the updates: none, those that "
            "a vocabulary has added, or all (which then are part of the adapter).",
        )

    params: Params

    @property
    def scales(self) -> bool:
        """Whether nothing but updates is learnt."""
        return self.params.embeddings == "none"

    def apply(self, model: PreTrainedModel, inputs: TunerInputs, selected: Mapping[str, Tensor] = ALL) -> PeftModel:
        """Return `model` wrapped with a fresh adapter; the second factor is zero, so outputs do not change yet.

        On a model without weights (meta device) what needs a pass through it is not tried.

        Raises:
            UsageError: the rank is above that of every layer, one of the `targets` cannot be adapted or would learn
                nothing, PEFT refuses the model, or its embeddings cannot learn.
        """
        from lingraft.models.adapter import learn_in_float32, lost_when_read, take_off

        self._check_rank(model)
        left_out, embeddings = self._left_out(model), self._embedding_options(model, inputs.new_ids)
        adapted = self._wrapped(model, left_out, embeddings, inputs.seed)
        if whole(model) and (lost := lost_when_read(adapted)):
            take_off(adapted)
            if not isinstance(self.params.targets, str):
                raise UsageError(
                    f"tuner lora: PEFT does not read back the update of {lost[0]!r} of {type(model).__name__}; take "
                    f"{lost[0].rpartition('.')[2]!r} out of tuner.targets"
                )
            adapted = self._wrapped(model, sorted({*left_out, *lost}), embeddings, inputs.seed)
        learn_in_float32(adapted)
        return adapted

    def _wrapped(self, model: Any, left_out: list[str], embeddings: dict[str, Any], seed: int) -> PeftModel:
        import torch
        from peft import LoraConfig, get_peft_model

        targets = self.params.targets
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.params.rank,
            lora_alpha=self.params.alpha,  # type: ignore[arg-type]  # PEFT only multiplies by it
            lora_dropout=self.params.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            exclude_modules=left_out or None,
            use_rslora=self.params.rslora,
            **embeddings,
        )
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            try:
                return get_peft_model(model, config)
            except ValueError as error:
                reason = first_line(error)
                remedy = "set tuner.dropout to 0" if "dropout" in reason else "name other layers in tuner.targets"
                raise UsageError(
                    f"tuner lora: PEFT cannot adapt {type(model).__name__} ({reason}); {remedy}"
                ) from error

    def _check_rank(self, model: Any) -> None:
        from torch import nn

        layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        most = max((min(layer.in_features, layer.out_features) for layer in layers), default=self.params.rank)
        if self.params.rank > most:
            raise UsageError(
                f"tuner.rank: {self.params.rank} is above the rank of every layer of {type(model).__name__}, which is "
                f"at most {most}; lower it"
            )

    def _left_out(self, model: Any) -> list[str]:
        """Return the layers that PEFT would adapt by the targets and that are not to be."""
        from lingraft.training.targets import all_linear_layers, layers_named, linear_layers, without_gradient

        has_weights = model.device.type != "meta"
        if isinstance(self.params.targets, str):
            layers = linear_layers(model)
            if has_weights:
                idle = {*without_gradient(model, layers)}
                layers = [name for name in layers if name not in idle]
            return sorted({*all_linear_layers(model)} - {*layers})
        named = layers_named(model, self.params.targets)
        if has_weights:
            idle = {*without_gradient(model, [name for layers in named.values() for name in layers])}
            for target, layers in named.items():
                if idle.issuperset(layers):
                    raise UsageError(
                        f"tuner lora: {target!r} of {type(model).__name__} gets no gradient, since its weight is read "
                        f"past the layer or its output only chooses; take it out of tuner.targets"
                    )
        meant = {name for layers in named.values() for name in layers}
        return [
            name
            for name, _ in model.named_modules()
            if name not in meant and any(f".{name}".endswith(f".{target}") for target in self.params.targets)
        ]

    def _embedding_options(self, model: Any, new_ids: Sequence[int]) -> dict[str, Any]:
        """Return what the parameter `embeddings` is in PEFT's configuration."""
        choice = self.params.embeddings
        if choice == "none":
            return {}
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        names = {id(module): name for name, module in model.named_modules()}
        tied = head.weight is embedding.weight
        layers = [names[id(embedding)], *([] if tied else [names[id(head)]])]
        if choice == "new" and not new_ids:
            raise UsageError(
                "tuner lora: embeddings: new trains the rows that a vocabulary has added, and there is none; "
                "add a section `vocabulary` or use all"
            )
        # PEFT's layers for these two leave the bias out.
        if getattr(head, "bias", None) is not None and (tied or choice == "new"):
            raise UsageError(
                f"tuner lora: embeddings: {choice} does not go with the bias of {type(model).__name__}'s output head; "
                f"use {'none' if tied else 'all'}"
            )
        if choice == "all":
            return {"modules_to_save": layers, "ensure_weight_tying": tied}
        return {"trainable_token_indices": {layer: list(new_ids) for layer in layers}}


def whole(model: Any) -> bool:
    """Whether all weights are here: on no meta device, and in this process."""
    return model.device.type != "meta" and not getattr(model, "is_distributed_loading_by_transformers", False)
