"""A development set in a run: its rows are nobody else's, and what is measured is what the finished graft gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics import CHRF

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError, UsageError
from lingraft.core.progress import Reporter
from lingraft.data.overlap import OverlapIndex
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Sampling
from lingraft.models.graft import find_base, grafted, read_info
from lingraft.models.loading import load_model
from lingraft.pipeline.context import Context
from lingraft.pipeline.development import _source, _written
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.translation.direct import extract, requests
from lingraft.translation.wording import TranslationSystem
from tiny_runs import QUIET, values

GERMAN = {"source": "de", "target": "en"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dev_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of the starter data that a tiny run does not train on."""
    path = tmp_path_factory.mktemp("data") / "dev.jsonl"
    rows = islice(read_pairs(PairSource(path="starter:train.de-en.jsonl", **GERMAN)), 200, 208)
    lines = [json.dumps({"source": row.record.source, "target": row.record.target}) for row in rows]  # type: ignore[union-attr]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def recipe(model: Path, settings: Mapping[str, Any] | None = None, **pairs: Any) -> Recipe:
    changed = values(model)
    changed["pairs"] |= pairs
    changed["stages"][0] |= {"method": "vanilla", "params": {}}
    changed["stages"][0]["train"] |= {"tokens_per_step": 256} | dict(settings or {})
    changed["prompts"]["limit"] = 100
    changed["compare"] = []
    changed["evaluate"]["retention"]["suites"] = []
    return parse_recipe(changed, "", Path("/"))


def opened(recipe: Recipe, folder: Path) -> Data:
    return prepare(Context(recipe, folder, Reporter(quiet=True)))


def test_measuring_changes_no_bit_of_the_graft_and_says_what_the_graft_gives(
    model: Path, dev_file: Path, tmp_path: Path
) -> None:
    plain, measured = tmp_path / "plain", tmp_path / "measured"
    dev = {"path": str(dev_file), **GERMAN}
    own = recipe(model, {"dev_every_steps": 2, "dev_sample": 5}, dev=dev)
    run(recipe(model), plain, QUIET)
    run(own, measured, QUIET)
    name = "graft/adapter_model.safetensors"
    assert (plain / name).read_bytes() == (measured / name).read_bytes()
    (folder,) = measured.glob("train-vanilla-*")
    points = [json.loads(line) for line in (folder / "dev.jsonl").read_text().splitlines()]
    steps = [point["step"] for point in points]
    assert steps[:2] == [0, 2]
    assert points[0]["kl"] == 0
    assert points[-1]["kl"] > 0
    assert not (plain / "dev.jsonl").exists()

    data = opened(own, measured)
    info = read_info(folder / "graft")
    how = TranslationSystem(info.instruction, tuple(info.stop))
    with grafted(load_model(find_base(info, folder, str(model)), "fp32"), folder / "graft") as loaded:
        pairs = data.dev[:]
        written = _written(
            loaded,
            list(requests([_source(n, pair) for n, pair in enumerate(pairs)], how, Sampling(12, seed=7))),
        )
        texts = {pair.id: extract(_source(n, pair), written[f"dev/{n}"], how.stop).text for n, pair in enumerate(pairs)}
    found = [
        CHRF().corpus_score([texts[pair.id] for pair in five], [[pair.target for pair in five]]).score
        for five in combinations(pairs, 5)  # which are the sample is the run's affair
    ]
    assert min(abs(points[-1]["chrf"] - one) for one in found) < 1e-9


def test_a_share_is_held_out_with_its_opposite_direction_and_its_document(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    rows = [
        {
            "source": f"Der Satz mit der Nummer {n} ist lang genug.",
            "target": f"This is sentence number {n}, long.",
            "document": f"d{n // 4}",
        }
        for n in range(80)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    backwards = tmp_path / "back.jsonl"
    back = [{"source": row["target"], "target": "Noch anders gesagt, und lang " + str(n)} for n, row in enumerate(rows)]
    backwards.write_text("".join(json.dumps(row) + "\n" for row in back))
    train = [
        {"path": str(path), "both_directions": True, **GERMAN},
        {"path": str(backwards), "source": "en", "target": "de"},
    ]
    data = opened(recipe(model, dev_share=0.2, train=train), tmp_path / "run")
    assert data.dev
    held = {pair.document for pair in data.dev if pair.document}
    assert held
    assert not held & {pair.document for pair in data.train if pair.document}
    index = OverlapIndex(data.dev)
    assert len(data.train)
    assert not [pair for pair in data.train if index.match(pair)]
    forward = {pair.id for pair in data.dev if pair.source_lang == "de"}
    assert {f"{id_}:rev" for id_ in forward} <= {pair.id for pair in data.dev}
    assert sum(data.counts[str(backwards)].values()) >= len(held) * 3  # its rows that share a side
    again = opened(recipe(model, dev_share=0.2, train=train), tmp_path / "again")
    assert data.dev == again.dev


def test_development_and_test_sets_may_be_of_both_directions(model: Path, dev_file: Path, tmp_path: Path) -> None:
    dev = {"path": str(dev_file), "both_directions": True, **GERMAN}
    test = {"path": "starter:test.de-en.jsonl", "limit": 3, "both_directions": True, **GERMAN}
    data = opened(recipe(model, dev=dev, test=test), tmp_path)
    assert len(data.dev) == 16
    assert [pair.reversed() for pair in data.dev[::2]] == list(data.dev[1::2])
    there, back = data.tests
    assert (there.key, back.key) == ("test0-de-en", "test1-en-de")
    assert [pair.reversed() for pair in there.pairs] == back.pairs
    assert data.tested == [("de", "en"), ("en", "de")]
    assert not [pair for pair in data.train if OverlapIndex(back.pairs).match(pair)]


def aligned(dev_file: Path, folder: Path) -> dict[str, str]:
    """Write the development set as two aligned files, and return its source."""
    rows = [json.loads(line) for line in dev_file.read_text("utf-8").splitlines()]
    for side in ("source", "target"):
        (folder / f"dev.{side}").write_text("".join(row[side] + "\n" for row in rows), "utf-8")
    return {"path": str(folder / "dev.source"), "target_path": str(folder / "dev.target"), **GERMAN}


def test_a_development_set_may_be_two_aligned_files(model: Path, dev_file: Path, tmp_path: Path) -> None:
    dev = aligned(dev_file, tmp_path)
    whole = opened(recipe(model, dev={"path": str(dev_file), **GERMAN}), tmp_path / "whole").dev
    of_two = opened(recipe(model, dev=dev), tmp_path / "two").dev
    assert [(pair.source, pair.target) for pair in of_two] == [(pair.source, pair.target) for pair in whole]
    texts = (tmp_path / "dev.target").read_text("utf-8")
    (tmp_path / "dev.target").write_text(texts.replace("\n", ".\n"), "utf-8")  # another second file, another set
    assert opened(recipe(model, dev=dev), tmp_path / "two").dev != of_two
    (tmp_path / "dev.target").write_text(texts + "One more.\n", "utf-8")
    with pytest.raises(DataError, match=r"dev\.source has 8 lines but .*dev\.target has 9; aligned files need"):
        opened(recipe(model, dev=dev), tmp_path / "two")


@pytest.mark.long
@pytest.mark.parametrize("method", ["preferences", "relevance"])
def test_training_on_files_of_a_method_is_measured_on_a_development_set(
    model: Path, dev_file: Path, tmp_path: Path, method: str
) -> None:
    """Neither has training pairs; the references' loss, translations and divergence are measured all the same."""
    rows: list[dict[str, Any]] = [
        {"source": f"Zeile {i}.", "chosen": f"Line {i}.", "rejected": "No."}
        if method == "preferences"
        else {"query": f"Frage {i}", "positive": f"Die Stadt {i} liegt am Meer.", "negative": ["Ja."], "lang": "de"}
        for i in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    file = str(tmp_path / "rows.jsonl")
    params = {"path": file, **GERMAN} if method == "preferences" else {"queries": file}
    made = recipe(model, {"dev_every_steps": 2, "dev_sample": 3, "keep": "best"}, dev=aligned(dev_file, tmp_path))
    changed = made.model_dump(mode="json", by_alias=True, exclude_unset=True)
    del changed["pairs"]["train"]
    changed["stages"][0] |= {"method": method, "params": params}
    run(parse_recipe(changed, "", Path("/")), tmp_path / "run", QUIET)
    (folder,) = (path.parent for path in (tmp_path / "run").glob("train-*/dev.jsonl"))
    points = [json.loads(line) for line in (folder / "dev.jsonl").read_text().splitlines()]
    assert [point["step"] for point in points[:2]] == [0, 2]
    assert all(point.keys() >= {"loss", "chrf", "kl"} for point in points)
    assert points[1]["loss"] != points[0]["loss"]
    assert points[1]["kl"] > points[0]["kl"] == 0.0


def test_the_development_set_is_not_trained_on_and_shares_nothing_with_the_test_set(
    model: Path, dev_file: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed.jsonl"
    test = next(read_pairs(PairSource(path="starter:test.de-en.jsonl", **GERMAN)))
    train = next(read_pairs(PairSource(path="starter:train.de-en.jsonl", **GERMAN)))
    lines = [json.dumps({"source": r.record.source, "target": r.record.target}) for r in (test, train)]  # type: ignore[union-attr]
    mixed.write_text("\n".join(lines) + "\n" + dev_file.read_text("utf-8"))
    data = opened(recipe(model, dev={"path": str(mixed), **GERMAN}), tmp_path / "run")
    assert data.counts[str(mixed)] == {"overlap_with_test": 1}
    assert data.counts["starter:train.de-en.jsonl"]["overlap_with_test"] == 1
    (left_out,) = (row for row in data.rejected if row.file == str(mixed))
    assert left_out.detail.startswith("mixed:1: both sides of 'test-001'")
    assert len(data.dev) == 9
    assert [pair.id for pair in data.unmeasured][-9:] == [pair.id for pair in data.dev]
    shared = {prompt.id for prompt in data.dev_prompts} & {prompt.id for prompt in (*data.replay, *data.retention)}
    assert not shared


def test_a_share_of_nothing_is_one_sentence(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.dev_share: 1e-06 of 24 training pairs is none; raise it"):
        opened(recipe(model, dev_share=1e-6), tmp_path)


@pytest.mark.parametrize(
    ("train", "pairs", "said"),
    [
        ({"patience": 2}, {}, r"train\.patience is for a development set; add `pairs\.dev`, or `dev_share: 0\.02`"),
        ({"dev_every_steps": 2}, {}, r"train\.dev_every_steps is for a development set"),
        ({"keep": "best"}, {}, r"train\.keep is for a development set"),
        ({"sharding": "full"}, {"dev_share": 0.1}, r"the whole base translates a development set"),
        ({}, {"dev_share": 0.1, "dev": {"path": "a.jsonl", **GERMAN}}, "there are `dev` and `dev_share`"),
        ({}, {"dev_share": 0.9}, "less than or equal to 0.5"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_recipe_is_read(
    model: Path, train: Mapping[str, Any], pairs: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        recipe(model, train, **pairs)


def test_a_budget_of_divergence_needs_prompts(model: Path) -> None:
    changed = values(model)
    changed["pairs"]["dev_share"] = 0.1
    changed["stages"][0] |= {"method": "vanilla", "params": {}}
    changed["stages"][0]["train"] |= {"max_kl": 0.1, "keep": "best"}
    changed |= {"prompts": None, "compare": []}
    changed["evaluate"]["retention"]["suites"] = []
    with pytest.raises(UsageError, match=r"train\.max_kl is measured on general prompts; add `prompts"):
        parse_recipe(changed, "", Path("/"))
