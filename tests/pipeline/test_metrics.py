"""Metrics within a run: a recipe's metrics, and what is refused early."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.core.progress import Reporter
from lingraft.pipeline.context import Context
from lingraft.pipeline.metrics import open_metrics
from lingraft.pipeline.prepare import prepare
from lingraft.recipe.load import dump_recipe, parse_recipe
from lingraft.recipe.schema import Recipe
from models_support import save_tiny_model

LONG = "Der Bürgermeister versprach am Montag in der alten Halle am Hafen, dass das Schwimmbad bis Mai repariert wird."
TRANSLATED = "On Monday the mayor promised in the old hall that the swimming pool will be repaired by May, he said."


def recipe(root: Path, metrics: list[Any], **changes: Any) -> Recipe:
    values = {
        "name": "metrics",
        "model": str(root / "model"),
        "pairs": {
            "train": {"path": "train.jsonl", "source": "de", "target": "en"},
            "test": {"path": "test.jsonl", "source": "de", "target": "en", "name": "held"},
        },
        "prompts": {"path": "prompts.jsonl"},
        "stages": [{"method": "vanilla"}],
        "evaluate": {
            "translation": {"metrics": metrics},
            "retention": {"suites": [{"kind": "self", "max_prompts": 4}]},
        },
        **changes,
    }
    return parse_recipe(values, "test", root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_model(tmp_path / "model")

    def write(name: str, rows: list[dict[str, str]]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    train = [{"source": f"Satz Nummer {n} steht hier.", "target": f"Sentence number {n} is here."} for n in range(60)]
    train[17] = {"source": f"Wie man hört: {LONG[:-1]}, sagte er.", "target": f"{TRANSLATED} This is what one hears."}
    write("train.jsonl", train)
    tests = [{"id": f"t{n}", "source": f"Etwas ganz anderes {n}.", "target": f"Something else {n}."} for n in range(8)]
    tests[5]["source"] = LONG
    write("test.jsonl", tests)
    # All of one template: what is replayed and what is measured share it.
    template = "name some good reasons to sing a song on every single day of a long winter"
    write("prompts.jsonl", [{"prompt": f"Question {n}: {template}"} for n in range(20)])
    return tmp_path


def test_a_recipe_takes_short_and_long_metrics_and_feeds_back(folder: Path) -> None:
    given = [
        "bleu",
        "chrf++",
        {"kind": "bleu", "name": "bleu-char", "tokenize": "char"},
        {"kind": "comet", "path": "c"},
    ]
    parsed = recipe(folder, given)
    metrics = parsed.evaluate.translation.metrics
    assert [metric.label for metric in metrics] == ["bleu", "chrf++", "bleu-char", "comet"]
    assert metrics[3].params["path"] == str(folder / "c")
    assert metrics[3].params["model"] == "Unbabel/wmt22-comet-da"
    (folder / "again.yaml").write_text(dump_recipe(parsed), "utf-8")
    from lingraft.recipe.load import load_recipe

    assert load_recipe(str(folder / "again.yaml")) == parsed


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["bleu", "bleu"], "two metrics are called 'bleu'; give one of them another `name:`"),
        ([{"kind": "bleu", "tokenise": "char"}], "unknown key 'evaluate.translation.metrics.0.tokenise'; did you mean"),
        ([{"kind": "comet", "batch_size": 0}], "evaluate.translation.metrics.0.batch_size: "),
        ([{"kind": "chrf", "name": "a b"}], "evaluate.translation.metrics.0.name: "),
    ],
)
def test_bad_metrics_are_refused_with_their_place(folder: Path, metrics: list[Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(folder, metrics)
    assert message in str(caught.value)


def test_a_metric_that_cannot_measure_a_direction_is_refused_before_anything_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(folder / "cache"))
    thai = {"train": {"path": "train.jsonl", "source": "de", "target": "en"}}
    thai["test"] = {"path": "test.jsonl", "source": "de", "target": "th", "fields": {"target": "target"}}
    for metrics, pairs, message in (
        (["ter"], thai, "TER cannot be measured for 'th'"),
        (["comet"], None, "run `lingraft install comet`"),
    ):
        made = recipe(folder, metrics, **({"pairs": pairs} if pairs else {}))
        with Context(made, folder / "run", Reporter(quiet=True)) as context, pytest.raises(UsageError, match=message):
            prepare(context)
        assert not list((folder / "run").glob("data-*"))


def test_averages_over_directions(folder: Path) -> None:
    from lingraft.evaluation.summary import averages
    from lingraft.evaluation.translation import score_all

    scorer = "import sys, json\nfor line in sys.stdin: print(len(json.loads(line)['hypothesis']))"
    (folder / "score.py").write_text(scorer, "utf-8")
    command = shlex.join([sys.executable, str(folder / "score.py")])
    made = recipe(folder, [{"kind": "command", "command": command, "name": "length"}])
    metrics = open_metrics(made)["translation"]
    with Context(made, folder / "run", Reporter(quiet=True)) as context:
        forth = prepare(context).tests[0].pairs
    back = [pair.reversed() for pair in forth]
    texts = {pair.id: "x" * (10 if pair in forth else 40) for pair in [*forth, *back]}
    base = dict.fromkeys(texts, "x" * 10)
    rows = score_all({"base": base, "x": texts}, [*forth, *back], "held", metrics, n_bootstrap=20)
    assert {row.metric for row in rows} == {"length"}
    found = {row.system: row for row in averages(rows)}
    assert (found["x"].score, found["x"].rows, found["base"].score) == (25, 2, 10)
    assert found["x"].delta is not None
    assert found["x"].delta.value == 15
    assert averages([row for row in rows if row.direction == "de-en"]) == []
