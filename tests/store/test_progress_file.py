"""The note of a run comes back as it was written; a damaged one is told from none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.store.holders import Holder
from lingraft.store.progress_file import (
    FILE,
    PartNote,
    ProgressFile,
    StageNote,
    TaskNote,
    read_progress,
    remove_progress,
)

NOTE = ProgressFile(
    holder=Holder(pid=7, born=3, host="here", machine="boot"),
    began=10.5,
    now=12,
    part=2,
    parts=(
        PartNote(kind="data", estimate=4.0, seconds=3.25, began=10.5),
        PartNote(kind="train", of="radis", began=11),
    ),
    stages=(StageNote(folder="data-00000000", part=1, seconds=3.2, done=True),),
    task=TaskNote(title="train-radis", done=3, total=9, detail="loss 2", seconds=4.0),
    example="a \ue000b\ue001 \ud800",
)


def test_a_note_comes_back(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    NOTE.write(tmp_path)
    assert read_progress(tmp_path) == NOTE
    (tmp_path / f".{FILE}.tmp").write_text("of a process that was killed")
    remove_progress(tmp_path)
    assert not list(tmp_path.iterdir())
    remove_progress(tmp_path)
    assert read_progress(tmp_path / "missing") is None


def _with(**changes: Any) -> str:
    return json.dumps({**NOTE.to_dict(), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        _with()[:40],
        "[]",
        "3",
        "null",
        '{"began": 1}',
        _with(more=1),
        _with(parts=3),
        _with(parts=[3]),
        _with(parts=[{"kind": 4}]),
        _with(parts=[{"kind": "data", "estimate": "long"}]),
        _with(holder=None),
        _with(holder={"pid": "me"}),
        _with(stages="no"),
        _with(task=[1]),
        _with(now="late"),
        _with(now=1e400),
        _with(began=None),
        "[" * 100_000,
        "\x00" * 900,
    ],
)
def test_a_damaged_note_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=r".*"):
        read_progress(tmp_path)


def test_bytes_of_no_text_are_damage(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r".*"):
        read_progress(tmp_path)


@pytest.mark.parametrize(
    ("part", "title"),
    [
        (PartNote(kind="data"), "data"),
        (PartNote(kind="train", of="radis"), "train radis"),
        (PartNote(kind="answer", of="base"), "ask base"),
        (PartNote(kind="decode", of="base/rerank"), "ask base/rerank"),
        (PartNote(kind="row", of="sdft"), "sdft"),
    ],
)
def test_parts_are_named_in_words(part: PartNote, title: str) -> None:
    assert part.title == title
