"""A bench on a Ray cluster of two machines: one is lost, and its row is resumed on the other; or nothing is there."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lingraft as lg
from essence import differences, essence
from lingraft.core.errors import UsageError
from lingraft.pipeline.bench_news import News
from lingraft.pipeline.bench_ray import Jobs, Resources
from lingraft.pipeline.bench_relay import mark_of, opened
from lingraft.recipe.bench import load_bench
from models_support import save_tiny_model
from processes import HANGING, start
from tiny_runs import values


def with_ray(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs Ray."""
    lacking = importlib.util.find_spec("ray") is None
    marked: Callable[..., None] = pytest.mark.engines(pytest.mark.skipif(lacking, reason="Ray is not installed")(test))
    return marked


VANILLA: dict[str, Any] = {"stages.0.method": "vanilla", "stages.0.params": {}}
ROWS: list[dict[str, Any]] = [
    {"name": "vanilla", "set": VANILLA},
    {"name": "eaft", "set": {**VANILLA, "stages.0.objective": [{"kind": "eaft"}]}},
    {"name": "fast", "set": {**VANILLA, "stages.0.train.learning_rate": 0.02}},
]


def written(folder: Path, rows: list[dict[str, Any]], **recipe: Any) -> Path:
    whole = copy.deepcopy(values(folder / "model", compare=[], **recipe))
    (folder / "bench.yaml").write_text(json.dumps({"name": "small", "recipe": whole, "rows": rows}), "utf-8")
    return folder / "bench.yaml"


def nodes(*machines: tuple[int, int]) -> Any:
    found = [{"Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}} for cpus, gpus in machines]
    return SimpleNamespace(nodes=lambda: [*found, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}])


@pytest.mark.parametrize(
    ("machines", "workers", "engine", "expected"),
    [
        ([(8, 0), (8, 0)], None, "transformers", (2, 8, 0)),
        ([(8, 0), (8, 0)], 4, "transformers", (4, 4, 0)),
        ([(1, 0)], 3, "transformers", (3, 1, 0)),
        ([(0, 0), (16, 4), (16, 4)], None, "transformers", (8, 4, 1)),
        ([(16, 4), (16, 4)], None, {"kind": "vllm", "tensor_parallel_size": 2}, (4, 8, 2)),
    ],
)
def test_a_cluster_is_divided_among_rows(
    tmp_path: Path, machines: Any, workers: Any, engine: Any, expected: tuple[int, ...]
) -> None:
    plan = load_bench(written(tmp_path, ROWS, engine=engine))
    found = Resources.of(nodes(*machines), plan, workers)
    assert (found.rows, found.cpus, found.gpus) == expected


def test_a_row_that_needs_more_gpus_than_there_are_is_refused(tmp_path: Path) -> None:
    plan = load_bench(written(tmp_path, ROWS, engine={"kind": "vllm", "tensor_parallel_size": 8}))
    with pytest.raises(UsageError, match="a row needs 8 GPUs, and the cluster has 4; lower tensor_parallel_size"):
        Resources.of(nodes((16, 4)), plan, None)


def test_a_machine_that_does_not_share_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text("name: a")
    mark = mark_of(tmp_path / "bench.yaml")
    assert mark is not None
    opened(tmp_path / "bench.yaml", mark, 1, seconds=0).close()
    for other in ((mark[0] + 1, mark[1]), (mark[0], "0" * 64)):  # a copy, or another bench of the same name
        with pytest.raises(UsageError, match=rf"does not see {re.escape(str(tmp_path))} as it is where the bench was"):
            opened(tmp_path / "bench.yaml", other, 1, seconds=0)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--ray: Ray is not installed; run `.*`, or use --workers$"):
        lg.bench(written(tmp_path, ROWS), out=tmp_path / "out", ray="auto", quiet=True)
    assert not (tmp_path / "out").exists()


class Lost(Exception):
    """What Ray raises where a job is lost."""


class OneMachine:
    """A cluster with room for two jobs, of which the second machine is lost when its row is begun, for good."""

    exceptions = SimpleNamespace(RayError=Lost, RayTaskError=ZeroDivisionError)

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.actors: list[Any] = []
        self.killed: list[Any] = []

    def remote(self, **options: Any) -> Any:
        return lambda kind: SimpleNamespace(remote=self.hired)

    def hired(self) -> Any:
        number, rows = len(self.actors), list[str]()

        def asked(what: str, answer: Any) -> str:
            key = f"{what} of {number}, {len(self.answers)}"
            self.answers[key] = answer
            return key

        def told() -> str:
            news = Lost("the machine") if number == 1 else pickle.dumps([News(rows[-1], "done")])
            return asked("news", news)

        def opened(made: bytes) -> str:
            return asked("open", None)

        methods = {"open": opened, "hand": lambda name, job: rows.append(name), "news": told}
        actor = SimpleNamespace(**{name: SimpleNamespace(remote=method) for name, method in methods.items()})
        self.actors.append(actor)
        return actor

    def wait(self, pending: list[str], **options: Any) -> Any:
        room = [key for key in pending if not key.startswith("open of 2")]  # the first machine is taken
        first = [key for key in room if key.startswith("open")] or room
        return first[:1], pending

    def get(self, key: str) -> Any:
        if isinstance(self.answers[key], Exception):
            raise self.answers[key]
        return self.answers[key]

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1}


def test_the_row_of_a_lost_machine_goes_to_a_job_that_is_idle(tmp_path: Path) -> None:
    """The cluster has no room for a new job: the idle one holds all that is left."""
    (tmp_path / "bench.yaml").write_text("name: a")
    ray = OneMachine()
    jobs = Jobs(ray, Resources(2, 1, 0), tmp_path / "bench.yaml")
    for name in ("a", "b"):
        jobs.start(SimpleNamespace(name=name))  # type: ignore[arg-type]
    heard: list[News] = []
    while sum(one.kind == "done" for one in heard) < 2:
        heard += jobs.news()
    assert {one.name for one in heard if one.kind == "done"} == {"a", "b"}
    (lost,) = (one for one in heard if one.kind == "said")
    assert (lost.name, lost.value) == ("b", ("its job was lost (the machine); going on with another", True, False))
    assert ray.killed == ray.actors[1:]
    jobs.close()
    assert len(ray.killed) == 3


CLUSTER = """
import sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

def wait(name):
    while not (Path(sys.argv[1]) / name).exists():
        time.sleep(0.05)

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
second = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
print(cluster.address, flush=True)
wait("lose")
cluster.remove_node(second, allow_graceful=False)
wait("done")
cluster.shutdown()
"""
COMMAND = "from lingraft.cli.main import main; main()"
SCORER = """
import os, sys, time
from pathlib import Path

folder = Path(sys.argv[1])
if (folder / "out" / "rows" / "vanilla" / "run.json").exists():
    (folder / f"held-{os.getppid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)
for line in sys.stdin:
    print(1)
"""
"""A metric that holds each row behind the first one until it may go on."""
LOST = re.compile(r"^(eaft|fast): its job was lost \(.*\); going on with another$", re.MULTILINE)


def ends(pid: int) -> bool:
    """Whether a process has ended, also where nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + HANGING
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@with_ray
def test_a_row_on_a_machine_that_is_lost_is_resumed_on_another(tmp_path: Path) -> None:
    """Two rows are held, one on each machine; one machine is lost, and then they may go on."""
    save_tiny_model(tmp_path / "model", seed=3)
    (tmp_path / "scorer.py").write_text(SCORER, "utf-8")
    recipe = values(tmp_path / "model", compare=[])
    held = {"kind": "command", "command": f"{sys.executable} {tmp_path / 'scorer.py'} {tmp_path}"}
    recipe["evaluate"]["translation"]["metrics"] = ["chrf++", held]
    file = written(tmp_path, ROWS, evaluate=recipe["evaluate"])
    (tmp_path / "go").touch()
    lg.bench(file, out=tmp_path / "out", trust=True, quiet=True)
    undisturbed = essence(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "one")
    for name in ("go", *(path.name for path in tmp_path.glob("held-*"))):
        (tmp_path / name).unlink()

    cluster = start(CLUSTER, tmp_path)
    assert cluster.stdout is not None
    address = cluster.stdout.readline().strip()
    assert address, cluster.communicate()[1]
    driver = start(COMMAND, "bench", file, "--out", tmp_path / "out", "--ray", address, "--trust")
    until(lambda: len(list(tmp_path.glob("held-*"))) == 2 or driver.poll() is not None)
    workers = [int(path.name.removeprefix("held-")) for path in tmp_path.glob("held-*")]
    (tmp_path / "lose").touch()
    until(lambda: any(map(ends, workers)) or driver.poll() is not None)
    (tmp_path / "go").touch()
    words, noise = driver.communicate(timeout=HANGING)
    assert driver.returncode == 0, noise
    (tmp_path / "done").touch()
    cluster.communicate(timeout=HANGING)
    assert [line.split()[0] for line in words.splitlines()] == ["row", "vanilla", "eaft", "fast"]
    assert not differences(tmp_path / "out", undisturbed)
    assert LOST.search(noise), noise


@with_ray
def test_no_cluster_at_the_address_is_said_in_one_sentence(tmp_path: Path) -> None:
    said = r"^--ray: no connection to a Ray cluster at '127.0.0.1:1' \(.*\); start one with `ray start --head`, or run"
    with pytest.raises(UsageError, match=said):
        lg.bench(written(tmp_path, ROWS), out=tmp_path / "out", ray="127.0.0.1:1", quiet=True)
    assert not (tmp_path / "out").exists()
