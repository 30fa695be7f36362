"""Which of lm-eval's own files are read to find a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.suites import harness_loading


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The folders of which an index is made; None stands for all, of which none is made here."""
    made: list[Path | None] = []
    make = harness_loading._manager

    def recorded(only: Path | None, include: str | None = None) -> Any:
        made.append(only)
        if only is None:
            raise LookupError("all files are read")
        return make(only, include)

    monkeypatch.setattr(harness_loading, "_manager", recorded)
    return made


def test_a_task_is_found_in_its_own_folder(indexed: list[Path | None]) -> None:
    manager = harness_loading._index("piqa", None)
    assert manager.task_index["piqa"].yaml_path == harness_loading._TASKS / "piqa" / "piqa.yaml"
    assert indexed == [harness_loading._TASKS / "piqa"]


def test_a_name_that_stands_nowhere_is_refused_at_once(indexed: list[Path | None]) -> None:
    with pytest.raises(UsageError, match="knows no task 'arc_eazy'; did you mean 'arc_easy'"):
        harness_loading._index("arc_eazy", None)
    assert indexed == []


@pytest.mark.parametrize("name", ["mmlu", "ai2_arc", "mmlu_stem"])  # groups and a tag, whose tasks lie anywhere
def test_for_what_is_no_single_task_all_are_read(indexed: list[Path | None], name: str) -> None:
    with pytest.raises(LookupError):
        harness_loading._index(name, None)
    assert indexed[-1] is None


@pytest.mark.long
def test_an_index_of_a_folder_has_the_task_that_the_whole_one_has() -> None:
    whole = harness_loading._manager(None)
    for name in whole.all_subtasks[::100]:
        found = harness_loading._index(name, None).task_index[name]
        assert (found.yaml_path, found.kind) == (whole.task_index[name].yaml_path, whole.task_index[name].kind)
