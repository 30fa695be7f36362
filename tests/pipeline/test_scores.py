"""Scores of single texts by which methods select: against sacreBLEU, kept, and continued where a run was killed."""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from pydantic import Field

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import UsageError
from lingraft.core.progress import Reporter
from lingraft.core.validation import HOLDS_METRIC
from lingraft.data.records import Example, Generation, Pair, Span
from lingraft.methods.base import METHODS, Method, MethodInputs, MethodParams, Tally
from lingraft.pipeline import scores
from lingraft.pipeline.context import Context
from lingraft.pipeline.run import run
from lingraft.pipeline.scores import Scoring
from lingraft.recipe.files import doubts
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.recipe.trust import acts
from lingraft.translation.wording import ask_for
from tiny_runs import values

PAIRS = [
    Pair("a", "Das Wetter ist schön.", "The weather is nice.", "de", "en"),
    Pair("b", "Wir gehen 12 Minuten.", "We walk for 12 minutes.", "de", "en"),
    Pair("c", "The ship arrives.", "Das Schiff kommt an.", "en", "de"),
]
TEXTS = ["The weather is fine.", "We walk\nfor 13 minutes.", "Ein Schiff kommt."]


class Best(Method):
    """Keeps the pairs whose source, read as a translation, has a score at all."""

    name = "best"
    summary = "by a metric"
    paper = "none: for tests"

    class Params(MethodParams):
        """Parameters of the method."""

        metric: str | dict[str, Any] = Field("chrf++", json_schema_extra=HOLDS_METRIC)

    params: Params

    @property
    def selects_by(self) -> Sequence[str | Mapping[str, Any]]:
        return (self.params.metric,)

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        found = inputs.score(self.params.metric, inputs.pairs, [pair.source for pair in inputs.pairs])
        for pair, score in zip(inputs.pairs, found, strict=True):
            if not math.isnan(score):
                messages = ask_for(pair, self.params.instructions, inputs.seed)
                yield Example(pair.id, messages, (Span(pair.target, "translation"),))


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_targets", dict(METHODS._targets))
    METHODS.register("best", Best)


def recipe(root: Path = Path("/"), metric: Any = "chrf++", **changes: Any) -> Recipe:
    starter = {"source": "de", "target": "en"}
    values = {
        "name": "scores",
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", **starter},
            "test": {"path": "starter:test.de-en.jsonl", **starter},
        },
        "stages": [{"method": "best", "params": {"metric": metric}}],
        "evaluate": {"retention": {"suites": []}, **changes},
    }
    return parse_recipe(values, "test", root)


@pytest.fixture
def scoring(tmp_path: Path) -> Scoring:
    return Scoring(Context(recipe(), tmp_path / "run", Reporter(quiet=True)), ("de", "en"))


def _chrf(text: str, pair: Pair) -> float:
    return float(sacrebleu.metrics.CHRF(word_order=2).sentence_score(" ".join(text.split()), [pair.target]).score)


def test_each_text_has_the_score_that_sacrebleu_gives_its_sentence(scoring: Scoring) -> None:
    assert scoring("chrf++", PAIRS, TEXTS) == pytest.approx(
        [_chrf(text, pair) for text, pair in zip(TEXTS, PAIRS, strict=True)]
    )
    several = scoring({"kind": "chrf++"}, [PAIRS[0]] * 2, [TEXTS[0], PAIRS[0].target])  # samples of one pair
    assert several == pytest.approx([_chrf(TEXTS[0], PAIRS[0]), 100.0])


def test_where_there_is_nothing_to_measure_there_is_no_score(scoring: Scoring) -> None:
    first, second, third = scoring("numbers", PAIRS, TEXTS)
    assert math.isnan(first)
    assert second == 0.0  # 13 in place of 12
    assert math.isnan(third)
    assert scoring("chrf++", [], []) == []
    with pytest.raises(UsageError, match="1 texts are to be scored with 3 pairs"):
        scoring("chrf++", PAIRS, TEXTS[:1])


def test_a_program_scores(scoring: Scoring, tmp_path: Path) -> None:
    program = tmp_path / "length.py"
    program.write_text("import json, sys\nfor line in sys.stdin:\n    print(len(json.loads(line)['hypothesis']))\n")
    metric = {"kind": "command", "command": f"{sys.executable} {program}", "name": "length"}
    assert scoring(metric, PAIRS, ["abc", "de", ""]) == [3.0, 2.0, 0.0]


def test_scores_are_made_once_and_a_killed_run_goes_on_with_them(
    scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "PART", 2)
    own, asked = scores.segment_scores, list[int]()

    def breaks(opened: Any, rows: Any, languages: Any) -> list[float]:
        asked.append(len(rows))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return own(opened, rows, languages)

    monkeypatch.setattr(scores, "segment_scores", breaks)
    with pytest.raises(KeyboardInterrupt):
        scoring("chrf++", PAIRS, TEXTS)
    first = scoring("chrf++", PAIRS, TEXTS)
    assert asked == [2, 1, 1]  # the first part is not scored again
    assert scoring("chrf++", PAIRS, TEXTS) == first
    assert len(asked) == 3
    other = scoring("chrf++", PAIRS, [*TEXTS[:2], "Das Schiff kommt."])
    assert other[:2] == first[:2]
    assert asked[3:] == [2, 1]


def test_without_a_run_nothing_scores() -> None:
    with pytest.raises(UsageError, match="the metric 'chrf' is asked for, and nothing scores here"):
        MethodInputs(PAIRS).score("chrf", PAIRS, TEXTS)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (
            "chrff",
            "system 'best': method 'best' cannot select by 'chrff': unknown metric 'chrff'; did you mean 'chrf'?",
        ),
        ({"kind": "ter", "model": "x"}, "method 'best' cannot select by 'ter': unknown key 'metric ter.model'"),
        ({"kind": "command"}, "method 'best' cannot select by 'command': metric command: give it a program"),
    ],
)
def test_a_metric_that_there_is_not_is_refused_when_the_recipe_is_read(metric: Any, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        recipe(metric=metric)
    assert said in str(refused.value)


def test_a_program_that_selects_needs_consent_and_its_path_counts_from_the_recipe(tmp_path: Path) -> None:
    (act,) = acts(recipe(metric={"kind": "command", "command": "./score"}))
    assert str(act).startswith("runs the program `./score` in ")
    assert act.where == ("metric by which best selects",)
    made = recipe(tmp_path, metric={"kind": "comet", "path": "checkpoint.ckpt"})
    assert made.stages[0].params["metric"]["path"] == str(tmp_path / "checkpoint.ckpt")


REPORTED = ["chrf++", {"kind": "chrf++", "name": "mine"}, "bleu", {"kind": "comet", "model": "Unbabel/XCOMET-XL"}]


@pytest.mark.parametrize(
    ("metric", "metrics"),
    [
        ("chrf++", "chrf++, mine"),
        ("ter", ""),
        ({"kind": "comet", "model": "Unbabel/XCOMET-XL", "batch_size": 2}, "comet"),  # computed otherwise, the same
        ({"kind": "comet", "model": "Unbabel/wmt22-cometkiwi-da"}, ""),  # another model is another metric
    ],
)
def test_a_metric_that_selects_and_is_reported_is_warned_of(metric: Any, metrics: str) -> None:
    warned = [doubt for doubt in doubts(recipe(metric=metric, translation={"metrics": REPORTED})) if "select" in doubt]
    said = (
        f"the training texts of 'best' are selected by {metrics}, by which it is reported, too: its scores there are "
        f"too high; report another metric beside it"
    )
    assert warned == ([said] if metrics else [])


@pytest.mark.long
def test_report_and_card_say_which_metric_has_selected(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    changed = values(tmp_path / "model", compare=["vanilla"])
    changed["stages"][0] |= {"method": "best", "params": {"metric": "chrf"}}
    changed["evaluate"] |= {"retention": {"suites": []}}
    changed["evaluate"]["translation"] |= {"metrics": ["chrf", "bleu"]}
    said: list[str] = []
    reporter = Reporter(quiet=True)
    reporter.say = lambda text, always=False: said.append(text)  # type: ignore[method-assign]
    run(parse_recipe(changed, "test", Path("/")), tmp_path / "run", reporter)
    (warning,) = [text for text in said if text.startswith("Warning: the training texts of")]
    assert "selected by chrf, by which" in warning
    for name in ("report.html", "graft/README.md"):
        text = html.unescape((tmp_path / "run" / name).read_text("utf-8")).replace("\\", "")
        assert "Selection: the training texts of" in text, name
    assert len(list((tmp_path / "run").glob("scores-chrf-*"))) == 1
