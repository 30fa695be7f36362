"""LoRA: low-rank updates beside frozen weights (Hu et al. 2021, arXiv 2106.09685), through PEFT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lingraft.core.errors import UsageError, first_line
from lingraft.training.decoder_layers import EVERY_LAYER, HOW, Layers, chosen_layers, layer_share, within
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import ALL, BaseSize, Tuner, TunerInputs
from lingraft.training.tuners.layered import LayeredTuner

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

MAX_DIRECTIONS = 4096


HEADS = ("lm_head", "embed_out", "output_layer")
"""What output heads are called."""


class LoraTuner(LayeredTuner):
    """Low-rank adapters on linear layers; a standard PEFT adapter, float32 whatever the type of the base.

    Departure from the paper: all linear layers of the language part but the output head are adapted by default, as in
    QLoRA (arXiv 2305.14314), not the attention projections alone; what that leaves out is told in
    `lingraft.training.targets`. `rslora` scales by alpha / sqrt(rank) (arXiv 2312.03732).

    `dora` (DoRA, arXiv 2402.09353, as PEFT has it) also learns the length of each row of W + B A: the weight becomes
    m (W + B A) / |W + B A|, row by row, the norm being a constant to the gradient. That is no sum, so stages
    with `fresh`, which need one, are refused. Lengths begin as the exact norms, in float32, where PEFT rounds
    them to the type of the base. The layers compute as PEFT's do, not in fused kernels.

    `layers` restricts updates to some decoder layers; LayRA (arXiv 2509.11414) is `layers: [first 1, last 1]`.

    `orthogonal: k` is OPLoRA (arXiv 2510.13003), see `lingraft.training.orthogonal`. Departure: factors and gradients
    are projected instead of the product, which trains the same products and keeps a plain LoRA adapter. The directions
    are those of the weights that a stage begins with: with `fresh`, of base and graft together.
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
        targets: (
            Literal["all-linear"] | Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
        ) = Field("all-linear", description="Names of the layers to adapt; all-linear leaves out the output head.")
        rslora: bool = Field(False, description="Scale by alpha / sqrt(rank), for high ranks.")
        dora: bool = Field(
            False, description="Learn the length of each row of the weights as well (DoRA): slower, and no plain sum."
        )
        layers: Layers = Field(EVERY_LAYER, description=HOW)
        orthogonal: int = Field(
            0,
            ge=0,
            le=MAX_DIRECTIONS,
            description="Keep updates orthogonal to so many of the leading singular directions of each weight, on "
            "either side (OPLoRA).",
        )
        embeddings: Literal["none", "new", "all"] = Field(
            "none",
            description="Rows of the embeddings and of the output head that learn beside the updates: none, those that "
            "a vocabulary has added, or all (which then are part of the adapter).",
        )

        @model_validator(mode="after")
        def _one_constraint(self) -> LoraTuner.Params:
            if self.dora and self.orthogonal:
                raise ValueError(
                    "dora changes the lengths of all rows, so that the change is orthogonal to nothing; drop "
                    "`orthogonal` or `dora`"
                )
            return self

    params: Params

    @property
    def cited(self) -> tuple[str, ...]:
        """The paper of LoRA, and those of what is chosen."""
        chosen = {
            "kalajdzievski-2023-rslora": self.params.rslora,
            "liu-2024-dora": self.params.dora,
            "xiong-2025-oplora": self.params.orthogonal,
            **({self.rule.paper: True} if self.rule else {}),
        }
        return (*self.cite, *(key for key, wanted in chosen.items() if wanted))

    @property
    def beyond_updates(self) -> str:
        """Rows of the embeddings, and what DoRA learns beside its updates."""
        if self.params.embeddings != "none":
            return f"that holds embeddings (`embeddings: {self.params.embeddings}`)"
        return "with lengths of rows (`dora: true`)" if self.params.dora else ""

    def update_rank(self, width: int | None = None) -> int:
        """Return the rank."""
        return self.params.rank

    @property
    def adds_up(self) -> bool:
        """Whether updates are sums."""
        return not self.params.dora

    @property
    def trains_new_rows(self) -> bool:
        """Whether they learn beside the updates."""
        return self.params.embeddings != "none"

    @property
    def needs_new_rows(self) -> bool:
        """Whether these are the embeddings that learn."""
        return self.params.embeddings == "new"

    def learnt(self, size: BaseSize) -> float:
        """Return about how many numbers learn: factors, and embeddings where all of them do."""
        # Seven products a layer; inputs and outputs of all of them together are some 21 times as wide as the model.
        layers = layer_share(self.params.layers, size.layers) * size.layers
        factors = float(self.params.rank) * 21 * size.hidden_size * layers
        return factors + (size.embeddings if self.params.embeddings == "all" else 0.0)

    def refusal(self, train: TrainSettings) -> tuple[str, str] | None:
        """Return what does not go with lengths of rows, or with singular directions."""
        if self.params.dora and train.precision == "nf4":
            return "precision", (
                "dora learns the lengths of the rows of the rounded weights, which are not those of the base that a "
                "graft is used with; choose another train.precision than nf4, or drop `dora`"
            )
        if self.rule:
            hidden = {"precision": train.precision == "nf4", "sharding": train.sharding == "full"}
            if setting := next((name for name, hides in hidden.items() if hides), ""):
                return setting, (
                    "a rule for layers looks at whole weights, not at those in 4 bits or at parts of them; name the "
                    "layers, or choose another value"
                )
        option = "dora" if self.params.dora else "orthogonal" if self.params.orthogonal else ""
        if option and train.sharding == "full":
            return "sharding", (
                f"{option} needs whole weights, and with `sharding: full` each process has a part of them; drop one of "
                f"the two"
            )
        return None

    @property
    def head_learns(self) -> bool:
        """Whether rows of the head learn beside the updates, or it is named among the layers with one."""
        targets = () if self.params.targets == "all-linear" else self.params.targets
        return self.params.embeddings != "none" or any(name.split(".")[-1] in HEADS for name in targets)

    @property
    def learns_embeddings(self) -> bool:
        """Whether the parameter `embeddings` lets them."""
        return self.params.embeddings != "none"

    def apply(self, model: PreTrainedModel, inputs: TunerInputs, selected: Mapping[str, Tensor] = ALL) -> PeftModel:
        """Return `model` wrapped with a fresh adapter; the second factor is zero, so outputs do not change yet.

        On a model without weights (meta device) what needs a pass through it is not tried.

        Raises:
            UsageError: the rank is above that of every layer, one of the `targets` cannot be adapted or would learn
                nothing, PEFT refuses the model, or its embeddings cannot learn.
        """
        from lingraft.models.adapter import learn_in_float32, lost_when_read, take_off

        self._check_rank(model)
        left_out, embeddings = self._left_out(model, selected), self._embedding_options(model, inputs.new_ids)
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
        if self.params.dora:
            _set_lengths(adapted)
        if self.params.orthogonal:
            from lingraft.training.orthogonal import adapted_matrices

            try:
                adapted_matrices(adapted, self.params.orthogonal)
            except UsageError:
                take_off(adapted)
                raise
        return adapted

    def constraint(
        self, adapted: PeftModel, originals: Mapping[nn.Parameter, Tensor] = MappingProxyType({})
    ) -> Callable[[], None] | None:
        """Return what keeps updates orthogonal, if they are to be."""
        from lingraft.training.orthogonal import OrthogonalUpdates

        return OrthogonalUpdates(adapted, self.params.orthogonal, originals) if self.params.orthogonal else None

    def _wrapped(self, model: Any, left_out: list[str], embeddings: dict[str, Any], seed: int) -> PeftModel:
        import torch
        from peft import LoraConfig, get_peft_model

        from lingraft.models.devices import quiet

        targets = self.params.targets
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.params.rank,
            lora_alpha=self.params.alpha,  # type: ignore[arg-type]  # PEFT only multiplies by it
            lora_dropout=self.params.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            exclude_modules=left_out or None,
            use_rslora=self.params.rslora,
            use_dora=self.params.dora,
            **embeddings,
        )
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            try:
                with quiet():
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

    def _left_out(self, model: Any, selected: Mapping[str, Tensor]) -> list[str]:
        """Return the layers that PEFT would adapt by the targets and that are not to be."""
        from lingraft.training.targets import all_linear_layers, linear_layers, without_gradient

        chosen = chosen_layers(model, self.params.layers, selected)
        if not isinstance(self.params.targets, str):
            meant = self._named(model, chosen)
            ends = tuple(f".{target}" for target in self.params.targets)
            return [name for name, _ in model.named_modules() if name not in meant and f".{name}".endswith(ends)]
        layers = [name for name in linear_layers(model) if within(name, chosen)]
        if model.device.type != "meta":
            idle = {*without_gradient(model, layers)}
            layers = [name for name in layers if name not in idle]
        return sorted({*all_linear_layers(model)} - {*layers})

    def _named(self, model: Any, chosen: Sequence[str] | None) -> set[str]:
        """Return the layers that the targets name, in the chosen decoder layers."""
        from lingraft.training.targets import layers_named, without_gradient

        named = layers_named(model, self.params.targets)
        if model.device.type != "meta":
            idle = {*without_gradient(model, [name for layers in named.values() for name in layers])}
            for target, layers in named.items():
                if idle.issuperset(layers):
                    raise UsageError(
                        f"tuner lora: {target!r} of {type(model).__name__} gets no gradient, since its weight is read "
                        f"past the layer or its output only chooses; take it out of tuner.targets"
                    )
        for target, layers in named.items():
            if not any(within(name, chosen) for name in layers):
                raise UsageError(
                    f"tuner.layers: {target!r} is in none of these decoder layers; take it out of tuner.targets, or "
                    f"choose other layers"
                )
        return {name for layers in named.values() for name in layers if within(name, chosen)}

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


def _set_lengths(adapted: Any) -> None:
    """Let the lengths of DoRA be those of the rows, in float32: a model then begins as its base exactly.

    PEFT computes and keeps them in the type of the base, and compares them in training with norms in float32.

    Raises:
        UsageError: an adapted layer is no matrix.
    """
    import torch
    from peft.tuners.lora.dora import DoraLinearLayer

    from lingraft.models.adapter import take_off

    for name, module in adapted.named_modules():
        for lengths in getattr(module, "lora_magnitude_vector", {}).values():
            if type(lengths) is not DoraLinearLayer:
                take_off(adapted)
                raise UsageError(
                    f"tuner.dora: is for layers that are one matrix; take {name.rpartition('.')[2]!r} out of "
                    f"tuner.targets"
                )
            weight = module.get_base_layer().weight.detach()
            rows = (weight.T if module.fan_in_fan_out else weight).float()
            lengths.weight.data = torch.linalg.norm(rows, dim=1)
