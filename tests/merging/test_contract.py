"""What every merger promises, over all entries of the registry."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lingraft.core.errors import UsageError
from lingraft.merging.base import MERGERS, Merger, Weight
from lingraft.recipe.keys import parameters
from lingraft.recipe.schema_json import schema_of
from lingraft.reporting.citations import bibliography

ITSELF: dict[str, dict[str, Any]] = {
    "linear": {},
    "slerp": {"t": 1},
    "task_arithmetic": {},
    "ties": {"density": 1},
    "dare": {"density": 1},
    "widen": {},
}
"""Parameters with which one model alone gives itself, where that has a meaning."""
WEIGHTS = (
    (Weight(name="norm.weight"), (6,)),
    (Weight(name="up.weight"), (8, 6)),
    (Weight(name="embed_tokens.weight", embedding=True), (11, 6)),
    (Weight(name="lm_head.weight", head=True), (11, 6)),
    (Weight(name="c_attn.weight", transposed=True), (6, 8)),
    (Weight(name="experts.weight"), (3, 8, 6)),
)

every_merger = pytest.mark.parametrize("name", MERGERS)
every_weight = pytest.mark.parametrize(("weight", "shape"), WEIGHTS, ids=lambda one: getattr(one, "name", None))


def tensors(shape: tuple[int, ...], models: int, seed: int = 0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return a base and models not far from it."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=generator)
    return base, [base + 0.1 * torch.randn(shape, generator=generator) for _ in range(models)]


@pytest.fixture
def merger(name: str) -> Merger:
    return MERGERS.create({"kind": name})


@every_merger
def test_it_says_what_it_is(name: str, merger: Merger) -> None:
    assert merger.name == name
    assert merger.summary
    assert merger.paper
    assert merger.cite
    assert set(merger.cite) <= set(bibliography())
    assert merger.version >= 1
    assert 1 <= merger.fewest <= merger.most
    assert all(one.description and not one.required for one in parameters(schema_of(merger.Params), str))


@every_merger
@every_weight
def test_the_same_models_give_the_same_weight(
    name: str, merger: Merger, weight: Weight, shape: tuple[int, ...]
) -> None:
    found = merger.merge(weight, *tensors(shape, min(merger.most, 3)))
    assert found.shape == shape
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert torch.equal(found, MERGERS.create({"kind": name}).merge(weight, *tensors(shape, min(merger.most, 3))))


@every_merger
@every_weight
def test_the_base_among_models_of_no_change_stays(
    name: str, merger: Merger, weight: Weight, shape: tuple[int, ...]
) -> None:
    base, _ = tensors(shape, 0)
    found = merger.merge(weight, base.clone(), [base.clone() for _ in range(max(merger.fewest, 2))])
    torch.testing.assert_close(found, base, rtol=1e-6, atol=1e-6)


@every_merger
@every_weight
def test_a_weight_of_zeros_gives_numbers(name: str, merger: Merger, weight: Weight, shape: tuple[int, ...]) -> None:
    model, other = tensors(shape, 2)[1]
    zeros = torch.zeros(shape)
    for models in ((zeros, zeros), (model, zeros), (model, other)):
        assert torch.isfinite(merger.merge(weight, zeros.clone(), [one.clone() for one in models])).all()


@pytest.mark.parametrize("name", ITSELF)
@every_weight
def test_one_model_alone_gives_itself(name: str, weight: Weight, shape: tuple[int, ...]) -> None:
    merger = MERGERS.create({"kind": name, **ITSELF[name]})
    base, (model,) = tensors(shape, 1)
    merger.check(1)
    torch.testing.assert_close(merger.merge(weight, base, [model.clone()]), model, rtol=1e-6, atol=1e-6)


@every_merger
def test_too_few_models_and_too_many_are_refused(name: str, merger: Merger) -> None:
    merger.check(merger.fewest)
    merger.check(merger.most)
    for wrong in (merger.fewest - 1, merger.most + 1):
        with pytest.raises(UsageError, match=rf"^merge\.0: {name} merges .*model.*, and there are {wrong}$"):
            merger.check(wrong, "merge.0")


@every_merger
def test_weights_are_as_many_as_models(name: str) -> None:
    entry = MERGERS.get(name)
    if "weights" not in entry.Params.model_fields:
        pytest.skip("it does not weigh its models")
    merger = MERGERS.create({"kind": name, "weights": [0.25, 0.75]})
    merger.check(2)
    with pytest.raises(UsageError, match=r"^merge\.0\.weights: there are 2 of them for 1 models; give one for each"):
        merger.check(1, "merge.0")


@every_merger
def test_a_parameter_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown key 'merger {name}.wieghts'"):
        MERGERS.create({"kind": name, "wieghts": [1.0]})


@every_merger
def test_no_parameter_takes_what_is_no_number(name: str) -> None:
    fields = MERGERS.get(name).Params.model_fields
    numbers = [key for key, field in fields.items() if field.annotation in (int, float)]
    for key in numbers:
        for value in (float("nan"), float("inf"), True, "much"):
            with pytest.raises(UsageError, match=f"merger {name}.{key}"):
                MERGERS.create({"kind": name, key: value})
