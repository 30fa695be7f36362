"""Methods that change what is trained on, each in a whole run of a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from chain_runs import chain_data, chain_values
from lingraft.evaluation.scorecard import Scorecard
from lingraft.models.graft import read_info
from lingraft.pipeline.answers import read_answers
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.rendering.row_files import RenderedRows
from lingraft.store.artefacts import facts
from tiny_runs import QUIET, values

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def executed(model: Path, folder: Path, *stages: dict[str, Any], **changes: Any) -> Path:
    """Run stages, with the tiny recipe's tuner and settings where they name none, and return the folder."""
    recipe = values(model, compare=[], **changes)
    (usual,) = recipe["stages"]
    recipe["stages"] = [{"tuner": usual["tuner"], "train": usual["train"], **stage} for stage in stages]
    recipe["evaluate"]["retention"]["suites"] = recipe["evaluate"]["retention"]["suites"][:1]
    run(parse_recipe(recipe, "test", Path("/")), folder, QUIET)
    return folder


def filters(folder: Path, system: str) -> dict[str, int]:
    (rows,) = folder.glob(f"rows-{system}-*")
    return dict(json.loads((rows / "filters.json").read_text()))


def test_sdft_trains_on_own_answers_and_on_references(model: Path, tmp_path: Path) -> None:
    params = {"max_answer_tokens": 16, "filters": ["echo"], "targets": "soft", "top_k": 4, "share": 0.5}
    folder = executed(model, tmp_path / "run", {"method": "sdft", "params": params})
    asked = filters(folder, "sdft")
    assert 0 < sum(asked.values()) < 24  # of a random model few end by themselves
    assert Scorecard.read(folder / "scorecard.json").translation
    assert (folder / "graft" / "adapter_model.safetensors").is_file()


def test_sdft_takes_what_a_metric_finds_as_good(model: Path, tmp_path: Path) -> None:
    params = {"max_answer_tokens": 60, "temperature": 1.0, "filters": [], "metric": "chrf", "epsilon": 99.9}
    folder = executed(model, tmp_path / "run", {"method": "sdft", "params": params})
    assert filters(folder, "sdft").get("kept", 0) > 0
    strict = executed(model, tmp_path / "strict", {"method": "sdft", "params": {**params, "epsilon": 0.0}})
    assert filters(strict, "sdft")["quality"] == filters(folder, "sdft")["kept"] + filters(folder, "sdft").get(
        "quality", 0
    )


def test_language_aware_is_a_second_stage(model: Path, tmp_path: Path) -> None:
    second = {"method": "language_aware", "params": {"languages": ["fr"], "alpha": 0.5}}
    folder = executed(model, tmp_path / "run", {"method": "vanilla"}, second)
    assert filters(folder, "language_aware") == {"kept": 24}
    (trained,) = folder.glob("train-language_aware-*")
    told = [json.loads(line) for line in (trained / "losses.jsonl").read_text().splitlines()]
    assert all(set(step["by_role"]) == {"translation", "unwanted"} for step in told)


def test_mix_has_its_share_of_files_and_of_what_the_recipe_has(model: Path, tmp_path: Path) -> None:
    rows = [{"instruction": f"Name {i} towns.", "output": f"Kiel and {i} more of them."} for i in range(200)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.txt").write_text("".join(f"There are {i} ships in the harbour.\n" for i in range(200)))
    files = {"prompts": [str(tmp_path / "own.jsonl")], "texts": [str(tmp_path / "own.txt")]}
    beside = [{"method": "mix", "share": 0.3, "params": files}]
    folder = executed(model, tmp_path / "run", {"method": "vanilla", "beside": beside})
    (trained,) = folder.glob("train-vanilla+mix-*")
    told = facts(trained)
    assert 0.3 <= told["mix_tokens"] / told["tokens"] < 0.4
    steps = [json.loads(line) for line in (trained / "losses.jsonl").read_text().splitlines()]
    assert set().union(*(step["by_role"] for step in steps)) == {"translation", "given_reply", "text"}
    texts = [{"path": "starter:texts.en.jsonl", "lang": "en", "limit": 30}]
    alone = executed(model, tmp_path / "own", {"method": "mix", "params": {"kinds": ["texts"]}}, texts=texts)
    assert filters(alone, "mix")["kept"] > 10


def test_directions_have_their_weights(model: Path, tmp_path: Path) -> None:
    recipe = values(model)["pairs"]
    recipe["train"] |= {"both_directions": True, "limit": 40}
    recipe["direction_weights"] = {"en-de": 0.25}
    folder = executed(model, tmp_path / "run", {"method": "vanilla"}, pairs=recipe)
    rows = [json.loads(line) for path in folder.glob("data-*/train.jsonl") for line in path.read_text().splitlines()]
    back = [row for row in rows if row["source_lang"] == "en"]
    assert (len(rows) - len(back), 3 <= len(back) <= 18) == (40, True)
    assert "Training pairs by direction: " in (folder / "report.html").read_text()
    assert f"en-de {len(back)} pairs with" in (folder / "report.html").read_text()


def test_a_chain_is_distilled_into_direct_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graft of three stages writes behind its chain, with distributions, and a fourth stage learns these."""
    monkeypatch.setattr("lingraft.methods.base_native.fault", lambda *_: "")  # of a random model nothing is German
    data = chain_data(tmp_path)
    own = chain_values(data, compare=[])
    given = {"answers": "reference", "translations": str(data / "translations.jsonl")}
    params = {**given, "temperature": 1.0, "top_k": 4, "max_native_tokens": 300}
    own["stages"].append({"method": "chain_distillation", "params": params, "train": own["stages"][0]["train"]})
    own["evaluate"] |= {"stages": False}
    own["evaluate"]["retention"]["suites"] = own["evaluate"]["retention"]["suites"][:1]
    run(parse_recipe(own, "test", Path("/")), tmp_path / "run", QUIET)
    assert filters(tmp_path / "run", "chain_distillation")["kept"] > 2
    (rows,) = (tmp_path / "run").glob("rows-chain_distillation-*")
    taught = [row for row in RenderedRows(rows / "rows") if row.teacher is not None]
    assert taught
    assert all(row.losses == ("kl",) for row in taught)
    (asked,) = (tmp_path / "run").glob("synthesis-chain_distillation-*")
    answers = [answer for answer in read_answers(asked).values() if answer.finish_reason == "stop"]
    assert all(len(step) == 4 for answer in answers for step in answer.logprobs or ())
    assert read_info(tmp_path / "run" / "graft").chat == "direct"


def _finished(folder: Path) -> bool:
    return (folder / "report.html").is_file() and (folder / "graft" / "adapter_model.safetensors").is_file()


def test_the_best_of_own_translations_is_learnt(model: Path, tmp_path: Path) -> None:
    params = {"samples": 3, "temperature": 1.0, "max_answer_tokens": 60, "metric": "ter"}
    folder = executed(model, tmp_path / "run", {"method": "self_critique", "params": params})
    assert sum(filters(folder, "self_critique").values()) == 24
    assert _finished(folder)


def test_own_translations_are_learnt_against_each_other(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lingraft.methods.self_critique.written_in", lambda *_: True
    )  # a random model writes no English
    params = {"samples": 16, "temperature": 1.0, "max_answer_tokens": 80, "metric": "chrf", "teach": "preferences"}
    folder = executed(model, tmp_path / "run", {"method": "self_critique", "params": params})
    kept = filters(folder, "self_critique").get("kept", 0)
    assert kept > 0
    (rows,) = folder.glob("rows-self_critique-*")
    signs = [row.sign for row in RenderedRows(rows / "rows")]
    assert sorted(signs) == [-1] * kept + [1] * kept
    assert _finished(folder)


def test_a_model_and_an_engine_grade_answers(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lingraft.methods.self_critique.written_in", lambda *_: True
    )  # a random model writes no English
    rules = [{"pattern": "Answer with one whole number", "answer": "9"}]
    params = {"samples": 8, "temperature": 1.0, "max_answer_tokens": 80}
    chat = {**params, "critic": {"kind": "scripted", "rules": rules}}
    beside = [{"method": "self_critique_chat", "share": 0.3, "params": chat}]
    folder = executed(model, tmp_path / "run", {"method": "self_critique", "params": params, "beside": beside})
    assert (
        sum(n for reason, n in filters(folder, "self_critique+self_critique_chat").items() if ":" not in reason) == 24
    )
    assert len(list(folder.glob("synthesis-self_critique*-grades-*"))) == 2
    assert _finished(folder)


def test_cft_replays_its_own_work_in_english(model: Path, tmp_path: Path) -> None:
    params = {"replay_share": 1.0, "max_answer_tokens": 24, "temperature": 1.0}
    folder = executed(model, tmp_path / "run", {"method": "cft", "params": params})
    (told,) = folder.glob("similarity-cft-*/similarity.json")
    assert -1 <= json.loads(told.read_text())["similarity"] <= 1
    assert filters(folder, "cft")
    assert _finished(folder)


def test_a_run_without_pairs_to_train_on_ends_with_card_and_report(model: Path, tmp_path: Path) -> None:
    recipe = values(model, compare=[])
    (usual,) = recipe["stages"]
    del recipe["pairs"]["train"]
    recipe["stages"] = [{"method": "relevance", "tuner": usual["tuner"], "train": usual["train"]}]
    recipe["evaluate"]["retention"]["suites"] = [{"kind": "retrieval", "max_queries": 2}]
    run(parse_recipe(recipe, "test", Path("/")), tmp_path / "run", QUIET)
    card = (tmp_path / "run" / "graft" / "README.md").read_text("utf-8")
    assert "was trained on no translations" in card
    assert "adds translation" not in card
    assert {row.metric for row in Scorecard.read(tmp_path / "run" / "scorecard.json").general} >= {"map_en", "map_th"}
