"""Training from rows on the disk is training on the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders import tiny_llama
from lingraft.core.errors import DataError, LingraftError, ModelError, UsageError
from lingraft.rendering.row_files import RenderedRows, write_rendered
from lingraft.rendering.rows import Rendered, RenderedTeacher
from lingraft.training.settings import TrainSettings
from lingraft.training.survey import survey_rows
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows

ROWS = random_rows(16, weight=0.3)


def stored(folder: Path, rows: list[Rendered]) -> RenderedRows:
    write_rendered(folder, rows)
    return RenderedRows(folder)


def taught(row: Rendered) -> Rendered:
    at = np.flatnonzero(np.asarray(row.weights) > 0)[:3]
    ids = np.arange(2 * len(at)).reshape(-1, 2)
    teacher = RenderedTeacher(at, ids, np.log(np.full(ids.shape, 0.4, np.float32)))
    return replace(row, losses=("ce", "kl"), teacher=teacher)


def test_rows_on_disk_are_surveyed_without_being_read(tmp_path: Path) -> None:
    model = tiny_llama(128)
    rows = [taught(row) if n % 3 else row for n, row in enumerate(ROWS)]
    plain, disk = survey_rows(model, rows), survey_rows(model, stored(tmp_path / "a", rows))
    assert disk.lengths.tolist() == plain.lengths.tolist()
    assert disk.supervised.tolist() == plain.supervised.tolist()
    assert (disk.roles, disk.losses, disk.need_base) == (plain.roles, plain.losses, plain.need_base)
    other = survey_rows(model, stored(tmp_path / "b", [*rows[:-1], replace(rows[-1], id="other")]))
    assert other.digest != disk.digest
    part = stored(tmp_path / "a", rows)[2:9]
    assert survey_rows(model, part).lengths.tolist() == plain.lengths.tolist()[2:9]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda row: replace(row, weights=(1.0, *[0.0] * (len(row.weights) - 1))), DataError, "no supervised token"),
        (lambda row: replace(row, losses=("ce", "cee")), UsageError, "did you mean 'ce'"),
        (lambda row: replace(row, losses=("ce", "kl")), DataError, "log-probabilities of a teacher"),
        (lambda row: replace(row, input_ids=(128, *row.input_ids[1:])), ModelError, "token 128"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, spoil: Callable[[Rendered], Rendered], error: type[LingraftError], message: str
) -> None:
    rows = stored(tmp_path, [*ROWS[:5], spoil(ROWS[5]), *ROWS[6:]])
    with pytest.raises(error, match=f"'row-5'.*{message}"):
        survey_rows(tiny_llama(128), rows)


def pairs(count: int) -> list[Rendered]:
    """Return rows of which the first 2 x count are preference pairs."""
    marked = [replace(row, group=f"pair-{n // 2}", sign=1 - n % 2 * 2) for n, row in enumerate(ROWS[: 2 * count])]
    return [*marked, *ROWS[2 * count :]]


def test_pairs_are_surveyed_alike_in_memory_and_on_disk(tmp_path: Path) -> None:
    model, rows = tiny_llama(128), pairs(3)
    plain, disk = survey_rows(model, rows), survey_rows(model, stored(tmp_path, rows))
    for survey in (plain, disk, survey_rows(model, stored(tmp_path, rows)[:])):
        assert survey.units is not None
        assert survey.units.tolist() == [0, 0, 1, 1, 2, 2, *range(3, 13)]
        assert survey.paired
    without = survey_rows(model, ROWS)
    assert without.units is None
    assert not without.paired
    assert plain.digest != without.digest
    grouped = survey_rows(model, [replace(row, sign=0) for row in rows])
    assert grouped.units is not None  # groups of other kinds than pairs
    assert not grouped.paired


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[:3] + rows[4:],
            r"group 'pair-1' is no preference pair: 'row-2' \(chosen\); a pair is.*both",
        ),
        (lambda rows: [rows[0], *rows[2:4], rows[1], *rows[4:]], r"group 'pair-0' .*: 'row-0' \(chosen\); a pair"),
        (lambda rows: [rows[0], replace(rows[1], sign=1)], r"'row-0' \(chosen\), 'row-1' \(chosen\); a pair"),
        (lambda rows: [*rows[:2], replace(rows[2], group="")], r"no group is no.*: 'row-2' \(chosen\)"),
        (lambda rows: [*rows[:4], replace(rows[5], sign=2)], r"'row-5' \(sign 2\)"),
    ],
)
def test_a_preference_without_its_partner_is_named(
    tmp_path: Path, change: Callable[[list[Rendered]], list[Rendered]], message: str
) -> None:
    rows = change(pairs(3))
    for given in (rows, stored(tmp_path, rows)):
        with pytest.raises(DataError, match=message):
            survey_rows(tiny_llama(128), given)


def test_the_same_losses_from_memory_and_from_disk(tmp_path: Path) -> None:
    settings = TrainSettings(
        learning_rate=1e-2, tokens_per_step=100, micro_tokens=64, precision="fp32", batching="padded"
    )
    points = []
    for name, rows in (("memory", ROWS), ("disk", stored(tmp_path / "rows", ROWS))):
        tuner = LoraTuner(LoraTuner.Params(rank=2))
        result = train(tiny_llama(128), rows, settings, tuner, pad_id=0, work_dir=tmp_path / name, seed=1)
        points.append([(point.loss, point.by_role, point.tokens) for point in result.log])
    assert points[0] == points[1]
    assert len(points[0]) > 2
