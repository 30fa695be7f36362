"""Two processes over gloo on a CPU give the loss curve and the adapter of one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from builders import tiny_llama, tiny_tokenizer
from families import build
from lingraft.models.adapter import read_parts
from nursery import ran

LORA = {"kind": "lora", "rank": 4, "dropout": 0}
SCRIPT = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed import TCPStore
from torch.distributed.tensor import DTensor

from lingraft.pipeline import processes
from lingraft.models.files import find_model
from lingraft.models.loading import load_model
from lingraft.training.development import Development
from lingraft.training.objectives import OBJECTIVES
from lingraft.models.adapter import take_off
from lingraft.training.train import TrainSettings, train
from lingraft.training.tuners import ALL, TUNERS, TunerInputs
from random_rows import random_rows

def fork(ranks):
    # Go on as so many processes, set up as torchrun does, which would import everything once for each.
    ports, children = [os.pipe() for _ in range(ranks)], []
    for rank, (read, _) in enumerate(ports):
        children.append(os.fork())
        if children[-1] == 0:
            port = os.read(read, 8).decode()
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "True"}
            return
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for _, write in ports:
        os.write(write, str(store.port).encode())
    failed = 0
    while children and not failed:
        child, status = os.wait()
        children.remove(child)
        failed = os.waitstatus_to_exitcode(status)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os._exit(int(failed != 0))

folder, out, sharding, batching, stop = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5])
if int(sys.argv[6]) > 1:
    fork(int(sys.argv[6]))
shards = processes.world_size() if sharding == "full" else 1
model = load_model(find_model(str(folder)), "fp32", torch.device("cpu"), shards).model
if shards > 1:
    kinds = [(isinstance(p, DTensor), p.to_local().numel() < p.numel()) for p in model.parameters()]
    assert all(sharded for sharded, _ in kinds), "the base is not sharded"
    assert any(less for _, less in kinds), "each process holds all of the base"
settings = TrainSettings(
    tokens_per_step=200, micro_tokens=100, precision="fp32", epochs=2, save_every_steps=3,
    batching=batching, sharding=sharding, **{"learning_rate": 1e-2, **json.loads(sys.argv[7])},
)

calls = 0

def measure(model):
    # Each process has other numbers: for the first it gets worse after the third, for the others ever better.
    global calls
    calls += 1
    return {"chrf": float(-abs(calls - 3)) if processes.is_main_process() else float(calls)}

references = random_rows(5, seed=9)
development = None
if settings.patience:
    development = Development(rows=references, measure=measure, identity="of this test")

def progress(now):
    if now.step == stop:
        os._exit(9)

tuner = TUNERS.create(json.loads(os.environ["TUNER"]))
rows = random_rows(40, weight=0.3)
objectives = [OBJECTIVES.create(entry) for entry in json.loads(os.environ.get("OBJECTIVES", "[]"))]
if objectives:
    rows = [replace(row, roles=("translation", "reply")) for row in rows]
    rows[::3] = random_rows(14, weight=0.3, seed=1)
    rows += [replace(row, group=f"{n // 2}", sign=1 - n % 2 * 2) for n, row in enumerate(random_rows(14, seed=2))]
selected = ALL
if tuner.selects:
    first = train(model, rows, settings, tuner, pad_id=0, work_dir=out / "first", seed=3)
    if processes.is_main_process():
        tuner.save(first.model, out / "moved")
    take_off(first.model)
    if processes.world_size() > 1:
        torch.distributed.barrier()
    selected = tuner.select(model, TunerInputs(seed=3, rows=rows, replay=rows, trained=out / "moved"))
result = train(model, rows, settings, tuner, pad_id=0, work_dir=out / "work", seed=3, progress=progress,
               development=development, objectives=objectives, selected=selected)
tuner.save(result.model, out / f"adapter-{os.environ.get('RANK', '0')}")
if processes.is_main_process():
    (out / "losses.json").write_text(json.dumps([point.loss for point in result.log]))
(out / f"kept-{os.environ.get('RANK', '0')}.json").write_text(json.dumps([result.steps, result.kept]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("processes"), tiny_llama(tiny_tokenizer("smollm2"), seed=3))


def prepared(root: Path, model: PreTrainedModel) -> Path:
    """Write a model into a folder."""
    model.save_pretrained(root / "model")
    tiny_tokenizer("smollm2").save_pretrained(root / "model")
    return root


def trained(
    folder: Path,
    name: str,
    processes: int,
    sharding: str = "none",
    batching: str = "padded",
    stop: int = 0,
    settings: str = "{}",
    objectives: str = "[]",
    tuner: Mapping[str, Any] = LORA,
) -> subprocess.CompletedProcess[str]:
    out = folder / name
    out.mkdir(exist_ok=True)
    environment = {**os.environ, "OBJECTIVES": objectives, "TUNER": json.dumps(tuner)}
    return ran(SCRIPT, folder / "model", out, sharding, batching, stop, processes, settings, env=environment)


def losses(folder: Path, name: str) -> list[float]:
    return list(json.loads((folder / name / "losses.json").read_text()))


def adapter(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(folder / name / f"adapter-{rank}" / "adapter_model.safetensors"))


@pytest.fixture(scope="module")
def single(folder: Path) -> str:
    done = trained(folder, "single", 1)
    assert done.returncode == 0, done.stderr
    return "single"


@pytest.mark.parametrize(
    ("sharding", "batching"), [("none", "padded"), pytest.param("full", "packed", marks=pytest.mark.long)]
)
def test_two_processes_give_the_losses_and_the_adapter_of_one(
    folder: Path, single: str, sharding: str, batching: str
) -> None:
    name = f"{sharding}-{batching}"
    if sharding == "full":  # killed once on the way
        assert trained(folder, name, 2, sharding, batching, stop=4).returncode != 0
        assert not (folder / name / "losses.json").exists()
    done = trained(folder, name, 2, sharding, batching)
    assert done.returncode == 0, done.stderr
    assert losses(folder, name) == pytest.approx(losses(folder, single), rel=1e-4)
    expected = adapter(folder, single)
    for rank in (0, 1):
        found = adapter(folder, name, rank)
        assert found.keys() == expected.keys()
        for key, value in found.items():
            assert torch.allclose(value, expected[key], atol=2e-3), key


@pytest.mark.long
def test_two_processes_stop_and_keep_weights_alike(folder: Path) -> None:
    settings = json.dumps({"dev_every_steps": 1, "patience": 2, "keep": "best", "best_by": "chrf"})
    done = trained(folder, "measured", 2, settings=settings)
    assert done.returncode == 0, done.stderr
    kept = [json.loads((folder / "measured" / f"kept-{rank}.json").read_text()) for rank in (0, 1)]
    assert kept == [[4, 2], [4, 2]]  # the first measurement is before any step
    one, two = adapter(folder, "measured", 0), adapter(folder, "measured", 1)
    assert all(torch.equal(value, two[key]) for key, value in one.items())


@pytest.mark.long
def test_no_process_goes_on_where_one_of_them_holds_numbers_that_are_not_finite(tmp_path: Path) -> None:
    model = tiny_llama(tiny_tokenizer("smollm2"), seed=3)
    with torch.no_grad():
        model.model.norm.weight[-1] = float("nan")  # in the part of the last process
    done = trained(prepared(tmp_path, model), "damaged", 2, "full")
    assert done.returncode != 0
    assert "model.norm.weight holds numbers that are not finite" in done.stderr
    assert "is not sharded" not in done.stderr


@pytest.mark.long
def test_two_processes_train_the_language_part_of_a_model_with_pictures_as_one_does(tmp_path: Path) -> None:
    """What text never reaches would wait for gradients for ever, or end the training, were it adapted."""
    folder = prepared(tmp_path, build("gemma3"))
    for name, processes in (("one", 1), ("two", 2)):
        done = trained(folder, name, processes)
        assert done.returncode == 0, done.stderr
    assert len(losses(folder, "one")) > 3
    assert losses(folder, "two") == pytest.approx(losses(folder, "one"), rel=1e-4)
    expected = adapter(folder, "one")
    assert expected
    assert all("language_model" in key and "vision" not in key for key in expected)
    for key, value in adapter(folder, "two").items():
        assert torch.allclose(value, expected[key], atol=2e-3), key


@pytest.mark.long
@pytest.mark.parametrize(
    "kinds", [["dpo", "cpo"], ["l2_init", {"kind": "ewc", "samples": 8}, "spd", "dpo"]], ids=["pairs", "regularisers"]
)
def test_two_processes_agree_with_one_whatever_the_objectives(folder: Path, kinds: list[Any]) -> None:
    objectives = json.dumps([{"kind": kind} if isinstance(kind, str) else kind for kind in kinds])
    names = [f"{count}-{len(kinds)}" for count in (1, 2)]
    for count, name in enumerate(names, start=1):
        done = trained(folder, name, count, objectives=objectives)
        assert done.returncode == 0, done.stderr
    one, two = (losses(folder, name) for name in names)
    assert two == pytest.approx(one, rel=1e-4)
    weights = [adapter(folder, names[0]), adapter(folder, names[1]), adapter(folder, names[1], rank=1)]
    for name, value in weights[1].items():
        assert torch.equal(value, weights[2][name]), name  # to the last bit: nothing drifts apart
        assert torch.allclose(value, weights[0][name], atol=1e-4), name


def changes(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    """Return what an adapter does to each weight: the sum that it adds, or the weight that it puts in its place."""
    parts = read_parts(folder / name / f"adapter-{rank}")
    made = {layer: one.b @ one.a for layer, one in parts.factors.items()}
    made |= {f"{layer} lengths": one.lengths for layer, one in parts.factors.items() if one.lengths is not None}
    for layer, entries in parts.sparse.items():
        made[layer] = torch.zeros(300, 300)
        made[layer][tuple(entries.places.long())] = entries.values
    return made | dict(parts.whole)


@pytest.mark.long
@pytest.mark.parametrize(
    "tuner",
    [
        {**LORA, "dora": True},
        {**LORA, "orthogonal": 4},
        {**LORA, "layers": {"by": "drift", "keep": 0.5}},
        {"kind": "osf"},
        {"kind": "sparse", "density": 0.1},
        {"kind": "ssu"},
        {"kind": "full"},
    ],
    ids=["dora", "orthogonal", "drift", "osf", "sparse", "ssu", "full"],
)
def test_two_processes_agree_with_one_whatever_the_tuner(folder: Path, tuner: dict[str, Any], request: Any) -> None:
    names = [f"{request.node.callspec.id}-{count}" for count in (1, 2)]
    settings = json.dumps({"learning_rate": 1e-3})
    for count, name in enumerate(names, start=1):
        done = trained(folder, name, count, settings=settings, tuner=tuner)
        assert done.returncode == 0, done.stderr
    one, two = (losses(folder, name) for name in names)
    assert two == pytest.approx(one, rel=1e-4)
    single, first, second = changes(folder, names[0]), changes(folder, names[1]), changes(folder, names[1], rank=1)
    assert single.keys() == first.keys() == second.keys()
    assert any(value.abs().max() > 1e-4 for value in single.values())
    for name, value in first.items():
        assert torch.equal(value, second[name]), name  # to the last bit: nothing drifts apart
        assert torch.allclose(value, single[name], atol=1e-4), name
