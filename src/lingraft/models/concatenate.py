"""Two adapters that were trained one after the other, the second on base and first merged, as one adapter.

A sum of two low-rank updates is one of the sum of their ranks: B1 A1 + B2 A2 = [B1 B2] [A1; A2], exactly. Sparse
changes of single numbers are summed number by number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from lingraft.core.errors import ModelError, first_line
from lingraft.models.adapter import Factors, Parts, read_parts, write_parts
from lingraft.models.sparse_entries import Entries
from lingraft.models.sparse_files import MIXED


def concatenate(first: Path, second: Path, out: Path) -> None:
    """Write one adapter that does to the untouched base what the first and then the second do.

    Ranks, scales (rsLoRA included) and adapted layers may differ. Of layers that are kept as a whole, and of rows of
    the embeddings, the second adapter's values count: it was trained on those of the first. Where it updates what the
    first replaces, the sum is kept as a whole.

    Args:
        first: folder of an adapter.
        second: folder of an adapter of the same base.
        out: folder to write.

    Raises:
        ModelError: not plain adapters, or of different forms.
    """
    write_parts(joined(read_parts(first), read_parts(second), f"the adapters in {first} and {second}"), out)


def joined(one: Parts, other: Parts, what: str) -> Parts:
    """Return what does the one and then the other.

    Args:
        one: the first adapter.
        other: the second, whose values count where both replace the same.
        what: what they are called, for messages.

    Raises:
        ModelError: they are of different forms or bases.
    """
    for parts in (one, other):
        if any(factors.lengths is not None for factors in parts.factors.values()):
            raise ModelError(
                f"{what} cannot be put together: one sets the lengths of rows (DoRA), which is no sum that another "
                f"could be added to; continue it without `fresh`, or train it without DoRA"
            )
    try:
        return _joined(one, other)
    except RuntimeError as error:
        raise ModelError(f"{what} do not go together ({first_line(error)}); use two of one base") from error


def _joined(one: Parts, other: Parts) -> Parts:
    if one.sparse or other.sparse:
        if not (one.sparse and other.sparse):
            raise ModelError(MIXED)
        return Parts(other.config, sparse=_summed(one.sparse, other.sparse))
    found = Parts(other.config, whole={**one.whole, **other.whole})
    layers = {*(one.config.modules_to_save or ()), *(other.config.modules_to_save or ())}
    found.config.modules_to_save = sorted(layers) or None
    found.config.ensure_weight_tying = one.config.ensure_weight_tying or other.config.ensure_weight_tying
    for layer in sorted(one.factors.keys() | other.factors.keys()):
        before = None if other.replaces(layer) else one.factors.get(layer)
        after = other.factors.get(layer)
        if after is not None and one.replaces(layer):
            weight = f"{layer}.weight"
            _replace(found, one, weight, one.whole[weight].float() + after.update())
        elif before is not None or after is not None:
            found.factors[layer] = _side_by_side(before, after)
    for layer in sorted(one.rows.keys() | other.rows.keys()):
        if other.replaces(layer):
            continue
        rows = {
            id_: row for part in (one, other) if layer in part.rows for id_, row in zip(*part.rows[layer], strict=True)
        }
        values = torch.stack(list(rows.values()))
        if one.replaces(layer):
            weight = f"{layer}.weight"
            _replace(found, one, weight, one.whole[weight].index_copy(0, torch.tensor(list(rows)), values))
        else:
            found.rows[layer] = list(rows), values
    if both := sorted(found.factors.keys() & found.rows.keys()):
        raise ModelError(f"layer {both[0]} has a low-rank update and trained rows, which PEFT cannot put together")
    return found


def _summed(one: Mapping[str, Entries], other: Mapping[str, Entries]) -> dict[str, Entries]:
    found = dict(one)
    for layer, entries in other.items():
        try:
            found[layer] = found[layer].plus(entries) if layer in found else entries
        except ValueError as error:
            raise RuntimeError(f"{layer}: {error}") from error
    return found


def _replace(found: Parts, one: Parts, name: str, value: torch.Tensor) -> None:
    """Set a parameter that `one` replaces, by all of its names where the embeddings are the output head as well."""
    original = one.whole[name]
    tied = [other for other, tensor in one.whole.items() if tensor.shape == original.shape]
    names = [other for other in tied if torch.equal(one.whole[other], original)]
    for each in names if one.config.ensure_weight_tying else [name]:
        found.whole[each] = value.clone()


def _side_by_side(one: Factors | None, other: Factors | None) -> Factors:
    """Return the sum of two updates, of which one may be missing."""
    given = [factors for factors in (one, other) if factors is not None]
    a, b = torch.cat([each.a for each in given]), torch.cat([each.b for each in given], dim=1)
    return Factors(a, b, given[-1].transposed, given[-1].embedding)
