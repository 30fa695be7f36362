"""Checks of the files that methods and suites of a recipe name: before anything starts, not hours later."""

from __future__ import annotations

import json
from pathlib import Path

from lingraft.errors import DataError
from lingraft.evaluation.suite import SUITES
from lingraft.graft import read_info
from lingraft.methods import METHODS
from lingraft.recipe import Recipe


def check_files(recipe: Recipe) -> None:
    """Refuse what would fail when its stage begins: grafts, files of translations, questions, references that cannot
    be used.

    Training pairs, prompts and texts are read first in any run and need no check.

    Raises:
        DataError: a file is missing, cannot be read, or holds nothing of use; the sentence begins with who needs it.
        ModelError: a folder is no graft.
        UsageError: a method has no language to carry to, or one without a marker.
    """
    for graft in recipe.grafts:
        read_info(Path(graft.path))
    checked: set[str] = set()
    for system in recipe.systems():
        languages = recipe.native_languages if system.vocabulary else []
        for stage in system.stages:
            parts = [(stage.method, stage.params), *((other.method, other.params) for other in stage.beside)]
            for name, params in parts:
                key = json.dumps([name, params, languages], sort_keys=True)
                if key in checked:
                    continue
                checked.add(key)
                entry = METHODS.get(name)
                try:
                    entry(entry.Params.model_validate(params)).check(languages)
                except DataError as error:
                    raise DataError(f"system {system.name!r}, method {name!r}: {error}") from error
    for suite in recipe.evaluate.retention.suites:
        kind = SUITES.get(suite.kind)
        opened = kind(kind.Params.model_validate(suite.params))  # type: ignore[attr-defined]
        try:
            opened.check()
        except DataError as error:
            begun = str(error).startswith(f"suite {suite.kind!r}")
            raise DataError(str(error) if begun else f"suite {suite.label!r}: {error}") from error
