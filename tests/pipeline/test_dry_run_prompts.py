"""Tokens of a dry run, counted with the base's tokenizer, and how many prompts and segments there are to ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from estimate_support import SOURCE, TARGET, recipe, stage, train
from lingraft.data.records import Example, Message, Pair, Span
from lingraft.pipeline.dry_run import describe, estimate
from lingraft.pipeline.dry_run_prompts import CHARACTERS_PER_TOKEN, Documents, Prompts, Ruler
from lingraft.recipe.load import parse_recipe
from lingraft.rendering.renderer import Renderer
from lingraft.translation.wording import DEFAULT, ask_for


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))


def tokenizer_beside_model(folder: Path) -> Renderer:
    tokenizer = tiny_tokenizer()
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Renderer(tokenizer)


def test_tokens_are_counted_with_the_tokenizer_where_it_is_at_hand(tmp_path: Path) -> None:
    renderer = tokenizer_beside_model(tmp_path / "model")
    result = stage(estimate(recipe(tmp_path, model="./model")), "train-vanilla")
    pair = Pair("a", SOURCE, TARGET, "de", "en")
    row = renderer.render(Example("a", ask_for(pair, [DEFAULT]), (Span(TARGET, "translation"),)))
    assert (result.tokens, result.supervised) == pytest.approx((50 * len(row.input_ids), 50 * row.supervised))


def test_only_rows_within_the_limit_are_counted(tmp_path: Path) -> None:
    tokenizer_beside_model(tmp_path / "model")
    few = stage(estimate(recipe(tmp_path, model="./model", pairs=train(limit=10))), "train-vanilla")
    mixed = recipe(tmp_path, model="./model", pairs=train(limit=10))
    with (tmp_path / "train.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"source": SOURCE * 9, "target": TARGET * 9}) + "\n" for _ in range(100))
    assert stage(estimate(mixed), "train-vanilla").tokens == pytest.approx(few.tokens)


def test_prompts_and_documents_are_counted_with_the_tokenizer(tmp_path: Path) -> None:
    renderer = tokenizer_beside_model(tmp_path / "model")
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"{SOURCE} {i}"}) + "\n" for i in range(20)))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": f"{TARGET} {i}"}) + "\n" for i in range(20)))
    sources = {"prompts": {"path": "prompts.jsonl"}, "texts": {"path": "texts.jsonl", "lang": "en"}}
    made = recipe(tmp_path, model="./model", **sources)
    ruler = Ruler.of(made)
    asked = [renderer.prompt_ids((Message("user", f"{SOURCE} {i}"),)).ids for i in range(20)]
    assert Prompts.of(made, ruler).request == pytest.approx(sum(map(len, asked)) / 20)
    assert Documents.of(made, ruler).tokens == pytest.approx(sum(renderer.count(f"{TARGET} {i}") for i in range(20)))


@pytest.mark.parametrize(("written", "replayed"), [(60, 27), (700, 318)])
@pytest.mark.parametrize("own", [False, True])
def test_prompts_that_a_development_set_holds_back_are_not_replayed(
    tmp_path: Path, written: int, replayed: int, own: bool
) -> None:
    """By hand: a tenth of the half for replay, 32 at most, is not trained on; the other half is as it was."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why is the sky blue?", "reference": "So."}\n' * written)
    dev = {"dev": {"path": "test.jsonl", "source": "de", "target": "en"}} if own else {"dev_share": 0.2}
    replay = {"stages": [{"method": "recovery"}], "prompts": {"path": "prompts.jsonl"}}

    def trained(pairs: dict[str, Any]) -> Any:
        return stage(estimate(recipe(tmp_path, pairs=pairs, **replay)), "train-recovery")

    with_dev, without = trained({**train(), **dev}), trained(train())
    assert with_dev.tokens / without.tokens == pytest.approx(replayed / (written // 2))
    assert with_dev.supervised / without.supervised == pytest.approx(replayed / (written // 2))
    made = recipe(tmp_path, pairs={**train(), **dev}, **replay)
    prompts = Prompts.of(made, Ruler.of(made))
    assert (prompts.count, prompts.dev, prompts.held) == (replayed, written // 2 - replayed, written // 2)


def test_prompts_are_counted_by_source(tmp_path: Path) -> None:
    """By hand: of b the first two are asked by a as well, and its limit is of those that are left."""
    for name, numbers in (("a", range(6)), ("b", range(4, 30))):
        rows = [json.dumps({"prompt": f"Why {n}?"}) + "\n" for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    sources = [{"path": "a.jsonl"}, {"path": "b.jsonl", "limit": 10}]
    made = recipe(tmp_path, prompts=sources)
    prompts = Prompts.of(made, Ruler.of(made))
    assert (prompts.sources, prompts.count, prompts.held) == ({"a": 6, "b": 10}, 8, 8)
    said = "16 general prompts (6 of a, 10 of b), about half of them for replay"
    assert said in describe(made, tmp_path / "run").splitlines()
    one = recipe(tmp_path, prompts=sources[0])
    assert "6 general prompts (6 of a), about half of them for replay" in describe(one, tmp_path / "run")
    assert "general prompts" not in describe(recipe(tmp_path), tmp_path / "run")


def test_prompts_on_the_hub_are_those_expected_up_to_their_limits(tmp_path: Path) -> None:
    def counted(*limits: int | None) -> int:
        sources = [{"path": f"hub:org/{n}", "limit": limit} for n, limit in enumerate(limits)]
        made = recipe(tmp_path, prompts=sources, expected={"prompts": 400})
        prompts = Prompts.of(made, Ruler.of(made))
        return prompts.count + prompts.held

    assert [counted(30), counted(30, 50), counted(30, None), counted(300, 300)] == [30, 80, 400, 400]


def test_no_suite_is_asked_more_than_there_is(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"Why {i}?"}) + "\n" for i in range(20)))

    def decoded(**limits: int) -> float:
        suite = {"kind": "self", "max_new_tokens": 30, "kl_max_new_tokens": 20, **limits}
        asked = {"retention": {"suites": [suite]}}
        made = recipe(tmp_path, prompts={"path": "prompts.jsonl"}, evaluate=asked)
        return float(stage(estimate(made), "decode, all systems").tokens)

    translated = 2 * 10 * len(TARGET) / CHARACTERS_PER_TOKEN
    assert decoded(max_prompts=10**15, max_pairs=10**15) == pytest.approx(translated + 2 * 0.7 * 50 * (10 + 10))
    assert decoded(max_prompts=3, max_pairs=0) == pytest.approx(translated + 2 * 0.7 * 50 * 3)


def test_limits_hold_for_what_is_expected_too() -> None:
    values = {"path": "hub:org/name", "source": "de", "target": "en", "limit": 300}
    pairs = {"train": values, "test": {**values, "limit": 7}}
    evaluate = {"retention": {"suites": []}}
    hub = parse_recipe(
        {"name": "x", "pairs": pairs, "expected": {}, "stages": [{}], "evaluate": evaluate}, "x", Path("/")
    )
    assert estimate(hub).pairs == 300
    assert stage(estimate(hub), "decode, all systems").tokens == pytest.approx(2 * 7 * 45)
