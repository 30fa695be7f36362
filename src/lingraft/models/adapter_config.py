"""What an adapter's `adapter_config.json` may say: a schema of our own for files of strangers.

PEFT takes the fields of such a file as arguments: names of modules to import, regular expressions, ways to begin that
rewrite the base. Here each field is known, or empty. Which layers are adapted, and with what rank, is taken from the
names and shapes of the weights: no expression of a file is run but to look up ranks and scales, in bounded time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import regex
from pydantic import BaseModel, ConfigDict, Field

from lingraft.core.errors import ModelError
from lingraft.core.strangers import ANEW, parsed, shown, told

CONFIG = "adapter_config.json"
MERGED = "merge it into its base with PEFT (`merge_and_unload`) and give that model's folder"
"""What to do with an adapter that is of no use as it is."""
FITTING = f"give the base that it was trained on, or {ANEW}"
"""What to do with one that does not fit a base."""

NAME = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
"""A module or parameter of a model, in full or the end of it."""
Name = Annotated[str, Field(pattern=f"^{NAME}$", max_length=300)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]

MAX_RANK = 4096
MAX_PATTERNS = 10_000
"""Ranks and scales of single layers; there are hundreds of layers."""
MAX_EXPRESSIONS = 64
"""Of these, such as are regular expressions and no names."""
MATCHING_SECONDS = 2.0
"""In which all of them are matched with all layers; honest ones take some milliseconds."""
_EXPRESSION = re.compile(r"(?:[\w.\-^$|()]|\\[.dw]|\[[\w\-]+\]|(?<![()|^*+?])[*+?])+", re.ASCII)
"""Names, digits, classes and alternatives; nothing in brackets is repeated, nor a number of times: compiling such an
expression, too, may take for ever."""
MAX_REPEATS = 4
MAX_DISTINCT = 200
"""Different ranks, and scales, in one adapter."""

_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""`init_lora_weights` of adapters that are trained beside the base as it is; all others first change the base."""
_DROPPED = frozenset(
    {"auto_mapping", "peft_version", "revision", "inference_mode", "exclude_modules", "layers_to_transform"}
    | {"layers_pattern", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config"}
    | {"qalora_group_size", "runtime_config", "init_lora_weights"}
    | {"mask_type", "random_seed", "init_weights"}
)
"""Fields that are never handed on: of training, of other kinds, or said by the weights themselves."""

Pattern = Annotated[str, Field(min_length=1, max_length=1000)]
Alpha = Annotated[int | float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class AdapterConfig(BaseModel):
    """The fields of a LoRA adapter that are used here."""

    model_config = ConfigDict(extra="forbid", strict=True)

    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"] | None = None
    base_model_name_or_path: Annotated[str, Field(max_length=1000)] | None = None
    r: int = Field(8, ge=1, le=MAX_RANK)
    target_modules: list[Name] | str | None = Field(None, description="names, or an expression, which is not run")
    lora_alpha: Alpha = 8
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    fan_in_fan_out: bool = False
    bias: Literal["none"] = "none"
    use_rslora: bool = False
    modules_to_save: Annotated[list[Name], Field(max_length=100_000)] | None = None
    rank_pattern: Annotated[dict[Pattern, Annotated[int, Field(ge=1, le=MAX_RANK)]], Field(max_length=MAX_PATTERNS)] = (
        Field(default_factory=dict)
    )
    alpha_pattern: Annotated[dict[Pattern, Alpha], Field(max_length=MAX_PATTERNS)] = Field(default_factory=dict)
    trainable_token_indices: list[TokenId] | dict[Name, list[TokenId]] | None = None
    use_dora: bool = False
    lora_bias: bool = False
    ensure_weight_tying: bool = False


class SparseConfig(BaseModel):
    """The fields of an adapter that changes single numbers (PEFT's SHiRA) that are used here."""

    model_config = ConfigDict(extra="forbid", strict=True)

    peft_type: Literal["SHIRA"]
    task_type: Literal["CAUSAL_LM"] | None = None
    base_model_name_or_path: Annotated[str, Field(max_length=1000)] | None = None
    r: int = Field(32, ge=1, le=2**31)
    target_modules: list[Name] | str | None = Field(None, description="names, or an expression, which is not run")
    fan_in_fan_out: Literal[False] = False
    modules_to_save: Literal[None] = None


KINDS: Mapping[str, type[BaseModel]] = {"LORA": AdapterConfig, "SHIRA": SparseConfig}


def parse_config(values: Mapping[str, Any], where: str) -> Any:
    """Return what `adapter_config.json` says.

    A field that is not known and null, false or empty is ignored, so that adapters of other versions of PEFT load.

    Args:
        values: content of the file.
        where: "the adapter in FOLDER", for messages.

    Raises:
        ModelError: an adapter of another kind, a field that is not known, or a value that cannot be right.
    """
    from peft import PeftType

    given = values.get("peft_type")
    kind = given if isinstance(given, str) else ""  # what is none is refused with the other fields
    if kind not in KINDS and kind in list(PeftType):
        raise ModelError(f"{where} is of PEFT's kind {kind}, and only LORA and SHIRA are read; {MERGED}")
    form = KINDS.get(kind, AdapterConfig)
    start = values.get("init_lora_weights")
    if not any(start is plain or start == plain for plain in _PLAIN_STARTS):
        raise ModelError(
            f"{where} began as {shown(repr(start), 60)} (init_lora_weights), for which the base's own weights would be "
            f"changed; convert it to a plain LoRA adapter (PEFT's `path_initial_model_for_weight_conversion`), or "
            f"{MERGED}"
        )
    if values.get("bias", "none") is None:  # by which PEFT stops
        raise ModelError(f"{where} is damaged ({CONFIG}: 'bias' is null in it); write 'none' there")
    if values.get("bias", "none") != "none":
        raise ModelError(
            f"{where} is not a plain LoRA adapter: it trains biases of the base (bias: "
            f"{shown(repr(values['bias']), 40)}); {MERGED}"
        )
    kept = {}
    for name, value in values.items():
        if name in form.model_fields:
            if value is not None or name == "peft_type":
                kept[name] = value
        elif name not in _DROPPED and (value or isinstance(value, int | float)) and value is not False:
            raise ModelError(
                f"{where} has the field {shown(repr(name), 60)}, which is not known here and not empty; update "
                f"lingraft, or {MERGED}"
            )
    try:
        return parsed(form, kept)
    except ValueError as error:
        raise ModelError(f"{where} is damaged ({CONFIG}: {error}); {ANEW}") from error


def lora_config(found: AdapterConfig, ranks: Mapping[str, int], where: str) -> Any:
    """Return PEFT's configuration that adapts just the layers of which an adapter has weights.

    Args:
        found: what `adapter_config.json` says.
        ranks: of each layer, from the shapes of its weights.
        where: "the adapter in FOLDER", for messages.

    Raises:
        ModelError: the layers or ranks are not those that the configuration names.
    """
    from peft import LoraConfig
    from peft.utils.constants import DUMMY_TARGET_MODULES

    names = list(ranks)
    _check_targets(found.target_modules, names, where)
    said = _looked_up(found.rank_pattern, found.r, names, where)
    for name, rank in ranks.items():
        if said[name] != rank:
            raise ModelError(f"{where} is damaged (rank {rank} of {name}, where {CONFIG} says {said[name]}); {ANEW}")
    alphas = _looked_up(found.alpha_pattern, found.lora_alpha, names, where)
    return LoraConfig(
        task_type=found.task_type,
        base_model_name_or_path=found.base_model_name_or_path,
        r=found.r,
        target_modules=names or DUMMY_TARGET_MODULES,
        lora_alpha=found.lora_alpha,  # type: ignore[arg-type]  # PEFT only multiplies by it
        lora_dropout=found.lora_dropout,
        fan_in_fan_out=found.fan_in_fan_out,
        use_rslora=found.use_rslora,
        modules_to_save=found.modules_to_save or None,
        rank_pattern=_grouped(said, found.r, where),
        alpha_pattern=_grouped(alphas, found.lora_alpha, where),
        trainable_token_indices=found.trainable_token_indices or None,
        use_dora=found.use_dora,
        lora_bias=found.lora_bias,
        ensure_weight_tying=found.ensure_weight_tying,
    )


def _check_targets(targets: Any, names: Sequence[str], where: str) -> None:
    """Refuse weights of layers that the configuration does not name."""
    if not isinstance(targets, list):
        return
    ends = set(targets)
    odd = next((name for name in names if not ends.intersection(_ends(name))), None)
    if odd:
        raise ModelError(
            f"{where} does not fit the base it names: it has weights for {odd}, which is not among its "
            f"target_modules; {ANEW}"
        )


def sparse_config(found: SparseConfig, names: Sequence[str], where: str) -> Any:
    """Return PEFT's configuration that changes just the layers of which an adapter has places and values.

    Args:
        found: what `adapter_config.json` says.
        names: of these layers.
        where: "the adapter in FOLDER", for messages.

    Raises:
        ModelError: the layers are not those that the configuration names.
    """
    _check_targets(found.target_modules, names, where)
    return shira_config(names, found.r, found.task_type, found.base_model_name_or_path)


def shira_config(names: Sequence[str], rank: int, task: str | None, base: str | None = None) -> Any:
    """Return PEFT's configuration of an adapter that changes single numbers, which are set afterwards.

    Args:
        names: of the layers.
        rank: r: each has r x (in + out) numbers.
        task: PEFT's `task_type`.
        base: what the base is called.
    """
    from peft import ShiraConfig

    config = ShiraConfig(task_type=task, base_model_name_or_path=base, r=rank)
    config.target_modules = sorted(names)
    config.mask_fn = None  # type: ignore[assignment]  # PEFT then draws no places
    return config


def _ends(name: str) -> Iterable[str]:
    """Yield a name, and what is left of it behind each dot."""
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _looked_up(patterns: Mapping[str, Any], default: Any, names: Sequence[str], where: str) -> dict[str, Any]:
    """Return what applies to each layer: the value of the first pattern that its name ends with, as PEFT has it."""
    order = {pattern: number for number, pattern in enumerate(patterns)}
    plain = {pattern for pattern in patterns if re.fullmatch(NAME, pattern)}
    expressions = [pattern for pattern in patterns if pattern not in plain]
    if len(expressions) > MAX_EXPRESSIONS:
        raise ModelError(f"{where} has more than {MAX_EXPRESSIONS} expressions for ranks or scales; {MERGED}")
    for pattern in expressions:
        if not _EXPRESSION.fullmatch(pattern) or sum(map(pattern.count, "*+?")) > MAX_REPEATS:
            raise ModelError(f"{where} has ranks or scales by the expression {shown(repr(pattern))}; {MERGED}")
    found = {}
    try:
        compiled = {pattern: regex.compile(rf"(.*\.)?({pattern})$") for pattern in expressions}
        for name in names:
            hits = [end for end in _ends(name) if end in plain]
            hits += [p for p, one in compiled.items() if one.match(name, timeout=_share(names, expressions))]
            found[name] = patterns[min(hits, key=order.__getitem__)] if hits else default
    except (regex.error, TimeoutError, RecursionError, MemoryError, OverflowError) as error:
        raise ModelError(
            f"{where} has an expression for ranks or scales that cannot be matched ({told(error)}); {MERGED}"
        ) from error
    return found


def _share(names: Sequence[str], expressions: Sequence[str]) -> float:
    return max(MATCHING_SECONDS / (len(names) * len(expressions)), 0.001)


def _grouped(values: Mapping[str, Any], default: Any, where: str) -> dict[str, Any]:
    """Return PEFT's patterns for layers that differ from the default: one for each value, of names in full."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, value in values.items():
        if value != default:
            groups[value].append(re.escape(name))
    if len(groups) > MAX_DISTINCT:
        raise ModelError(f"{where} has more than {MAX_DISTINCT} different ranks or scales; {MERGED}")
    return {f"^(?:{'|'.join(names)})": value for value, names in groups.items()}
