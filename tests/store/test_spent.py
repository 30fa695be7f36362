"""What an artefact has cost, over the attempts to build it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.store.artefacts import SCRATCH, build_artefact, facts
from lingraft.store.spent import FILE, Spent, add_usage


class Clock:
    """Tells the seconds that a test says have passed."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_seconds_and_usage_of_killed_attempts_are_kept_up_to_their_last_part(tmp_path: Path) -> None:
    clock = Clock()
    first = Spent(tmp_path, clock)
    clock.now += 7
    first.add({"requests": 2, "retries": {"429": 1}})
    first.keep()
    clock.now += 50  # lost with the part that was under way
    first.add({"requests": 1})
    second = Spent(tmp_path, clock)
    clock.now += 3
    second.add({"requests": 4, "retries": {"429": 2}})
    second.keep()
    third = Spent(tmp_path, clock)
    clock.now += 0.5
    assert third.seconds == 10.5
    assert third.usage == {"requests": 6, "retries": {"429": 3}}
    (tmp_path / SCRATCH / FILE).write_text("{", "utf-8")  # damaged: what is not known is not counted
    assert Spent(tmp_path, clock).seconds == 0


def test_nothing_of_it_is_part_of_an_artefact(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        Spent(folder).keep()
        return {}

    folder = build_artefact(tmp_path, "answers", {}, build)
    assert facts(folder) == {}
    assert sorted(path.name for path in folder.rglob("*")) == ["manifest.json"]


def test_usage_is_added_up_section_by_section() -> None:
    total: dict[str, Any] = {}
    add_usage(total, {"tokens": 3, "cost": 0.5, "retries": {"429": 1}})
    add_usage(total, {"tokens": 4, "cost": 0.25, "retries": {"429": 2, "timeout": 1}, "server": "a"})
    assert total == {"tokens": 7, "cost": 0.75, "retries": {"429": 3, "timeout": 1}, "server": "a"}
