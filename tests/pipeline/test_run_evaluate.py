"""Seeds, scales, given grafts, gates and comparisons in whole runs of a tiny random model."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from builders import tiny_llama, tiny_tokenizer
from lingraft.cli.evaluate import compare as compare_command
from lingraft.cli.gate import check_gates
from lingraft.cli.main import app
from lingraft.core.errors import DataError, ModelError, StoreError, UsageError
from lingraft.core.progress import Reporter
from lingraft.evaluation.compared_run import read_runs
from lingraft.evaluation.comparison import compare
from lingraft.evaluation.gate import GateMissedError
from lingraft.evaluation.retention import suite_rows
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.scoring import Resampling, translation_rows
from lingraft.models.adapter_files import read_adapter
from lingraft.models.graft import read_info, write_info
from lingraft.models.sparse_files import write_adapter
from lingraft.pipeline.run import run
from lingraft.recipe.load import load_recipe, parse_recipe
from lingraft.statistics.items import item_lines, read_items
from lingraft.store.artefacts import verify
from lingraft.store.files import read_lines

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    llama = tiny_llama(tokenizer, seed=3)
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.mul_(3)  # sure enough of its choices to write something that can get better and worse
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def values(model: Path, **changes: Any) -> dict[str, Any]:
    source = {"source": "de", "target": "en"}
    return {
        "name": "seeds",
        "model": str(model),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 24, **source},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 6, **source},
        },
        "prompts": {"path": "starter:prompts.jsonl", "limit": 24},
        "stages": [
            {
                "method": "vanilla",
                "tuner": {"kind": "lora", "rank": 4},
                "train": {"tokens_per_step": 512, "micro_tokens": 512, "precision": "fp32", "learning_rate": 6e-4},
            }
        ],
        "evaluate": {
            "bootstrap": 100,
            "scales": [0.5],
            "gate": ["gain>=-100", "kl_from_base<=100"],
            "translation": {"max_new_tokens": 24},
            "retention": {"suites": [{"kind": "self", "max_prompts": 4, "max_new_tokens": 8, "kl_max_new_tokens": 8}]},
        },
        "seed": 7,
        "seeds": 2,
        **changes,
    }


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one system with two seeds and one further scale."""
    folder = tmp_path_factory.mktemp("runs") / "seeds"
    run(parse_recipe(values(model), "test", Path("/")), folder, QUIET)
    return folder


@pytest.fixture(scope="module")
def evaluated(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of two of its grafts, without training."""
    folder = tmp_path_factory.mktemp("runs") / "again"
    second = next(finished.glob("train-vanilla-seed8-*/graft"))
    evaluate(folder, [f"own={finished / 'graft'}", f"other={second}"], recipe=str(finished))
    return folder


def evaluate(folder: Path, grafts: list[str], **options: Any) -> None:
    """Run the command, whose errors are raised."""
    given = {"graft": grafts, "out": folder, "set": ["evaluate.scales=[]"], **options}
    pairs = [(name, one) for name, value in given.items() for one in (value if isinstance(value, list) else [value])]
    app(
        ["evaluate", "--quiet", *(word for name, one in pairs for word in (f"--{name}", str(one)))],
        standalone_mode=False,
    )


def test_a_given_graft_with_lengths_of_rows_has_other_scales(finished: Path, model: Path, tmp_path: Path) -> None:
    graft = Path(shutil.copytree(finished / "graft", tmp_path / "graft"))
    config, weights = read_adapter(graft)
    start = load_file(model / "model.safetensors")
    lengths = {  # 1.5 times those of the rows of the base
        name.replace("lora_A.weight", "lora_magnitude_vector"): 1.5
        * start[name.removeprefix("base_model.model.").replace("lora_A.", "")].norm(dim=1)
        for name in weights
        if name.endswith("lora_A.weight")
    }
    config.use_dora = True
    write_adapter(config, weights | lengths, graft)
    write_info(graft, read_info(graft))
    changes = ["evaluate.scales=[0.5]", "evaluate.retention.suites=[]", "evaluate.gate=[]"]
    evaluate(tmp_path / "out", [f"own={graft}"], recipe=str(finished), set=changes)
    card = Scorecard.read(tmp_path / "out" / "scorecard.json")
    assert [(one.name, one.group, one.scale) for one in card.systems[2:]] == [("own*0.5", "own", 0.5)]
    (half,) = (tmp_path / "out").glob("scale-own-x0.5-*/graft")
    name, weight = "model.layers.0.mlp.up_proj.weight", {}
    for folder in (graft, half):
        tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), folder)
        weight[folder] = tuned.merge_and_unload().get_parameter(name)
    torch.testing.assert_close(weight[half], 0.5 * (start[name] + weight[graft]), rtol=1e-4, atol=1e-6)
    assert read_info(half).translating == read_info(graft).translating
    for folder in (tmp_path / "out").glob("decode-own-*"):  # it is made and measured once
        assert verify(folder)
    before = (half / "adapter_model.safetensors").stat().st_mtime_ns
    evaluate(tmp_path / "out", [f"own={graft}"], recipe=str(finished), set=changes)
    assert (half / "adapter_model.safetensors").stat().st_mtime_ns == before


def test_each_system_is_trained_with_every_seed_on_the_same_rows(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    described = [(one.name, one.group, one.seed, one.scale) for one in card.systems]
    assert described == [
        ("base", None, None, None),
        ("vanilla", None, None, None),
        ("vanilla#8", "vanilla", 8, None),
        ("vanilla*0.5", "vanilla", None, 0.5),
    ]
    assert len(list(finished.glob("rows-*"))) == 1
    assert not [path for path in finished.iterdir() if set(path.name) & set("#*")]
    first, second = (json.loads((path / "manifest.json").read_text())["inputs"] for path in trainings(finished))
    assert first["rows"] == second["rows"]
    assert {first["seed"], second["seed"]} == {7, 8}
    weights = [(path / "graft" / "adapter_model.safetensors").read_bytes() for path in trainings(finished)]
    assert weights[0] != weights[1]
    scores = {row.system: row.score for row in card.translation if row.metric == "chrf++"}
    spread = next(row for row in card.seeds if row.metric == "chrf++")
    assert spread.scores == {"7": scores["vanilla"], "8": scores["vanilla#8"]}
    assert (spread.system, spread.where) == ("vanilla", "test.de-en de-en")
    assert len(set(scores.values())) == 4


def trainings(folder: Path) -> list[Path]:
    return sorted(folder.glob("train-*"))


def test_a_scaled_graft_changes_the_base_by_its_share(finished: Path, model: Path) -> None:
    deltas = []
    for folder in (finished / "graft", next(finished.glob("scale-vanilla-x0.5-*/graft"))):
        tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), folder)
        layer = tuned.base_model.model.model.layers[0].mlp.up_proj
        deltas.append(layer.get_delta_weight("default"))
    assert deltas[0].abs().max() > 0
    torch.testing.assert_close(deltas[1], 0.5 * deltas[0])


def test_the_items_on_disk_give_the_scorecard(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    base, items = read_items(finished / "items.jsonl")
    assert base == card.base.sha256
    how = Resampling(100, 7)
    translated = translation_rows([one for one in items if one.direction], how)
    kept = suite_rows([one for one in items if not one.direction], how)
    assert [row.model_dump() for row in translated] == [without_holm(row) for row in card.translation]
    assert [row.model_dump() for row in kept] == [without_holm(row) for row in card.general]
    assert list(item_lines(items, base)) == list(read_lines(finished / "items.jsonl"))
    corrected = {row.metric for row in card.general if row.delta and row.delta.p_holm is not None}
    assert corrected == {"agreement", "stays_answer"}


def without_holm(row: Any) -> dict[str, Any]:
    values = row.model_dump()
    for delta in filter(None, (values["delta"], *values["versus"].values())):
        delta["p_holm"] = None
    return values


def test_a_graft_evaluated_apart_has_the_scores_of_its_run(finished: Path, evaluated: Path) -> None:
    ours, theirs = (Scorecard.read(folder / "scorecard.json") for folder in (evaluated, finished))
    assert [one.name for one in ours.systems] == ["base", "own", "other"]
    assert [one.method for one in ours.systems] == [None, "vanilla", "vanilla"]
    known = {"own": "vanilla", "other": "vanilla#8", "base": "base"}
    expected = {(row.system, row.metric): row.score for row in [*theirs.translation, *theirs.general]}
    for row in [*ours.translation, *ours.general]:
        assert row.score == pytest.approx(expected[known[row.system], row.metric], abs=1e-6)
    assert not (evaluated / "graft").exists()
    assert not [path for path in evaluated.iterdir() if path.name.startswith("train")]
    assert "own" in (evaluated / "report.html").read_text("utf-8")
    recipe = load_recipe(str(evaluated))
    before = (evaluated / "run.json").stat().st_mtime_ns
    run(recipe, evaluated, QUIET)
    assert (evaluated / "run.json").stat().st_mtime_ns == before


def test_a_suite_that_does_not_retain_is_shown_alone(finished: Path, tmp_path: Path) -> None:
    settings = "kind: self, max_new_tokens: 8, kl_max_new_tokens: 8"
    suites = f"[{{{settings}, max_prompts: 4}}, {{{settings}, max_prompts: 9, name: shown, retains: false}}]"
    changes = ["evaluate.scales=[]", f"evaluate.retention.suites={suites}", "evaluate.gate=[agreement.retention>=-90]"]
    evaluate(tmp_path, [f"own={finished / 'graft'}"], recipe=str(finished), set=changes)
    card = Scorecard.read(tmp_path / "scorecard.json")
    rows = {(row.suite, row.metric): row for row in card.general if row.system == "own"}
    kept = {key: row.retention.percent for key, row in rows.items() if row.retention}
    assert set(kept) <= {("self", "agreement"), ("self", "stays_answer")}
    own = next(row for row in card.summary if row.system == "own")
    assert own.retention_mean == pytest.approx(sum(kept.values()) / len(kept))
    assert own.retention_min == pytest.approx(min(kept.values()))
    assert rows["shown", "agreement"].n == 9
    assert rows["shown", "agreement"].delta is not None
    assert rows["shown", "agreement"].delta.p_holm is None  # it belongs to no family of comparisons
    assert {row.diagnostic for row in card.general if row.suite == "shown"} == {True}
    assert not rows["self", "agreement"].diagnostic
    page = (tmp_path / "report.html").read_text("utf-8")
    for suite, said in (("self", False), ("shown", True)):
        details = re.findall(rf"{suite}: Agreement[^<]*<small>([^<]*)</small>", page)
        assert {detail.endswith(", diagnostic") for detail in details} == {said}
    assert load_recipe(str(tmp_path)).evaluate.retention.suites[1].retains is False
    with pytest.raises(UsageError, match=r"gate 'shown.agreement.retention>=9' is about the suite 'shown'"):
        check_gates(tmp_path, ["shown.agreement.retention>=9"], quiet=True)


def test_gates_of_a_finished_run(finished: Path, evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_gates(finished, [], quiet=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [["holds", "gain>=-100"], ["holds", "kl_from_base<=100"]]
    with pytest.raises(GateMissedError, match=r"1 of 1 gates missed: gain>=1000"):
        check_gates(evaluated, ["gain>=1000"], quiet=True)
    missed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("MISSED")]
    assert [line.split()[2].rstrip(":") for line in missed] == ["own", "other"]
    with pytest.raises(UsageError, match="there is no 'gian' in the scorecard; did you mean 'gain'"):
        check_gates(evaluated, ["gian>=0"], quiet=True)
    with pytest.raises(StoreError, match="holds no finished run"):
        check_gates(finished / "graft", ["gain>=0"], quiet=True)


def test_a_run_that_misses_its_gate_is_finished_and_fails(model: Path, finished: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(finished), ["evaluate.gate=[chrf++>=200]"])
    for _ in range(2):  # also when there is nothing left to do
        with pytest.raises(GateMissedError, match=r"chrf\+\+>=200"):
            run(recipe, finished, QUIET)
        assert (finished / "scorecard.json").exists()
        top = (finished / "report.html").read_text("utf-8").partition("<nav")[0]
        assert "Gates: 0 of 1 met" in top
        assert "<code>chrf++&gt;=200</code>" in top
        assert re.search(
            r"<dt>Work</dt><dd>.+ in all stages, [\d,]+ tokens trained on, [\d,]+ tokens written</dd>", top
        )
    # One that cannot be read off the scorecard costs no report: it says why, beside the gates that can.
    with pytest.raises(UsageError, match="there is no 'gian' in the scorecard"):
        run(load_recipe(str(finished), ["evaluate.gate=[gian>=0,chrf++>=0]"]), finished, QUIET)
    page = (finished / "report.html").read_text("utf-8")
    assert "Gates: 1 of 1 met" in page
    assert "there is no &#39;gian&#39; in the scorecard" in page
    run(parse_recipe(values(model), "test", Path("/")), finished, QUIET)


def test_comparing_a_run_with_its_own_evaluation(
    finished: Path, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"table.{name}" for name in ("csv", "tex", "html")}
    compare_command([finished, evaluated], resamples=200, csv=files["csv"], latex=files["tex"], html=files["html"])
    out = capsys.readouterr().out
    names = ["base", "seeds:vanilla", "seeds:vanilla#8", "seeds:vanilla*0.5", "again:own", "again:other"]
    assert all(name in out for name in names)
    rows = {row["system"]: row for row in csv.DictReader(io.StringIO(files["csv"].read_text("utf-8")))}
    assert set(rows) == set(names)
    card = Scorecard.read(finished / "scorecard.json")
    for summary in card.summary:
        if summary.gain:
            row = rows[f"seeds:{summary.system}"]
            assert float(row["gain chrf++"]) == pytest.approx(summary.gain.value)
            assert float(row["retention"]) == pytest.approx(summary.retention_mean)
    assert rows["seeds:vanilla"]["gain chrf++"] == rows["again:own"]["gain chrf++"]
    assert rows["seeds:vanilla#8"]["group"] == "vanilla"
    assert r"seeds:vanilla\#8" in files["tex"].read_text("utf-8")
    page = files["html"].read_text("utf-8")
    assert "Content-Security-Policy" in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)
    compare_command([finished, evaluated], metric="bleu", sort="system", resamples=200, as_json=True)
    values = json.loads(capsys.readouterr().out)
    assert values["metric"] == "bleu"
    same = [pair for pair in values["pairs"] if (pair["first"], pair["second"]) == ("seeds:vanilla", "again:own")]
    assert [(pair["value"], pair["significant"]) for pair in same] == [(0.0, False), (0.0, False)]
    assert [one["name"] for one in values["systems"]] == sorted(names)


def test_the_frontier_and_what_is_significant(finished: Path) -> None:
    found = compare(read_runs([finished]), Resampling(2000, 1))
    points = {row.name: (row.gain.value, row.retention.value) for row in found.rows if row.gain and row.retention}
    assert points["base"] == (0.0, 100.0)
    for row in found.rows:
        better = [
            name
            for name, point in points.items()
            if point != points[row.name] and point[0] >= points[row.name][0] and point[1] >= points[row.name][1]
        ]
        assert row.dominated_by == better
    assert found.pareto == [row.name for row in found.rows if not row.dominated_by]
    kept = next(p for p in found.pairs if (p.first, p.second, p.measure) == ("base", "vanilla", "retention"))
    assert kept.delta.value == pytest.approx(100 - points["vanilla"][1])
    assert kept.delta.p_holm is not None
    assert kept.delta.p_holm >= kept.delta.p


def test_runs_that_cannot_be_compared_are_told(finished: Path, evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is given twice"):
        read_runs([finished, finished])
    with pytest.raises(StoreError, match="holds no finished run"):
        read_runs([finished, tmp_path])
    with pytest.raises(DataError, match="no common test set with the metric 'comet'"):
        compare(read_runs([finished]), Resampling(100), "comet")
    one, other = read_runs([finished, evaluated])
    card = other.scorecard.model_copy(update={"base": other.scorecard.base.model_copy(update={"sha256": "0"})})
    with pytest.raises(DataError, match="again and seeds have different bases"):
        compare([one, type(other)("again", other.folder, card, other.items)], Resampling(100))
    short = [item for item in other.items if item.metric != "bleu"]
    found = compare([one, type(other)("again", other.folder, other.scorecard, short)], Resampling(100))
    assert found.notes[0] == ("seeds: left out, since not all runs measured the same: test.de-en de-en bleu")
    with pytest.raises(DataError, match="share no test set or suite") as caught:
        compare([one, type(other)("again", other.folder, other.scorecard, [])], Resampling(100))
    asked = f"`lingraft evaluate --graft GRAFT --recipe {finished} --out {evaluated}-on-{finished.name}`"
    assert asked in str(caught.value)  # the other run has no graft of its own
    with pytest.raises(DataError) as caught:
        compare([other, type(one)("mine", finished, one.scorecard, [])], Resampling(100))
    assert f"--graft {finished / 'graft'} --recipe {evaluated} --out" in str(caught.value)
    suites = [item for item in other.items if not item.direction]
    found = compare([one, type(other)("again", other.folder, other.scorecard, suites)], Resampling(100))
    assert any(note.startswith("no test set is shared") and asked in note for note in found.notes)


def test_what_a_given_graft_was_trained_on_is_said_to_be_unknown(
    finished: Path, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Scorecard.read(finished / "scorecard.json").unchecked == []
    assert Scorecard.read(evaluated / "scorecard.json").unchecked == ["own", "other"]
    said = "Contamination: not checked for own, other, which this run did not train"
    assert said in (evaluated / "report.html").read_text("utf-8")
    assert said not in (finished / "report.html").read_text("utf-8")
    copy = tmp_path / "again"
    shutil.copytree(evaluated, copy)
    (copy / "report.html").unlink()
    run(load_recipe(str(copy)), copy, Reporter(quiet=True))
    assert said in capsys.readouterr().err


def test_evaluations_that_cannot_be_are_refused(finished: Path, tmp_path: Path) -> None:
    graft = str(finished / "graft")
    with pytest.raises(UsageError, match="--test, --from and --to belong together"):
        evaluate(tmp_path / "x", [graft], test=["t.jsonl"])
    with pytest.raises(UsageError, match="give test sets"):
        evaluate(tmp_path / "x", [graft])
    with pytest.raises(UsageError, match="holds a run that trains; choose another folder"):
        evaluate(finished, [graft], recipe=str(finished))
    with pytest.raises(UsageError, match="two systems are called 'seeds'"):
        evaluate(tmp_path / "x", [graft, graft], recipe=str(finished))
    with pytest.raises(UsageError, match="give --graft FOLDER and --out FOLDER"):
        evaluate(tmp_path / "x", [])
    with pytest.raises(ModelError, match="there is no graft at"):
        evaluate(tmp_path / "x", [str(tmp_path / "none")], recipe=str(finished))
    other = tmp_path / "model"
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=4).save_pretrained(other)
    tokenizer.save_pretrained(other)
    with pytest.raises(ModelError, match="give grafts of one base"):
        evaluate(tmp_path / "x", [graft], recipe=str(finished), model=str(other))
