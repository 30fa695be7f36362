"""Rows of a bench that run at once: what each waits for and takes over, and what a failed one stops."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lingraft as lg
from commands import lingraft  # noqa: F401  (fixture)
from lingraft.core.board import Board
from lingraft.core.errors import LingraftError, TrainingError, UsageError
from lingraft.core.progress import Reporter
from lingraft.pipeline.bench_crew import Rows, run_rows
from lingraft.pipeline.bench_jobs import RowJob, awaited, earlier_rows, needed
from lingraft.pipeline.bench_news import News
from lingraft.pipeline.bench_processes import Processes
from lingraft.recipe.bench import BenchPlan, load_bench
from models_support import save_tiny_model
from tiny_runs import values

VANILLA: dict[str, Any] = {"stages.0.method": "vanilla", "stages.0.params": {}}
RADIS: dict[str, Any] = {"stages.0.params.max_rationale_tokens": 8}


def planned(folder: Path, rows: Sequence[dict[str, Any]], **bench: Any) -> BenchPlan:
    recipe = copy.deepcopy(values(folder / "model", compare=[]))
    if "choose" in bench:
        recipe["pairs"]["dev_share"] = 0.2
    path = folder / "bench.yaml"
    path.write_text(json.dumps({"name": "small", "recipe": recipe, "rows": rows, **bench}), "utf-8")
    return load_bench(path, folder / "out")


def waits(plan: BenchPlan, failed: Sequence[str] = ()) -> dict[str, list[str]]:
    return {one.row.name: awaited(plan, one, failed) for one in plan.to_run if one.row.name not in failed}


def taking(plan: BenchPlan, failed: Sequence[str] = ()) -> dict[str, list[str]]:
    rows = [one for one in plan.to_run if one.row.name not in failed]
    return {one.row.name: [other.row.name for other in earlier_rows(plan, one, failed)] for one in rows}


def test_a_row_waits_for_the_first_and_for_who_asks_first_what_it_asks_as_well(tmp_path: Path) -> None:
    half = {"stages": [], "merge": [{"kind": "linear", "name": "half", "of": ["row:eaft"], "strength": 0.5}]}
    rows = [
        {"name": "vanilla", "set": VANILLA},
        {"name": "eaft", "set": {**VANILLA, "stages.0.objective": [{"kind": "eaft"}]}},
        {"name": "left", "set": RADIS, "run": False, "why": "dear"},
        {"name": "radis", "set": RADIS},
        {"name": "radis-b", "set": {**RADIS, "stages.0.train.learning_rate": 0.02}},
        {"name": "half", "set": half},
        {"name": "icl", "set": {**VANILLA, "evaluate.decoders": ["icl"]}},
        {"name": "icl-b", "set": {**RADIS, "evaluate.decoders": ["icl"]}},
    ]
    plan = planned(tmp_path, rows)
    assert waits(plan) == {
        "vanilla": [],
        "eaft": ["vanilla"],
        "radis": ["vanilla"],
        "radis-b": ["vanilla", "radis"],
        "half": ["vanilla", "eaft"],
        "icl": ["vanilla"],
        "icl-b": ["vanilla", "radis", "icl"],
    }
    # Others ask in the place of what failed; what a row needs stays what it is.
    assert waits(plan, ["vanilla", "radis"]) == {
        "eaft": [],
        "radis-b": ["eaft"],
        "half": ["eaft"],
        "icl": ["eaft"],
        "icl-b": ["eaft", "radis-b", "icl"],
    }
    assert needed(plan.to_run[4]) == ["eaft"]


def test_a_row_waits_also_for_the_first_with_the_very_questions_of_its_methods(tmp_path: Path) -> None:
    rows = [
        {"name": "vanilla", "set": VANILLA},
        {"name": "short", "set": RADIS},
        {"name": "long", "set": {"stages.0.params.max_rationale_tokens": 12}},
        {"name": "long-kl", "set": {"stages.0.params.max_rationale_tokens": 12, "stages.0.objective": ["eaft"]}},
        {"name": "long-b", "set": {"stages.0.params.max_rationale_tokens": 12, "stages.0.train.learning_rate": 0.02}},
    ]
    plan = planned(tmp_path, rows)
    assert waits(plan)["long-b"] == ["vanilla", "short", "long"]
    assert taking(plan)["long-kl"] == ["vanilla", "short", "long"]
    assert taking(plan, ["long"])["long-b"] == ["vanilla", "short", "long-kl"]


def test_what_a_row_takes_over_does_not_depend_on_who_ended_first(tmp_path: Path) -> None:
    scaled = {**VANILLA, "evaluate.decoders": ["icl"]}
    rows = [
        {"name": "a", "set": VANILLA},
        {"name": "b", "set": scaled},
        {"name": "c", "set": RADIS},
        {"name": "d", "set": {"stages": [], "grafts": ["row:b"]}},
        {"name": "e", "set": {"stages": [], "grafts": ["row:b"], "evaluate.scales": [0.5]}},
    ]
    assert taking(planned(tmp_path, rows)) == {"a": [], "b": ["a"], "c": ["a"], "d": ["a", "b"], "e": ["a", "b", "d"]}


def test_a_row_waits_for_the_row_whose_value_it_takes(tmp_path: Path) -> None:
    choose = {"key": "stages.0.train.learning_rate", "values": [0.01, 0.02], "rows": ["b"]}
    rows = [
        {"name": "a", "set": {**VANILLA, "stages.0.train.learning_rate": 0.1}},
        {"name": "b", "set": VANILLA},
        {"name": "c", "set": VANILLA, "like": "b"},
    ]
    plan = planned(tmp_path, rows, choose=choose)
    assert waits(plan) == {"a": [], "b": ["a"], "c": ["a", "b"]}
    assert needed(plan.to_run[2]) == ["b"]


class Scripted:
    """Rows that end when and as a test says: in the order of `ends`, the first of those that run."""

    remote = False

    def __init__(self, size: int, ends: Sequence[str], errors: dict[str, LingraftError] | None = None) -> None:
        self.size, self.ends, self.errors = size, ends, errors or {}
        self.running: list[str] = []
        self.said: list[str] = []
        self.most: list[list[str]] = []

    def start(self, job: Any) -> None:
        self.running.append(job)
        self.most.append(list(self.running))

    def news(self) -> list[News]:
        name = next(name for name in self.ends if name in self.running)
        self.running.remove(name)
        error = self.errors.get(name)
        return [News(name, "said", ("half way", False, True)), News(name, "failed" if error else "done", error)]

    def close(self) -> None:
        assert not self.running


def ended(crew: Scripted, waits: dict[str, list[str]], needs: dict[str, list[str]] | None = None) -> Any:
    done: list[str] = []

    @contextmanager
    def showing() -> Any:
        yield Board(Reporter(quiet=True), None)

    def say(name: str) -> None:
        crew.said.append(name)

    rows = Rows(
        names=list(waits),
        needed=lambda name: (needs or {}).get(name, []),
        awaited=lambda name, failed: [other for other in waits[name] if other not in failed],
        job=lambda name, failed: name,  # type: ignore[arg-type, return-value]
        begun=say,
        done=lambda name, choice: done.append(name),
    )
    return done, run_rows(rows, crew, showing)


def test_rows_begin_as_soon_as_there_is_room_and_nothing_to_wait_for() -> None:
    crew = Scripted(2, ["a", "c", "b", "d", "e"])
    done, failed = ended(crew, {"a": [], "b": ["a"], "c": ["a"], "d": ["a", "b"], "e": ["a"]})
    assert not failed
    assert crew.most == [["a"], ["b"], ["b", "c"], ["b", "e"], ["e", "d"]]
    assert done == ["a", "c", "b", "d", "e"]
    assert crew.said == ["a", "b", "c", "e", "d"]


def test_a_row_that_fails_does_not_stop_others_and_stops_what_needs_it() -> None:
    waits = {"a": [], "b": ["a"], "c": ["a"], "d": ["a", "b"], "e": ["a", "d"]}
    crew = Scripted(2, list(waits), {"a": TrainingError("spoilt"), "b": TrainingError("also")})
    done, failed = ended(crew, waits, {"d": ["b"], "e": ["d"]})
    assert done == ["c"]
    assert {name: str(error) for name, error in failed.items()} == {
        "a": "spoilt",
        "b": "also",
        "d": "it needs the row 'b', which failed",
        "e": "it needs the row 'd', which failed",
    }
    crew = Scripted(1, list(waits), {"b": TrainingError("also")})
    done, failed = ended(crew, waits)
    assert (done, list(failed)) == (["a"], ["b"])  # one after the other, it ends there


def test_a_row_whose_process_is_lost_has_failed_in_one_sentence() -> None:
    class Lost(Scripted):
        def news(self) -> list[News]:
            return [News(self.running.pop(), "lost", "SIGKILL")]

    done, failed = ended(Lost(2, []), {"a": []})
    assert not done
    assert str(failed["a"]).startswith("its process ended (SIGKILL), as where memory is short; run the same command")


def test_a_job_of_another_version_or_base_is_refused(tmp_path: Path) -> None:
    (one,) = planned(tmp_path, [{"name": "a"}]).to_run
    with pytest.raises(LingraftError, match=r"has lingraft .*, and the bench 0\.0; install one version"):
        RowJob(name="a", one=one, version="0.0").run(Reporter(quiet=True))


def test_workers_that_cannot_be_are_refused(tmp_path: Path, lingraft: Any) -> None:
    planned(tmp_path, [{"name": "a"}])
    for call in (lg.bench, lg.estimate_bench):
        with pytest.raises(UsageError, match="1 worker or more, not 0"):
            call(tmp_path / "bench.yaml", workers=0)
    assert lingraft("bench", tmp_path / "bench.yaml", "--workers", "0").code == 2


def test_a_dry_run_says_the_memory_of_the_rows_that_run_at_once(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model", seed=3)
    planned(tmp_path, [{"name": "a", "set": VANILLA}, {"name": "b", "set": VANILLA}])
    two = lg.estimate_bench(tmp_path / "bench.yaml", workers=2)
    each = [row.announcement.estimate.memory_gib for row in two.rows]
    assert two.memory_gib == sum(each)
    assert f"Memory about {sum(each):.0f} GiB: 2 rows at once" in str(two)
    assert "at once" not in str(replace(two, workers=1))
    assert replace(two, workers=1).memory_gib == max(each)


class Sum:
    """What a worker is handed in the place of a row."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, reporter: Reporter) -> Any:
        import torch

        reporter.say(f"{torch.get_num_threads()} threads", always=True)
        print("printed by a library")
        if self.name == "bad":
            raise TrainingError("spoilt")
        if self.name == "odd":
            raise ZeroDivisionError("by nothing")
        if self.name == "shot":
            os.kill(os.getpid(), signal.SIGKILL)
        return os.environ["OMP_NUM_THREADS"]


@pytest.mark.long
def test_a_worker_tells_what_it_is_told_fails_alone_and_is_replaced() -> None:
    crew = Processes(1, 3)
    heard: dict[str, list[News]] = {}
    try:
        for name in ("good", "bad", "odd", "shot", "again"):
            crew.start(Sum(name))  # type: ignore[arg-type]
            heard[name] = []
            while not heard[name] or heard[name][-1].kind == "said":
                heard[name] += crew.news()
    finally:
        crew.close()
    last = {name: (news[-1].kind, str(news[-1].value)) for name, news in heard.items()}
    assert last["good"] == last["again"] == ("done", "3")
    assert last["bad"] == ("failed", "spoilt")
    assert last["odd"] == ("failed", "an error of the program itself (ZeroDivisionError: by nothing)")
    assert last["shot"][0] == "lost"
    assert last["shot"][1].startswith("SIGKILL")
    assert News("good", "said", ("3 threads", True, False)) in heard["good"]
    told = [news.value[0] for name in heard for news in heard[name] if news.kind == "said"]
    assert "printed by a library" in told
    assert any(line.startswith("ZeroDivisionError") for line in told)
