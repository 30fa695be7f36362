"""The last text that was written, the last chain, and rows that are left out, while files grow."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lingraft.data.records import Generation, Segment
from lingraft.watching.files import Notes
from lingraft.watching.pieces import Filtered
from lingraft.watching.texts import filtered_rows, last_chain, last_written


def part(folder: Path, number: int, *answers: Generation, age: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{number:06d}-{'a' * 12}-{'b' * 12}.jsonl"
    path.write_text("".join(one.to_json() + "\n" for one in answers), "utf-8")
    os.utime(path, ns=(10**18 - age * 10**9,) * 2)
    return path


def said(id_: str, text: str, *segments: Segment) -> Generation:
    return Generation(id_, text, (1, 2), "stop", segments=segments)


def test_the_newest_part_counts_and_its_last_answer(tmp_path: Path) -> None:
    stages, notes = ["data-0", "synthesis-radis-1", "synthesis-radis-2", "train-radis-3"], Notes()
    assert last_written(tmp_path, stages, notes) is None
    part(tmp_path / "synthesis-radis-1" / "parts", 0, said("old", "old"))
    found = last_written(tmp_path, stages, notes)
    assert found is not None
    assert found.pieces == (("", "old"),)
    growing = tmp_path / "synthesis-radis-2.partial" / "parts"
    part(growing, 1, said("a", "first"), said("b", "last"))  # parts may be finished in any order
    part(growing, 2, said("c", "earlier"), age=10)
    found = last_written(tmp_path, stages, notes)
    assert found is not None
    assert (found.title, found.of, found.id, found.pieces) == (
        "rationale",
        "synthesis-radis",
        "b",
        (("", "last"),),
    )
    assert notes.sentences == []


def test_others_write_answers_and_translations(tmp_path: Path) -> None:
    for stage, title in (("synthesis-sdft-1", "answer"), ("translation-native-2", "translation")):
        part(tmp_path / stage / "parts", 0, said("a", "text"))
        found = last_written(tmp_path, [stage], Notes())
        assert found is not None
        assert found.title == title


def test_the_last_chain_is_shown_part_by_part(tmp_path: Path) -> None:
    stages = ["decode-base-0", "decode-th-1", "decode-other-2"]
    chain = (Segment("english_query", "Why?", 2), Segment("english_reply", "So.", 1), Segment("native_reply", "นั่น", 3))
    part(tmp_path / "decode-base-0" / "parts", 0, said("x", "plain"))
    part(tmp_path / "decode-th-1" / "parts", 0, said("y", "นั่น", *chain))
    part(tmp_path / "decode-other-2" / "parts", 0, said("z", "plain"))
    found = last_chain(tmp_path, stages, Notes())
    assert found is not None
    assert (found.of, found.id) == ("decode-th", "y")
    assert found.pieces == (("asked, in English", "Why?"), ("answer, in English", "So."), ("answer", "นั่น"))


def test_rows_are_counted_while_they_are_read_and_when_they_are(tmp_path: Path) -> None:
    stages, notes = ["data-0", "rows-radis-1"], Notes()
    growing = tmp_path / "data-0.partial"
    growing.mkdir()
    rows = [json.dumps({"file": "a", "line": n, "reason": "empty" if n % 2 else "too_long"}) for n in range(5)]
    (growing / ".rejected.jsonl.77.tmp").write_text("\n".join(rows) + '\n{"file": "a", "rea', "utf-8")
    assert filtered_rows(tmp_path, stages, notes) == [Filtered("data", "too_long", 3), Filtered("data", "empty", 2)]
    growing.rename(tmp_path / "data-0")
    (tmp_path / "data-0" / "counts.json").write_text('{"counts": {"train.jsonl": {"empty": 7}}}')
    (tmp_path / "rows-radis-1").mkdir()
    (tmp_path / "rows-radis-1" / "manifest.json").write_text('{"facts": {"refused": 2}}')
    filters = {"kept": 9, "left_out (3 of 4)": 3, "echo": 1, "none": 0, "recovery: kept": 4, "recovery: short": 5}
    (tmp_path / "rows-radis-1" / "filters.json").write_text(json.dumps(filters))
    assert filtered_rows(tmp_path, stages, notes) == [
        Filtered("train.jsonl", "empty", 7),
        Filtered("examples of radis", "echo", 1),
        Filtered("examples of radis", "recovery: short", 5),
        Filtered("examples of radis", "cannot be rendered", 2),
    ]
    assert notes.sentences == []
