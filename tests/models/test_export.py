"""Exported models: what base and graft compute, loadable by plain transformers, whole or not there at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lingraft.core.errors import LockedError, ModelError, UsageError
from lingraft.engines.transformers import TransformersEngine
from lingraft.models import merged_model
from lingraft.models.export import export_graft
from lingraft.models.files import find_model
from lingraft.models.graft import check_fit, graft_renderer, grafted, name_base, read_info, write_info
from lingraft.models.loading import load_renderer
from lingraft.models.merged_copy import merged_copy
from lingraft.models.vocabulary import Vocabulary
from lingraft.store.artefacts import locked
from models_support import request
from vocabulary_support import learn, load_base, make_graft

THAI = "วันนี้อากาศดี เศรษฐกิจ และ โรงเรียน"
KINDS: list[Any] = [
    ("none", True, True),
    ("all", True, True),
    pytest.param("new", True, True, marks=pytest.mark.long),
    pytest.param("all", False, True, marks=pytest.mark.long),
    ("new", False, True),
]


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model(input_ids=torch.tensor([ids])).logits.float())


@pytest.mark.parametrize(("embeddings", "tied", "vocabulary"), [*KINDS, ("none", True, False), ("all", True, False)])
def test_an_exported_model_is_base_and_graft(tmp_path: Path, embeddings: str, tied: bool, vocabulary: bool) -> None:
    files, graft = make_graft(tmp_path, embeddings, tied=tied, vocabulary=vocabulary)
    found = export_graft(graft, tmp_path / "out", None, "fp32")
    assert found["max_logit_difference"] < 1e-3
    assert found["rounded"] is None
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer(THAI).input_ids
    assert len(tokenizer) == found["tokens"] <= model.config.vocab_size == model.get_output_embeddings().weight.shape[0]
    assert tokenizer.chat_template == load_renderer(files).tokenizer.chat_template
    loaded = load_base(files)
    assert len(ids) < len(loaded.renderer.plain_ids(THAI)) or not vocabulary
    with grafted(loaded, graft) as on:
        assert on.renderer.plain_ids(THAI) == ids
        torch.testing.assert_close(logits(model, ids), logits(on.model, ids), rtol=0, atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize(("embeddings", "tied", "vocabulary"), KINDS)
def test_plain_peft_loads_the_graft_on_a_resized_base(
    tmp_path: Path, embeddings: str, tied: bool, vocabulary: bool
) -> None:
    files, graft = make_graft(tmp_path, embeddings, tied=tied)
    info = Vocabulary.of(graft).info
    plain = AutoModelForCausalLM.from_pretrained(files.folder)
    plain.resize_token_embeddings(info.rows, mean_resizing=False)
    model = PeftModel.from_pretrained(plain, str(graft)).eval()
    tokenizer = AutoTokenizer.from_pretrained(graft)
    ids = tokenizer(THAI).input_ids if embeddings != "none" else tokenizer("Hello there, 12").input_ids
    loaded = load_base(files)
    with grafted(loaded, graft) as on:
        assert on.renderer.tokenizer(THAI).input_ids == tokenizer(THAI).input_ids
        # Rows that nobody trained and no token has are what each fills them with.
        seen = slice(0, info.tokens if embeddings != "none" else info.base_tokens)
        torch.testing.assert_close(logits(model, ids)[..., seen], logits(on.model, ids)[..., seen], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pad_multiple", [1, 64])
@pytest.mark.parametrize(
    ("embeddings", "tied"),
    [
        ("all", True),
        pytest.param("new", True, marks=pytest.mark.long),
        pytest.param("all", False, marks=pytest.mark.long),
        ("new", False),
    ],
)
def test_a_graft_with_a_vocabulary_loads_as_it_is_in_peft_and_lm_eval(
    tmp_path: Path, embeddings: str, tied: bool, pad_multiple: int
) -> None:
    files, graft = make_graft(tmp_path, embeddings, tied=tied, pad_multiple=pad_multiple)
    info = Vocabulary.of(graft).info
    tokenizer = AutoTokenizer.from_pretrained(graft)
    assert len(tokenizer) == info.rows == info.tokens + info.reserved
    assert info.rows % pad_multiple == 0
    assert (info.reserved > 0) == (pad_multiple == 64)
    name_base(graft, str(files.folder))  # a graft on a folder names no base; this stands for a hub id
    write_info(graft, read_info(graft))
    ids = tokenizer(THAI).input_ids
    with grafted(load_base(files), graft) as on:
        expected = logits(on.model, ids)[..., : info.tokens]
    model = AutoPeftModelForCausalLM.from_pretrained(graft).eval()
    assert model.get_input_embeddings().weight.shape[0] == info.rows
    torch.testing.assert_close(logits(model, ids)[..., : info.tokens], expected, rtol=0, atol=1e-5)
    if tied:  # lm-eval ties the weights anew, which transformers cannot where PEFT has wrapped them
        export_graft(graft, tmp_path / "out", None, "fp32")
        harness = HFLM(str(tmp_path / "out"), device="cpu", dtype="float32")
    else:
        harness = HFLM(str(files.folder), tokenizer=str(graft), peft=str(graft), device="cpu", dtype="float32")
    assert harness.tok_encode(THAI, add_special_tokens=False) == ids
    torch.testing.assert_close(logits(harness.model, ids)[..., : info.tokens], expected, rtol=0, atol=1e-4)


def test_reserved_tokens_stand_for_nothing(tmp_path: Path) -> None:
    files, graft = make_graft(tmp_path, pad_multiple=64)
    info, tokenizer = Vocabulary.of(graft).info, AutoTokenizer.from_pretrained(graft)
    spare = list(range(info.tokens, info.rows))
    assert tokenizer.decode([*tokenizer("Hello").input_ids, *spare], skip_special_tokens=True) == "Hello"
    assert tokenizer.convert_ids_to_tokens(spare) == [f"<|lingraft_reserved_{i}|>" for i in range(info.reserved)]
    renderer = graft_renderer(files, graft)
    assert not set(spare) & set(renderer.plain_ids("It says <|lingraft_reserved_0|> here."))  # of a user's text


def test_what_a_killed_export_left_is_used_up_by_the_next(tmp_path: Path) -> None:
    _, graft = make_graft(tmp_path)
    (tmp_path / ".out.partial").mkdir()
    for name in (".lock", "half.safetensors"):
        (tmp_path / ".out.partial" / name).write_bytes(b"half")
    with locked(tmp_path / ".out.partial"), pytest.raises(LockedError, match="another run is working in"):
        export_graft(graft, tmp_path / "out", None, "fp32")
    assert (tmp_path / ".out.partial" / "half.safetensors").exists()
    export_graft(graft, tmp_path / "out", None, "fp32")
    assert not list(tmp_path.glob(".out*"))
    assert {".lock", "half.safetensors"}.isdisjoint(path.name for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("joined", [True, False])
def test_other_cuts_than_the_bases_are_recorded_and_told(tmp_path: Path, joined: bool) -> None:
    files, graft = make_graft(tmp_path, marks_join_letters=joined)
    info = Vocabulary.of(graft).info
    assert info.cuts_as_base is not joined
    words = [
        AutoTokenizer.from_pretrained(folder).backend_tokenizer.pre_tokenizer.pre_tokenize_str("ก็ดี กี่")
        for folder in (files.folder, graft)
    ]
    assert (words[0] == words[1]) is not joined
    found = export_graft(graft, tmp_path / "out", None, "fp32")
    assert any("GGUF" in warning for warning in found["warnings"]) is joined
    assert ("GGUF" in (tmp_path / "out" / "README.md").read_text("utf-8")) is joined


def test_the_exported_folder_says_how_it_is_asked_and_is_readable_by_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, graft = make_graft(tmp_path)
    told = {"delimiter": "\n\nNote:", "stop": ["\nNote:"], "base_id": "org/base"}
    write_info(graft, read_info(graft).model_copy(update=told))
    (graft / "README.md").write_text(
        "---\nx: 1\n---\n\n# a\n\n## Results\n\nGain 4.6\n\n## Use\n\nwith PEFT\n", "utf-8"
    )
    export_graft(graft, tmp_path / "out", None, "fp32")
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    _, head, body = text.split("---\n", 2)
    front = yaml.safe_load(head)
    assert (front["base_model"], front["language"], front["library_name"]) == ("org/base", ["th", "en"], "transformers")
    assert '`{"stop": ["\\nNote:"]}`' in body
    assert "Gain 4.6" in body
    assert "with PEFT" not in body
    program = body.partition("```python\n")[2].partition("```")[0]
    exec(compile(program.replace("path/to/model", str(tmp_path / "out")), "card", "exec"), {})
    assert "Note:" not in capsys.readouterr().out
    (tmp_path / "probe").touch()
    usual = (tmp_path / "probe").stat().st_mode
    assert {path.name for path in (tmp_path / "out").iterdir() if path.stat().st_mode != usual} == set()


def test_rounding_is_reported_and_the_type_kept(tmp_path: Path) -> None:
    _, graft = make_graft(tmp_path)
    found = export_graft(graft, tmp_path / "out", None, "bf16")
    rounded = found["rounded"]
    assert 0 < found["max_logit_difference"] < 1e-3 < rounded["max_logit_difference"]
    assert 0.8 < rounded["same_top_token"] <= 1
    assert 0 < rounded["mean_kl"] < 0.01
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16
    export_graft(graft, tmp_path / "exact", None, "fp32")
    exact = AutoModelForCausalLM.from_pretrained(tmp_path / "exact").state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, exact[name].to(torch.bfloat16))


def test_agreement_is_that_of_the_distributions() -> None:
    generator = torch.Generator().manual_seed(3)
    one, other = ([4 * torch.randn(n, 50, generator=generator) for n in (5, 9, 2)] for _ in range(2))
    other[1][:7] = one[1][:7]
    found = merged_model._agreement(one, other, 2)  # the third row is no text
    p, q = (torch.distributions.Categorical(logits=torch.cat(rows[:2])) for rows in (one, other))
    assert found.positions == 14
    assert found.mean_kl == pytest.approx(torch.distributions.kl_divergence(p, q).mean().item(), rel=1e-5)
    assert found.same_top_token == pytest.approx((p.probs.argmax(1) == q.probs.argmax(1)).double().mean().item())
    assert found.max_logit_difference == (torch.cat(one) - torch.cat(other)).abs().max().item()


def test_a_model_that_does_not_fit_the_type_is_not_written(tmp_path: Path) -> None:
    files, graft = make_graft(tmp_path, vocabulary=False)
    model = AutoModelForCausalLM.from_pretrained(files.folder)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight *= 1e8  # above the largest float16
    model.save_pretrained(files.folder)
    info = read_info(graft)
    write_info(graft, info.model_copy(update={"base_sha256": find_model(str(files.folder)).sha256}))
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ModelError, match=r"in float16 .* predicts something else .* --dtype bf16"):
        export_graft(graft, tmp_path / "out", None, "fp16")
    assert {path.name for path in tmp_path.iterdir()} == before
    assert export_graft(graft, tmp_path / "out", None, "bf16")["rounded"]["mean_kl"] < merged_model.MAX_KL


def test_a_model_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, graft = make_graft(tmp_path)
    monkeypatch.setattr(merged_model, "TOLERANCE", 0.0)
    with pytest.raises(ModelError, match="the merged model's logits differ by"):
        export_graft(graft, tmp_path / "out", None, "fp32")
    assert {path.name for path in tmp_path.iterdir()} == {"base", "graft", "v"}


def test_wrong_uses_are_refused(tmp_path: Path) -> None:
    _, graft = make_graft(tmp_path)
    with pytest.raises(UsageError, match="no type 'int8' to export in; choose one of fp32, bf16, fp16"):
        export_graft(graft, tmp_path / "out", None, "int8")
    with pytest.raises(UsageError, match="exists already; give a new folder"):
        export_graft(graft, tmp_path / "v", None, "fp32")
    with pytest.raises(ModelError, match="is not a graft"):
        export_graft(tmp_path / "v", tmp_path / "out", None, "fp32")


# The engines


@pytest.mark.parametrize(("embeddings", "tied", "vocabulary"), [*KINDS, ("all", True, False)])
def test_the_engine_answers_with_the_grafts_own_tokenizer(
    tmp_path: Path, embeddings: str, tied: bool, vocabulary: bool
) -> None:
    files, graft = make_graft(tmp_path, embeddings, tied=tied, vocabulary=vocabulary)
    check_fit(files, load_renderer(files), graft)
    loaded = load_base(files)
    engine = TransformersEngine(loaded)
    asked = [request(f"r{i}", text, top=2) for i, text in enumerate((THAI, "Hello", THAI[:9]))]
    alone = {one.id: one for one in engine.generate(asked)}
    found = {one.id: one for one in engine.generate(asked, graft)}
    assert {one.id: one for one in engine.generate(asked)} == alone
    renderer = graft_renderer(files, graft)
    with grafted(loaded, graft) as on:
        for one in asked:
            ids = renderer.prompt_ids(one.messages).ids
            first = logits(on.model, list(ids))[0, -1].argmax().item()
            assert found[one.id].logprobs is not None
            assert found[one.id].logprobs[0][0][0] == first
            assert found[one.id].text.strip() == renderer.decode(found[one.id].token_ids).strip()
    exported = export_graft(graft, tmp_path / "out", None, "fp32")
    plain = AutoModelForCausalLM.from_pretrained(exported["folder"]).eval()
    ids = list(renderer.prompt_ids(asked[0].messages).ids)
    for token in found["r0"].token_ids:
        assert logits(plain, ids)[0, -1].argmax().item() == token
        ids.append(token)


def test_merged_copies_have_the_grafts_tokenizer_and_depend_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    files, graft = make_graft(tmp_path)
    one = merged_copy(files, graft, torch.float32, "it is a test")
    renderer = graft_renderer(files, graft)
    assert AutoTokenizer.from_pretrained(one).get_vocab() == renderer.tokenizer.get_vocab()
    model = AutoModelForCausalLM.from_pretrained(one).eval()
    ids = renderer.plain_ids(THAI)
    with grafted(load_base(files), graft) as on:
        assert model.config.vocab_size == on.model.get_output_embeddings().weight.shape[0]
        torch.testing.assert_close(logits(model, ids), logits(on.model, ids), rtol=0, atol=1e-3)
    learn(files, graft, init="random")
    write_info(graft, read_info(graft))
    assert merged_copy(files, graft, torch.float32, "it is a test") != one


@pytest.mark.parametrize("embeddings", ["all", "new"])
def test_a_graft_with_embeddings_answers_on_a_bfloat16_base(tmp_path: Path, embeddings: str) -> None:
    files, graft = make_graft(tmp_path, embeddings)
    exact, rounded = load_base(files), load_base(files)
    rounded.model.to(torch.bfloat16)
    ids = graft_renderer(files, graft).plain_ids(THAI)
    with grafted(exact, graft) as one, grafted(rounded, graft) as two:
        expected, found = logits(one.model, ids), logits(two.model, ids)
        assert (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_damage_to_a_grafts_vocabulary_is_refused(tmp_path: Path) -> None:
    files, graft = make_graft(tmp_path)
    path = graft / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:-20])
    for act in (lambda: graft_renderer(files, graft), lambda: check_fit(files, load_renderer(files), graft)):
        with pytest.raises(ModelError, match=r"is not the one that vocabulary\.json describes"):
            act()
    (graft / "vocabulary.json").unlink()
    with pytest.raises(ModelError, match=r"vocabulary are not those that lingraft\.json was written for"):
        check_fit(files, load_renderer(files), graft)
    (graft / "lingraft.json").unlink()  # a plain adapter then, whose embeddings are too many for the base
    with pytest.raises(ModelError, match="does not fit the base"):
        check_fit(files, load_renderer(files), graft)
