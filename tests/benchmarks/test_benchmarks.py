"""The benchmarks' result object and their arithmetic; nothing is measured here."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError, UsageError
from lingraft.models.files import find_model
from lingraft.models.loading import load_model
from lingraft.rendering.renderer import Renderer
from models_support import request, save_tiny_model, tiny_loaded

FOLDER = Path(__file__).parents[2] / "benchmarks"
DOCUMENTED = {"name", "ours", "peer", "ratio", "unit", "n", "device", "versions"}


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("common")


@pytest.fixture
def synthesis(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("synthesis")


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("training")


@pytest.fixture
def batching(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("batching")


@pytest.fixture
def latency(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("chain_latency")


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("data")


def build(common: ModuleType, **changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "ours": [30.0, 20.0, 40.0],
        "peers": {"plain": [20.0, 20.0, 16.0], "packed": [60.0, 40.0, 40.0]},
        "unit": "tokens/s",
        "n": 7,
        "device": "a machine",
        "package_versions": {"torch": "2"},
        "details": {"dtype": "bfloat16"},
    }
    return common.build_result("speed", **{**values, **changes})


def test_the_result_has_every_documented_key_and_survives_json(common: ModuleType) -> None:
    result = build(common)
    assert set(result) >= DOCUMENTED
    assert set(common.REQUIRED) == DOCUMENTED
    assert json.loads(json.dumps(result)) == result
    assert result["dtype"] == "bfloat16"


def test_medians_ratios_and_their_range(common: ModuleType) -> None:
    result = build(common)
    assert (result["ours"], result["peer"], result["ratio"]) == (
        30.0,
        20.0,
        1.5,
    )  # medians; the first peer is the headline
    assert result["peers"] == {
        "plain": {"rate": 20.0, "ratio": 1.5, "ratio_range": [1.0, 2.5]},
        "packed": {"rate": 40.0, "ratio": 0.75, "ratio_range": [0.5, 1.0]},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peers": {}}, "at least one peer"),
        ({"peers": {"plain": [1.0]}}, "equally many repetitions"),
        ({"ours": [1.0, 0.0, 1.0]}, "not above 0"),
        ({"details": {"ratio": 9}}, "'ratio'"),
    ],
)
def test_results_that_would_mislead_are_refused(common: ModuleType, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(common, **changes)


def test_the_table_shows_every_peer(common: ModuleType) -> None:
    lines = common.as_table(build(common)).splitlines()
    assert [line.split()[:3] for line in lines if line.startswith(("plain", "packed"))] == [
        ["plain", "20.0", "1.50"],
        ["packed", "40.0", "0.75"],
    ]


def test_pairs_are_the_starter_ones_or_a_described_file(common: ModuleType, tmp_path: Path) -> None:
    assert len({pair.id for pair in common.load_pairs(None, None, None, 5)}) == 5
    own = tmp_path / "own.jsonl"
    own.write_text('{"source": "Ja.", "target": "Oui."}\n', "utf-8")
    (pair,) = common.load_pairs(str(own), "de", "fr", 1)
    assert (pair.source, pair.target, pair.source_lang, pair.target_lang) == ("Ja.", "Oui.", "de", "fr")
    with pytest.raises(DataError, match="1 usable pairs, not 2"):
        common.load_pairs(str(own), "de", "fr", 2)
    with pytest.raises(UsageError, match="--from and --to"):
        common.load_pairs(str(own), None, None, 1)
    with pytest.raises(UsageError, match="--pairs"):
        common.load_pairs(None, "de", "fr", 1)


def test_without_trl_one_sentence_names_the_extra(training: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)  # what the import system reads as "not there"
    with pytest.raises(UsageError, match=r"pip install 'lingraft\[bench\]'"):
        training.trl_classes()


def test_multiplied_parameters_follow_from_the_architecture(training: ModuleType) -> None:
    model = tiny_llama(tiny_tokenizer("smollm2"))
    config = model.config
    hidden, size = config.hidden_size, config.hidden_size // config.num_attention_heads
    attention = 2 * hidden * hidden + 2 * hidden * size * config.num_key_value_heads
    blocks = config.num_hidden_layers * (attention + 3 * hidden * config.intermediate_size)
    assert training.matmul_parameters(model) == (blocks, hidden * config.vocab_size)


def test_rows_hold_reference_and_rationale_within_the_lengths(common: ModuleType, training: ModuleType) -> None:
    renderer = Renderer(tiny_tokenizer("smollm2"))
    pairs = common.load_pairs(None, None, None, 8)
    rows = training.radis_rows(pairs, renderer)
    assert [row.id for row in rows] == [pair.id for pair in pairs]
    assert {row.roles for row in rows} == {("translation", "separator", "rationale")}
    lengths = [row.span_of.count(2) for row in rows]
    assert min(lengths) >= 16
    assert len(set(lengths)) > 1
    assert training.radis_rows(pairs, renderer) == rows


def test_both_layouts_train_on_the_same(common: ModuleType, batching: ModuleType, tmp_path: Path) -> None:
    rows = batching.vanilla_rows(common.load_pairs(None, None, None, 4), Renderer(tiny_tokenizer("smollm2")))
    assert {row.roles for row in rows} == {("translation",)}
    packed, padded = (batching.trained(tiny_loaded, rows, layout, tmp_path / layout) for layout in ("packed", "padded"))
    assert packed.losses == pytest.approx(padded.losses, rel=0.01)
    assert packed.computed < sum(len(row.input_ids) for row in rows) <= padded.computed
    assert min(packed.seconds, padded.seconds, packed.cpu_seconds, padded.cpu_seconds) > 0


def test_where_two_texts_part_and_how_near_the_choice_was(synthesis: ModuleType, tmp_path: Path) -> None:
    loaded = load_model(find_model(str(save_tiny_model(tmp_path))), "fp32", torch.device("cpu"))
    asked = [request(name, "Guten Tag!") for name in ("same", "other", "shorter")]
    texts = {"same": ((3, 4), (3, 4)), "other": ((3, 4, 5), (3, 9, 5)), "shorter": ((3, 4), (3,))}
    ours, peer = (synthesis.Written({name: both[side] for name, both in texts.items()}, 8, 1.0, 1.0) for side in (0, 1))
    found = synthesis.compare_texts(loaded, asked, ours, peer)
    prompt = loaded.renderer.prompt_ids(asked[0].messages).ids
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([[*prompt, 3]])).logits[0, -1]
    gaps = [abs(float(logits[4] - logits[other])) for other in (9, loaded.renderer.end_of_turn_id)]
    assert found["equal_outputs"] == 0.333
    assert found["first_difference"] == {
        "earliest": 1,
        "median": 1,
        "median_gap_nats": pytest.approx(sum(gaps) / 2, abs=1e-4),
        "largest_gap_nats": pytest.approx(max(gaps), abs=1e-4),
    }
    assert synthesis.compare_texts(loaded, asked, ours, ours) == {"equal_outputs": 1.0}


def test_generated_pairs_are_counted_by_the_stages_as_they_were_made(data: ModuleType, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    data.write_pairs(tmp_path, 2_000)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text("utf-8").splitlines()]
    tests = set((tmp_path / "test.jsonl").read_text("utf-8").splitlines())
    result = data.work(tmp_path, str(tmp_path / "model"))
    assert result["rows"] + sum(result["rejected"].values()) == len(rows) == 2_000
    assert result["rejected"]["empty_target"] == sum(not row["target"] for row in rows) > 0
    in_tests = sum(json.dumps(row, ensure_ascii=False) in tests for row in rows)
    assert result["rejected"]["overlap_with_test"] == in_tests > 0
    assert result["cpu"].keys() == result["wall"].keys() == {"check", "render", "plan"}
    assert result["steps"] > 1


def test_direct_answers_have_the_tokens_asked_for_and_are_the_same_on_both_sides(latency: ModuleType) -> None:
    loaded = tiny_loaded()
    messages = [request("a", "Guten Tag!").messages[0]]
    for answer in (latency.by_generate(loaded, messages, 7), latency.by_same_loop(loaded, messages, 7)):
        assert answer.tokens == {"native_reply": 7}
        assert 0 < answer.first < answer.seconds
        assert answer.cpu > 0


def test_what_a_chain_costs_in_multiples_of_direct_answers(latency: ModuleType) -> None:
    roles = ("english_query", "english_reply", "native_reply")
    chain = [latency.Answered(9.0, 12.0, 6.0, dict(zip(roles, (2, 4, 6), strict=True))) for _ in range(3)]
    direct = [latency.Answered(first, 4.0, 3.0, {"native_reply": 6}) for first in (1.0, 3.0, 9.0)]
    assert latency.ratios(chain, direct) == {"first_visible": 3.0, "seconds": 3.0, "cpu_seconds": 2.0, "tokens": 2.0}


def test_questions_are_in_the_language(latency: ModuleType, tmp_path: Path) -> None:
    thai = latency.questions(latency.STARTER, "th", 3)
    assert len({prompt.id for prompt in thai}) == 3
    assert all("\u0e00" <= prompt.messages[-1].content[0] <= "\u0e7f" for prompt in thai)
    own = tmp_path / "own.jsonl"
    own.write_text('{"prompt": "Wie geht es?"}\n', "utf-8")
    assert latency.questions(str(own), "de", 1)[0].messages[-1].content == "Wie geht es?"
    with pytest.raises(DataError, match="1 questions, not 2"):
        latency.questions(str(own), "de", 2)


def test_an_interrupted_benchmark_ends_in_one_sentence(common: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: object) -> dict[str, object]:
        raise KeyboardInterrupt

    assert common.run(interrupt, None) == 130
    assert capsys.readouterr().err == (
        "error: interrupted; what an --out holds is used when the same command is given again\n"
    )
