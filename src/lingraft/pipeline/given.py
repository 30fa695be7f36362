"""Stages `given-...`: translations that others have made, as further systems of which nothing else is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.core.hashing import file_hash, list_hash
from lingraft.data.files import locate
from lingraft.data.records import Pair
from lingraft.data.translations import read_translations
from lingraft.language.characters import is_blank
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.pipeline.prepare import Data, PreparedTestSet
from lingraft.pipeline.sources import read_test_rows
from lingraft.recipe.evaluation import GivenTranslations
from lingraft.store.files import write_lines
from lingraft.store.record_files import RecordFile
from lingraft.suites.base import Answers
from lingraft.translation.direct import Translation
from lingraft.translation.wording import TranslationSystem


def given_systems(context: Context, data: Data) -> list[SystemAnswers]:
    """Return the systems whose translations the recipe names.

    Args:
        context: of the run.
        data: whose test sets are translated.

    Raises:
        DataError: a file cannot be used, or does not translate just the segments of its test set.
    """
    return [_given(context, data, name, files) for name, files in context.recipe.given_systems().items()]


def _given(context: Context, data: Data, name: str, files: list[GivenTranslations]) -> SystemAnswers:
    paired = list(zip(data.tests, files, strict=True))

    def build(folder: Path) -> dict[str, Any]:
        for index, (test, file) in enumerate(paired):
            texts = _aligned(context, index, test, file)
            write_lines(folder / f"{test.key}.jsonl", (_translation(*item).to_json() for item in texts.items()))
        return {"translations": sum(len(test.pairs) for test in data.tests)}

    inputs = {
        "files": [file_hash(locate(file.path, "text", Path()).path) for file in files],
        "segments": [list_hash(pair.to_dict() for pair in test.pairs)[0] for test in data.tests],
    }
    folder = context.artefact(f"given-{name}", inputs, build)
    return SystemAnswers(
        system=MeasuredSystem(name=name, renderer=context.renderer, translating=TranslationSystem(), elsewhere=True),
        artefacts=(),  # what they cost is not known
        translations={
            test.key: {one.id: one for one in RecordFile(folder / f"{test.key}.jsonl", Translation)}
            for test in data.tests
        },
        answers=Answers({}),
    )


def _aligned(context: Context, index: int, test: PreparedTestSet, file: GivenTranslations) -> dict[str, str]:
    """Return the translations by the ids of the segments; a file may also translate rows that are not measured."""
    segments, found = [pair.id for pair in test.pairs], read_translations(file.path)
    rows: list[str | None] | None = None
    if found.ids is None and len(found.texts) != len(segments):
        read = read_test_rows(context.recipe.pairs.test[index])
        rows = [row.id if isinstance(row, Pair) else None for row in read]
    return found.of(segments, test.name, rows)


def _translation(id_: str, text: str) -> Translation:
    return Translation(id_, text.strip(), 0, "empty" if is_blank(text) else "")
