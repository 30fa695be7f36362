"""What cannot be merged is refused with what differs; and models of other vocabularies, where a merger takes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import ModelError, UsageError
from lingraft.merging.base import MERGERS
from lingraft.merging.plan import given, planned
from lingraft.merging.stream import merged
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.graft import grafted
from merging_support import by_hand, write_graft
from vocabulary_support import learn, load_base, make_graft, save_base

LINEAR = {"kind": "linear"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))


def refused(files: ModelFiles, models: list[Any], kind: str = "linear") -> str:
    with pytest.raises(ModelError) as error:
        planned(MERGERS.create({"kind": kind}), files, models)
    return str(error.value)


def changed(files: ModelFiles, folder: Path, **config: Any) -> ModelFiles:
    """Return a copy of a base with another configuration."""
    shutil.copytree(files.folder, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **config}), "utf-8")
    return find_model(str(folder))


def test_grafts_of_another_base(files: ModelFiles, tmp_path: Path) -> None:
    graft = write_graft(files, tmp_path / "one", 1, "lora", base_sha256="0" * 64)
    assert "with hash 000000000000, and" in refused(files, [graft])


def test_models_of_another_size(files: ModelFiles, tmp_path: Path) -> None:
    wider, deeper = (save_base(tmp_path / "wider", hidden=64), tmp_path / "deeper")
    said = refused(files, [wider])
    assert "has another size than the base: model.embed_tokens.weight is" in said
    tiny_llama(tiny_tokenizer(), layers=3).save_pretrained(deeper)
    tiny_tokenizer().save_pretrained(deeper)
    said = refused(files, [find_model(str(deeper))])
    assert f"model.layers.2.self_attn.q_proj.weight is a weight of {deeper} alone" in said


def test_models_that_compute_otherwise(files: ModelFiles, tmp_path: Path) -> None:
    other = changed(files, tmp_path / "other", rms_norm_eps=0.5)
    assert "its configuration has rms_norm_eps 0.5, the base's 1e-06" in refused(files, [other])
    planned(MERGERS.create(LINEAR), files, [changed(files, tmp_path / "longer", max_position_embeddings=4096)])


def test_tokenizers_that_differ(files: ModelFiles, tmp_path: Path) -> None:
    def with_tokenizer(name: str, change: Any) -> str:
        shutil.copytree(files.folder, tmp_path / name)
        tokenizer = change(AutoTokenizer.from_pretrained(files.folder))
        tokenizer.save_pretrained(tmp_path / name)
        return refused(files, [find_model(str(tmp_path / name))])

    def swapped(tokenizer: Any) -> Any:
        tokenizer.save_pretrained(tmp_path / "t")
        path = tmp_path / "t" / "tokenizer.json"
        values = json.loads(path.read_text("utf-8"))
        vocab = values["model"]["vocab"]
        a, b = [token for token, number in vocab.items() if number in (100, 101)]
        vocab[a], vocab[b] = vocab[b], vocab[a]
        path.write_text(json.dumps(values), "utf-8")
        return AutoTokenizer.from_pretrained(tmp_path / "t")

    def lower(tokenizer: Any) -> Any:
        from tokenizers.normalizers import Lowercase

        tokenizer.backend_tokenizer.normalizer = Lowercase()
        return tokenizer

    def more(tokenizer: Any) -> Any:
        tokenizer.add_tokens([AddedToken("<|new|>", special=True)])
        return tokenizer

    assert "it has 1 tokens that the base lacks, such as '<|new|>'" in with_tokenizer("more", more)
    assert "there and 100 in the base" in with_tokenizer("moved", swapped)
    assert "it cuts text otherwise (its normalizer)" in with_tokenizer("cuts", lower)


def test_quantised_models(files: ModelFiles, tmp_path: Path) -> None:
    packed = changed(files, tmp_path / "packed", quantization_config={"quant_method": "bitsandbytes"})
    assert "are quantised, and cannot be merged; give the original" in refused(files, [packed])


def test_models_that_change_nothing(files: ModelFiles) -> None:
    assert "none of the models changes a weight" in refused(files, ["base", "base"])


def test_too_many_models_are_told_before_they_are_read(files: ModelFiles) -> None:
    with pytest.raises(UsageError, match=r"slerp merges 1 to 2 models, and there are 3"):
        planned(MERGERS.create({"kind": "slerp"}), files, ["base", "base", "base"])


def test_numbers_that_are_none(files: ModelFiles, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = changed(files, tmp_path / "broken")
    path = broken.folder / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight of .*broken holds numbers that are not finite"):
        merged(MERGERS.create(LINEAR), files, [find_model(str(broken.folder))], tmp_path / "out", form="checkpoint")
    assert not (tmp_path / "out").exists()


def test_names_of_models(files: ModelFiles, tmp_path: Path) -> None:
    graft = write_graft(files, tmp_path / "run" / "graft", 1, "lora")
    assert given("base") == "base"
    assert given(str(graft)) == graft == given(str(tmp_path / "run"))
    assert given(str(files.folder)) == files
    with pytest.raises(ModelError, match="there is no model at 'nothing'"):
        given("nothing")


@pytest.mark.long
def test_grafts_of_one_vocabulary_are_merged(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v")
    of = [write_graft(files, tmp_path / kind, n, kind, tmp_path / "v") for n, kind in enumerate(("rows", "full"))]
    for merger in (MERGERS.create({"kind": "widen"}), MERGERS.create({"kind": "linear", "weights": [1, 3]})):
        out = tmp_path / merger.name
        merged(merger, files, of, out)
        expected = by_hand(merger, files, of, tmp_path / "v")
        with grafted(load_base(files), out) as on:
            model: Any = on.model
            found = {name: one for name, one in model.merge_and_unload().named_parameters() if name in expected}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6, msg=name)


def test_a_model_of_its_own_has_their_vocabulary(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v")
    graft = write_graft(files, tmp_path / "one", 1, "rows", tmp_path / "v")
    merged(MERGERS.create(LINEAR), files, [graft, "base"], tmp_path / "out", form="checkpoint")
    found = find_model(str(tmp_path / "out"))
    loaded = load_base(found)
    assert len(loaded.renderer.tokenizer) <= loaded.model.get_input_embeddings().num_embeddings
    assert loaded.renderer.tokenizer.get_vocab() == AutoTokenizer.from_pretrained(tmp_path / "v").get_vocab()


@pytest.mark.long
def test_grafts_of_different_vocabularies_are_refused(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v")
    learn(files, tmp_path / "w", size=40)
    one = write_graft(files, tmp_path / "one", 1, "rows", tmp_path / "v")
    other = write_graft(files, tmp_path / "other", 2, "rows", tmp_path / "w")
    plain = write_graft(files, tmp_path / "plain", 3, "lora")
    assert "of their own that differ: it lacks 20 of the other's tokens, such as" in refused(files, [one, other])
    assert f"{plain} has the vocabulary of the base, and {one} one of its own" in refused(files, [one, plain])


def grown(files: ModelFiles, folder: Path, tokens: list[str]) -> ModelFiles:
    """Return a model that was trained further from a base, with more tokens."""
    tokenizer = AutoTokenizer.from_pretrained(files.folder)
    tokenizer.add_tokens(tokens)
    model: Any = load_base(files).model
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model.resize_token_embeddings(len(tokenizer))
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return find_model(str(folder))


def test_chat_vector_for_a_model_with_more_tokens(files: ModelFiles, tmp_path: Path) -> None:
    learnt, chat = grown(files, tmp_path / "learnt", ["ไทย", "น้ำ"]), grown(files, tmp_path / "chat", [])
    out = tmp_path / "out"
    done = merged(MERGERS.create({"kind": "chat_vector"}), files, [learnt, chat], out, form="checkpoint")
    assert done.max_logit_difference < 1e-4
    base, theirs, ours = (dict(load_base(one).model.named_parameters()) for one in (files, chat, learnt))
    loaded = load_base(find_model(str(out)))
    found: dict[str, torch.Tensor] = dict(loaded.model.named_parameters())
    name = "model.layers.1.mlp.up_proj.weight"
    torch.testing.assert_close(found[name], ours[name] + theirs[name] - base[name])
    embedding = "model.embed_tokens.weight"
    special = AutoTokenizer.from_pretrained(files.folder).eos_token_id
    rows = [row for row in range(len(found[embedding])) if not torch.equal(found[embedding][row], ours[embedding][row])]
    assert special in rows
    assert len(rows) < 10  # control tokens of the template
    torch.testing.assert_close(found[embedding][rows], theirs[embedding][rows])
    assert loaded.renderer.tokenizer.get_vocab() == AutoTokenizer.from_pretrained(learnt.folder).get_vocab()
    with pytest.raises(UsageError, match="none of the models is a graft"):
        merged(MERGERS.create({"kind": "chat_vector"}), files, [learnt, chat], tmp_path / "graft")
    assert "it has 2 tokens that the base lacks" in refused(files, [chat, learnt], "chat_vector")


def test_chat_vector_needs_the_control_tokens(files: ModelFiles, tmp_path: Path) -> None:
    chat = grown(files, tmp_path / "chat", [])
    learnt = save_base(tmp_path / "learnt", family="llama3")
    assert "lacks '<|im_" in refused(files, [learnt, chat], "chat_vector")


def test_chat_vector_names_what_differs(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v")
    learn(files, tmp_path / "w", size=40)
    own, other = (write_graft(files, tmp_path / name, 1, "rows", tmp_path / name[-1]) for name in ("own-v", "other-w"))
    plain = write_graft(files, tmp_path / "plain", 3, "lora")
    learnt, wider = grown(files, tmp_path / "learnt", ["ไทย"]), save_base(tmp_path / "wider", hidden=64)
    foreign = write_graft(files, tmp_path / "foreign", 4, "lora", base_sha256="0" * 64)
    for models, words in (
        ([own, other], "have vocabularies of their own that differ: "),
        ([plain, own], f"{plain} has the vocabulary of the base, and {own} one of its own; merge models of one"),
        ([learnt, own], f"has the vocabulary of the base, and {own} one of its own; merge models of one vocabulary"),
        ([plain, learnt], f"the tokenizer of {learnt.name} is not that of {files.name}: it has 1 tokens"),
        ([wider, plain], "has another size than the base"),
        ([learnt, foreign], "with hash 000000000000, and"),
    ):
        assert words in refused(files, models, "chat_vector")
    chat = grown(files, tmp_path / "chat", [])
    for models, words in (([own, chat], "another vocabulary"), ([learnt, plain], "another vocabulary")):
        with pytest.raises(UsageError, match=f"{words} than the base; merge as a checkpoint"):
            merged(MERGERS.create({"kind": "chat_vector"}), files, models, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    plan = planned(MERGERS.create({"kind": "chat_vector"}), files, [own, "base"])
    assert plan.rows is None  # the base is grown as the graft was
    assert plan.vocabulary is not None


@pytest.mark.parametrize("tied", [True, pytest.param(False, marks=pytest.mark.long)])
def test_chat_vector_for_a_graft_with_a_vocabulary_of_its_own(tmp_path: Path, tied: bool) -> None:
    base, graft = make_graft(tmp_path, tied=tied)
    chat = grown(base, tmp_path / "chat", [])
    out = tmp_path / "out"
    done = merged(MERGERS.create({"kind": "chat_vector"}), base, [graft, chat], out, form="checkpoint")
    assert done.max_logit_difference < 1e-4
    loaded, own = load_base(find_model(str(out))), AutoTokenizer.from_pretrained(graft)
    assert loaded.renderer.tokenizer.get_vocab() == own.get_vocab()
    theirs = dict(load_base(chat).model.named_parameters())["model.embed_tokens.weight"]
    rows = dict(loaded.model.named_parameters())["model.embed_tokens.weight"]
    assert len(rows) > len(theirs)
    special = own.convert_tokens_to_ids("<|im_end|>")
    torch.testing.assert_close(rows[special], theirs[special])
    with pytest.raises(UsageError, match="has another vocabulary than the base; merge as a checkpoint"):
        merged(MERGERS.create({"kind": "chat_vector"}), base, [graft, chat], tmp_path / "as-graft")
