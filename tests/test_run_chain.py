"""A run of several stages with an extended vocabulary, on a tiny random model: everything real but the size."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from builders import tiny_llama, tiny_tokenizer
from lingraft.adapters import read_adapter
from lingraft.commands_preview import preview_command
from lingraft.errors import DataError, ModelError
from lingraft.evaluation.scorecard import Scorecard
from lingraft.graft import grafted, read_info
from lingraft.models import find_model, load_model
from lingraft.progress import Reporter
from lingraft.recipe import Recipe, parse_recipe
from lingraft.rendered_rows import RenderedRows
from lingraft.run import run
from lingraft.store import facts
from lingraft.vocabulary import extended, read_vocabulary

QUIET = Reporter(quiet=True)
STARTER = {"source": "de", "target": "en"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, texts in two languages, prompts and their translations."""
    folder = tmp_path_factory.mktemp("chain")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    towns = ("Husum", "Emden", "Kiel", "Lübeck", "Rostock", "Wismar", "Stade", "Leer", "Jever", "Norden")
    german = [
        f"Im Hafen von {town} liegen {i} Schiffe, und die Fischer reden über das Wetter."
        for i, town in enumerate(towns, 2)
    ]
    english = [
        f"There are {i} ships in the harbour of {town}, and the fishermen talk." for i, town in enumerate(towns, 2)
    ]
    for lang, rows in (("de", german), ("en", english)):
        lines = [{"text": f"{text} {other}"} for i, text in enumerate(rows) for other in rows[i + 1 : i + 4]]
        (folder / f"{lang}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines))
    prompts = [
        {"id": f"p{i}", "prompt": f"Tell me {i} things about harbours.", "reference": f"Harbours have {i} ships."}
        for i in range(40)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    known = {f"Tell me {i} things about harbours.": f"Nenne mir {i} Dinge über Häfen." for i in range(40)}
    known |= {f"Harbours have {i} ships.": f"Häfen haben {i} Schiffe." for i in range(40)}
    rows = [{"source": source, "target": target} for source, target in known.items()]
    (folder / "translations.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    questions = [{"en": f"Where is {town}?", "de": f"Wo liegt {town}, und was gibt es dort?"} for town in towns[:4]]
    pairs = [{"en": "Good weather.", "de": "Gutes Wetter."}]
    for name, rows in (("questions", questions), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def values(data: Path, **changes: Any) -> dict[str, Any]:
    train = {
        "tokens_per_step": 256,
        "micro_tokens": 256,
        "precision": "fp32",
        "save_every_steps": 1,
        "learning_rate": 0.005,
    }
    beside = [
        {"method": "recovery", "share": 0.3, "params": {"answers": "reference"}},
        {"method": "vanilla", "share": 0.2},
    ]
    return {
        "name": "chain",
        "model": str(data / "model"),
        "engine": "transformers",
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 24, "both_directions": True, **STARTER},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 3, **STARTER},
        },
        "prompts": {"path": str(data / "prompts.jsonl")},
        "texts": [{"path": str(data / f"{lang}.jsonl"), "lang": lang} for lang in ("de", "en")],
        "vocabulary": {"size": 40, "languages": ["de"]},
        "stages": [
            {"method": "pretraining", "tuner": {"kind": "lora", "rank": 4, "embeddings": "all"}, "train": train},
            {
                "method": "translation_pretraining",
                "beside": [{"method": "pretraining", "share": 0.2, "params": {"languages": ["en"]}}],
                "train": train,
            },
            {
                "name": "transllm",
                "method": "tcot",
                "params": {"answers": "reference", "translations": str(data / "translations.jsonl")},
                "beside": beside,
                "train": train,
            },
        ],
        "compare": [{"name": "no-rkd", "without": ["recovery"]}],
        "evaluate": {
            "bootstrap": 100,
            "stages": True,
            "translation": {"max_new_tokens": 8},
            "retention": {
                "suites": [
                    {"kind": "self", "max_prompts": 3, "max_pairs": 2, "max_new_tokens": 6, "kl_max_new_tokens": 6},
                    {"kind": "perplexity", "max_texts": 3, "max_characters": 120},
                    {
                        "kind": "tcot",
                        "language": "de",
                        "prompts": str(data / "questions.jsonl"),
                        "pairs": str(data / "pairs.jsonl"),
                        "max_new_tokens": 6,
                    },
                ]
            },
        },
        "seed": 5,
        **changes,
    }  # fmt: skip


def executed(data: Path, folder: Path, **changes: Any) -> Path:
    run(parse_recipe(values(data, **changes), "test", Path("/")), folder, QUIET)
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished, undisturbed run."""
    return executed(data, tmp_path_factory.mktemp("runs") / "chain")


def folders(run_folder: Path, stage: str) -> list[Path]:
    name = re.compile(re.escape(stage) + "-[0-9a-f]{8}")
    return sorted(path for path in run_folder.iterdir() if name.fullmatch(path.name))


def _first_loss(run_folder: Path, stage: str) -> float:
    lines = (folders(run_folder, stage)[0] / "losses.jsonl").read_text("utf-8").splitlines()
    return float(json.loads(lines[0])["loss"])


def figures(folder: Path) -> dict[str, Any]:
    """The scorecard's numbers: all but times."""
    card = json.loads((folder / "scorecard.json").read_text("utf-8"))
    return {key: card[key] for key in ("systems", "translation", "general", "summary", "base", "seed")}


def test_systems_share_the_stages_they_have_in_common(finished: Path) -> None:
    for stage in ("train-pretraining", "train-translation_pretraining+pretraining", "train-transllm", "train-no-rkd"):
        assert len(folders(finished, stage)) == 1, stage
    card = Scorecard.read(finished / "scorecard.json")
    assert [(s.name, s.group, s.stage) for s in card.systems] == [
        ("base", None, None),
        ("no-rkd", None, None),
        ("transllm@1", "transllm", 1),
        ("transllm@2", "transllm", 2),
        ("transllm", None, None),
    ]
    trained = [row.system for row in card.cost if row.stage == "training"]
    assert (trained.count("transllm"), trained.count("no-rkd")) == (3, 3)


def test_each_stage_goes_on_where_the_one_before_ended(finished: Path) -> None:
    first = _first_loss(finished, "train-pretraining")
    second = _first_loss(finished, "train-translation_pretraining+pretraining")
    assert first > 5  # a random model knows nothing
    assert second < first
    infos = [read_info(folders(finished, f"train-{name}")[0] / "graft") for name in ("pretraining", "transllm")]
    assert [info.method for info in infos] == [
        "pretraining",
        "pretraining > translation_pretraining+pretraining > tcot+recovery+vanilla",
    ]
    assert [info.chat for info in infos] == ["direct", "tcot"]


def test_perplexity_in_the_new_language_falls_with_pre_training(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    bits = {row.system: row.score for row in card.general if row.metric == "bits_per_character_de"}
    assert set(bits) == {"base", "no-rkd", "transllm", "transllm@1", "transllm@2"}
    assert bits["transllm@1"] < 0.8 * bits["base"]


def test_the_chain_is_measured_step_by_step_where_there_is_one(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    of_chain = {row.system for row in card.general if row.metric == "format_failure"}
    assert of_chain == {"no-rkd", "transllm"}  # before the last stage there is no chain
    assert {row.system for row in card.general if row.metric == "reply_chrf"} == {
        "no-rkd",
        "transllm",
        "transllm@1",
        "transllm@2",
    }
    assert {row.system for row in card.general if row.metric == "native_language"} == {
        system.name for system in card.systems
    }
    page = (finished / "report.html").read_text("utf-8")
    assert "The chain step by step: tcot" in page
    outputs = [json.loads(line) for line in (finished / "outputs.jsonl").read_text("utf-8").splitlines()]
    asked = [row for row in outputs if row["id"].startswith("tcot/line-")]
    assert len(asked) == 4
    assert all(set(row["outputs"]) == {system.name for system in card.systems} for row in asked)


def test_rows_hold_markers_and_plain_text(finished: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(finished / "graft")
    plain = next(iter(RenderedRows(folders(finished, "rows-pretraining")[0] / "rows")))
    assert set(plain.roles) == {"text"}
    chats = [tokenizer.decode(row.input_ids) for row in RenderedRows(folders(finished, "rows-transllm")[0] / "rows")]
    chains = [text for text in chats if "<DE>" in text]
    assert chains
    for text in chains:
        answer = text.partition("assistant\n")[2]
        assert answer.startswith("<EN>Tell me")
        assert "<RESPONSE>Harbours have" in answer
        assert "<DE>Häfen haben" in answer
    assert any("assistant\n<RESPONSE>" in text for text in chats)  # recovery
    assert any("assistant\n<RESPONSE>" not in text and "<EN>" not in text for text in chats)  # translation


def test_the_graft_loads_with_plain_peft_as_lingraft_loads_it(data: Path, finished: Path) -> None:
    graft = finished / "graft"
    vocabulary = read_vocabulary(graft)
    assert vocabulary is not None
    assert vocabulary.tokens - vocabulary.base_tokens == vocabulary.pieces + 3
    base = AutoModelForCausalLM.from_pretrained(data / "model", dtype=torch.float32)
    base.resize_token_embeddings(vocabulary.rows, mean_resizing=False)
    plain = PeftModel.from_pretrained(base, str(graft)).eval()
    files = find_model(str(data / "model"))
    with grafted(load_model(files, "fp32"), graft) as loaded, torch.inference_mode():
        ids = torch.tensor([loaded.renderer.plain_ids("Im Hafen von Husum liegen Schiffe.")])
        ours = loaded.model(input_ids=ids).logits
        assert ids.max() >= vocabulary.base_tokens  # it uses the new pieces
        assert (plain(input_ids=ids).logits - ours).abs().max() < 1e-4
        assert (
            list(AutoTokenizer.from_pretrained(graft)("Im Hafen von Husum liegen Schiffe.").input_ids)
            == ids[0].tolist()
        )


def test_the_card_loads_the_graft_with_its_own_tokenizer(data: Path, finished: Path, tmp_path: Path) -> None:
    card = (finished / "README.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert code
    assert "lingraft chat --graft" in card
    program = code[1].replace('from_pretrained(".")', f"from_pretrained({str(finished / 'graft')!r})")
    program = program.replace('(model, ".")', f"(model, {str(finished / 'graft')!r})").replace("=256", "=4")
    names: dict[str, Any] = {}
    exec(compile(program, "card", "exec"), names)  # what a reader would run
    assert names["model"].get_input_embeddings().weight.shape[0] == read_vocabulary(finished / "graft").rows  # type: ignore[union-attr]


def test_the_base_is_as_it_was(data: Path, finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text("utf-8"))
    assert record["model"]["sha256"] == find_model(str(data / "model")).sha256
    assert read_info(finished / "graft").base_sha256 == record["model"]["sha256"]


@pytest.mark.parametrize(
    "stage", ["train-pretraining", "train-translation_pretraining+pretraining", "train-transllm", "vocabulary"]
)
def test_a_run_without_one_of_its_stages_makes_it_again_as_it_was(
    data: Path, finished: Path, tmp_path: Path, stage: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    (lost,) = folders(copy, stage)
    shutil.rmtree(lost)
    executed(data, copy)
    assert lost.exists()
    assert figures(copy) == figures(finished)
    assert facts(folders(copy, "train-no-rkd")[0]) == facts(folders(finished, "train-no-rkd")[0])


def test_other_prompts_leave_the_stages_of_texts_and_pairs_as_they_are(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    executed(data, copy, prompts={"path": str(data / "prompts.jsonl"), "limit": 30})
    assert (
        len(folders(copy, "train-pretraining")) == len(folders(copy, "train-translation_pretraining+pretraining")) == 1
    )
    assert len(folders(copy, "train-transllm")) == 2


def test_a_graft_with_another_tokenizer_beside_it_is_refused(data: Path, finished: Path, tmp_path: Path) -> None:
    graft = tmp_path / "graft"
    shutil.copytree(finished / "graft", graft)
    tokenizer = json.loads((graft / "tokenizer.json").read_text("utf-8"))
    tokenizer["added_tokens"] = tokenizer["added_tokens"][:-1]
    (graft / "tokenizer.json").write_text(json.dumps(tokenizer))
    with (
        pytest.raises(ModelError, match="is not the one that"),
        grafted(load_model(find_model(str(data / "model"))), graft),
    ):
        pass


def test_the_graft_of_the_stage_before_translates(data: Path, tmp_path: Path) -> None:
    recipe = values(data, compare=[])
    recipe["stages"][2] |= {"params": {"answers": "reference", "max_prompts": 4}, "beside": []}
    recipe["evaluate"] |= {"stages": False, "retention": {"suites": []}}
    folder = tmp_path / "run"
    with pytest.raises(DataError, match="no example to train on"):  # a random model translates nothing well enough
        run(parse_recipe(recipe, "test", Path("/")), folder, QUIET)
    (translated,) = folders(folder, "translation-tcot")
    assert facts(translated)["requests"] >= 4
    filters = json.loads((folders(folder, "rows-transllm")[0] / "filters.json").read_text("utf-8"))
    assert sum(filters.values()) == 4


def test_a_preview_lets_the_engine_that_a_method_names_translate(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = values(data, compare=[])
    recipe["stages"][2] |= {"params": {"answers": "reference", "translator": {"kind": "transformers"}}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    preview_command(str(tmp_path / "recipe.yaml"), [], 1)
    shown = capsys.readouterr().out
    assert "transllm (tcot+recovery+vanilla)" in shown
    assert "<RESPONSE>Harbours have" in shown


class Stopped(Exception):
    """Raised by a reporter in the middle of a training."""


class Stopping(Reporter):
    """A reporter that stops the run at the second step of a training, as often as it is told to."""

    def __init__(self, stage: str) -> None:
        super().__init__(quiet=True)
        self.stage, self.stops = stage, 1

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Any]:
        with super().task(title, total) as task:
            if title == f"train-{self.stage}" and self.stops:
                update, self.stops = task.update, 0

                def stopping(done: int, detail: str = "", total: int | None = None) -> None:
                    update(done, detail, total)
                    if done == 2:
                        raise Stopped

                task.update = stopping  # type: ignore[method-assign]
            yield task


@pytest.fixture(scope="module")
def fresh_recipe(data: Path) -> Recipe:
    """The second stage begins a new adapter of another rank, which the third continues; it translates for the base."""
    recipe = values(data, compare=[{"name": "merged", "merge": True, "tuner": {"rank": 2, "embeddings": "new"}}])
    recipe["stages"][1] |= {"fresh": True, "tuner": {"kind": "lora", "rank": 3, "alpha": 5, "embeddings": "all"}}
    tcot = recipe["evaluate"]["retention"]["suites"][-1]
    recipe["evaluate"] |= {"stages": False, "retention": {"suites": [tcot]}, "translate_test": {}}
    return parse_recipe(recipe, "test", Path("/"))


@pytest.fixture(scope="module")
def fresh(fresh_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh") / "run"
    run(fresh_recipe, folder, QUIET)
    return folder


@pytest.mark.parametrize(("name", "rank", "first"), [("transllm", 4 + 3, 4), ("merged", 3 * 2, 0)])
def test_stages_with_adapters_of_their_own_end_as_one_graft_on_the_untouched_base(
    data: Path, fresh: Path, name: str, rank: int, first: int
) -> None:
    (folder,) = folders(fresh, f"train-{name}")
    ranks = {path: read_adapter(path / "graft")[0].r for path in (folder, *folders(fresh, "train-pretraining"))}
    assert ranks[folder] == rank
    loaded = load_model(find_model(str(data / "model")), "fp32")
    with grafted(loaded, folder / "graft") as on, torch.inference_mode():
        ids = torch.tensor([on.renderer.plain_ids("Im Hafen von Husum liegen Schiffe.")])
        found, size = on.model(input_ids=ids).logits, on.model.config.vocab_size
    known = slice(on.new_ids.stop)  # rows that fill up the embeddings mean nothing
    base = AutoModelForCausalLM.from_pretrained(data / "model", dtype=torch.float32)
    base.resize_token_embeddings(size, mean_resizing=False)
    plain = PeftModel.from_pretrained(base, str(folder / "graft")).eval()
    with torch.inference_mode():
        logits = plain(input_ids=ids).logits
        torch.testing.assert_close(logits[..., known], found[..., known], rtol=1e-4, atol=1e-4)
    if first:  # merged by PEFT, and what the last stage continued on it
        before = next(path for path in ranks if ranks[path] == first)
        with extended(loaded, folder / "graft") as grown, torch.inference_mode():
            merged = PeftModel.from_pretrained(grown.model, str(before / "graft")).merge_and_unload()
            logits = PeftModel.from_pretrained(merged, str(folder / "own")).eval()(input_ids=ids).logits
            torch.testing.assert_close(logits, found, rtol=1e-4, atol=1e-4)


def test_the_graft_translates_before_and_after_the_base(fresh: Path) -> None:
    card = Scorecard.read(fresh / "scorecard.json")
    assert [system.name for system in card.systems] == ["base", "merged", "transllm", "translate-test"]
    assert {row.system for row in card.general if row.metric == "query_chrf"} == {
        "merged",
        "transllm",
        "translate-test",
    }
    rows = {(row.system, row.test_set) for row in card.translation}
    assert {system for system, _ in rows} == {"base", "merged", "transllm", "translate-test"}
    assert any(row.system == "translate-test" and row.metric == "tokens_query" for row in card.general)
    asked = folders(fresh, "decode-translate-test-queries")[0]
    assert facts(asked)["requests"] == 4
    assert facts(folders(fresh, "decode-translate-test-tests")[0])["requests"] >= 3
    page = (fresh / "report.html").read_text("utf-8")
    assert "translator, base, translator" in page


@pytest.mark.parametrize("stage", ["translation_pretraining+pretraining", "transllm"])
def test_a_stage_stopped_after_a_merge_ends_as_undisturbed(
    fresh_recipe: Recipe, fresh: Path, tmp_path: Path, stage: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(fresh, copy)
    lost = folders(copy, f"train-{stage}")
    for folder in lost:
        shutil.rmtree(folder)
    with pytest.raises(Stopped):
        run(fresh_recipe, copy, Stopping(stage))
    run(fresh_recipe, copy, QUIET)
    for folder in lost:
        for path in (folder / "graft").iterdir():
            assert path.read_bytes() == (fresh / folder.name / "graft" / path.name).read_bytes(), path
    assert figures(copy) == figures(fresh)
