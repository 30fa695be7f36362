"""One folder is one experiment: what is another one, and what may go on in the same folder."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lingraft.cli.run import execute
from lingraft.core.errors import UsageError
from lingraft.models.files import find_model
from lingraft.pipeline.experiment import Experiment
from lingraft.recipe.load import dump_recipe, parse_recipe
from lingraft.store.artefacts import build_artefact
from lingraft.store.files import write_sealed
from models_support import save_tiny_model
from recipes_support import changed

SHA = "0" * 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, data and a run that has finished its first stage."""
    folder = tmp_path_factory.mktemp("experiment")
    save_tiny_model(folder / "model", seed=3)
    for name in ("train", "test"):
        row = {"source": f"Das ist {name}.", "target": f"This is {name}."}
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    return folder


def values(place: Path) -> dict[str, Any]:
    pair = {"source": "de", "target": "en"}
    return {
        "name": "mine",
        "model": str(place / "model"),
        "pairs": {
            "train": [{"path": str(place / "train.jsonl"), **pair}],
            "test": [{"path": str(place / "test.jsonl"), **pair}],
        },
        "stages": [{"method": "vanilla", "tuner": {"kind": "lora", "rank": 16}}],
        "evaluate": {"retention": {"suites": []}, "gate": ["gain>=0"]},
    }


def experiment(given: dict[str, Any]) -> Experiment:
    return Experiment(parse_recipe(copy.deepcopy(given), "test", Path("/")))


def test_files_of_prompts_are_known_by_key_and_a_single_one_by_the_key_that_older_folders_have(place: Path) -> None:
    one, two = ({"path": str(place / f"{name}.jsonl"), "fields": {"prompt": "source"}} for name in ("train", "test"))

    def known(prompts: Any) -> set[str]:
        return {key for key in experiment({**values(place), "prompts": prompts}).contents if key.startswith("prompts")}

    assert known(one) == known([one]) == {"prompts.path"}
    assert known([one, two]) == {"prompts.0.path", "prompts.1.path"}


def test_another_file_of_prompts_is_named(place: Path, tmp_path: Path) -> None:
    one, two = ({"path": str(place / f"{name}.jsonl"), "fields": {"prompt": "source"}} for name in ("train", "test"))
    alone, both = ({**values(place), "prompts": prompts} for prompts in (one, [one, two]))
    for before, now, said in ((alone, both, "none -> test"), (both, alone, "test -> none")):
        root = tmp_path / said
        experiment(before).begin(root, SHA)
        build_artefact(root, "data", {"n": 1}, lambda folder: None)
        listed = before["prompts"] if before is both else [before["prompts"]]
        experiment({**before, "prompts": listed}).refuse_other(root, sha256=SHA)
        with pytest.raises(UsageError, match=rf"\(prompts\.1 {said}\)"):
            experiment(now).refuse_other(root, sha256=SHA)


@pytest.fixture
def holding(place: Path, tmp_path: Path) -> Path:
    """The folder of a finished run, as far as this matters."""
    root = tmp_path / "run"
    experiment(values(place)).begin(root, SHA)
    build_artefact(root, "data", {"n": 1}, lambda folder: None)
    write_sealed(root / "run.json", {"model": {"sha256": SHA}, "published": {}})
    return root


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("stages.0.tuner.rank", 4, "stages.0.tuner.rank 16 -> 4"),
        ("seed", 2, "seed 1 -> 2"),
        ("stages.0.train", {"epochs": 3}, "stages.0.train.epochs 1.0 -> 3.0"),
        ("pairs.test.0.path", "starter:test.de-en.jsonl", "test.jsonl -> starter:test.de-en.jsonl"),
        ("pairs.test.0.limit", 5, "pairs.test.0.limit none -> 5"),
        ("model", "org/another", "-> org/another"),
        ("compare", [{"method": "vanilla", "train": {"epochs": 2}, "name": "x"}], "compare"),
        ("evaluate.scales", [0.5], "evaluate.scales.0 none -> 0.5"),
        ("engine", "vllm", "engine.kind"),
    ],
)
def test_another_experiment_is_refused_with_what_differs(
    place: Path, holding: Path, key: str, value: Any, said: str
) -> None:
    other = experiment(changed(values(place), key, value))
    with pytest.raises(UsageError) as caught:
        other.refuse_other(holding)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{holding} holds another recipe (")
    assert ": --out NEW, or --replace" in str(caught.value)
    other.refuse_other(holding, replace=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "other"),
        ("evaluate.gate", []),
        ("evaluate.bootstrap", 200),
        ("evaluate.test", "randomisation"),
        ("expected", {"pairs": 7}),
    ],
)
def test_what_changes_no_answer_may_change(place: Path, holding: Path, key: str, value: Any) -> None:
    experiment(changed(values(place), key, value)).refuse_other(holding, sha256=SHA)


def test_the_same_name_with_other_contents_is_another_experiment(place: Path, holding: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(place, moved)
    given = values(moved)
    given["model"] = "org/name"  # the same base, by its hash
    experiment(given).refuse_other(holding, sha256=SHA)  # moved files are the same files
    with pytest.raises(UsageError, match=r"model .*model -> org/name"):
        experiment(given).refuse_other(holding, sha256="1" * 64)

    given = values(moved)
    experiment(given).begin(holding, SHA)
    (moved / "test.jsonl").write_text('{"source": "Neu.", "target": "New."}\n', "utf-8")
    with pytest.raises(UsageError, match=r"pairs\.test\.0\.path: .*test\.jsonl has other contents"):
        experiment(given).refuse_other(holding, sha256=SHA)
    (holding / "run.json").unlink()  # not finished: a file may be mended and the run go on
    experiment(given).refuse_other(holding, sha256=SHA)
    with pytest.raises(UsageError, match="holds an unfinished run of another recipe"):
        experiment(changed(given, "seed", 3)).refuse_other(holding, sha256=SHA)


def test_the_other_weights_of_a_base_are_told(place: Path, holding: Path) -> None:
    with pytest.raises(UsageError, match=r"model: .*model has other weights"):
        experiment(values(place)).refuse_other(holding)  # the record says another hash than the folder has


def test_a_damaged_record_is_replaced_by_the_recipe_beside_it(place: Path, holding: Path) -> None:
    path = holding / "experiment.json"
    path.write_bytes(path.read_bytes()[:-9])
    experiment(values(place)).refuse_other(holding, sha256=SHA)
    with pytest.raises(UsageError, match="seed 1 -> 2"):
        experiment(changed(values(place), "seed", 2)).refuse_other(holding, sha256=SHA)
    (holding / "recipe.yaml").write_text("{", "utf-8")
    experiment(values(place)).refuse_other(holding, sha256=SHA)  # nothing tells what it holds


@pytest.mark.parametrize("finished", [True, False])
def test_results_of_a_recipe_that_is_refused_by_now_are_not_lost(place: Path, holding: Path, finished: bool) -> None:
    sealed = json.loads((holding / "experiment.json").read_text("utf-8"))
    older = changed(sealed["recipe"], "evaluate.stages", True)  # once taken, and of no effect beside one stage
    write_sealed(holding / "experiment.json", {"recipe": older, "base_sha256": SHA, "contents": {}})
    if not finished:
        (holding / "run.json").unlink()
    other = experiment(changed(values(place), "seed", 2))
    with pytest.raises(UsageError, match=r"a recipe that is refused by now \(.*evaluate\.stages.*--out NEW, or --repl"):
        other.refuse_other(holding, sha256=SHA)
    other.refuse_other(holding, replace=True, sha256=SHA)


def test_before_anything_is_finished_a_recipe_may_change(place: Path, tmp_path: Path) -> None:
    experiment(values(place)).begin(tmp_path, SHA)
    experiment(changed(values(place), "seed", 2)).refuse_other(tmp_path)


@pytest.mark.parametrize("name", ["recipe.yaml", "README.md", "graft", "report.html"])
def test_files_that_no_run_wrote_are_not_replaced(place: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", "utf-8")
    with pytest.raises(UsageError, match=f"{name} was not written by a run"):
        experiment(values(place)).refuse_other(tmp_path, replace=True)


def test_the_recipe_of_an_older_run_that_made_nothing_is_no_obstacle(place: Path, tmp_path: Path) -> None:
    one = experiment(values(place))
    (tmp_path / "recipe.yaml").write_text(dump_recipe(one.recipe), "utf-8")
    one.refuse_other(tmp_path)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_run_changed_by_its_own_folder_does_not_go_into_it_unasked(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("runs/mine")
    experiment(values(place)).begin(root, find_model(str(place / "model")).sha256)
    build_artefact(root, "data", {"n": 1}, lambda folder: None)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=r"runs/mine holds an unfinished run of another recipe \(seed 1 -> 2\)"):
        execute("runs/mine", None, overrides=["seed=2"], dry_run=dry_run, replace=False, quiet=True)
    with pytest.raises(UsageError, match="to replace what it published say --out runs/mine"):
        execute("runs/mine", None, overrides=["seed=2"], dry_run=dry_run, replace=True, quiet=True)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    execute("runs/mine", None, overrides=["evaluate.gate=[]"], dry_run=True, replace=False, quiet=True)
    execute("runs/mine", root, overrides=["seed=2"], dry_run=True, replace=True, quiet=True)
    assert "output in runs/mine" in capsys.readouterr().out


def test_a_runs_folder_continues_there_whatever_its_recipe_is_called(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("elsewhere/first")
    experiment(values(place)).begin(root, find_model(str(place / "model")).sha256)
    execute("elsewhere/first", None, dry_run=True, replace=False, quiet=True)
    assert "output in elsewhere/first" in capsys.readouterr().out
    execute("elsewhere/first/recipe.yaml", None, dry_run=True, replace=False, quiet=True)
    assert "output in runs/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "key", "value", "said"),
    [
        ([{"method": "radis"}], "compare", [], "compare.0 radis -> none"),
        ([], "compare", [{"method": "vanilla", "name": "plain"}], "compare.0 none -> plain"),
        ([], "engine", {"kind": "vllm"}, "engine.kind transformers -> vllm"),
        ([], "stages.0.method", "radis", "stages.0.method vanilla -> radis"),
        ([], "evaluate.translate_test", {"languages": ["de"]}, "evaluate.translate_test none -> "),
    ],
)
def test_only_what_differs_is_listed_and_no_default_that_comes_with_it(
    place: Path, tmp_path: Path, before: list[Any], key: str, value: Any, said: str
) -> None:
    given = {**values(place), "compare": before}
    experiment(given).begin(tmp_path, SHA)
    build_artefact(tmp_path, "data", {"n": 1}, lambda folder: None)
    with pytest.raises(UsageError) as caught:
        experiment(changed(given, key, value)).refuse_other(tmp_path, sha256=SHA)
    listed = str(caught.value).partition("another recipe (")[2].partition("): --out")[0]
    assert listed.startswith(said)
    assert listed.count(" -> ") == 1
