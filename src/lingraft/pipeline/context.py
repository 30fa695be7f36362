"""What the stages of one run share: recipe, folder, the base in memory, progress and artefacts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.figures import duration
from lingraft.core.hashing import content_hash
from lingraft.core.progress import Reporter
from lingraft.engines.base import ENGINES, Engine, EngineModel
from lingraft.models.architectures import config_of
from lingraft.models.devices import best_device, free_memory, peak_memory_mb
from lingraft.models.files import ModelFiles, find_model, longest_sequence
from lingraft.models.loading import LoadedModel, load_model, load_renderer
from lingraft.pipeline import processes
from lingraft.pipeline.noting import Noting
from lingraft.recipe.choices import EngineChoice
from lingraft.recipe.schema import Recipe
from lingraft.rendering.renderer import Renderer
from lingraft.store.artefacts import (
    MANIFEST,
    artefact_path,
    build_artefact,
    copy_artefact,
    is_built,
    partial_path,
    verify,
)
from lingraft.store.files import read_sealed
from lingraft.store.progress_file import PartNote


def in_folders(name: str) -> str:
    """Return a name that may hold a system's as folders have it: some characters are not for every file system."""
    return name.replace("#", "-seed").replace("*", "-x").replace("/", "~")


class Context:
    """One run in its folder. The model is loaded when a stage first needs it, and only once.

    `lasting`: the folder is there when the command has ended, so that a message may send the user to it.
    `earlier`: folders of other runs, whose answers to the same questions are taken over.
    `trained`: folders of other runs, whose trainings are taken over where they are the same.
    `noting`: is told how far the run is; None: nobody is.
    """

    def __init__(
        self,
        recipe: Recipe,
        root: Path,
        reporter: Reporter,
        *,
        lasting: bool = True,
        earlier: tuple[Path, ...] = (),
        trained: tuple[Path, ...] = (),
    ) -> None:
        self.recipe = recipe
        self.root = root
        self.answered = (root, *earlier)
        self._trained = trained
        self._lasting = lasting
        self.reporter = reporter
        self._files: ModelFiles | None = None
        self._renderer: Renderer | None = None
        self._loaded: LoadedModel | None = None
        self._engine: Engine | None = None
        self._chosen: EngineChoice | None = None
        self._part = self._parts = 0
        self.noting: Noting | None = None
        self.built: list[str] = []
        self.used: list[Path] = []

    def plan_parts(self, parts: Sequence[PartNote]) -> None:
        """Let what is said and noted from now on name the part of the run, of these."""
        self._part, self._parts = 0, len(parts)
        if self.noting:
            self.noting.plan(parts)

    def next_part(self) -> None:
        """Begin the next part."""
        self._part += 1
        if self.noting:
            self.noting.begin(self._part)

    @property
    def part(self) -> str:
        """Which part of the run this is, to put behind what is said; "" without a plan."""
        return f" (part {self._part} of {self._parts})" if self._parts else ""

    def place(self, name: str) -> str:
        """Return where the user finds a file of the run, for a message."""
        return str(self.root / name) if self._lasting else f"the file {name} that `lingraft run` writes"

    @property
    def files(self) -> ModelFiles:
        """Where the base is and what it is."""
        if self._files is None:
            followed = not processes.is_main_process()  # the first process reads the weights through
            say = self.reporter.say
            self._files = find_model(self.recipe.model, self.recipe.revision, remembered=followed, say=say)
        return self._files

    @property
    def renderer(self) -> Renderer:
        """The renderer of the base's tokenizer, without loading weights."""
        if self._loaded is not None:
            return self._loaded.renderer
        if self._renderer is None:
            self._renderer = load_renderer(self.files, self.recipe.template)
        return self._renderer

    @property
    def config(self) -> Any:
        """The base's text configuration, without loading weights."""
        return config_of(self.files.folder).get_text_config()

    @property
    def longest(self) -> int | None:
        """Longest sequence of the base, in tokens; None: no limit is known."""
        return longest_sequence(self.files.folder)

    @property
    def loaded(self) -> LoadedModel:
        """The base in memory. An engine that holds a copy of its own is closed first."""
        if self._loaded is None:
            self._close_engine()
            self.reporter.say(f"Loading {self.recipe.model}")
            variables, renderer = self.recipe.template, self._renderer
            self._loaded = load_model(self.files, self.precision, variables=variables, renderer=renderer)
        return self._loaded

    def for_training(self, sharding: str) -> LoadedModel:
        """Return the base to train on: the one in memory, or with sharding "full" this process's part of it.

        Raises:
            UsageError: the base is in 4 bits, of which no process can hold a part.
        """
        if sharding == "none" or processes.world_size() == 1:
            return self.loaded
        if self.precision == "nf4":
            raise UsageError("train.precision nf4 and train.sharding full do not go together; choose one of them")
        self.close()
        self._loaded = None
        free_memory()
        shards = processes.world_size()
        return load_model(self.files, self.precision, shards=shards, variables=self.recipe.template)

    @property
    def precision(self) -> str:
        """Type of the base's weights: that of training, so that base and graft are compared in one type."""
        return self.recipe.precision

    @property
    def device(self) -> str:
        """Name of the device for the scorecard."""
        return best_device().type

    def engine(self, choice: EngineChoice | None = None) -> Engine:
        """Return an engine, started when first needed, kept until another or the model is needed.

        Args:
            choice: which; the recipe's own if None.
        """
        choice = choice or self.recipe.engine
        if self._engine is not None and self._chosen != choice:
            self.close()
        if self._engine is None:
            kind, params = ENGINES.read(choice)
            kind, params, why = kind.chosen(params)
            if why:
                self.reporter.say(why)
            own = choice in (self.recipe.engine, self.recipe.evaluate.engine)
            if self.precision == "nf4" and kind.unlike_4_bits(own):
                raise UsageError(
                    f"engine {kind.name!r} answers with whole weights, not in 4 bits; with train.precision nf4 take "
                    f"the engine transformers"
                )
            if not kind.local and self._loaded is not None:
                self._loaded = None
                free_memory()
            model = EngineModel(self.files, self.renderer, lambda: self.loaded, self.precision)
            self._engine, self._chosen = kind.create(model, params), choice
        return self._engine

    def engine_identity(self, choice: EngineChoice | None = None) -> dict[str, Any]:
        """Return what of engine and device decides generated text, without starting the engine."""
        kind, params = ENGINES.read(choice or self.recipe.engine)
        return {"engine": kind.identity(params), "precision": self.precision, "device": self.device}

    def _close_engine(self) -> None:
        if self._engine is not None and not self._engine.local:
            self._engine.close()
            self._engine = None
            free_memory()

    def close(self) -> None:
        """Stop the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made_before(self, known: Path, inputs: Any) -> Path | None:
        """Return an artefact of another run that depends on the very same things."""
        for root in self._trained:
            folder = root / known.name
            manifest = read_sealed(folder / MANIFEST)
            if manifest and content_hash(manifest["inputs"]) == content_hash(inputs) and verify(folder):
                return folder
        return None

    def artefact(
        self,
        stage: str,
        inputs: Any,
        build: Callable[[Path], dict[str, Any]],
        join: Callable[[Path], None] | None = None,
        *,
        said: str = "",
        training: bool = False,
    ) -> Path:
        """Return a stage's artefact, building it if needed.

        Args:
            stage: its name; may hold a system's.
            inputs: JSON-ready description of everything the result depends on.
            build: writes into the folder it is given and returns facts; time and memory are added.
            join: what the other processes of the run do meanwhile, with the same folder; by default they wait.
            said: what users are told, where it is one of many small artefacts of a part; by default that the stage
                starts and ends, and which part of the run it is.
            training: whether it is taken over from other runs that trained the same.
        """
        stage = in_folders(stage)
        known = artefact_path(self.root, stage, inputs)
        if not processes.is_main_process():
            if join is not None and not is_built(known):
                join(partial_path(known))
            return processes.wait_for(known)

        def timed(folder: Path) -> dict[str, Any]:
            start = time.monotonic()
            facts = build(folder)
            return {
                "seconds": round(time.monotonic() - start, 2),
                "peak_memory_mb": round(peak_memory_mb(best_device()), 1),
                "device": self.device,
                **facts,
            }

        ready = verify(known)
        self._note(known, done=ready)
        if not ready and training and (source := self._made_before(known, inputs)):
            said, build = f"Taking {stage} over from {source.parent}{self.part}", partial(copy_artefact, source)
        if not ready:
            resumed = partial_path(known).exists()
            self.reporter.say(said or f"{'Continuing' if resumed else 'Starting'} {stage}{self.part}")
            self.built.append(stage)
        if ready:
            folder = known
        else:
            start = time.monotonic()
            with self.reporter.working(said or stage):
                folder = build_artefact(self.root, stage, inputs, timed)
            if not said and (took := time.monotonic() - start) >= 1:
                self.reporter.say(f"Finished {stage} in {duration(took)}{self.part}")
            self._note(folder, done=True, seconds=time.monotonic() - start)
        self.used.append(folder)
        return folder

    def _note(self, folder: Path, *, done: bool, seconds: float | None = None) -> None:
        if self.noting:
            self.noting.stage(folder.name, None if seconds is None else round(seconds, 2), done=done)
