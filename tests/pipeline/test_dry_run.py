"""The dry run's figures against counts made by hand, and against a real (tiny) model's size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama
from estimate_support import SOURCE, TARGET, recipe, rows, stage, train
from lingraft.core.errors import DataError
from lingraft.pipeline.dry_run import LEAST_STEPS, describe, estimate, fitting_tokens_per_step
from lingraft.pipeline.dry_run_device import CPU_FLOPS
from lingraft.pipeline.dry_run_prompts import CHARACTERS_PER_TOKEN, PROMPT_OVERHEAD_TOKENS, SENTENCE_TOKENS
from lingraft.recipe.load import load_recipe
from lingraft.recipe.schema import Recipe
from lingraft.recipe.shipped import shipped_recipes


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))


def test_pairs_and_tokens_are_counted_in_the_files(tmp_path: Path) -> None:
    result = estimate(recipe(tmp_path))
    assert result.pairs == 50  # what is not a row is not counted
    assert result.measured
    answer = len(TARGET) / CHARACTERS_PER_TOKEN
    line = stage(result, "train-vanilla")
    assert line.supervised == pytest.approx(50 * answer)
    assert line.tokens == pytest.approx(50 * (PROMPT_OVERHEAD_TOKENS + len(SOURCE) / CHARACTERS_PER_TOKEN + answer))
    assert line.hours == pytest.approx(4.5 * 135e6 * line.tokens / CPU_FLOPS / 3600)
    assert result.hours == pytest.approx(sum(each.hours for each in result.lines))
    decode = stage(result, "decode, all systems")
    assert decode.tokens == pytest.approx(2 * 10 * answer)  # base and one system


@pytest.mark.parametrize(
    ("changes", "pairs"),
    [
        ({"limit": 20}, 20),
        ({"limit": 500}, 50),
        ({"both_directions": True}, 100),
        ({"limit": 7, "both_directions": True}, 14),
    ],
)
def test_limits_and_directions_count(tmp_path: Path, changes: dict[str, Any], pairs: int) -> None:
    assert estimate(recipe(tmp_path, pairs=train(**changes))).pairs == pairs


def test_directions_count_by_their_weights(tmp_path: Path) -> None:
    section = train(limit=10, both_directions=True)
    section["direction_weights"] = {"en-de": 0.3}
    assert estimate(recipe(tmp_path, pairs=section)).pairs == 13


def test_a_balanced_mixture_is_counted_as_it_is_drawn(tmp_path: Path) -> None:
    section = train(limit=10, both_directions=True)
    section |= {"mixture": "balanced", "train": [section["train"], {**section["train"], "name": "b", "weight": 0.5}]}
    assert estimate(recipe(tmp_path, pairs=section)).pairs == 30


def test_a_test_set_in_both_directions_is_two(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    once = stage(estimate(made), "decode, all systems").tokens
    section = {**train(), "test": {**made.pairs.test[0].model_dump(), "both_directions": True}}
    both = recipe(tmp_path, pairs=section)
    assert both.pairs.test_names == ["test (de-en)", "test (en-de)"]
    assert [(one.source, one.target, one.reversed) for one in both.pairs.test] == [
        ("de", "en", False),
        ("en", "de", True),
    ]
    assert stage(estimate(both), "decode, all systems").tokens == pytest.approx(2 * once)


def test_steps_are_shown_and_tokens_a_step_fit_small_data(tmp_path: Path) -> None:
    small = recipe(tmp_path)
    line = stage(estimate(small), "train-vanilla")
    assert line.steps == 1  # 50 short pairs, 4,096 tokens a step
    (shown,) = [text for text in describe(small, tmp_path).splitlines() if text.startswith("train-vanilla")]
    assert shown.split()[3] == "1"
    fits = fitting_tokens_per_step(small)
    assert fits is not None
    better = recipe(tmp_path, stages={"method": "vanilla", "train": {"tokens_per_step": fits}})
    assert stage(estimate(better), "train-vanilla").steps >= LEAST_STEPS
    assert stage(estimate(better), "train-vanilla").steps <= 2 * LEAST_STEPS + 1
    assert fitting_tokens_per_step(better) is None
    tiny = recipe(tmp_path, pairs=train(limit=2))
    assert fitting_tokens_per_step(tiny) == 128


def test_a_large_file_is_counted_to_its_end(tmp_path: Path) -> None:
    rows(tmp_path / "large.jsonl", 4321, bad=5)
    assert estimate(recipe(tmp_path, pairs=train(path="large.jsonl"))).pairs == 4321
    assert estimate(recipe(tmp_path, pairs=train(path="large.jsonl", limit=3000))).pairs == 3000


def test_epochs_and_rationales_multiply(tmp_path: Path) -> None:
    plain = stage(estimate(recipe(tmp_path)), "train-vanilla")
    twice = stage(estimate(recipe(tmp_path, stages={"method": "vanilla", "train": {"epochs": 2}})), "train-vanilla")
    assert (twice.tokens, twice.supervised, twice.hours) == pytest.approx(
        (2 * plain.tokens, 2 * plain.supervised, 2 * plain.hours)
    )
    half = {"method": "radis", "params": {"rationale_share": 0.5, "max_rationale_tokens": 100}}
    radis = estimate(recipe(tmp_path, stages=half, compare=["vanilla"]))
    written = stage(radis, "synthesis-radis").tokens
    assert 0 < written <= 50 * 0.5 * 100
    assert stage(radis, "train-radis").tokens == pytest.approx(plain.tokens + written)
    assert stage(radis, "train-vanilla").tokens == pytest.approx(plain.tokens)
    assert stage(radis, "decode, all systems").tokens == pytest.approx(
        1.5 * stage(estimate(recipe(tmp_path)), "decode, all systems").tokens
    )
    for off in ({"rationale_share": 0.0}, {"rationale_weight": 0.0}):
        none = estimate(recipe(tmp_path, stages={"method": "radis", "params": off}))
        assert [line.stage for line in none.lines] == ["train-radis", "decode, all systems"]
        assert stage(none, "train-radis").tokens == pytest.approx(plain.tokens)


def test_seeds_train_again_and_scales_are_only_measured(tmp_path: Path) -> None:
    one = estimate(recipe(tmp_path))
    more = estimate(
        recipe(tmp_path, seeds=[1, 5], evaluate={"retention": {"suites": []}, "scales": [0.25, 0.5]}, seed=1)
    )
    assert [line.stage for line in more.lines] == ["train-vanilla", "train-vanilla#5", "decode, all systems"]
    assert stage(more, "train-vanilla#5").tokens == stage(one, "train-vanilla").tokens
    # Base, two seeds, two scales of the first, against base and one.
    assert stage(more, "decode, all systems").tokens == pytest.approx(5 / 2 * stage(one, "decode, all systems").tokens)


def test_memory_is_that_of_the_largest_stage_and_translate_test_is_answered_and_translated(tmp_path: Path) -> None:
    stage_of, full = {"method": "vanilla"}, {"method": "vanilla", "tuner": "full"}
    one, two = (estimate(recipe(tmp_path, stages=[stage_of] * number)) for number in (1, 2))
    assert one.memory_gib == pytest.approx(two.memory_gib)
    more = estimate(recipe(tmp_path, stages=full)).memory_gib - one.memory_gib
    assert more == pytest.approx(8 * one.weights_gib)  # 16 bytes a weight beside the base's 2
    through = {"retention": {"suites": []}, "translate_test": {"languages": ["de"]}}
    decoded = stage(estimate(recipe(tmp_path, evaluate=through)), "decode, all systems").tokens
    assert decoded == pytest.approx(2 * stage(one, "decode, all systems").tokens)


def test_full_tuning_takes_a_third_more_time_than_low_rank_updates(tmp_path: Path) -> None:
    low, full = (
        stage(estimate(recipe(tmp_path, stages={"method": "vanilla", "tuner": tuner})), "train-vanilla")
        for tuner in ("lora", "full")
    )
    assert full.tokens == low.tokens
    # Each weight is multiplied once forward and twice backward, an addition with each multiplication.
    assert full.hours == pytest.approx(6 * 135e6 * full.tokens / CPU_FLOPS / 3600)
    assert full.hours / low.hours == pytest.approx(4 / 3)


QUESTION, REPLY = "Where is Husum? Tell me more.", "It lies in the north. The sea is near. It is small."


def chain(folder: Path, params: dict[str, Any], **changes: Any) -> Recipe:
    """A chain of three stages over 40 prompts, of which about half are trained on; two and three sentences each."""
    lines = [json.dumps({"prompt": QUESTION, "reference": REPLY})] * 40 + ["{not json"]
    (folder / "prompts.jsonl").write_text("\n".join(lines), "utf-8")
    for lang in ("de", "en"):
        (folder / f"{lang}.jsonl").write_text(json.dumps({"text": "x" * 300}) + "\n", "utf-8")
    values: dict[str, Any] = {
        "prompts": {"path": "prompts.jsonl"},
        "texts": [{"path": "de.jsonl", "lang": "de"}, {"path": "en.jsonl", "lang": "en"}],
        "vocabulary": {},
        "stages": [
            {"method": "pretraining", "tuner": {"kind": "lora", "embeddings": "all"}},
            {"method": "translation_pretraining"},
            {"name": "own", "method": "tcot", "params": params},
        ],
    }
    return recipe(folder, **{**values, **changes})


def test_what_the_graft_translates_has_a_line_of_its_own(tmp_path: Path) -> None:
    result = estimate(chain(tmp_path, {"answers": "reference"}))
    assert [line.stage for line in result.lines] == [
        "train-pretraining",
        "train-translation_pretraining",
        "translation-native",
        "train-own",
        "decode, all systems",
    ]
    line = stage(result, "translation-native")
    assert line.note == "100 sentences of 20 prompts and answers, by the graft of the stage before"
    question, reply = len(QUESTION) / CHARACTERS_PER_TOKEN, len(REPLY) / CHARACTERS_PER_TOKEN
    assert line.tokens == pytest.approx(20 * (question + reply))
    assert line.hours == pytest.approx(2 * 135e6 * line.tokens / (0.3 * CPU_FLOPS) / 3600)
    assert stage(result, "train-own").supervised == pytest.approx(20 * (question + 2 * reply))
    assert line.note in describe(chain(tmp_path, {"answers": "reference"}), tmp_path)


def test_answers_that_the_base_writes_are_translated_too(tmp_path: Path) -> None:
    result = estimate(chain(tmp_path, {"max_answer_tokens": 200, "max_prompts": 10}))
    written = stage(result, "synthesis-recovery").tokens / 10
    line = stage(result, "translation-native")
    assert line.tokens == pytest.approx(10 * (len(QUESTION) / CHARACTERS_PER_TOKEN + written))
    assert line.note.startswith(f"{10 * (2 + written / SENTENCE_TOKENS):,.0f} sentences of 10 prompts")
    supervised = 10 * (len(QUESTION) / CHARACTERS_PER_TOKEN + 2 * written)
    assert stage(result, "train-own").supervised == pytest.approx(supervised)


def test_a_file_needs_no_translation_and_the_time_of_an_engine_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "given.jsonl").write_text(json.dumps({"source": QUESTION, "target": "Wo?"}), "utf-8")
    given = estimate(chain(tmp_path, {"answers": "reference", "translations": "given.jsonl"}))
    assert not [line for line in given.lines if line.stage.startswith("translation-")]
    server = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "m"}
    by_server = chain(tmp_path, {"answers": "reference", "translator": server})
    line = stage(estimate(by_server), "translation-native")
    assert (line.hours, line.note.rpartition(", by ")[2]) == (0, "engine openai; its time is not counted")
    shown = next(text for text in describe(by_server, tmp_path).splitlines() if text.startswith("translation-native"))
    assert shown.split()[2:4] == ["-", "-"]


def test_systems_and_seeds_share_what_begins_alike_and_nothing_else(tmp_path: Path) -> None:
    compare = [
        {"name": "full", "tuner": "full", "in_stages": {"pretraining": {"train": {"epochs": 2}}}},
        {"name": "short", "train": {"epochs": 0.5}},
    ]
    result = estimate(chain(tmp_path, {"answers": "reference"}, compare=compare, seeds=2, seed=3))
    names = [line.stage for line in result.lines if line.stage.startswith(("train", "translation-"))]
    # Each of two seeds: stages 1 and 2 of `full`, and those of `short` and `own` together; the same for translations.
    assert len([name for name in names if name.startswith("train-pretraining")]) == 4
    assert len([name for name in names if name.startswith("train-translation_pretraining")]) == 4
    assert names.count("translation-native") == 4
    assert [name for name in names if name.rpartition("#")[0] == "train-own"] == ["train-own#4"]
    trained = [name for name in names if name.startswith("train-")]
    assert len(set(trained)) == len(trained)
    first, second = (stage(result, name) for name in ("train-pretraining", "train-pretraining, short"))
    assert first.tokens == pytest.approx(2 * second.tokens)
    assert first.hours == pytest.approx(2 * 4 / 3 * second.hours)


def test_chain_and_native_answers_are_translated_once_where_they_ask_the_same(tmp_path: Path) -> None:
    def counted(**params: Any) -> int:
        compare = [{"method": "native_sft", "params": {"answers": "reference", **params}}]
        loaded = chain(tmp_path, {"answers": "reference", "marker_weight": 3.0}, compare=compare)
        return [line.stage for line in estimate(loaded).lines].count("translation-native")

    assert counted() == 1
    assert counted(max_prompts=5) == 2
    assert counted(translator={"kind": "transformers"}) == 2


def test_an_evaluation_trains_nothing(tmp_path: Path) -> None:
    pairs = {"test": {"path": "test.jsonl", "source": "de", "target": "en"}}
    result = estimate(recipe(tmp_path, pairs=pairs, stages=[], grafts=["runs/a/graft", "runs/b/graft"]))
    assert [line.stage for line in result.lines] == ["decode, all systems"]
    assert result.lines[0].tokens == pytest.approx(3 * 10 * len(TARGET) / CHARACTERS_PER_TOKEN)
    text = describe(recipe(tmp_path, pairs=pairs, stages=[], grafts=["a/graft"]), tmp_path)
    assert text.splitlines()[1] == "no training pairs; tested directions de-en"


@pytest.mark.parametrize("own", [False, True])
def test_measuring_a_development_set_is_reckoned(tmp_path: Path, own: bool) -> None:
    """By hand: a fifth of 50 pairs, or a file of ten, before the first step, after the third and the last."""
    pairs: dict[str, Any] = {**train(), "dev_share": 0.2}
    if own:
        rows(tmp_path / "dev.jsonl", 10)
        pairs = {**train(), "dev": {"path": "dev.jsonl", "source": "de", "target": "en"}}
    settings = {"dev_every_steps": 3, "dev_sample": 4, "tokens_per_step": 512}
    rows(tmp_path / "prompts.jsonl", 0)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why is the sky blue at noon?"}\n' * 60, "utf-8")
    stages = [{"method": "vanilla", "train": settings}]
    result = estimate(recipe(tmp_path, pairs=pairs, stages=stages, prompts={"path": "prompts.jsonl"}))
    assert result.pairs == (50 if own else 40)
    assert stage(result, "train-vanilla").steps == (5 if own else 4)
    answer, line = len(TARGET) / CHARACTERS_PER_TOKEN, stage(result, "dev-vanilla")
    request = PROMPT_OVERHEAD_TOKENS + len(SOURCE) / CHARACTERS_PER_TOKEN
    held = 3  # a tenth of the 30 of the replay half, each with 64 tokens of the base and read by base and model
    assert line.tokens == pytest.approx(3 * 4 * answer + held * 64)
    read = 10 * (request + answer) + 2 * held * (2 * PROMPT_OVERHEAD_TOKENS + 64)
    hours = 2 * 135e6 / CPU_FLOPS / 3600
    assert line.hours == pytest.approx(hours * (3 * read + line.tokens / 0.3))
    assert line.note == "the development set, measured 3 times"
    plain = estimate(recipe(tmp_path, pairs=train()))
    assert "dev-vanilla" not in [line.stage for line in plain.lines]


def test_the_size_is_that_of_the_model_in_the_folder(tmp_path: Path) -> None:
    model = tiny_llama(5000, hidden=64, layers=3)
    model.save_pretrained(tmp_path / "model")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    result = estimate(recipe(tmp_path, model="./model"))
    line = stage(result, "train-vanilla")
    assert line.hours * 3600 * CPU_FLOPS / (4.5 * line.tokens) == pytest.approx(parameters, rel=0.01)
    assert result.weights_gib == pytest.approx(2 * parameters / 1024**3, rel=0.01)
    assert result.memory_gib > result.weights_gib


@pytest.mark.parametrize("config", ["[]", "{}", "{", '{"hidden_size": null}', "null"])
def test_a_model_of_unknown_size_asks_for_the_expected_section(tmp_path: Path, config: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(config)
    with pytest.raises(DataError, match=r"the size of .*model is not known; add an `expected:` section"):
        estimate(recipe(tmp_path, model="./model"))
    assert estimate(recipe(tmp_path, model="./model", expected={"parameters": 1e9})).weights_gib == pytest.approx(
        1.86, 0.01
    )


def test_hub_data_needs_the_expected_section(tmp_path: Path) -> None:
    hub = train(path="hub:org/name")
    with pytest.raises(DataError, match="the data is on the hub; add an `expected:` section"):
        estimate(recipe(tmp_path, pairs=hub))
    corpus = train(path="opus:NeverFetched")
    with pytest.raises(DataError, match=r"`lingraft check opus:NeverFetched --from \w\w --to \w\w` fetches it; add an"):
        estimate(recipe(tmp_path, pairs=corpus))
    expected = {"pairs": 1000, "pair_tokens": 140, "supervised_tokens": 40, "peak_tflops": 100, "utilisation": 0.5}
    result = estimate(recipe(tmp_path, pairs=hub, expected={**expected, "parameters": 1e9}))
    line = stage(result, "train-vanilla")
    assert not result.measured
    assert (result.pairs, line.tokens, line.supervised) == (1000, 140_000, 40_000)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl"):
        estimate(recipe(tmp_path, pairs=train(path="none.jsonl")))


@pytest.mark.parametrize("name", ["demo", "radis-wmt22"])
def test_the_shipped_recipes_are_described_without_network_and_model(name: str, tmp_path: Path) -> None:
    loaded = load_recipe(name)
    text = describe(loaded, tmp_path / "runs" / name)
    assert name in shipped_recipes()
    lines = text.splitlines()
    assert lines[0].startswith(f"{name}: {loaded.model}, engine transformers, output in {tmp_path}")
    result = estimate(loaded)
    assert f"{result.pairs:,} training pairs" in lines[1]
    for line in result.lines:
        row = next(each for each in lines if each.startswith(line.stage))
        assert f"{line.tokens:,.0f}" in row
    assert "Nothing was started." in lines[-1]
    assert not (tmp_path / "cache").exists()
    if name == "demo":
        assert result.pairs == loaded.pairs.train[0].limit
        assert "directions de-en" in text
    else:
        assert result.pairs == 113_386
        assert "cs-en, de-en, en-cs, en-de, en-ru, en-zh, ru-en, zh-en" in text
        # 6.5 x 7.24e9 parameters x tokens / (990 TFLOP/s x 35 %), by hand for plain fine-tuning of 150 tokens a pair;
        # 2 of the 6.5 are the forward pass that gradient checkpointing does again.
        assert stage(result, "train-vanilla").hours == pytest.approx(
            6.5 * 7.24e9 * 113_386 * 150 / 3.465e14 / 3600, rel=1e-3
        )


def test_tasks_over_local_files_are_counted_and_those_of_the_hub_are_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(("x" * 79 + "\n") * 40, "utf-8")
    chosen = {"kind": "harness", "tasks": ["local:piqa"], "path": str(path), "limit": 30}
    written = {"kind": "harness", "name": "math", "tasks": ["local:gsm8k"], "path": str(path), "max_new_tokens": 100}
    fetched = {"kind": "harness", "name": "more", "tasks": ["lambada_openai"]}
    changes = {"evaluate": {"retention": {"suites": [chosen, written, fetched]}}, "compare": []}
    result = estimate(recipe(tmp_path, **changes))
    without = estimate(recipe(tmp_path, **{**changes, "evaluate": {"retention": {"suites": []}}}))
    # The base and one system; 30 rows of 80 bytes, 4 bytes a token.
    assert stage(result, "likelihood, all systems").tokens == pytest.approx(2 * 30 * 80 / 4)
    more = stage(result, "decode, all systems").tokens - stage(without, "decode, all systems").tokens
    assert more == pytest.approx(2 * 0.5 * 40 * 100)
    path.unlink()
    with pytest.raises(DataError, match=r"suite 'harness': .*rows.jsonl: there is no such file"):
        estimate(recipe(tmp_path, **changes))
