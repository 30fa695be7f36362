"""Data: files of pairs, checked before they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError, setting

if TYPE_CHECKING:
    from lingraft.data.file_checks import CheckReport, Data


def check_pairs(
    files: Data | Sequence[Data],
    *,
    source: str,
    target: str,
    tests: Data | Sequence[Data] = (),
    model: str | None = None,
    rejected: str | Path | None = None,
    max_rejected_share: float = 0.05,
) -> CheckReport:
    """Check files of pairs, row by row; what is wrong with a file as a whole is in `problems()` of the report.

    Args:
        files: a file, several, or entries as under `pairs:` of a recipe.
        source: language of the source sides, e.g. "de".
        target: language of the target sides.
        tests: test sets that the files must not contain, likewise.
        model: counts tokens by its tokenizer; by default they are not counted.
        rejected: JSONL file to write rejected rows to.
        max_rejected_share: of a file's rows; more is a problem.

    Raises:
        UsageError: one language twice, or settings that say nothing known.
        DataError: a test set cannot be read, or is in other languages.
        ModelError: the model is not found.
    """
    from lingraft.data.file_checks import check_files, pair_entries, pair_sources
    from lingraft.data.pair_checks import CheckLimits
    from lingraft.language.codes import language
    from lingraft.store.disk import refuse_output
    from lingraft.store.files import line_writer

    first, second = language(source), language(target)
    if first == second:
        raise UsageError(f"{setting('source')} and {setting('target')} are both {source!r}; a pair needs two languages")
    declared = pair_sources(pair_entries(files, first, second))
    declared_tests = pair_sources(pair_entries(tests, first, second))
    if rejected is not None:
        read = [Path(path) for item in (*declared, *declared_tests) for path in (item.path, item.target_path) if path]
        refuse_output(Path(rejected), setting("rejected"), read)
    count_tokens = None
    if model:
        from lingraft.models.files import find_model
        from lingraft.models.loading import load_renderer

        count_tokens = load_renderer(find_model(model, remembered=True)).count_many
    limits = CheckLimits(max_rejected_share=max_rejected_share)
    with line_writer(Path(rejected)) if rejected is not None else nullcontext() as write:
        return check_files(
            declared,
            limits,
            declared_tests,
            count_tokens=count_tokens,
            on_rejected=(lambda item: write(item.to_json())) if write else None,
        )
