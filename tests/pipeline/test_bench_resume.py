"""A bench in several processes: killed, interrupted or robbed of a worker, it ends like one that nobody disturbed."""

from __future__ import annotations

import copy
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import lingraft as lg
from essence import differences, essence
from models_support import save_tiny_model
from nursery import Child, born
from processes import HANGING
from tiny_runs import values

pytestmark = pytest.mark.long

ROWS: list[dict[str, Any]] = [
    {"name": "vanilla", "set": {"stages.0.method": "vanilla", "stages.0.params": {}}},
    {"name": "radis"},
    {"name": "fast", "set": {"stages.0.method": "vanilla", "stages.0.params": {}}, "like": "radis"},
    {
        "name": "half",
        "set": {"stages": [], "merge": [{"kind": "linear", "name": "half", "of": ["row:vanilla"], "strength": 0.5}]},
    },
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench of which nothing fails: a row chooses, another takes its value, a third the graft of the first."""
    folder = tmp_path_factory.mktemp("bench")
    save_tiny_model(folder / "model", seed=3)
    recipe = copy.deepcopy(values(folder / "model", compare=[]))
    recipe["pairs"]["dev_share"] = 0.2
    rate = {"stages.0.train.learning_rate": 0.01}
    rows = [{**ROWS[0], "set": {**ROWS[0]["set"], **rate}}, *ROWS[1:]]
    recipe["evaluate"]["retention"]["suites"] = [{"kind": "refusal", "max_prompts": 2, "max_new_tokens": 4}]
    choose = {"key": "stages.0.train.learning_rate", "values": [0.01, 0.02], "rows": ["radis"]}
    whole = {"name": "small", "recipe": recipe, "rows": rows, "choose": choose}
    (folder / "bench.yaml").write_text(json.dumps(whole), "utf-8")
    return folder / "bench.yaml"


@pytest.fixture(scope="module")
def undisturbed(bench: Path) -> dict[str, str]:
    """What one process makes of it, one row after the other, in the same folder, which a recipe names."""
    found = lg.bench(bench, out=bench.parent / "out", quiet=True)
    assert [row["status"] for row in found.rows] == ["done"] * 4
    made = essence(bench.parent / "out")
    (bench.parent / "out").rename(bench.parent / "one")
    return made


def begun(bench: Path, out: Path) -> Child:
    return born("", "bench", bench, "--out", out, "--workers", 2)


def until(child: Child, pattern: str) -> str:
    """Read what a bench says up to a line like this, and return all of it."""
    said: list[str] = []
    for line in child.stderr:
        said.append(line)
        if re.search(pattern, line):
            return "".join(said)
    raise AssertionError(f"it ended before it said {pattern!r}: {said}")


def workers(child: Child) -> list[psutil.Process]:
    return [one for one in psutil.Process(child.pid).children() if "bench_worker" in " ".join(one.cmdline())]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    psutil.wait_procs(processes, HANGING)
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_bench_in_two_processes_ends_like_one_in_one_whatever_ends_it(
    bench: Path, undisturbed: dict[str, str]
) -> None:
    """It is killed, interrupted, terminated, and robbed of a worker, one after the other, and then left alone."""
    out = bench.parent / "out"
    child = begun(bench, out)
    said = until(child, "^vanilla: Starting decode-base")
    (alone,) = workers(child)  # the first row, whose answers are for all
    assert "Row vanilla (1 of 4)\n" in said
    child.kill()
    child.wait()
    assert not alive([alone])

    for moment, number, code in (("^Row radis", signal.SIGINT, 130), ("^radis: Starting train-", signal.SIGTERM, 143)):
        child = begun(bench, out)
        until(child, moment)
        others = workers(child)
        child.send_signal(number)
        _, errors = child.communicate(HANGING)
        assert (child.wait(), errors.splitlines()[-1].partition("; ")[2]) == (code, CONTINUE)
        assert others
        assert not [one for one in others if one.is_running()]

    child = begun(bench, out)
    until(child, "^radis: (Starting|Continuing) train-")
    for one in of_row(child, out / "choice" / "radis"):
        one.kill()
    _, errors = child.communicate(HANGING)
    last = errors.splitlines()[-1]
    assert child.wait() == 1
    assert re.match(r"lingraft: row 'radis': its process ended \(SIGKILL.*; run the same command again", last), last
    assert "rows that failed as well: fast" in last  # it takes the value
    rows = {row["name"]: row["status"] for row in json.loads((out / "bench.json").read_text())["rows"]}
    assert rows == {"vanilla": "done", "radis": "to do", "fast": "to do", "half": "done"}

    child = begun(bench, out)
    _, errors = child.communicate(HANGING)
    assert child.wait() == 0, errors
    assert re.search(r"^half: Nothing to do", errors, re.MULTILINE)
    assert not differences(out, undisturbed)


CONTINUE = "run the same command again to continue"


def of_row(child: Child, folder: Path) -> Iterator[psutil.Process]:
    """Yield the workers that hold a lock below a folder."""
    for one in workers(child):
        if any(Path(file.path).is_relative_to(folder) for file in one.open_files()):
            yield one
