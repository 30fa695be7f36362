"""A run of several stages with an extended vocabulary, on a tiny random model: what each stage leaves."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from chain_runs import QUIET, WORDING, chain_data, chain_values, executed, figures, folders
from lingraft.cli.preview import preview
from lingraft.conversation.chain import CHAIN
from lingraft.conversation.opening import markers_of, open_model
from lingraft.core.errors import DataError, ModelError
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.divergence import DIVERGENCE
from lingraft.engines.likelihood import LIKELIHOOD
from lingraft.evaluation.scorecard import Scorecard
from lingraft.models.files import find_model
from lingraft.models.graft import grafted, read_info
from lingraft.models.loading import load_model
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.answers import read_answers
from lingraft.pipeline.earlier_answers import AnswerKey
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.rendering.row_files import RenderedRows
from lingraft.rendering.rows import RENDERING
from lingraft.store.artefacts import facts
from lingraft.translation.markers import Markers
from lingraft.translation.wording import DEFAULT


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chain_data(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished, undisturbed run."""
    return executed(data, tmp_path_factory.mktemp("runs") / "chain")


def _first_loss(run_folder: Path, stage: str) -> float:
    lines = (folders(run_folder, stage)[0] / "losses.jsonl").read_text("utf-8").splitlines()
    return float(json.loads(lines[0])["loss"])


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


STAGES = ("pretraining", "translation_pretraining+pretraining", "transllm")


def _second_factors(run: Path, stage: str) -> torch.Tensor:
    weights = load_file(folders(run, f"train-{stage}")[0] / "graft" / "adapter_model.safetensors")
    return torch.cat([weights[name].flatten() for name in sorted(weights) if "lora_B" in name])


def test_each_stage_goes_on_where_the_one_before_ended(finished: Path) -> None:
    assert _first_loss(finished, "train-pretraining") > 5  # a random model knows nothing
    second, third = (_second_factors(finished, name) for name in STAGES[1:])
    assert torch.cosine_similarity(second, third, dim=0) > 0.6
    for before, stage in itertools.pairwise(STAGES):
        manifest = json.loads((folders(finished, f"train-{stage}")[0] / "manifest.json").read_text("utf-8"))
        assert manifest["inputs"]["before"] == folders(finished, f"train-{before}")[0].name
    infos = [read_info(folders(finished, f"train-{name}")[0] / "graft") for name in ("pretraining", "transllm")]
    assert [info.method for info in infos] == [
        "pretraining",
        "pretraining > translation_pretraining+pretraining > tcot+recovery+vanilla",
    ]
    assert [info.chat for info in infos] == ["direct", "tcot"]
    assert [info.instruction for info in infos] == [DEFAULT, WORDING]  # of the method that teaches to translate


def test_all_systems_are_asked_for_translations_in_the_same_words(finished: Path) -> None:
    """Those that were not taught to translate when asked to are asked in the words of the run, as the base is."""
    systems = ("base", "transllm@1", "transllm@2", "transllm", "no-rkd")
    asked = {name: [_asked_keys(folder) for folder in folders(finished, f"decode-{name}")] for name in systems}
    expected = Request(
        "self/self-mt:de-en/test-001",
        (Message("user", ""),),
        Sampling(6, seed=5),
        direct=True,
    )
    outputs = [json.loads(line) for line in (finished / "outputs.jsonl").read_text("utf-8").splitlines()]
    rows = {row["id"]: row["source"] for row in outputs if row["id"].startswith("self/self-mt:")}
    assert len(rows) == 2
    for id_, source in rows.items():
        assert source.startswith("Say this in English: ")
        request = replace(expected, id=id_, messages=(Message("user", source),))
        for name in systems:
            keys = {key: value for part in asked[name] for key, value in part.items()}
            assert keys[id_] == AnswerKey.of(request).key, name
    sampled = {id_ for id_ in _asked_keys(folders(finished, "decode-base")[0]) if "self-mt-kl" in id_}
    assert len(sampled) == 2  # in one wording, since all have the same


def _asked_keys(folder: Path) -> dict[str, str]:
    lines = (folder / "asked.jsonl").read_text("utf-8").splitlines()
    return {row["id"]: row["key"] for row in map(json.loads, lines)}


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
    assert "The chain step by step, with 95 % intervals: tcot" in page
    outputs = [json.loads(line) for line in (finished / "outputs.jsonl").read_text("utf-8").splitlines()]
    asked = [row for row in outputs if row["id"].startswith("tcot/line-")]
    assert len(asked) == 4
    assert all(set(row["outputs"]) == {system.name for system in card.systems} for row in asked)


def test_translations_are_asked_for_without_the_chain(finished: Path) -> None:
    """Of `self` as of the test sets: a graft that translates well when asked to is not made to answer instead."""
    written = {}
    for folder in folders(finished, "decode-transllm"):
        written |= {one.id: one for one in read_answers(folder).records()}
    translated = {id_: one for id_, one in written.items() if not id_.startswith(("self/self:", "tcot/"))}
    assert len(translated) == 2 + 3
    assert not any(one.segments for one in translated.values())
    answered = {id_: one for id_, one in written.items() if id_.startswith("self/self:")}
    assert len(answered) == 3
    assert all([part.role for part in one.segments] == ["english_reply"] for one in answered.values())


@pytest.mark.parametrize(
    ("stage", "version"),
    [
        ("decode-transllm", CHAIN),
        ("rows-transllm", RENDERING),
        ("divergence-transllm", DIVERGENCE),
        ("likelihood-transllm", LIKELIHOOD),
    ],
)
def test_what_is_kept_depends_on_the_version_of_what_made_it(finished: Path, stage: str, version: str) -> None:
    """An update that changes the chain, the rendering or a measure does not take over what the old one made."""
    for folder in folders(finished, stage):
        inputs = json.loads((folder / "manifest.json").read_text("utf-8"))["inputs"]
        assert f'"{version}"' in json.dumps(inputs)


def test_chat_and_servers_answer_in_the_languages_of_the_vocabulary(data: Path, finished: Path, tmp_path: Path) -> None:
    graft = tmp_path / "graft"
    shutil.copytree(finished / "graft", graft)
    manifest = json.loads((graft / "vocabulary.json").read_text("utf-8"))
    assert [lang for lang, _ in manifest["markers"]["native"]] == ["de"]
    with open_model(graft, str(data / "model")) as (loaded, markers):
        assert markers is not None
        assert markers.languages == ("de",)
    # What the manifest says counts, not what the control tokens look like.
    manifest["markers"]["native"] = [["lb", "<DE>"]]
    (graft / "vocabulary.json").write_text(json.dumps(manifest))
    assert markers_of(Vocabulary.of(graft), loaded.renderer) == Markers((("lb", "<DE>"),))


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
    vocabulary = Vocabulary.of(graft).info
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
    program = code[1].replace("path/to/graft", str(finished / "graft")).replace("=256", "=4")
    program = program.replace("path/to/base", str(data / "model"))
    names: dict[str, Any] = {}
    exec(compile(program, "card", "exec"), names)  # what a reader would run
    assert names["model"].get_input_embeddings().weight.shape[0] == Vocabulary.of(finished / "graft").info.rows


def test_the_base_is_as_it_was(data: Path, finished: Path) -> None:
    record = json.loads((finished / "run.json").read_text("utf-8"))
    assert record["model"]["sha256"] == find_model(str(data / "model")).sha256
    assert read_info(finished / "graft").base_sha256 == record["model"]["sha256"]


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("train-pretraining", marks=pytest.mark.long),
        pytest.param("train-translation_pretraining+pretraining", marks=pytest.mark.long),
        "train-transllm",
        pytest.param("vocabulary", marks=pytest.mark.long),
    ],
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


@pytest.mark.long
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
    recipe = chain_values(data, compare=[])
    recipe["stages"][2] |= {"params": {"answers": "reference", "max_prompts": 4}, "beside": []}
    recipe["evaluate"] |= {"stages": False, "retention": {"suites": []}}
    folder = tmp_path / "run"
    for method in ("native_sft", "tcot"):
        recipe["stages"][2]["method"] = method
        with pytest.raises(DataError, match="no example to train on"):  # a random model translates nothing well enough
            run(parse_recipe(recipe, "test", Path("/")), folder, QUIET, replace=True)
    (translated,) = folders(folder, "translation-native")
    assert facts(translated)["requests"] >= 4
    filters = json.loads((folders(folder, "rows-transllm")[0] / "filters.json").read_text("utf-8"))
    assert sum(filters.values()) == 4


def test_answers_that_are_cut_stop_the_run_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    recipe = chain_values(data, compare=[])
    recipe["stages"][2] |= {"method": "tcot", "params": {"max_answer_tokens": 5, "max_prompts": 4}, "beside": []}
    with pytest.raises(DataError, match=r"stage 'transllm', method 'tcot': (4 of|none of) 4 answers"):
        run(parse_recipe(recipe, "test", Path("/")), tmp_path / "run", QUIET)
    assert folders(tmp_path / "run", "synthesis-recovery")
    assert not folders(tmp_path / "run", "train-pretraining")


def test_a_preview_lets_the_engine_that_a_method_names_translate(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = chain_values(data, compare=[{"name": "no-tcot", "without": ["tcot"]}])
    recipe["stages"][2] |= {"params": {"answers": "reference", "translator": {"kind": "transformers"}}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    preview(str(tmp_path / "recipe.yaml"), rows=1)
    shown = capsys.readouterr().out
    assert "transllm (tcot+recovery+vanilla)" in shown
    without, _, whole = shown.partition("transllm (tcot+recovery+vanilla)")
    assert "no-tcot (recovery+vanilla)" in without
    assert "<RESPONSE>Harbours have" in whole
    # A graft without the chain is asked in English as the base is, and so it is trained.
    assert "Harbours have" in without
    assert "<RESPONSE>" not in without
