"""Ray: workers that die at a request, a driver that is killed or interrupted, a node that is lost; nothing is left."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lingraft.engines.resumable import generate
from models_support import request, save_tiny_model
from mortal import MortalEngine
from processes import HANGING, heard, killed, start, tree

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]
MARK = "LINGRAFT_TEST_RUN"

BEGIN = """
import sys, time
from pathlib import Path
from lingraft.engines import ENGINES, EngineModel
from lingraft.core.errors import LingraftError
from lingraft.models.files import find_model
from lingraft.engines.resumable import generate
from models_support import request

def made(folder, **params):
    inner = {"kind": "mortal", **params.pop("inner", {})}
    Ray = ENGINES.get("ray")
    return Ray.create(EngineModel.at(find_model(folder)), Ray.Params(inner=inner, **{"workers": 2, **params}))
"""
SYNTHESIS = (
    BEGIN
    + """
requests = [request(f"r{i}", f"text {i}") for i in range(120)]
engine = made(sys.argv[1], inner={"gate": sys.argv[3], "free": 8})
try:
    folder, say = Path(sys.argv[2]), lambda done, _: print(done, flush=True)
    generate(engine, requests, folder, identity={"model": "m"}, progress=say)
except KeyboardInterrupt:
    print("interrupted")
finally:
    engine.close()
"""
)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny base, and the engine `mortal` as a plugin that workers find as users' ones are found."""
    plugin = tmp_path / "plugins" / "mortal-1.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 1\n", "utf-8")
    (plugin / "entry_points.txt").write_text("[lingraft.engines]\nmortal = mortal:MortalEngine\n", "utf-8")
    monkeypatch.setattr(sys, "path", [str(plugin.parent), *sys.path])  # given on by `start`
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(MARK, str(tmp_path))
    return save_tiny_model(tmp_path / "model")


def left(mark: Path, seconds: float = HANGING) -> list[str]:
    """Return what still runs of the processes that the test started, after some time to end."""
    began = time.monotonic()
    while running := list(_marked(mark)):
        if time.monotonic() - began > seconds:
            break
        time.sleep(0.2)
    return running


def _marked(mark: Path) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(mark):
                yield process.name()
        except psutil.Error:
            continue


@pytest.mark.parametrize("streams", [False, True])
def test_a_part_is_tried_again_and_a_request_that_kills_is_named(model: Path, tmp_path: Path, streams: bool) -> None:
    process = start(
        BEGIN
        + """
engine = made(sys.argv[1], inner={"streams": sys.argv[2] == "True", "part_size": 32})
texts = [f"text {i}" for i in range(200)]
texts[77] = f"die once {sys.argv[3]}"
answers = list(engine.generate(request(f"r{i}", text) for i, text in enumerate(texts)))
print(sorted((answer.id, answer.text) for answer in answers)
      == sorted((f"r{i}", text.upper()) for i, text in enumerate(texts)), engine.usage()["workers_lost"], flush=True)
texts[50] = "die"
answers = []
try:
    answers.extend(engine.generate(request(f"r{i}", text) for i, text in enumerate(texts)))
except LingraftError as error:
    print(error)
engine.close()
""",
        model,
        streams,
        tmp_path / "died",
    )
    words, noise = process.communicate(timeout=HANGING)
    first, sentence = words.splitlines()
    assert first == "True 1", noise
    part = ("r50", "r51") if streams else ("r32", "r63")
    assert sentence.startswith("3 workers died one after another while they answered the requests")
    assert f"{part[0]!r} to {part[1]!r}" in sentence
    assert noise == ""
    assert left(tmp_path) == []


def test_a_killed_or_interrupted_run_leaves_no_process_and_continues(model: Path, tmp_path: Path) -> None:
    """Both workers answer 8 of the 120 requests and then wait for a file: the run cannot end before the signal."""
    parts, gate = tmp_path / "parts", tmp_path / "gate"
    process = start(SYNTHESIS, model, parts, gate)
    heard(process, "1")
    killed(process)
    assert left(tmp_path) == []
    kept = len(list(parts.glob("part-*")))
    assert kept < 30
    process = start(SYNTHESIS, model, parts, gate)
    assert process.stdout is not None
    before = int(process.stdout.readline())
    assert before // 4 == kept
    assert int(process.stdout.readline()) > before
    process.send_signal(signal.SIGINT)
    words, noise = process.communicate(timeout=HANGING)
    assert words.splitlines()[-1] == "interrupted"
    assert noise == ""
    assert left(tmp_path) == []
    gate.touch()
    process = start(SYNTHESIS, model, parts, gate)
    words, noise = process.communicate(timeout=HANGING)
    assert words.splitlines()[-1] == "120"
    assert noise == ""
    assert left(tmp_path) == []
    requests = [request(f"r{i}", f"text {i}") for i in range(120)]
    generate(MortalEngine(MortalEngine.Params()), requests, tmp_path / "whole", identity={"model": "m"})
    assert tree(parts) == tree(tmp_path / "whole")


def test_a_lost_node_loses_nothing(model: Path, tmp_path: Path) -> None:
    """The cluster runs by itself; its second node dies when both workers wait in the middle of a request."""
    cluster = start(
        """
import sys, time
from pathlib import Path
import psutil
from ray.cluster_utils import Cluster
folder = Path(sys.argv[1])

def wait(name, files=1):
    while len(list(folder.glob(name))) < files:
        time.sleep(0.05)

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
second = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
print(cluster.address, flush=True)
wait("removed.waiting-*", 2)
pids = [int(path.name.rpartition("-")[2]) for path in folder.glob("removed.waiting-*")]
cluster.remove_node(second, allow_graceful=False)
while all(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
    time.sleep(0.05)  # its worker outlives it for a moment, and must not answer
(folder / "removed").touch()
wait("done")
cluster.shutdown()
""",
        tmp_path,
    )
    assert cluster.stdout is not None
    address = cluster.stdout.readline().strip()
    driver = start(
        BEGIN
        + """
folder = Path(sys.argv[2])
inner = {"gate": str(folder / "removed"), "free": 16, "part_size": 8}
engine = made(sys.argv[1], inner=inner, address=sys.argv[3], cpus=1)
asked = []

def requests():
    more = 0
    while more < 300:
        more += more > 0 or engine.ready == 2
        asked.append(f"r{len(asked)}")
        yield request(asked[-1], "text")

got = list(engine.generate(requests()))
print(sorted(answer.id for answer in got) == sorted(asked), engine.usage()["workers_lost"])
engine.close()
""",
        model,
        tmp_path,
        address,
    )
    words, noise = driver.communicate(timeout=HANGING)
    (tmp_path / "done").touch()
    cluster.communicate(timeout=HANGING)
    assert (words, noise) == ("True 1\n", "")
    assert left(tmp_path) == []
