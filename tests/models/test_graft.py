"""Grafts: what is written beside the adapter, and putting one on a base and taking it off again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import ModelError
from lingraft.models.bases import graft_base_id, public_id, without_folders
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.graft import Direction, GraftInfo, find_base, find_graft, grafted, read_info, write_info
from lingraft.models.graft_seal import INFO as FILE
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer
from lingraft.store.files import write_sealed
from models_support import save_tiny_model, tiny_loaded, with_adapter

IDS = torch.arange(5, 60)[None]


def info(base: ModelFiles | None = None) -> GraftInfo:
    return GraftInfo(
        schema="lingraft.graft/1",
        method="radis",
        instruction="Übersetze {source} in {target_name}",
        delimiter="\n\nNote:",
        stop=["\nNote:"],
        directions=[Direction(source="de", target="en"), Direction(source="en", target="de")],
        base_id="" if base else "tiny",
        base_sha256=base.sha256 if base else "0" * 64,
        params={"rationale_share": 0.5, "filters": ["empty"]},
        versions={"torch": "2"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter as PEFT saves it, with its `lingraft.json`."""
    path = tmp_path / "run" / "train-radis-12345678" / "graft"
    with_adapter(tiny_llama(tiny_tokenizer())).save_pretrained(path)
    write_info(path, info())
    return path


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model(input_ids=IDS).logits)


# lingraft.json


def test_what_is_written_is_read(folder: Path) -> None:
    assert read_info(folder).model_copy(update={"adapter_sha256": None}) == info()
    values = json.loads((folder / FILE).read_text("utf-8"))
    assert values["schema"] == "lingraft.graft/1"
    assert values["instruction"].startswith("Übersetze")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": "lingraft.graft/1"}'],
    ids=["empty", "cut", "list", "text", "null", "binary", "deep", "keys missing"],
)
def test_a_damaged_file_is_named_in_one_sentence(folder: Path, content: bytes) -> None:
    (folder / FILE).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_info(folder)
    assert f"{folder / FILE} is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_keys_and_other_versions_are_refused(folder: Path) -> None:
    values = json.loads((folder / FILE).read_text("utf-8"))
    (folder / FILE).write_text(json.dumps({**values, "extra": 1}))
    with pytest.raises(ModelError, match="damaged"):
        read_info(folder)
    (folder / FILE).write_text(json.dumps({**values, "schema": "lingraft.graft/2"}))
    with pytest.raises(ModelError, match=r"schema 'lingraft.graft/2', this version reads .*; update lingraft"):
        read_info(folder)


def test_a_folder_that_is_no_graft_is_refused_with_a_hint(folder: Path, tmp_path: Path) -> None:
    for near in (tmp_path / "run", folder.parent):
        with pytest.raises(ModelError, match=f"is not a graft: .*did you mean {folder}"):
            read_info(near)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "experiment.json").write_text("{}")
    with pytest.raises(ModelError, match="unfinished is the folder of a run that has no graft of its own"):
        read_info(tmp_path / "unfinished")
    with pytest.raises(ModelError, match=r"is not a model folder: .*; it is a graft or its run: give it as --graft"):
        find_model(str(folder))
    shutil.copytree(folder, tmp_path / "run" / "graft")  # that of the run, before those of its stages
    with pytest.raises(ModelError, match=f"did you mean {tmp_path / 'run' / 'graft'}"):
        read_info(tmp_path / "run")
    assert find_graft(tmp_path / "run") == tmp_path / "run" / "graft"
    assert find_graft(folder) == folder
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=r"it lacks lingraft\.json or adapter_config\.json$"):
        read_info(folder)
    with pytest.raises(ModelError, match=f"there is no graft at {tmp_path / 'none'}"):
        read_info(tmp_path / "none")


# The base


def test_the_base_is_found_by_its_hash_or_by_the_users_name(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    files = find_model(str(save_tiny_model(tmp_path / "base")))
    graft = info(files)
    assert graft.base_id == ""
    assert find_base(graft, folder).folder == files.folder  # it was hashed before
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "base", moved)
    with pytest.raises(ModelError, match=rf"the graft names none; give the model with hash {files.sha256[:12]} with"):
        find_base(graft, folder)
    assert find_base(graft, folder, str(moved)).sha256 == files.sha256
    assert find_base(graft, folder).folder == moved  # since that was hashed
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match=r"was trained on .* with hash .*; give the original base with --model"):
        find_base(graft, folder, str(other))
    shutil.rmtree(moved)
    save_tiny_model(moved, seed=2)  # other weights where the base was
    with pytest.raises(ModelError, match="the graft names none"):
        find_base(graft, folder)


def test_the_run_around_a_graft_knows_its_base_where_the_cache_does_not(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    files = find_model(str(save_tiny_model(tmp_path / "base")))
    shutil.rmtree(tmp_path / "cache")
    write_sealed(tmp_path / "run" / "experiment.json", {"recipe": {"model": str(files.folder)}})
    assert find_base(info(files), folder).folder == files.folder  # run/train-.../graft
    shutil.rmtree(tmp_path / "cache")
    shutil.move(folder, tmp_path / "run" / "graft")
    assert find_base(info(files), tmp_path / "run" / "graft").folder == files.folder
    shutil.rmtree(tmp_path / "cache")
    shutil.move(tmp_path / "run" / "graft", tmp_path / "graft")
    with pytest.raises(ModelError, match="give the model with hash"):
        find_base(info(files), tmp_path / "graft")


@pytest.mark.parametrize(
    ("named", "given", "expected"),
    [
        (None, None, ""),
        ("Qwen/Qwen2.5-7B-Instruct", None, "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen/Qwen2.5-7B-Instruct", "me/tuned", "me/tuned"),
        ("/home/me/qwen", None, ""),
        ("models/qwen", None, ""),
        ("../qwen", None, ""),
        ("a/b/c", None, ""),
        (["x"], None, ""),
    ],
)
def test_a_base_in_a_folder_has_the_hub_id_that_is_known(
    tmp_path: Path, named: object, given: str | None, expected: str
) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({} if named is None else {"_name_or_path": named}), "utf-8")
    assert public_id(ModelFiles(str(folder), folder, ""), given) == expected


def test_names_of_bases_that_are_no_folder_of_the_user(tmp_path: Path) -> None:
    assert public_id(ModelFiles("org/name", tmp_path, "")) == "org/name"
    assert public_id(ModelFiles("smollm2-135m-instruct", tmp_path, "")) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert graft_base_id(ModelFiles("smollm2-135m-instruct", tmp_path, "")) == "smollm2-135m-instruct"
    snapshot = tmp_path / "models--Qwen--Qwen2.5-0.5B" / "snapshots" / "abc"  # as in the hub's cache
    snapshot.mkdir(parents=True)
    assert public_id(ModelFiles(str(snapshot), snapshot, "")) == "Qwen/Qwen2.5-0.5B"


def test_of_paths_only_names_go_out(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("")
    values = {
        "translations": str(tmp_path / "x.jsonl"),
        "deep": [{"path": str(tmp_path)}],
        "stop": ["/s", "a/b"],
        "n": 1,
    }
    expected = {"translations": "x.jsonl", "deep": [{"path": tmp_path.name}], "stop": ["/s", "a/b"], "n": 1}
    assert without_folders(values) == expected


# Putting it on and taking it off


def test_a_graft_is_what_plain_peft_loads_and_the_base_is_restored(folder: Path) -> None:
    loaded = tiny_loaded()
    before, modules = logits(loaded.model), [type(module) for module in loaded.model.modules()]
    plain = PeftModel.from_pretrained(tiny_llama(tiny_tokenizer()), str(folder)).eval()
    state = torch.get_rng_state()
    for _ in range(2):
        with grafted(loaded, folder) as on:
            assert torch.equal(logits(on.model), logits(plain))
            assert not torch.allclose(logits(on.model), before, atol=1e-2)
            assert not on.model.training
            assert not any(parameter.requires_grad for parameter in on.model.parameters())
            assert on.renderer is loaded.renderer
        assert torch.equal(logits(loaded.model), before)
        assert [type(module) for module in loaded.model.modules()] == modules
    assert torch.equal(torch.get_rng_state(), state)


def test_the_adapter_stays_float32_on_a_bfloat16_base(folder: Path) -> None:
    loaded = LoadedModel(
        ModelFiles("tiny", folder, ""), tiny_llama(tiny_tokenizer()).to(torch.bfloat16), Renderer(tiny_tokenizer())
    )
    with grafted(loaded, folder) as on:
        kinds = {"lora" in name: parameter.dtype for name, parameter in on.model.named_parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_the_base_is_restored_when_the_work_fails(folder: Path) -> None:
    loaded = tiny_loaded()
    before = logits(loaded.model)
    with pytest.raises(ZeroDivisionError), grafted(loaded, folder):
        _ = 1 / 0
    assert torch.equal(logits(loaded.model), before)


def write_unsealed(folder: Path) -> None:
    """Write `lingraft.json` as versions did that knew no seal."""
    (folder / FILE).write_text(info().model_dump_json(by_alias=True, exclude={"adapter_sha256"}), "utf-8")


def cut_rows(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({name: tensor[:1].clone() for name, tensor in load_file(path).items()}, path)


def drop_one(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[3])
    save_file(tensors, path)


def add_one(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    save_file({**tensors, name.replace("layers.0", "layers.7"): tensors[name].clone()}, path)


def other_layers(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "target_modules": ["no_such_layer"]}))


def untrained(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: torch.zeros_like(t) if "lora_B" in name else t for name, t in tensors.items()}, path)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "is damaged"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\0" * 64), "is damaged"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "NONE"}'), "is damaged"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": ["LORA"]}'), "is damaged"),
        (cut_rows, "is damaged (the factors of"),
        (drop_one, "does not fit the base"),
        (add_one, "does not fit the base"),
        (other_layers, "does not fit the base"),
        (untrained, "changes nothing, all its updates are zero"),
    ],
    ids=[
        "gone",
        "not safetensors",
        "config cut",
        "unknown kind",
        "several kinds",
        "shapes",
        "lacking",
        "too many",
        "other layers",
        "untrained",
    ],
)
def test_a_damaged_adapter_is_refused_and_the_base_untouched(
    folder: Path, damage: Callable[[Path], object], complaint: str
) -> None:
    write_unsealed(folder)
    damage(folder)
    loaded = tiny_loaded()
    before, modules = logits(loaded.model), [type(module) for module in loaded.model.modules()]
    with pytest.raises(ModelError) as caught, grafted(loaded, folder):
        pass
    assert complaint in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [type(module) for module in loaded.model.modules()] == modules
    assert torch.equal(logits(loaded.model), before)
