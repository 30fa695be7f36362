"""Translations that others have made, in whole runs: measured on translation alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sacrebleu
import torch

import lingraft as lg
from builders import tiny_llama, tiny_tokenizer
from lingraft.cli.main import app
from lingraft.core.errors import DataError, UsageError
from lingraft.data.readers import PairSource
from lingraft.data.records import Pair
from lingraft.evaluation.compared_run import read_runs
from lingraft.evaluation.comparison import compare
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.scoring import Resampling
from lingraft.pipeline.dry_run import describe
from lingraft.pipeline.run import run
from lingraft.pipeline.sources import read_test_rows
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from tiny_runs import QUIET, values

TEST = PairSource(path="starter:test.de-en.jsonl", source="de", target="en")
EVERY = [row for row in read_test_rows(TEST) if isinstance(row, Pair)]
PAIRS = EVERY[:6]
TRANSLATED = [pair.target if i % 3 else " ".join(pair.target.split()[:-2]) for i, pair in enumerate(PAIRS)]


def recipe(model: Path, *files: tuple[str, Path]) -> Recipe:
    made = values(model, compare=[])
    made["stages"][0] |= {"method": "vanilla", "params": {}}
    made["evaluate"]["given"] = [{"name": name, "path": str(path)} for name, path in files]
    return parse_recipe(made, "test", Path("/"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    llama = tiny_llama(tokenizer, seed=3)
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.mul_(3)  # sure enough of its choices to have something that can be kept
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    found = {"deepl": folder / "deepl.en", "before": folder / "before.jsonl"}
    found["deepl"].write_text("".join(f"{text}\n" for text in TRANSLATED), "utf-8")
    rows = [{"id": pair.id, "text": pair.target if pair is not PAIRS[2] else ""} for pair in reversed(PAIRS)]
    found["before"].write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return found


@pytest.fixture(scope="module")
def finished(model: Path, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "given"
    run(recipe(model, *files.items()), folder, QUIET)
    return folder


def test_their_figures_are_those_of_sacrebleu_and_are_set_against_every_system(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    assert [system.name for system in card.systems] == ["base", "vanilla", "deepl", "before"]
    assert card.systems[2].how
    assert card.systems[2].parts
    rows = {(row.system, row.metric): row for row in card.translation}
    references = [[pair.target for pair in PAIRS]]
    bleu, chrf = rows["deepl", "bleu"], rows["deepl", "chrf++"]
    assert bleu.score == pytest.approx(sacrebleu.corpus_bleu(TRANSLATED, references).score)
    assert chrf.score == pytest.approx(sacrebleu.corpus_chrf(TRANSLATED, references, word_order=2).score)
    assert bleu.n == 6
    assert chrf.ci95[0] <= chrf.score <= chrf.ci95[1]
    assert chrf.delta is not None
    assert chrf.delta.value == pytest.approx(chrf.score - rows["base", "chrf++"].score)
    assert set(chrf.versus) == {"vanilla", "before"}
    own = rows["vanilla", "chrf++"]
    assert own.versus["deepl"].value == pytest.approx(own.score - chrf.score)
    assert own.versus["deepl"].p_holm is not None


def test_nothing_else_of_them_is_measured_and_they_are_never_the_headline(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    assert {row.system for row in card.general} == {"base", "vanilla"}
    assert {row.system for row in card.cost} == {"base", "vanilla"}
    summary = {row.system: row for row in card.summary}
    assert summary["deepl"].gain is not None
    assert summary["deepl"].retention_mean is summary["deepl"].kl_from_base is None
    assert summary["deepl"].output_tokens_per_translation is None
    assert summary["before"].extraction_failure_percent == pytest.approx(100 / 6)
    assert card.unchecked == ["deepl", "before"]
    outputs = [json.loads(line) for line in (finished / "outputs.jsonl").read_text("utf-8").splitlines()]
    assert [one["outputs"]["deepl"] for one in outputs if "deepl" in one["outputs"]] == TRANSLATED
    items = [json.loads(line) for line in (finished / "items.jsonl").read_text("utf-8").splitlines()]
    assert {one["direction"] for one in items if one.get("system") == "deepl"} == {"de-en"}
    report = (finished / "report.html").read_text("utf-8")
    assert "translations from a file" in report
    assert "vanilla" in report.partition("<h1")[2][:3000]
    manifest = next(finished.glob("given-deepl-*/manifest.json"))
    assert len(json.loads(manifest.read_text("utf-8"))["inputs"]["files"][0]) == 64
    assert json.loads((finished / "experiment.json").read_text("utf-8"))["contents"]["evaluate.given.0.path"]


def test_a_comparison_shows_their_gain_and_no_retention(finished: Path) -> None:
    frontier = compare(read_runs([finished]), Resampling(100, 1))
    rows = {row.name: row for row in frontier.rows}
    assert rows["deepl"].gain is not None
    assert rows["deepl"].retention is rows["deepl"].lowest is None
    assert rows["vanilla"].retention is not None
    assert rows["vanilla"].scores.keys() > rows["deepl"].scores.keys()
    assert not any("deepl" in row.dominated_by for row in frontier.rows)
    assert {pair.measure for pair in frontier.pairs if "deepl" in (pair.first, pair.second)} == {"gain"}


@pytest.mark.parametrize("sort", ["gain", "retention", "lowest", "system"])
def test_pages_and_tables_of_a_comparison_have_them(finished: Path, tmp_path: Path, sort: str) -> None:
    found = lg.compare([finished], resamples=100)
    found.to_html(tmp_path / "page.html", sort)
    found.to_latex(tmp_path / "table.tex", sort)
    found.to_csv(tmp_path / "table.csv", sort)
    for name in ("page.html", "table.tex", "table.csv"):
        assert "deepl" in (tmp_path / name).read_text("utf-8")


def test_a_changed_file_is_another_experiment_and_a_moved_one_is_not(
    finished: Path, model: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    moved = {name: tmp_path / path.name for name, path in files.items()}
    for name, path in files.items():
        moved[name].write_bytes(path.read_bytes())
    describe(recipe(model, *moved.items()), finished)
    moved["deepl"].write_text("other\n" * 6)
    with pytest.raises(UsageError, match=r"evaluate\.given\.0\.path"):
        run(recipe(model, *moved.items()), finished, QUIET)


def test_a_file_that_does_not_fit_is_refused_before_any_training(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "deepl.txt"
    path.write_text("one\n" * 5)
    with pytest.raises(DataError, match=r"has 5 lines, but the test set 'test\.de-en' has 6 segments"):
        run(recipe(model, ("deepl", path)), tmp_path / "run", QUIET)
    made = {path.parent.name.partition("-")[0] for path in (tmp_path / "run").glob("*/manifest.json")}
    assert made == {"data"}
    path.unlink()
    for begin in (run, lambda asked, out, _: describe(asked, out)):
        with pytest.raises(DataError, match=r"evaluate\.given, 'deepl': .*there is no such file"):
            begin(recipe(model, ("deepl", path)), tmp_path / "none", QUIET)
    assert not (tmp_path / "none").exists()


def test_the_command_takes_them_beside_a_graft(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.txt"
    path.write_text("".join(f"{' '.join(pair.target.split())}\n" for pair in EVERY), "utf-8")
    words = ["--graft", f"own={finished / 'graft'}", "--recipe", str(finished), "--given", f"today={path}"]
    app(["evaluate", "--quiet", *words, "--out", str(tmp_path / "out")], standalone_mode=False)
    card = Scorecard.read(tmp_path / "out" / "scorecard.json")
    assert [system.name for system in card.systems] == ["base", "own", "today"]
    (row,) = (row for row in card.translation if (row.system, row.metric) == ("today", "bleu"))
    assert (row.score, row.n) == (pytest.approx(100), 6)
    with pytest.raises(UsageError, match="NAME=FILE"):
        app(["evaluate", *words[:-1], "today", "--out", str(tmp_path / "no")], standalone_mode=False)
