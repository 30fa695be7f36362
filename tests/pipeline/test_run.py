"""A whole run on a tiny random model: everything real but the size."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

import lingraft as lg
from benches import row, write_table
from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError, LockedError, UsageError
from lingraft.core.progress import Reporter
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import SideBySide
from lingraft.evaluation.scorecard import Scorecard, schema_json
from lingraft.models.graft import find_base, read_info
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.run import run
from lingraft.recipe.load import dump_recipe, load_recipe, parse_recipe
from lingraft.reporting.card_metadata import problems_of
from lingraft.store.artefacts import locked
from lingraft.store.files import read_lines
from tiny_runs import QUIET, values


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random chat model on disk."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    model = tiny_llama(tokenizer, seed=3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def figures(folder: Path) -> dict[str, Any]:
    """The scorecard's numbers: all but times."""
    card = json.loads((folder / "scorecard.json").read_text("utf-8"))
    return {key: card[key] for key in ("systems", "translation", "general", "summary", "base", "seed")}


@pytest.fixture(scope="session")
def finished(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished, undisturbed run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run(parse_recipe(values(tiny_model), "test", Path("/")), folder, QUIET)
    return folder


def _shared_files_tell_nothing_of_the_data(finished: Path) -> None:
    """The graft is for others: readable by them, without a sentence that it was trained on."""
    source = PairSource(path="starter:train.de-en.jsonl", source="de", target="en", limit=24)
    texts = [text for row in read_pairs(source) for text in (row.record.source, row.record.target)]
    files = [path for path in (finished / "graft").rglob("*") if path.is_file()]
    assert len({stat.S_IMODE(path.stat().st_mode) for path in (*files, finished / "scorecard.json")}) == 1
    for path in files:
        if path.suffix in (".md", ".json"):
            content = path.read_text("utf-8")
            assert not [text for text in texts if len(text) > 15 and text in content], path


def test_a_run_ends_with_scorecard_report_card_and_graft(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    jsonschema.validate(json.loads((finished / "scorecard.json").read_text("utf-8")), json.loads(schema_json()))
    assert [system.name for system in card.systems] == ["base", "vanilla", "radis"]
    assert {row.metric for row in card.translation} == {"bleu", "chrf++", "off_target"}
    assert all(row.n == 6 and row.signature for row in card.translation)
    assert all((row.delta is None) == (row.system == "base") for row in card.translation)
    assert all(set(row.versus) == {"vanilla"} for row in card.translation if row.system == "radis")
    divergence = {row.system: row.score for row in card.general if row.metric == "kl_from_base"}
    assert divergence["base"] == 0
    assert divergence["vanilla"] > 0
    assert divergence["radis"] > 0
    report = (finished / "report.html").read_text("utf-8")
    assert "vanilla" in report
    assert "radis" in report
    written = [SideBySide.from_json(line) for line in read_lines(finished / "outputs.jsonl")]
    assert [item.group for item in written].count("de-en") == 6
    assert all(set(item.outputs) == {"base", "vanilla", "radis"} for item in written)
    assert (finished / "README.md").read_text("utf-8").startswith("---\n")
    _shared_files_tell_nothing_of_the_data(finished)
    assert not list(finished.glob("*.partial"))


def test_the_published_graft_is_a_plain_peft_adapter_that_changes_the_base(finished: Path, tiny_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    before = base(input_ids=ids).logits.detach().clone()
    tuned = PeftModel.from_pretrained(base, finished / "graft").eval()
    assert not torch.allclose(before, tuned(input_ids=ids).logits)
    with tuned.disable_adapter():
        assert torch.allclose(before, tuned(input_ids=ids).logits)
    info = read_info(finished / "graft")
    assert info.method == "radis"
    assert info.delimiter
    assert info.stop
    assert [(d.source, d.target) for d in info.directions] == [("de", "en")]


def test_nothing_a_run_writes_is_private_or_says_where_the_base_lies(finished: Path, tiny_model: Path) -> None:
    files = [path for path in finished.rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.stat().st_mode for path in files} == {(finished / "recipe.yaml").stat().st_mode}
    graft = finished / "graft"
    assert [path.name for path in graft.iterdir() if str(tiny_model).encode() in path.read_bytes()] == []
    assert json.loads((graft / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"] is None
    card = (graft / "README.md").read_text("utf-8")
    assert "base_model" not in card.split("---")[1]
    assert "without a known hub id" in card
    assert find_base(read_info(graft), graft).folder == tiny_model


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(item)


def test_what_is_collected_of_a_run_holds_no_text_and_no_path(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "bench" / "rows" / "radis")
    write_table(tmp_path / "bench", [row("radis")])
    lg.collect(tmp_path / "bench", tmp_path / "out", quiet=True)
    starter = Path(lg.__file__).parent / "shipped" / "starter"
    files = [starter / name for name in ("train.de-en.jsonl", "test.de-en.jsonl", "prompts.jsonl", "harmful.jsonl")]
    rows = [json.loads(line) for path in (*files, finished / "outputs.jsonl") for line in read_lines(path)]
    told = [
        one.get(key) for one in rows for key in ("source", "target", "reference", "outputs", "messages", "text", "de")
    ]
    texts = {text.strip() for value in told for text in _strings(value) if len(text.strip()) > 5}
    assert len(texts) > 200
    for path in filter(Path.is_file, (tmp_path / "out").rglob("*")):
        text = path.read_text("utf-8")
        assert not [one for one in texts if one in text or json.dumps(one, ensure_ascii=False)[1:-1] in text], path
        assert not [place for place in (finished, tiny_model, tmp_path, starter) if str(place) in text], path
    found, whole = lg.Run.read(tmp_path / "out" / "rows" / "radis"), lg.Run.read(finished)
    assert (found.system, found.verdict) == ("radis", whole.verdict)
    assert found.scorecard.summary == whole.scorecard.summary


def test_the_hub_ids_of_base_and_graft_may_be_given_later(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    before = {path.name for path in folder.iterdir()}
    run(load_recipe(str(folder), ["base_id=org/base", "repo_id=me/graft"]), folder, QUIET)
    assert {path.name for path in folder.iterdir()} == before  # nothing is trained again
    assert json.loads((folder / "graft" / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/base"
    assert read_info(folder / "graft").base_id == "org/base"
    card = (folder / "graft" / "README.md").read_text("utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == "org/base"
    assert "base_model:adapter:org/base" in front["tags"]
    assert problems_of(front) == []
    assert front["model-index"][0]["name"] == "graft"
    assert "license" not in front  # that of a base without a card is not known
    for said in (
        'base = "org/base"',
        'graft = "me/graft"',
        "lingraft translate --graft me/graft --from",
    ):
        assert said in card


def test_a_finished_run_does_nothing_and_its_recipe_feeds_back(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file() and path.name != ".lock"}
    recipe = load_recipe(str(finished))
    assert dump_recipe(recipe) == (finished / "recipe.yaml").read_text("utf-8")
    run(recipe, finished, QUIET)
    after = {path: path.stat().st_mtime_ns for path in before}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"recipe.yaml"}


def test_only_what_depends_on_a_change_is_made_again(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    kept = {path.name for path in folder.iterdir() if path.is_dir()}
    changed = values(tiny_model)
    changed["stages"][0]["params"]["rationale_weight"] = 0.5
    recipe = parse_recipe(changed, "test", Path("/"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(
        UsageError, match=r"another recipe \(stages\.0\.params\.rationale_weight 1\.0 -> 0\.5\): --out NEW"
    ):
        run(recipe, folder, QUIET)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    run(recipe, folder, QUIET, replace=True)
    new = {path.name.rsplit("-", 1)[0] for path in folder.iterdir() if path.is_dir() and path.name not in kept}
    assert new == {"rows-radis", "contamination-radis", "train-radis", "decode-radis", "divergence-radis"}


def test_a_damaged_artefact_is_made_again_with_the_same_figures(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    weights = next(folder.glob("train-radis-*/graft/adapter_model.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(bytes(data))
    run(load_recipe(str(folder)), folder, QUIET)
    assert figures(folder) == figures(finished)


@pytest.mark.parametrize(
    "name",
    ["graft/adapter_model.safetensors", "report.html", "rejected.jsonl", "outputs.jsonl", "scorecard.json", "run.json"],
)
def test_a_damaged_published_file_is_written_again(finished: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    path = folder / name
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    run(load_recipe(str(folder)), folder, QUIET)
    for same in ("graft/adapter_model.safetensors", "graft/adapter_config.json", "rejected.jsonl"):
        assert (folder / same).read_bytes() == (finished / same).read_bytes()
    assert figures(folder) == figures(finished)
    record = json.loads((folder / "run.json").read_text("utf-8"))
    assert {**record, "seal": ""}.keys() >= {"key", "published"}
    assert record["threads"] == torch.get_num_threads()  # not how many cores there are
    before = (folder / "run.json").stat().st_mtime_ns
    run(load_recipe(str(folder)), folder, QUIET)  # and is then taken for whole
    assert (folder / "run.json").stat().st_mtime_ns == before


def test_what_cannot_be_removed_beside_the_graft_is_named_and_stops_nothing(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    for name in (".graft.old", ".graft.new"):  # no folders, which stands for what its owner alone may remove
        (folder / name).write_text("somebody's")
    (folder / "graft" / "lingraft.json").unlink()
    run(load_recipe(str(folder)), folder, Reporter(quiet=True))
    assert (folder / "graft" / "lingraft.json").read_bytes() == (finished / "graft" / "lingraft.json").read_bytes()
    assert {path.name for path in folder.glob(".graft*")} == {".graft.old", ".graft.new"}
    said = capsys.readouterr().err
    assert f"Warning: {folder / '.graft.old'} of an earlier run cannot be removed: Not a directory; remove it" in said


def test_a_pipe_under_a_published_name_is_replaced(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    (folder / "README.md").unlink()
    os.mkfifo(folder / "README.md")
    run(load_recipe(str(folder)), folder, QUIET)
    assert (folder / "README.md").read_text("utf-8").startswith("---\n")


def test_times_of_files_do_not_matter(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    chance = random.Random(5)
    for path in folder.rglob("*"):
        os.utime(path, (chance.uniform(0, 4e9),) * 2)  # as if the clock had jumped between 1970 and 2096
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    run(load_recipe(str(folder)), folder, QUIET)
    changed = {path.name for path in before if path.stat().st_mtime_ns != before[path]}
    assert changed <= {"recipe.yaml", ".lock"}


def test_a_pipe_as_training_data_is_refused_at_once(tiny_model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.jsonl")
    wrong = values(tiny_model)
    wrong["pairs"]["train"]["path"] = str(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match="is a pipe, but a run reads its files more than once"):
        run(parse_recipe(wrong, "test", Path("/")), tmp_path / "run", QUIET)


class Appending(Reporter):
    """Appends a row to a file of the run as soon as it is being read."""

    def __init__(self, path: Path) -> None:
        super().__init__(quiet=True)
        self.path = path

    def say(self, text: str, *, always: bool = False) -> None:
        if text == "Starting data":
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps({"source": "Noch ein Satz kommt dazu.", "target": "One more is added."}) + "\n")


def test_a_file_that_changes_while_it_is_read_stops_the_run(tiny_model: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"source": f"Das ist Satz Nummer {i}.", "target": f"This is row {i}."}) for i in range(20)]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    growing = values(tiny_model)
    growing["pairs"]["train"] = {"path": str(path), "source": "de", "target": "en"}
    recipe = parse_recipe(growing, "test", Path("/"))
    with pytest.raises(DataError, match="changed while it was read; run the same command again"):
        prepare(Context(recipe, tmp_path / "run", Appending(path)))
    assert len(prepare(Context(recipe, tmp_path / "run", QUIET)).train) == 21


@pytest.mark.long
def test_a_run_killed_again_and_again_ends_like_an_undisturbed_one(
    finished: Path, tiny_model: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump_recipe(parse_recipe(values(tiny_model), "test", Path("/"))), "utf-8")
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "lingraft", "run", str(recipe), "--out", str(folder), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = 0
    for more in (8, 32):  # killed when so many files and folders have come since the start
        before = _entries(folder)
        process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)
        while process.poll() is None and _entries(folder) < before + more:
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills == 2
    run(load_recipe(str(recipe)), folder, QUIET)
    assert _close(figures(folder), figures(finished))


def _entries(folder: Path) -> int:
    """Return how many files and folders there are below a folder that something works in, or that is not there yet."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def _close(one: Any, other: Any) -> bool:
    """Equal, with numbers to six digits: the killed run uses one thread, which may change the last bits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-5, abs=1e-6)
    return bool(one == other)


def test_two_runs_in_one_folder_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(values(tiny_model), "test", Path("/"))
    with locked(tmp_path), pytest.raises(LockedError, match="another run is working"):
        run(recipe, tmp_path, QUIET)


def test_another_name_needs_no_new_folder(finished: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    run(parse_recipe(values(tiny_model, name="other"), "test", Path("/")), folder, QUIET)
    assert Scorecard.read(folder / "scorecard.json").run == "other"
    assert {path.name for path in folder.iterdir()} == {path.name for path in finished.iterdir()}  # nothing made twice


def test_what_another_recipe_trained_is_not_left_beside_an_evaluation(
    finished: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    other = values(tiny_model, stages=[], compare=[], grafts=[str(finished / "graft")], prompts=None)
    other["evaluate"]["retention"]["suites"] = []
    other["evaluate"]["precision"] = "fp32"
    run(parse_recipe(other, "test", Path("/")), folder, QUIET, replace=True)
    assert not (folder / "graft").exists()
    assert not (folder / "README.md").exists()
    assert list(folder.glob("train-radis-*"))


def test_the_test_set_as_training_set_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    same = values(tiny_model)
    same["pairs"]["train"] = {**same["pairs"]["test"]}
    with pytest.raises(DataError, match="seems to be the training set"):
        run(parse_recipe(same, "test", Path("/")), tmp_path / "run", QUIET)
    assert (tmp_path / "run" / "rejected.jsonl").exists()


def test_too_many_bad_rows_stop_the_run_and_name_them(tiny_model: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"source": f"Das ist Satz Nummer {i}.", "target": f"This is row {i}."}) for i in range(20)]
    lines[3] = "{broken"
    lines[7] = json.dumps({"source": "", "target": "Nothing."})
    (tmp_path / "train.jsonl").write_text("\n".join(lines), "utf-8")
    bad = values(tiny_model)
    bad["pairs"]["train"] = {"path": str(tmp_path / "train.jsonl"), "source": "de", "target": "en"}
    with pytest.raises(DataError, match=r"2 of 20 rows \(10.0%\) are rejected"):
        run(parse_recipe(bad, "test", Path("/")), tmp_path / "run", QUIET)
    rows = [json.loads(line) for line in (tmp_path / "run" / "rejected.jsonl").read_text("utf-8").splitlines()]
    assert [(row["line"], row["reason"]) for row in rows] == [(4, "malformed"), (8, "empty_source")]


def test_bad_prompts_are_named_like_bad_pairs(tiny_model: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"What is {i} plus {i}?"}) for i in range(24)]
    lines[5] = "{broken"
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines), "utf-8")
    recipe = parse_recipe(values(tiny_model, prompts={"path": str(tmp_path / "prompts.jsonl")}), "test", Path("/"))
    data = prepare(Context(recipe, tmp_path / "run", QUIET))
    assert len(data.replay) + len(data.retention) == 23
    assert [(item.line, item.reason) for item in data.rejected] == [(6, "malformed")]
    assert data.counts[str(tmp_path / "prompts.jsonl")] == {"malformed": 1}
    rows = (tmp_path / "run" / "rejected.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(row)["line"] for row in rows] == [6]
