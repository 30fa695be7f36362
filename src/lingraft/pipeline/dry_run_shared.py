"""What is looked at before several runs start that have much in common, as the rows of a bench: each thing once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lingraft.core.hashing import content_hash
from lingraft.models.devices import free_memory
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel, load_model, load_renderer
from lingraft.recipe.schema import Recipe
from lingraft.rendering.renderer import Renderer

T = TypeVar("T")


class Shared:
    """Renderers of bases, the last base itself, and what was found out; kept as long as this object.

    Files must not change meanwhile.
    """

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._loaded: tuple[str, LoadedModel] | None = None

    def once(self, what: str, inputs: Any, find: Callable[[], T]) -> T:
        """Return what is found, or was found before for the same inputs; an error is found anew.

        Args:
            what: it is.
            inputs: JSON-ready description of all that it depends on.
            find: finds it.
        """
        key = f"{what} {content_hash(inputs)}"
        if key not in self._found:
            self._found[key] = find()
        found: T = self._found[key]
        return found

    def renderer(self, recipe: Recipe, folder: Path) -> Renderer:
        """Return the renderer of a recipe's base, without weights.

        Args:
            recipe: of a run.
            folder: of its base, on this machine.

        Raises:
            ModelError, UsageError: as `load_renderer`.
        """
        inputs = [str(folder), recipe.template]
        files = ModelFiles(recipe.model, folder, "")
        return self.once("renderer", inputs, lambda: load_renderer(files, recipe.template))

    def loaded(self, recipe: Recipe, files: ModelFiles) -> LoadedModel:
        """Return a recipe's base with its weights; that of another base is given up.

        Args:
            recipe: of a run.
            files: of its base.

        Raises:
            ModelError: as `load_model`.
        """
        key = content_hash([str(files.folder), files.sha256, recipe.precision, recipe.template])
        if self._loaded is None or self._loaded[0] != key:
            if self._loaded is not None:
                self.close()
            renderer = self.renderer(recipe, files.folder)
            self._loaded = key, load_model(files, recipe.precision, variables=recipe.template, renderer=renderer)
        return self._loaded[1]

    def close(self) -> None:
        """Give up the base's weights."""
        self._loaded = None
        free_memory()
