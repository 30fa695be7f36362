"""Which of a model's decoder layers learn: how a recipe names them, and where they are in a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from lingraft.core.errors import UsageError
from lingraft.training.layer_choice import LayerChoice, learning_layers

_ENTRY = re.compile(
    r"(?P<but>not )?(?:(?P<all>all)|(?P<end>first|last) (?P<many>\d{1,4})|(?P<one>\d{1,4})(?:-(?P<to>\d{1,4}))?)"
)
HOW = (
    "Decoder layers that learn, counted from 0 at the embeddings: all, or one or several of `first N`, `last N`, `N` "
    "and `N-M` (both included); with `not ` before it an entry is left out (`not 4-20`: all others). Or by a rule: "
    "`{by: spectrum, keep: 0.5}` freezes the half with the least signal in its weights, `{by: weight_change, keep: "
    "0.5, pretrained: path}` the half that changed most since that pretrained model, `{by: drift, keep: 0.5}` the half "
    "behind which a first training of all moves the hidden states of general prompts most."
)
"""Describes the parameter `layers` of a tuner."""


def _listed(value: Any) -> Any:
    """Return the entries of a choice of layers as they are kept.

    Raises:
        ValueError: one names no layers, or there is none.
    """
    if isinstance(value, LayerChoice | Mapping):
        return value
    given = list(value) if isinstance(value, list | tuple) else [value]
    for entry in given:
        found = None if isinstance(entry, bool) else _ENTRY.fullmatch(str(entry))
        if not found or (found["many"] and not int(found["many"])) or int(found["to"] or 9999) < int(found["one"] or 0):
            raise ValueError(
                f"{entry!r} names no layers; write all, first N, last N, a number from 0 or a range such as 0-7, with "
                f"`not ` before what is to be left out"
            )
    if not given:
        raise ValueError("names no layers; write all, or which")
    if any(str(entry) == "not all" for entry in given):
        raise ValueError("`not all` leaves no layers; write which are to learn")
    return tuple(str(entry) for entry in given)


_TEXT_OR_NUMBER = [{"type": "string"}, {"type": "integer", "minimum": 0}]
_CHOICE = LayerChoice.model_json_schema()
Chosen = tuple[str, ...] | LayerChoice
Layers = Annotated[
    Chosen,
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [*_TEXT_OR_NUMBER, {"type": "array", "items": {"anyOf": _TEXT_OR_NUMBER}}, _CHOICE]}),
]
"""Type of a parameter that says which decoder layers learn; its value has the entries, or the rule."""
EVERY_LAYER = ("all",)


def layer_numbers(chosen: Sequence[str], count: int) -> list[int]:
    """Return the numbers of the chosen layers of a model that has `count`, in order.

    Raises:
        UsageError: an entry names a layer that the model does not have, or none is left.
    """
    found: set[int] = set()
    left_out: set[int] = set()
    for entry in chosen:
        parts = _ENTRY.fullmatch(entry)
        assert parts, "entries are checked when they are read"
        if parts["all"]:
            named = range(count)
        elif parts["end"]:
            many = int(parts["many"])
            named = range(many) if parts["end"] == "first" else range(count - many, count)
        else:
            named = range(int(parts["one"]), int(parts["to"] or parts["one"]) + 1)
        if named and (named[0] < 0 or named[-1] >= count):
            raise UsageError(
                f"tuner.layers: {entry!r} names more than the model has, whose {count} layers are 0 to {count - 1}"
            )
        (left_out if parts["but"] else found).update(named)
    if all(entry.startswith("not ") for entry in chosen):
        found = set(range(count))
    if not found - left_out:
        raise UsageError(f"tuner.layers: leaves none of the model's {count} layers; name some")
    return sorted(found - left_out)


def layer_share(chosen: Chosen, count: int) -> float:
    """Return which share of a model's layers learns at once; all where it lacks some, which is said elsewhere."""
    if isinstance(chosen, LayerChoice) and chosen.by == "drift":
        return 1.0  # in the first training
    if isinstance(chosen, LayerChoice):
        return 1 - chosen.frozen(count) / count if count > 1 else 1.0
    try:
        return len(layer_numbers(chosen, count)) / count
    except UsageError:
        return 1.0


def decoder_layers(model: Any) -> list[str]:
    """Return the names of a model's decoder layers in their order.

    Raises:
        UsageError: the model does not keep them in one list.
    """
    from torch import nn

    from lingraft.models.architectures import language_part

    part, decoder = language_part(model)
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for name, module in decoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [".".join(filter(None, (part, name, str(number)))) for number in range(len(module))]
    raise UsageError(
        f"tuner.layers: {type(model).__name__} does not keep its layers in one list of {count}; use `layers: all`"
    )


def chosen_layers(model: Any, chosen: Chosen, selected: Iterable[str] = ()) -> list[str] | None:
    """Return the names of the decoder layers that learn; None where no choice is made.

    Args:
        model: the base.
        chosen: the choice.
        selected: names of parameters that a first training has selected; without them, all layers learn where it is
            to select.

    Raises:
        UsageError: as `layer_numbers`, `learning_layers` and `decoder_layers`.
    """
    if chosen == EVERY_LAYER:
        return None
    names = decoder_layers(model)
    if isinstance(chosen, LayerChoice) and chosen.by == "drift":
        chosen.frozen(len(names))
        found = [*selected]
        return [name for name in names if any(one.startswith(f"{name}.") for one in found)] or names
    if isinstance(chosen, LayerChoice):
        return [names[number] for number in learning_layers(model, names, chosen)]
    return [names[number] for number in layer_numbers(chosen, len(names))]


def within(name: str, layers: Sequence[str] | None) -> bool:
    """Whether a module, by its name, is in one of some layers; None stands for the whole model."""
    return layers is None or any(name.startswith(f"{layer}.") for layer in layers)
