"""A vocabulary on disk, and a base grown to it: shapes, first values, and the very tensors back afterwards."""

from __future__ import annotations

import json
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lingraft.core.errors import ModelError
from lingraft.data.records import Example, Message, Span
from lingraft.models import vocabulary
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.graft import grafted
from lingraft.models.growth import extended
from lingraft.models.loading import LoadedModel, load_renderer
from lingraft.models.vocabulary import FILE, Vocabulary, tokenizer_files, tokenizer_hash
from lingraft.store.files import write_json
from vocabulary_support import MARKERS, learn, load_base, make_graft, save_base, untie

IDS = torch.arange(5, 60)[None]


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return save_base(tmp_path / "base")


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model(input_ids=IDS).logits)


def change(folder: Path, **values: Any) -> None:
    path = folder / FILE
    write_json(path, {**json.loads(path.read_text("utf-8")), **values})


# On disk


def test_what_is_written_is_read_and_copied(files: ModelFiles, tmp_path: Path) -> None:
    info = learn(files, tmp_path / "v")
    assert Vocabulary.of(tmp_path / "v").info == info
    assert Vocabulary.in_folder(files.folder) is None
    (tmp_path / "graft").mkdir()
    (tmp_path / "graft" / "adapter_config.json").write_text("{}")
    Vocabulary.of(tmp_path / "v").copy_to(tmp_path / "graft")
    assert Vocabulary.of(tmp_path / "graft").info == info
    one, two = (Vocabulary.of(tmp_path / name).renderer(files) for name in ("v", "graft"))
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()
    assert one.tokenizer.chat_template == load_renderer(files).tokenizer.chat_template


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"schema": "lingraft.vocabulary/1"}'])
def test_a_damaged_manifest_is_named_in_one_sentence(files: ModelFiles, tmp_path: Path, content: str) -> None:
    learn(files, tmp_path / "v", size=0)
    (tmp_path / "v" / FILE).write_text(content)
    with pytest.raises(ModelError, match="is damaged") as caught:
        Vocabulary.in_folder(tmp_path / "v")
    assert "\n" not in str(caught.value)


def test_changed_tokenizers_other_versions_and_other_bases_are_refused(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v", size=0)
    loaded = load_base(files)
    other = replace(loaded, files=replace(files, sha256="1" * 64))
    with (
        pytest.raises(ModelError, match="give the original base or make"),
        extended(other, Vocabulary.of(tmp_path / "v")),
    ):
        pass
    with pytest.raises(ModelError, match=r"holds no vocabulary: it lacks vocabulary\.json"):
        Vocabulary.of(files.folder).renderer(files)
    change(tmp_path / "v", schema="lingraft.vocabulary/2")
    with pytest.raises(ModelError, match=r"schema 'lingraft.vocabulary/2', this version reads .*; update lingraft"):
        Vocabulary.in_folder(tmp_path / "v")
    change(tmp_path / "v", schema="lingraft.vocabulary/1")
    for path in tokenizer_files(tmp_path / "v"):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        with pytest.raises(ModelError, match=r"is not the one that vocabulary\.json describes"):
            Vocabulary.in_folder(tmp_path / "v")
        path.write_bytes(before)
    change(tmp_path / "v", markers={"native": [["th", "<THAI>"]]})
    with pytest.raises(ModelError, match=r"the marker <THAI> is \d+ tokens"):
        Vocabulary.of(tmp_path / "v").renderer(files)


def test_a_vocabulary_that_moves_ids_of_the_base_is_refused(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v", size=0)
    path = tmp_path / "v" / "tokenizer.json"
    spec = json.loads(path.read_text("utf-8"))
    vocab = spec["model"]["vocab"]
    vocab["A"], vocab["B"] = vocab["B"], vocab["A"]
    path.write_text(json.dumps(spec))
    change(tmp_path / "v", sha256=tokenizer_hash(tmp_path / "v"))
    loaded = load_base(files)
    weight = loaded.model.get_input_embeddings().weight
    with pytest.raises(ModelError, match=r"changes the id of '[AB]'"), extended(loaded, Vocabulary.of(tmp_path / "v")):
        pass
    assert loaded.model.get_input_embeddings().weight is weight


# In memory


@pytest.mark.parametrize(("tied", "bias"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("init", ["mean", "random"])
def test_a_base_grows_for_the_time_of_the_block(tmp_path: Path, tied: bool, bias: bool, init: str) -> None:
    files = save_base(tmp_path / "base")
    info = learn(files, tmp_path / "v", init=init)
    loaded = load_base(files)
    model: Any = loaded.model
    if not tied:
        untie(model, bias=bias)
    before, state = logits(model), dict(model.named_parameters())
    values = {name: parameter.detach().clone() for name, parameter in state.items()}
    random_state = torch.get_rng_state()
    with extended(loaded, Vocabulary.of(tmp_path / "v")) as grown:
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        assert embedding.weight.shape == head.weight.shape == (info.rows, 32)
        assert (embedding.weight is head.weight) == tied
        assert (embedding.num_embeddings, head.out_features, model.config.vocab_size) == (info.rows,) * 3
        assert logits(model).shape[-1] == info.rows
        assert torch.equal(logits(model)[..., : info.base_rows], before)
        assert grown.new_ids == range(info.base_tokens, info.tokens)
        assert grown.renderer.tokenizer.get_vocab().keys() > loaded.renderer.tokenizer.get_vocab().keys()
        assert embedding.weight.isfinite().all()
        if init == "mean":
            check_means(loaded, grown, values["model.embed_tokens.weight"], embedding.weight)
            if not tied:
                check_means(loaded, grown, values["lm_head.weight"], head.weight)
            if bias:
                check_means(loaded, grown, values["lm_head.bias"], head.bias)
        else:
            new, base = embedding.weight[info.base_tokens : info.tokens], values["model.embed_tokens.weight"]
            assert new.std(0).mean().item() == pytest.approx(base.std(0).mean().item(), rel=0.3)
            with extended(load_base(files), Vocabulary.of(tmp_path / "v")) as again:
                assert torch.equal(again.model.get_input_embeddings().weight, embedding.weight)
    assert torch.equal(torch.get_rng_state(), random_state)
    after = dict(model.named_parameters())
    assert after.keys() == state.keys()
    assert all(after[name] is state[name] for name in state)
    assert all(torch.equal(after[name], values[name]) for name in state)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert model.config.vocab_size == info.base_rows == model.get_input_embeddings().num_embeddings
    assert torch.equal(logits(model), before)


def check_means(loaded: LoadedModel, grown: LoadedModel, base: torch.Tensor, new: torch.Tensor) -> None:
    """Compare new rows with the mean over the tokens that the base itself reads the decoded text as."""
    tokenizer = grown.renderer.tokenizer
    pieces = [number for number in grown.new_ids if number not in tokenizer.added_tokens_decoder]
    checked = 0
    for number in [*pieces, *(tokenizer.convert_tokens_to_ids(token) for token in MARKERS.tokens)]:
        text = tokenizer.decode([number])
        if "\ufffd" in text:  # the first bytes of a character
            continue
        parts = loaded.renderer.tokenizer(text, add_special_tokens=False).input_ids
        if any(unicodedata.category(c) == "Mn" for c in text):
            continue  # the base cuts words at marks, and pieces go over them
        torch.testing.assert_close(new[number], base[parts].mean(0))
        checked += 1
    assert checked > 10


def test_the_grown_shape_is_that_of_transformers_own_resizing(files: ModelFiles, tmp_path: Path) -> None:
    info = learn(files, tmp_path / "v", pad_multiple=16)
    other: Any = load_base(files).model
    other.resize_token_embeddings(info.tokens, pad_to_multiple_of=16, mean_resizing=False)
    with extended(load_base(files), Vocabulary.of(tmp_path / "v")) as grown:
        shapes = {name: parameter.shape for name, parameter in grown.model.named_parameters()}
        assert shapes == {name: parameter.shape for name, parameter in other.named_parameters()}
        assert grown.model.config.vocab_size == other.config.vocab_size


def test_the_base_is_restored_when_the_work_fails(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v")
    loaded = load_base(files)
    before = logits(loaded.model)
    with pytest.raises(ZeroDivisionError), extended(loaded, Vocabulary.of(tmp_path / "v")):
        _ = 1 / 0
    assert torch.equal(logits(loaded.model), before)


def test_a_base_of_other_types_keeps_them(files: ModelFiles, tmp_path: Path) -> None:
    info = learn(files, tmp_path / "v")
    loaded = load_base(files)
    loaded.model.to(torch.bfloat16)
    with extended(loaded, Vocabulary.of(tmp_path / "v")) as grown:
        assert {parameter.dtype for parameter in grown.model.parameters()} == {torch.bfloat16}
    meta = load_base(files)
    meta.model.to("meta")
    with extended(meta, Vocabulary.of(tmp_path / "v")) as grown:
        assert grown.model.get_output_embeddings().weight.shape == (info.rows, 32)
        assert grown.device.type == "meta"


def test_a_base_with_spare_rows_uses_them_first(tmp_path: Path) -> None:
    loaded = load_base(save_base(tmp_path / "base"))
    model: Any = loaded.model
    model.resize_token_embeddings(len(loaded.renderer.tokenizer) + 100, mean_resizing=False)
    model.save_pretrained(tmp_path / "base")
    files = find_model(str(tmp_path / "base"))
    info = learn(files, tmp_path / "v")
    assert info.rows == info.base_rows == info.base_tokens + 100
    assert info.tokens == info.base_tokens + 63
    spare = load_base(files).model.get_input_embeddings().weight
    with extended(load_base(files), Vocabulary.of(tmp_path / "v")) as grown:
        weight = grown.model.get_input_embeddings().weight
        assert torch.equal(weight[info.tokens :], spare[info.tokens :])
        assert not torch.equal(weight[info.base_tokens], spare[info.base_tokens])


def test_quantised_embeddings_are_refused(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v")
    loaded = load_base(files)
    head: Any = loaded.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.zeros(head.weight.shape, dtype=torch.uint8), requires_grad=False)
    with (
        pytest.raises(ModelError, match="use an unquantised, unsharded base"),
        extended(loaded, Vocabulary.of(tmp_path / "v")),
    ):
        pass


@pytest.mark.parametrize("family", ["smollm2", "llama2", "llama32", "qwen3", "gemma2", "mistral_v03"])
def test_conversations_render_with_the_grown_tokenizer(tmp_path: Path, family: str) -> None:
    files = save_base(tmp_path / "base", family)
    learn(files, tmp_path / "v")
    base, grown = load_renderer(files), Vocabulary.of(tmp_path / "v").renderer(files)
    assert base.end_ids == grown.end_ids
    assert base.pad_id == grown.pad_id
    english = Example("e", (Message("user", "How are you today?"),), (Span("Fine, it's 12.", "reply"),))
    assert base.render(english) == grown.render(english)
    thai = Example("t", (Message("user", "วันนี้อากาศดี"),), (Span("เศรษฐกิจ และ <TH> โรงเรียน", "reply"),))
    rendered = grown.render(thai)
    assert len(rendered.input_ids) < len(base.render(thai).input_ids)
    shown = "".join(text for text, role, _ in grown.pieces(rendered) if role == "reply")
    assert "เศรษฐกิจ และ <TH> โรงเรียน" in shown
    marker = grown.tokenizer.convert_tokens_to_ids("<TH>")
    assert marker not in rendered.input_ids  # text of users and models is never read as a marker


def test_a_copy_is_whole(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v")
    shutil.rmtree(files.folder)
    names = {path.name for path in (tmp_path / "v").iterdir()}
    Vocabulary.of(tmp_path / "v").copy_to(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == names


def test_a_graft_is_put_on_with_its_vocabulary_read_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, graft = make_graft(tmp_path)
    hashed: list[Path] = []

    def counted(folder: Path) -> str:
        hashed.append(folder)
        return tokenizer_hash(folder)

    monkeypatch.setattr(vocabulary, "tokenizer_hash", counted)
    with grafted(load_base(files), graft) as loaded:
        assert loaded.new_ids
    assert hashed == [graft]
