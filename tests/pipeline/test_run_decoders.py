"""Systems that translate by a decoder, in whole runs on a tiny random model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.progress import Reporter
from lingraft.data.records import Message, Request
from lingraft.decoders.base import DECODERS, Decoder, DecoderInputs, ExpectedStep
from lingraft.decoders.direct import drafts
from lingraft.evaluation.scorecard import Scorecard
from lingraft.models import embedding
from lingraft.pipeline.dry_run import estimate
from lingraft.pipeline.parts import parts_of
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import facts
from lingraft.store.parts import PartStore
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem
from tiny_runs import QUIET, values


class Twice(Decoder):
    """Asks for a translation, and for a better one by the base."""

    name: ClassVar[str] = "twice"
    summary: ClassVar[str] = "translate, and improve"

    def expected_steps(self) -> Sequence[ExpectedStep]:
        return (ExpectedStep(name="drafts"), ExpectedStep(name="better", of="base", tokens=20))

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        found = list(drafts(sources, system, inputs))
        asked = [Request(one.id, (Message("user", f"Better: {one.text}"),), inputs.sampling) for one in found]
        answers = inputs.ask("better", asked, "base")
        for one in found:
            better = answers[one.id]
            steps = {"drafts": one.text, "better": better.text}
            tokens = one.tokens + len(better.token_ids)
            yield replace(one, text=better.text.strip() or one.text, tokens=tokens, calls=2, steps=steps)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DECODERS._targets, "twice", Twice)
        yield


TWO = ("direct", {"kind": "twice", "name": "two", "systems": ["base", "vanilla"]})


def tiny_recipe(model: Path, *decoders: Any) -> Recipe:
    changed = values(model, compare=[])
    changed["pairs"]["train"]["limit"] = 8
    changed["prompts"]["limit"] = 8
    changed["stages"][0] |= {"method": "vanilla", "params": {}}
    changed["evaluate"]["retention"] = {"suites": [{"kind": "refusal", "max_prompts": 4, "max_new_tokens": 8}]}
    changed["evaluate"]["decoders"] = list(decoders or TWO)
    return parse_recipe(changed, "test", Path("/"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("tiny") / "model", tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoders") / "run"
    run(tiny_recipe(model), folder, QUIET)
    return folder


def folders(root: Path, begin: str) -> list[Path]:
    return sorted(path for path in root.glob(f"{begin}-????????") if path.is_dir())


NAMES = ["base", "vanilla", "base/direct", "vanilla/direct", "base/two", "vanilla/two"]


def test_each_is_a_system_with_its_weights_and_its_cost(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    assert [one.name for one in card.systems] == NAMES
    two = next(one for one in card.systems if one.name == "vanilla/two")
    assert (two.weights, two.decoder, two.group) == ("vanilla", "twice", "vanilla")
    rows = {row.system: row for row in card.summary}
    assert [rows[name].calls_per_translation for name in NAMES] == [1, 1, 1, 1, 2, 2]
    once, twice = rows["vanilla"].output_tokens_per_translation, rows["vanilla/two"].output_tokens_per_translation
    assert once is not None
    assert twice is not None
    assert twice > once
    assert all(row.seconds_per_translation for row in card.summary)
    stages = [(row.system, row.stage) for row in card.cost if "/" in row.system]
    assert ("vanilla/two", "decoding, better") in stages


def test_direct_translation_has_the_scores_of_its_weights(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    scores = {(row.system, row.metric): (row.score, row.ci95) for row in card.translation}
    for row in card.translation:
        weights, slash, decoder = row.system.partition("/")
        if slash and decoder == "direct":
            assert scores[row.system, row.metric] == scores[weights, row.metric]


def test_suites_are_answered_by_the_weights_and_compared_once(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    scores = {(row.system, row.suite, row.metric): row.score for row in card.general}
    assert {system for system, _, _ in scores} == set(NAMES)
    for (system, suite, metric), score in scores.items():
        assert score == scores[system.partition("/")[0], suite, metric]
    for row in card.general:
        same = [name for name in row.versus if name.partition("/")[0] == row.system.partition("/")[0]]
        assert all(row.versus[name].p_holm is None for name in same)
    assert {row.system for row in card.answered} == {"base", "vanilla"}
    assert not any("/" in name for row in card.answered for name in row.versus)
    shown = [json.loads(line) for line in (finished / "outputs.jsonl").read_text("utf-8").splitlines()]
    assert all("base/two" not in item["outputs"] for item in shown if item["group"] == "refusal")


def test_what_was_answered_is_not_asked_again(finished: Path) -> None:
    for name in ("base~direct-drafts", "vanilla~direct-drafts", "base~two-drafts", "vanilla~two-drafts"):
        (folder,) = folders(finished, f"decode-{name}")
        made = facts(folder)
        assert (made["taken_over"], made["tokens"]) == (made["requests"], 0) == (6, 0)
        assert made["taken_tokens"] > 0
    assert facts(folders(finished, "decode-vanilla~two-better")[0])["requests"] == 6


def test_the_report_shows_steps_costs_and_what_is_no_better(finished: Path) -> None:
    items = [json.loads(line) for line in (finished / "outputs.jsonl").read_text("utf-8").splitlines()]
    steps = next(item["steps"] for item in items if "steps" in item)
    assert set(steps) == {"base/two", "vanilla/two"}
    assert list(steps["base/two"]) == ["drafts", "better"]
    page = (finished / "report.html").read_text("utf-8")
    assert "Decoder: vanilla/two is" in page
    assert "than vanilla asked once" in page
    assert "at 2.0 calls a segment" in page
    assert "What a segment takes by each decoder" in page
    assert "Decoder: vanilla/direct" not in page
    (data,) = [part for part in page.split("<script") if "outputs-data" in part[:200]]
    assert '["better",' in data


def lasting(folder: Path) -> dict[str, str]:
    """Return what a run wrote that no clock is in."""
    files = [*folder.glob("decode-*/**/*.jsonl"), folder / "outputs.jsonl", folder / "items.jsonl"]
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in files}


@pytest.mark.parametrize(
    ("stage", "within"),
    [
        ("decode-vanilla~two-better", True),
        pytest.param("decode-base~two-drafts", False, marks=pytest.mark.long),
        pytest.param("decode-base~two-better", False, marks=pytest.mark.long),
        pytest.param("decode-base~two-better", True, marks=pytest.mark.long),
    ],
)
def test_a_run_that_is_stopped_within_a_step_ends_alike(
    model: Path, finished: Path, tmp_path: Path, stage: str, within: bool
) -> None:
    folder, again = tmp_path / "run", tiny_recipe(model)
    shutil.copytree(finished, folder)
    for path in [*folder.glob("decode-*~*"), *folder.glob("scorecard.json"), *folder.glob("run.json")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(Stopped):
        run(again, folder, Stopping(stage, within))
    assert not folders(folder, stage)
    assert bool(list(folder.glob(f"{stage}-*.partial"))) == within
    run(again, folder, QUIET)
    assert lasting(folder) == lasting(finished)


class Stopped(Exception):
    """Raised in a step."""


class Stopping(Reporter):
    """Stops a run in a stage: when it has begun to ask (`within`), or before."""

    def __init__(self, stage: str, within: bool) -> None:
        super().__init__(quiet=True)
        self.stage, self.within = stage, within

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Any]:
        with super().task(title, total) as task:
            if title == self.stage.replace("~", "/") and self.within:
                raise Stopped
            yield task

    def say(self, text: str, *, always: bool = False) -> None:
        if text.startswith(f"Starting {self.stage} ") and not self.within:
            raise Stopped
        super().say(text, always=always)


def test_a_dry_run_counts_what_decoders_ask(model: Path) -> None:
    recipe = tiny_recipe(model)
    lines = {line.stage: line for line in estimate(recipe).lines}
    assert lines["decode vanilla/direct"].tokens == 0
    assert lines["decode vanilla/two"].tokens == 6 * 20
    assert lines["decode vanilla/two"].note == "about 2 calls a segment"
    without = recipe.model_copy(update={"evaluate": _without_decoders(recipe)})
    assert len(parts_of(recipe)) == len(parts_of(without)) + 4


def _without_decoders(recipe: Recipe) -> Any:
    return recipe.evaluate.model_copy(update={"decoders": []})


@pytest.mark.long
def test_pairs_chosen_by_embeddings_in_a_killed_run_are_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "PART", 4)
    recipe = tiny_recipe(model, {"kind": "icl", "k": 2, "retriever": "embedding"})
    whole, folder = tmp_path / "whole", tmp_path / "run"
    run(recipe, whole, QUIET)
    kept = folders(whole, "vectors")
    assert sorted(facts(one)["texts"] for one in kept) == [6, 8]  # the test set and the training pairs: once for both
    card = Scorecard.read(whole / "scorecard.json")
    assert ("vanilla/icl", "choosing") in [(row.system, row.stage) for row in card.cost]
    shutil.copytree(whole, folder)
    for path in [*folder.glob("vectors-*"), *folder.glob("decode-*~*"), *folder.glob("*.json")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    put = PartStore.put

    def once(self: PartStore, index: int, key: str, lines: Any) -> None:
        if index == 1:
            raise Stopped
        put(self, index, key, lines)

    with monkeypatch.context() as patch:
        patch.setattr(PartStore, "put", once)
        with pytest.raises(Stopped):
            run(recipe, folder, QUIET)
    assert list(folder.glob("vectors-*.partial/parts/part-000000-*"))
    run(recipe, folder, QUIET)
    assert lasting(folder) == lasting(whole)
    for one in kept:
        files = {path.name: path.read_bytes() for path in (one / "parts").iterdir()}
        assert {path.name: path.read_bytes() for path in (folder / one.name / "parts").iterdir()} == files


@pytest.mark.long
def test_the_contamination_probe_is_one_key_and_a_table_of_the_report(model: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(model, "direct")
    probing = recipe.evaluate.model_copy(update={"decoders": [], "contamination_probe": True})
    run(recipe.model_copy(update={"evaluate": probing}), tmp_path / "run", QUIET)
    card = Scorecard.read(tmp_path / "run" / "scorecard.json")
    assert [one.name for one in card.systems] == ["base", "vanilla", "base/probe-right", "base/probe-wrong"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "outputs.jsonl").read_text("utf-8").splitlines()]
    shown = [one["steps"] for one in lines if "steps" in one]
    assert shown
    assert all(one["base/probe-right"][0] == one["base/probe-wrong"][0] for one in map(_first_steps, shown))
    assert "Contamination probe" in (tmp_path / "run" / "report.html").read_text("utf-8")


def _first_steps(steps: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    return {name: list(found.values()) for name, found in steps.items()}


def test_a_dry_run_counts_what_is_read_to_choose_pairs(model: Path) -> None:
    chosen = [{"kind": "icl", "retriever": "embedding"}, {"kind": "icl", "name": "drawn"}]
    lines = {line.stage: line for line in estimate(tiny_recipe(model, *chosen)).lines}
    assert "tokens are read to choose what is shown" in lines["decode base/icl"].note
    assert lines["decode vanilla/icl"].note.endswith("by what was read before")
    assert "read" not in lines["decode base/drawn"].note
    assert lines["decode base/icl"].hours > lines["decode vanilla/icl"].hours > 0
