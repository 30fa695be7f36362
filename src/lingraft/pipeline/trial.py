"""Stage `trial`: each way of training is tried on one row before anything is synthesised, and in a dry run as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.core.errors import ExampleError
from lingraft.core.hashing import content_hash
from lingraft.data.corpora import needs_network
from lingraft.data.readers import read_pairs, read_texts
from lingraft.data.records import Example, Pair, Prompt, Rejected, Span, Text
from lingraft.models.architectures import without_weights
from lingraft.models.files import ModelFiles, find_model, local_folder
from lingraft.models.growth import extended
from lingraft.pipeline import processes
from lingraft.pipeline.context import Context
from lingraft.pipeline.dry_run_shared import Shared
from lingraft.pipeline.prepare import Data
from lingraft.recipe.objectives import objectives_of
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stages import Stage, SystemPlan
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.store.files import write_json
from lingraft.training.objectives import described
from lingraft.training.targets import adapted_share
from lingraft.training.trial import Trial, try_training
from lingraft.training.tuners import TUNERS, TunerInputs
from lingraft.translation.wording import DEFAULT, ask_for

ROWS_LOOKED_AT = 50
LONGEST_ROW = 512
TRIED = ("batching", "kernels", "compile", "gradient_checkpointing", "precision", "sharding", "optimizer")
"""Settings that decide how a step is computed."""


@dataclass(frozen=True)
class Way:
    """A way of training: a stage of a system, by its number from 0."""

    system: SystemPlan
    number: int

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.system.stages[self.number]

    @property
    def name(self) -> str:
        """How users are told of it: the system, and its stage where it has several."""
        several = len(self.system.stages) > 1
        return self.system.name + (f", stage {self.number + 1} ({self.stage.label})" if several else "")


def try_stages(context: Context, data: Data) -> None:
    """Try each way of training that the recipe has, in the base and its vocabulary, where that has not been done.

    Raises:
        UsageError, ModelError, LingraftError: as `try_training`.
    """
    ways = [
        way
        for way in _ways(context.recipe)
        # Of a sharded model no process holds the whole.
        if not (way.stage.train.sharding == "full" and processes.world_size() > 1)
    ]
    part = context.part  # named once, with the first that is tried
    for way in ways:
        system, stage = way.system, way.stage
        vocabulary = data.vocabulary_of(system)
        inputs = {
            "model": context.files.sha256,
            "tuner": stage.tuner.model_dump(mode="json"),
            "train": _tried(stage),
            "device": context.device,
            **({"vocabulary": vocabulary.folder.name} if vocabulary else {}),
            **({"objective": said} if (said := described(objectives_of(stage))) else {}),
        }
        built = len(context.built)
        context.artefact("trial", inputs, partial(_build, context, data, way), said=f"Trying {way.name}{part}")
        part = part if len(context.built) == built else ""


def _build(context: Context, data: Data, way: Way, folder: Path) -> dict[str, Any]:
    system, stage = way.system, way.stage
    row = _first_row(data.renderer_of(context, system), _examples(data.train, data.texts, data.replay))
    facts: dict[str, Any] = {}
    if row is not None:
        vocabulary = data.vocabulary_of(system)
        with extended(context.loaded, vocabulary.vocabulary if vocabulary else None) as loaded:
            trial = try_training(
                loaded.model,
                row,
                stage.train,
                TUNERS.create(stage.tuner),
                pad_id=loaded.renderer.pad_id,
                seed=system.seed,
                new_ids=loaded.new_ids,
                objectives=objectives_of(stage),
            )
        context.reporter.say(f"{way.name}, tuner {stage.tuner.kind}: {trial}")
        facts = {"packed": trial.packed, "learning": trial.learning, "adapted_share": trial.share}
    write_json(folder / "trial.json", facts)
    return facts


def rehearse(recipe: Recipe, *, weights: bool = True, shared: Shared | None = None) -> list[str]:
    """Try each way of training as far as it goes without fetching or writing anything; return what it showed, in lines.

    Where the base's weights are at hand, a row of the data goes through it; where its configuration is, names of
    layers are checked.

    Args:
        recipe: complete.
        weights: whether the base's weights are read; else names of layers are all that is checked.
        shared: with recipes looked at before, of which the same need not be tried again; None: nothing.

    Raises:
        UsageError, ModelError, LingraftError: as `try_training`.
    """
    own = shared or Shared()
    try:
        return _rehearsed(recipe, weights, own)
    finally:
        if shared is None:
            own.close()


def _rehearsed(recipe: Recipe, weights: bool, shared: Shared) -> list[str]:
    folder = local_folder(recipe.model, recipe.revision)
    if folder is None or not recipe.stages:
        return []
    place = str(folder)

    def shapes(way: Way) -> str:
        tuner = way.stage.tuner.model_dump(mode="json")
        return shared.once("shapes", [place, tuner, way.system.seed], lambda: _shapes_alone(place, way))

    if not weights or not any(folder.glob("*.safetensors")):
        return list(dict.fromkeys(map(shapes, _ways(recipe))))
    files, lines = find_model(recipe.model, recipe.revision), list[str]()
    row = _first_row(shared.renderer(recipe, files.folder), _local_examples(recipe))
    base = [files.sha256, recipe.precision, recipe.template, row and [row.id, *map(list, (row.input_ids, row.weights))]]
    for way in _ways(recipe):
        system, stage = way.system, way.stage
        grown = recipe.vocabulary is not None and system.vocabulary  # its vocabulary is not learnt yet
        if row is None or grown or (stage.train.sharding == "full" and processes.world_size() > 1):
            lines.append(shapes(way))
            continue
        inputs = [
            *base,
            stage.tuner.model_dump(mode="json"),
            _tried(stage),
            described(objectives_of(stage)),
            system.seed,
        ]
        lines.append(shared.once("trial", inputs, partial(_tried_once, recipe, files, way, row, shared)))
    return list(dict.fromkeys(lines))


def _tried_once(recipe: Recipe, files: ModelFiles, way: Way, row: Rendered, shared: Shared) -> str:
    stage, loaded = way.stage, shared.loaded(recipe, files)
    trial = try_training(
        loaded.model,
        row,
        stage.train,
        TUNERS.create(stage.tuner),
        pad_id=loaded.renderer.pad_id,
        seed=way.system.seed,
        objectives=objectives_of(stage),
    )
    return f"tuner {stage.tuner.kind}: {trial}"


def _shapes_alone(folder: str, way: Way) -> str:
    """Wrap the base without weights, which checks the names of layers, and say what would learn."""
    system, stage = way.system, way.stage
    tuner = TUNERS.create(stage.tuner)
    adapted = tuner.apply(without_weights(Path(folder)), TunerInputs(seed=system.seed, new_ids=(0,)))
    learning = tuner.learning(adapted)
    share = adapted_share(adapted) if tuner.low_rank else None
    return f"tuner {stage.tuner.kind}: {Trial(False, False, learning, share).learns}"


def _ways(recipe: Recipe) -> Iterator[Way]:
    """Yield each way of training, with the first system and stage that have it."""
    seen: set[str] = set()
    for system in recipe.systems():
        for number, stage in enumerate(system.stages):
            objectives = described(objectives_of(stage))
            way = content_hash([stage.tuner.model_dump(mode="json"), _tried(stage), objectives, system.vocabulary])
            if way not in seen:
                seen.add(way)
                yield Way(system, number)


def _tried(stage: Stage) -> dict[str, Any]:
    return {key: value for key, value in stage.train.identity().items() if key in TRIED}


def _examples(pairs: Iterable[Pair], texts: Iterable[Text], prompts: Iterable[Prompt]) -> Iterator[Example]:
    """Yield some rows of what there is to train on, as plain as can be."""
    for pair in islice(pairs, ROWS_LOOKED_AT):
        yield Example(pair.id, ask_for(pair, [DEFAULT], 0), (Span(pair.target, "translation"),))
    for text in islice(texts, ROWS_LOOKED_AT):
        yield Example(text.id, (), (Span(text.text, "text"),), block=LONGEST_ROW)
    for prompt in islice(prompts, ROWS_LOOKED_AT):
        yield Example(prompt.id, prompt.messages, (Span(prompt.messages[-1].content, "reply"),))


def _local_examples(recipe: Recipe) -> Iterator[Example]:
    def pairs() -> Iterator[Pair]:
        for source in recipe.pairs.train:
            if not needs_network(source.path, source.source, source.target):
                yield from (row.record for row in read_pairs(source) if not isinstance(row, Rejected))

    def texts() -> Iterator[Text]:
        for source in recipe.texts:
            if not source.path.startswith("hub:"):
                yield from (row.record for row in read_texts(source) if not isinstance(row, Rejected))

    return _examples(pairs(), texts(), ())


def _first_row(renderer: Renderer, examples: Iterable[Example]) -> Rendered | None:
    """Return the first example that can be rendered."""
    for example in examples:
        try:
            rows = [renderer.render(example, LONGEST_ROW)] if example.messages else renderer.render_text(example)
        except ExampleError:
            continue
        for row in rows:
            if any(weight > 0 for weight in row.weights[1:]):
                return row
    return None
