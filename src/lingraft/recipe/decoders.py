"""The entries of `evaluate.decoders`, checked when a recipe is read, and the systems that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import UsageError, placed, suggestion
from lingraft.core.tasks import Task, misfit
from lingraft.core.validation import HOLDS_ENGINE, HOLDS_METRIC, holding, validated
from lingraft.data.readers import directions_of
from lingraft.decoders.base import DECODERS, Decoder, Surroundings
from lingraft.engines.base import ENGINES
from lingraft.metrics.base import open_metric
from lingraft.recipe.choices import DecoderChoice, EngineChoice
from lingraft.recipe.registries import entries_of
from lingraft.recipe.tasks import reported_metrics

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe

BASE = "base"


@dataclass(frozen=True)
class DecodedSystem:
    """A system that is weights and a decoder: `name` is `weights/label`."""

    weights: str
    choice: DecoderChoice

    @property
    def name(self) -> str:
        """In scorecard and report."""
        return f"{self.weights}/{self.choice.label}"

    @property
    def decoder(self) -> Decoder:
        """The decoder with its parameters."""
        return DECODERS.create(self.choice)


def decoded_systems(recipe: Recipe) -> list[DecodedSystem]:
    """Return the systems that a recipe's decoders make, decoder after decoder, each in the order of the weights."""
    found = []
    for choice in recipe.evaluate.all_decoders:
        for weights in choice.systems or measured_weights(recipe):
            found.append(DecodedSystem(weights, choice))
    return found


def measured_weights(recipe: Recipe) -> list[str]:
    """Return the names of the weights that a recipe measures, the base first; without further seeds, other scales,
    earlier stages and the merges of a sweep."""
    trained = [one.name for one in recipe.systems() if not one.group]
    merged = [one.name for one in recipe.merges() if not one.group]
    return [BASE, *trained, *(one.label for one in recipe.grafts), *merged]


def all_weights(recipe: Recipe) -> list[str]:
    """Return the names of all weights that a recipe measures, further seeds, other scales and what routes, too."""
    return [*measured_weights(recipe), *_variants(recipe), *(one.name for one in recipe.routed_systems())]


def _variants(recipe: Recipe) -> Iterator[str]:
    """Yield the names of further seeds, other scales, earlier stages and the merges of a sweep."""
    yield from (one.name for one in recipe.systems() if one.group)
    yield from (one.name for one in recipe.merges() if one.group)
    for name in recipe.headliners:
        yield from (f"{name}*{scale:g}" for scale in recipe.evaluate.scales)
        if recipe.evaluate.stages:
            yield from (f"{name}@{number}" for number in range(1, len(recipe.stages)))


def filled_decoders(recipe: Recipe) -> list[DecoderChoice]:
    """Return the recipe's decoders with the defaults of their parameters.

    Args:
        recipe: whose metrics have their defaults already.

    Raises:
        UsageError: an unknown decoder, system, metric or engine; a parameter that is not right; or something that a
            decoder lacks.
    """
    known, own = all_weights(recipe), len(recipe.evaluate.decoders)
    for choice in recipe.evaluate.all_decoders[own:]:
        _filled(recipe, choice, "evaluate.contamination_probe", known)
    return [
        _filled(recipe, choice, f"evaluate.decoders.{i}", known) for i, choice in enumerate(recipe.evaluate.decoders)
    ]


def _filled(recipe: Recipe, choice: DecoderChoice, where: str, known: Sequence[str]) -> DecoderChoice:
    with placed(f"{where}.kind"):
        entry: Any = DECODERS.get(choice.kind)
    params = validated(entry.Params, choice.params, where, DecoderChoice.model_fields).model_dump(mode="json")
    for name in choice.systems:
        if name not in known:
            raise UsageError.at(
                f"{where}.systems",
                f"{where}.systems: nothing that is measured is called {name!r}{suggestion(name, known)}; "
                f"there are {', '.join(known)}",
            )
    for name in holding(entry.Params, HOLDS_ENGINE):
        if isinstance(held := params.get(name), Mapping):
            params[name] = _engine(held, f"{where}.{name}")
    for name in holding(entry.Params, HOLDS_METRIC):
        if (held := params.get(name)) is not None:
            with placed(f"{where}.{name}"):
                open_metric(held)
    filled = choice.model_copy(update=params)
    decoder = DECODERS.create(filled)
    routed = next((one for one in recipe.routed_systems() if one.name in choice.systems), None)
    if decoder.answers_questions and routed is not None:
        raise UsageError.at(
            f"{where}.systems",
            f"{where}.systems: the decoder {choice.kind!r} answers the suites, too, and {routed.name!r} has its "
            f"answers from two models; name {routed.of!r} in its place",
        )
    if not decoder.tasks & set(recipe.pairs.tasks):
        wanted = recipe.pairs.tasks[0]
        fitting = [name for name, one in entries_of("decoders").items() if wanted in one.tasks]
        raise UsageError.at(where, f"{where}: {misfit('decoder', choice.kind, decoder.tasks, wanted, fitting)}")
    if lacking := decoder.lacks(surroundings(recipe, decoder.tasks)):
        raise UsageError.at(where, f"{where}: decoder {choice.kind!r}: {lacking}")
    return filled


def _engine(held: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return an engine that a parameter holds, with its defaults."""
    choice = validated(EngineChoice, held, where)
    with placed(f"{where}.kind"):
        entry = ENGINES.get(choice.kind)
    return {"kind": choice.kind, **validated(entry.Params, choice.params, where).model_dump(mode="json")}


def surroundings(recipe: Recipe, tasks: Set[Task]) -> Surroundings:
    """Return what a recipe has for a decoder of some tasks."""
    tests = [(one.source, one.target) for one in recipe.pairs.test if one.task in tasks]
    exemplars = [*recipe.pairs.trained_directions, *directions_of(recipe.pairs.dev)]
    return Surroundings(
        directions=tuple(dict.fromkeys(tests)),
        exemplars=tuple(dict.fromkeys(exemplars)),
        native=tuple(recipe.native_languages),
        reported=tuple({"kind": one.kind, **one.params} for _, _, one in reported_metrics(recipe)),
    )
