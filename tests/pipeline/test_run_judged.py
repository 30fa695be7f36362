"""A run whose suites have judges, on a tiny random model: one scripted, one behind the OpenAI protocol."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.progress import Reporter
from lingraft.evaluation.scorecard import Scorecard
from lingraft.pipeline.dry_run import describe
from lingraft.pipeline.run import run
from lingraft.recipe.load import dump_recipe, parse_recipe
from lingraft.store.artefacts import facts
from openai_server import FakeServer, chat

QUIET = Reporter(quiet=True)
RATING = re.compile(r"Assistant's Answer\]\n(.*)\n\[The End of", re.DOTALL)


class Judge:
    """Prefers longer answers; about half of the first verdicts cannot be read."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        shown = body["messages"][1]["content"]
        with self.lock:
            self.asked[shown] += 1
            again = self.asked[shown] > 1
        assert body["messages"][0]["role"] == "system"
        assert (body["temperature"] > 0) == again
        first, second = (part.split('"""')[0] for part in shown.split('"output": """')[1:])
        kind = crc32(shown.encode()) % 4
        if kind < 2 and not again:
            return chat("They are both fine.") if kind else chat(None, "content_filter")
        return chat("m" if (len(first), first) > (len(second), second) else "M")


@pytest.fixture(scope="module")
def judge() -> Iterator[tuple[Judge, FakeServer]]:
    answers = Judge()
    with FakeServer(answers, owned_by="openai", models=("big-judge",)) as server:
        yield answers, server


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory, judge: tuple[Judge, FakeServer]) -> dict[str, Any]:
    """A recipe with two judged suites and a guard. The base's template takes no system message."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("gemma2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    served = {"kind": "openai", "base_url": judge[1].url, "model": "big-judge", "price_prompt": 2.5}
    grades = {"kind": "scripted", "rules": [{"pattern": "Conversation with User", "answer": "Rating: [[4]]"}]}
    grades["rules"] += [{"pattern": "a", "answer": "[[9]]"}]  # type: ignore[operator]
    annotated = [{"pattern": "one whole number", "answer": "64"}, {"answer": 'minor: "x" is odd'}]
    annotator = {"kind": "scripted", "rules": annotated}
    source = {"source": "de", "target": "en"}
    return {
        "name": "judged",
        "model": str(folder),
        "engine": "transformers",
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 12, **source},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 3, **source},
        },
        "stages": {
            "method": "vanilla",
            "tuner": {"kind": "lora", "rank": 4},
            "train": {"tokens_per_step": 512, "micro_tokens": 512, "precision": "fp32", "learning_rate": 0.05},
        },
        "evaluate": {
            "bootstrap": 100,
            "translation": {"max_new_tokens": 6, "metrics": ["chrf++", {"kind": "esa", "judge": annotator}]},
            "retention": {
                "suites": [
                    {"kind": "mt_bench", "max_prompts": 4, "max_new_tokens": 6, "judge": grades},
                    {"kind": "alpaca_eval", "name": "wins", "max_new_tokens": 8, "judge": served},
                    {
                        "kind": "refusal",
                        "max_prompts": 4,
                        "max_new_tokens": 6,
                        "guard": "transformers",
                        "retries": 1,
                        "verdict_tokens": 4,
                    },
                ]
            },
        },
        "seed": 7,
    }


def test_a_run_with_judges(values: dict[str, Any], judge: tuple[Judge, FakeServer], tmp_path: Path) -> None:
    answers, server = judge
    recipe = parse_recipe(values, "test", Path("/"))
    folder = tmp_path / "judged"
    run(recipe, folder, QUIET)

    rows = {(row.suite, row.metric, row.system): row for row in Scorecard.read(folder / "scorecard.json").general}
    assert rows["mt_bench", "score", "base"].score == pytest.approx(6.5)
    assert rows["mt_bench", "score_turn1", "vanilla"].score == pytest.approx(9.0)
    assert rows["mt_bench", "score", "vanilla"].n == 8
    assert rows["wins", "win_rate", "base"].score == 50.0
    assert rows["wins", "unreadable", "vanilla"].score == 0.0  # every second verdict could be read
    assert rows["refusal", "unreadable", "base"].score == 100.0  # a random model as its own guard
    assert ("refusal", "refusal_rate_guard", "base") not in rows
    assert "judge:big-judge|prompts:alpaca-eval-clf-" in rows["wins", "win_rate", "base"].signature

    scored = {row.system: row for row in Scorecard.read(folder / "scorecard.json").translation if row.metric == "esa"}
    assert scored["base"].n == scored["vanilla"].n == 3
    assert 0 < scored["vanilla"].score <= 64  # an empty translation has 0, and is not judged
    assert "judge:the base (scripted)" in scored["base"].signature

    lines = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text("utf-8").splitlines()]
    verdicts = [row for row in lines if "suite" in row]
    annotated = [row for row in lines if row.get("metric") == "esa"]
    assert {row["system"] for row in annotated} == {"base", "vanilla"}
    assert {row["verdict"] for row in annotated} <= {'minor: "x" is odd\n\n64', ""}
    of_suite = Counter((row["suite"], row["system"]) for row in verdicts)
    assert of_suite["mt_bench", "base"] == of_suite["mt_bench", "vanilla"] == 8
    assert of_suite["refusal", "base"] == 4 * 2
    assert ("wins", "base") not in of_suite
    assert of_suite["wins", "vanilla"] == len(server.bodies) == answers.asked.total()
    assert {row["judge"] for row in verdicts if row["suite"] == "wins"} == {"big-judge"}
    pairs = [row for row in verdicts if row["suite"] == "wins"]
    assert {row["score"] for row in pairs if row["verdict"] not in ("m", "M")} == {None}
    wins = [
        row["score"] if row["item"].endswith("/1") else 1 - row["score"] for row in pairs if row["score"] is not None
    ]
    assert len(wins) == 20
    assert rows["wins", "win_rate", "vanilla"].score == pytest.approx(100 * sum(wins) / 20)
    costs = {path.name.rpartition("-")[0]: facts(path) for path in folder.glob("judge-wins-*") if path.is_dir()}
    assert costs["judge-wins-vanilla"]["usage"]["requests"] == 20

    asked, before = len(server.bodies), (folder / "verdicts.jsonl").read_bytes()
    (folder / "verdicts.jsonl").unlink()
    run(parse_recipe(values, "test", Path("/")), folder, QUIET)
    assert (folder / "verdicts.jsonl").read_bytes() == before  # published anew, without asking anybody
    assert len(server.bodies) == asked


def test_the_dry_run_counts_verdicts_and_money(values: dict[str, Any]) -> None:
    recipe = parse_recipe(values, "test", Path("/"))
    text = describe(recipe, Path("runs/x"))
    assert "mt_bench: at most 16 verdicts of scripted, which reads about" in text
    assert "wins: at most 40 verdicts of big-judge, which reads about" in text
    assert "by the prices given" in text
    assert "esa: at most 12 verdicts of scripted, which reads about" in text
    assert "refusal: at most 8 verdicts of transformers, on the base" in text
    again = parse_recipe(json.loads(json.dumps(recipe.model_dump(mode="json"))), "test", Path("/"))
    assert dump_recipe(again) == dump_recipe(recipe)
