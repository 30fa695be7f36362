"""Merging grafts and checkpoints weight by weight, against whole models in memory; resuming; and what is written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from builders import tiny_tokenizer
from lingraft.core.errors import ModelError, UsageError
from lingraft.merging import tensor_file
from lingraft.merging.base import MERGERS, Merger
from lingraft.merging.plan import given, planned
from lingraft.merging.stream import FORMS, merged
from lingraft.models.adapter import read_adapter
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.graft import grafted, is_exported, read_asking, read_info
from lingraft.models.merge_in_memory import merged as held
from merging_support import KINDS, by_hand, write_graft
from vocabulary_support import load_base, save_base

IDS = torch.arange(5, 90)[None]
MERGED = [name for name in MERGERS if name != "chat_vector"]


def quick(names: Iterable[str], *chosen: str) -> list[Any]:
    """Return names as parameters of a test that is long for all but the chosen ones."""
    return [pytest.param(name, marks=[] if name in chosen else pytest.mark.long) for name in names]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return save_base(tmp_path_factory.mktemp("base"), tied=False)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return save_base(tmp_path_factory.mktemp("tied"), scale=2.0)


@pytest.fixture(scope="module")
def grafts(files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("grafts")
    return {kind: write_graft(files, root / kind, n, kind) for n, kind in enumerate(KINDS, 1)}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))


def create(kind: str, **params: Any) -> Merger:
    return MERGERS.create({"kind": kind, **params})


def weights_of(files: ModelFiles, graft: Path) -> dict[str, torch.Tensor]:
    model: Any = load_base(files).model
    with held(model, graft):
        return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def check(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], precisely: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=precisely, atol=precisely, msg=name)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


@pytest.mark.parametrize("kind", quick(KINDS, "lora", "sparse", "full"))
def test_a_graft_of_every_kind_is_read_as_it_is_used(
    files: ModelFiles, grafts: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    done = merged(create("linear"), files, [grafts[kind]], tmp_path / "out")
    assert done.form == "graft"
    assert done.max_logit_difference < 1e-4
    check(weights_of(files, tmp_path / "out"), weights_of(files, grafts[kind]))
    with grafted(load_base(files), tmp_path / "out") as on, grafted(load_base(files), grafts[kind]) as original:
        torch.testing.assert_close(logits(on.model), logits(original.model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", quick(MERGED, "widen"))
def test_every_merger_gives_what_whole_models_in_memory_give(
    files: ModelFiles, grafts: dict[str, Path], tmp_path: Path, name: str
) -> None:
    merger = create(name, **({"density": 0.4} if name in ("ties", "dare") else {}))
    of = [grafts["lora"], grafts["full"], *([grafts["sparse"]] if merger.most > 2 else [])]
    merged(merger, files, of, tmp_path / "out")
    check(weights_of(files, tmp_path / "out"), by_hand(merger, files, of))


def test_shared_embeddings_stay_shared(tied: ModelFiles, tmp_path: Path) -> None:
    of = [write_graft(tied, tmp_path / kind, n, kind) for n, kind in enumerate(("embeddings", "rows", "full"))]
    merged(create("linear", strength=0.5), tied, of, tmp_path / "out")
    found = weights_of(tied, tmp_path / "out")
    check(found, by_hand(create("linear", strength=0.5), tied, of))
    model = AutoModelForCausalLM.from_pretrained(tied.folder)
    on: Any = PeftModel.from_pretrained(model, str(tmp_path / "out"))  # plain PEFT
    torch.testing.assert_close(on.merge_and_unload().lm_head.weight, found["model.embed_tokens.weight"])


def test_a_whole_graft_alone_comes_out_as_it_was(tied: ModelFiles, tmp_path: Path) -> None:
    one = write_graft(tied, tmp_path / "one", 1, "full")
    merged(create("linear"), tied, [one], tmp_path / "out")
    found, expected = (read_adapter(folder) for folder in (tmp_path / "out", one))
    check(found[1], expected[1], 0)
    assert sorted(found[0].modules_to_save) == sorted(expected[0].modules_to_save)
    assert found[0].ensure_weight_tying == expected[0].ensure_weight_tying


def test_layers_that_no_model_changes_stay_out(files: ModelFiles, grafts: dict[str, Path], tmp_path: Path) -> None:
    merged(create("widen"), files, [grafts["lora"], "base"], tmp_path / "out")
    names = {name.removeprefix("base_model.model.") for name in load_file(tmp_path / "out/adapter_model.safetensors")}
    assert names == {name for name in weights_of(files, grafts["lora"]) if "_proj" in name}
    halved = planned(create("linear", normalise=False, weights=[0.5]), files, [grafts["lora"]])
    assert "model.norm.weight" in halved.changed  # half of the base is not the base


def test_adapter_strength_lies_between_base_and_graft(
    files: ModelFiles, grafts: dict[str, Path], tmp_path: Path
) -> None:
    merged(create("linear", strength=0.25), files, [grafts["embeddings"]], tmp_path / "out")
    found, whole = weights_of(files, tmp_path / "out"), weights_of(files, grafts["embeddings"])
    base = dict(load_base(files).model.named_parameters())
    check(found, {name: 0.75 * base[name].detach() + 0.25 * value for name, value in whole.items()})


def test_what_a_merged_graft_says_of_itself(files: ModelFiles, grafts: dict[str, Path], tmp_path: Path) -> None:
    merged(create("ties", density=0.5), files, [grafts["lora"], grafts["sparse"]], tmp_path / "out")
    info, first = read_info(tmp_path / "out"), read_info(grafts["lora"])
    assert info.method == "ties(m1 & m6)"
    assert info.instruction == first.instruction
    assert [one.target for one in info.directions] == ["x1", "x6"]
    assert info.params["kind"] == "ties"
    assert info.params["density"] == 0.5
    assert str(tmp_path) not in json.dumps(info.params)


@pytest.mark.parametrize("dtype", quick(["", "bf16", "fp16"], "bf16"))
def test_a_model_of_its_own(files: ModelFiles, grafts: dict[str, Path], tmp_path: Path, dtype: str) -> None:
    merger, of = create("task_arithmetic"), [grafts["lora"], grafts["full"]]
    done = merged(merger, files, of, tmp_path / "out", form="checkpoint", dtype=dtype)
    found = find_model(str(tmp_path / "out"))
    model: Any = AutoModelForCausalLM.from_pretrained(found.folder, dtype="auto")
    expected = by_hand(merger, files, of)
    kind = {"": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    assert model.dtype == kind
    check(
        {name: value.detach().float() for name, value in model.named_parameters()},
        {name: value.to(kind).float() for name, value in expected.items()},
        1e-6 if not dtype else 1e-2,
    )
    assert done.parameters == sum(value.numel() for value in expected.values())
    assert is_exported(found.folder)
    assert read_asking(found.folder).instruction == "1 {source}"


def test_models_of_their_own_are_merged(files: ModelFiles, grafts: dict[str, Path], tmp_path: Path) -> None:
    merged(create("linear"), files, [grafts["full"]], tmp_path / "whole", form="checkpoint")
    whole, merger = given(str(tmp_path / "whole")), create("linear", weights=[3, 1])
    assert isinstance(whole, ModelFiles)
    merged(merger, files, [whole, grafts["lora"]], tmp_path / "out")
    check(weights_of(files, tmp_path / "out"), by_hand(merger, files, [grafts["full"], grafts["lora"]]))
    with pytest.raises(UsageError, match="none of the models is a graft"):
        merged(create("linear"), files, [whole], tmp_path / "none")
    merged(create("linear"), files, [whole, "base"], tmp_path / "mean", form="checkpoint")
    assert not (tmp_path / "mean" / "lingraft.json").exists()


def test_weights_that_are_kept_turned(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    files = find_model(str(tmp_path / "gpt2"))
    graft = write_graft(files, tmp_path / "lora", 1, "lora")
    plan = planned(create("widen"), files, [graft])
    assert "transformer.h.0.attn.c_attn.weight" in plan.layout.transposed
    merged(create("widen"), files, [graft], tmp_path / "out")
    check(weights_of(files, tmp_path / "out"), weights_of(files, graft))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("form", quick(FORMS, "graft"))
def test_killed_and_gone_on_with_it_is_the_same_to_the_byte(
    files: ModelFiles, grafts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    monkeypatch.setattr(tensor_file, "SYNCED_EVERY", 1)
    merger, of = create("dare"), [grafts["lora"], grafts["full"]]
    merged(merger, files, of, tmp_path / "whole", form=form)

    def killed(done: int, total: int) -> None:
        if done == 9:
            raise Killed

    with pytest.raises(Killed):
        merged(merger, files, of, tmp_path / "out", form=form, progress=killed)
    assert not (tmp_path / "out").exists()
    seen: list[int] = []
    merged(merger, files, of, tmp_path / "out", form=form, progress=lambda done, total: seen.append(done))
    assert seen[0] in (9, 10)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {path.name for path in (tmp_path / "out").iterdir()}
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".*lock"))


def test_what_something_else_has_begun_is_begun_anew(
    files: ModelFiles, grafts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "SYNCED_EVERY", 1)

    def killed(done: int, total: int) -> None:
        if done == 9:
            raise Killed

    with pytest.raises(Killed):
        merged(create("linear"), files, [grafts["lora"]], tmp_path / "out", progress=killed)
    merged(create("linear", strength=2), files, [grafts["lora"]], tmp_path / "out")
    check(weights_of(files, tmp_path / "out"), by_hand(create("linear", strength=2), files, [grafts["lora"]]))


def test_a_folder_that_is_there_stays(files: ModelFiles, grafts: dict[str, Path], tmp_path: Path) -> None:
    first = merged(create("linear"), files, [grafts["lora"]], tmp_path / "out")
    seen: list[int] = []
    again = merged(
        create("linear"), files, [grafts["lora"]], tmp_path / "out", progress=lambda done, total: seen.append(done)
    )
    assert again == first
    assert not seen
    with pytest.raises(UsageError, match="out exists already; give a new folder"):
        merged(create("linear", strength=2), files, [grafts["lora"]], tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", "utf-8")
    with pytest.raises(UsageError, match="mine exists already"):
        merged(create("linear"), files, [grafts["lora"]], tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").exists()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"link is a link to .*gone, which is not there; remove it"):
        merged(create("linear"), files, [grafts["lora"]], tmp_path / "link", progress=lambda done, _: seen.append(done))
    assert not seen


@pytest.mark.parametrize("form", quick(FORMS, "graft"))
def test_what_is_written_wrongly_gets_no_name(
    files: ModelFiles, grafts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    write = tensor_file.TensorFile.write

    def turned(self: Any, name: str, tensor: torch.Tensor) -> None:
        write(self, name, tensor.flip(0) if "down_proj" in name else tensor)

    monkeypatch.setattr(tensor_file.TensorFile, "write", turned)
    with pytest.raises(ModelError, match="the logits of what was merged differ by"):
        merged(create("linear"), files, [grafts["full"]], tmp_path / "out", form=form)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    merged(create("linear"), files, [grafts["full"]], tmp_path / "out", form=form)  # nothing of it is used again


def test_numbers_that_a_type_does_not_hold_are_told(files: ModelFiles, grafts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has numbers that do not fit float16"):
        merged(
            create("linear", strength=1e6), files, [grafts["full"]], tmp_path / "out", form="checkpoint", dtype="fp16"
        )
    assert not (tmp_path / "out").exists()


def test_forms_and_types_that_there_are_not(files: ModelFiles, grafts: dict[str, Path], tmp_path: Path) -> None:
    of: Any = [grafts["lora"]]
    for params, message in (
        ({"form": "gguf"}, "there is no form 'gguf' of what is merged; choose one of graft, checkpoint"),
        ({"form": "checkpoint", "dtype": "int8"}, "there is no type 'int8'; choose one of fp32, bf16, fp16"),
        ({"dtype": "bf16"}, "a graft holds whole layers in float32; drop the type"),
    ):
        with pytest.raises(UsageError, match=message):
            merged(create("linear"), files, of, tmp_path / "out", **params)
