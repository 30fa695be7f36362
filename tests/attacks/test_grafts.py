"""Hostile adapters: each is refused in one sentence or does no harm, and the base is as it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftType
from safetensors.torch import load_file, save_file

from attacks import change_json, change_tensors, default_and_long, refused_or_harmless
from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import ModelError
from lingraft.models.graft import grafted
from lingraft.models.loading import LoadedModel
from models_support import tiny_loaded, with_adapter

SLOW = "(([a-z._0-9])+)+[!?]"
Q = "model.layers.0.self_attn.q_proj"
KEY = f"base_model.model.{Q}.lora_A.weight"

ODD_VALUES: dict[str, Any] = {
    "text": "x",
    "empty text": "",
    "negative": -1,
    "zero": 0,
    "huge": 10**9,
    "beyond 64 bits": 10**30,
    "1e308": 1e308,
    "half": 0.5,
    "true": True,
    "list": ["x"],
    "list of lists": [["x"]],
    "object": {"x": 1},
    "slow": SLOW,
    "open": "((",
    "path": "../../etc/passwd",
    "escape": "\x1b[2J",
}
FIELDS = [
    "peft_type",
    "task_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "r",
    "target_modules",
    "exclude_modules",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "bias",
    "use_rslora",
    "modules_to_save",
    "init_lora_weights",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "megatron_config",
    "megatron_core",
    "trainable_token_indices",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "use_dora",
    "velora_config",
    "alora_invocation_tokens",
    "use_qalora",
    "qalora_group_size",
    "monteclora_config",
    "layer_replication",
    "lora_bias",
    "target_parameters",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "ensure_weight_tying",
    "peft_version",
    "unheard_of",
]


def config(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "adapter_config.json", **values)


def tensors(**values: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: change_tensors(folder / "adapter_model.safetensors", values)


def one(change: Callable[[torch.Tensor], torch.Tensor], key: str = KEY) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        change_tensors(path, {key: change(load_file(path)[key])})

    return attack


def spiked(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return change


def pipe(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return attack


def link(name: str, target: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return attack


def whole(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def both(*attacks: Callable[[Path], object]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        for each in attacks:
            each(folder)

    return attack


def renamed(old: str, new: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file({name.replace(old, new): tensor for name, tensor in load_file(path).items()}, path)

    return attack


EMBEDDING = torch.ones(703, 32)
BASE = "base_model.model.model"
REFUSED: dict[str, Callable[[Path], object]] = {
    # What would overwrite the base
    "the embeddings": tensors(**{f"{BASE}.embed_tokens.weight": EMBEDDING}),
    "the embeddings, beside an update": tensors(**{f"{BASE}.embed_tokens.base_layer.weight": EMBEDDING}),
    "the head": tensors(**{"base_model.model.lm_head.weight": EMBEDDING}),
    "a norm": tensors(**{f"{BASE}.norm.weight": torch.zeros(32)}),
    "a layer": tensors(**{f"{BASE}.layers.0.self_attn.q_proj.weight": torch.zeros(32, 32)}),
    "a layer below an update": tensors(**{f"{BASE}.layers.0.self_attn.q_proj.base_layer.weight": torch.zeros(32, 32)}),
    "a buffer": tensors(**{f"{BASE}.rotary_emb.inv_freq": torch.zeros(4)}),
    "no prefix": tensors(**{"model.norm.weight": torch.zeros(32)}),
    **{
        f"begins as {start}": config(init_lora_weights=start)
        for start in ("pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga", "mica", "x", 1e30)
    },
    # Numbers
    "NaN": one(spiked(float("nan"))),
    "infinite": one(spiked(float("inf"))),
    "minus infinite": one(spiked(-float("inf"))),
    **{
        f"weights of {dtype}": one(lambda tensor, dtype=dtype: tensor.to(dtype))
        for dtype in (torch.int8, torch.int64, torch.bool, torch.uint8, torch.complex64, torch.float8_e4m3fn)
    },
    "NaN in half precision": one(lambda tensor: spiked(float("nan"))(tensor.half())),
    "a row less": one(lambda tensor: tensor[:-1]),
    "a column less": one(lambda tensor: tensor[:, :-1]),
    "no row": one(lambda tensor: tensor[:0]),
    "one dimension": one(lambda tensor: tensor.reshape(-1)),
    "three dimensions": one(lambda tensor: tensor[None]),
    "alpha NaN": whole("adapter_config.json", b'{"peft_type": "LORA", "r": 4, "lora_alpha": NaN}'),
    "alpha 1e999": whole("adapter_config.json", b'{"peft_type": "LORA", "r": 4, "lora_alpha": 1e999}'),
    "alpha 1e308": config(lora_alpha=1e308),
    "alpha of a layer 1e308": config(alpha_pattern={"q_proj": 1e308}),
    "rank 1e30": config(r=1e30),
    "rank 10**9": config(r=10**9),
    "rank of other layers": config(r=8),
    "rank of a layer": config(rank_pattern={"q_proj": 3}),
    # Names
    "a layer that is not there": renamed("layers.0", "layers.9"),
    "a name with a path": renamed("layers.0", "../layers"),
    "a name with an escape": renamed("layers.0", "\x1b[2J"),
    "an empty name": renamed(KEY, ""),
    "a long name": renamed("layers.0", "layers." + "9" * 5000),
    "an attribute of Python": renamed(f"{Q}.", "__class__.__init__."),
    # Modules and programs
    "megatron": config(megatron_config={"x": 1}, megatron_core="megatron.evil"),
    "megatron of another name": config(megatron_config={"x": 1}, megatron_core="os"),
    "prompt tuning from a pickle": config(peft_type="MULTITASK_PROMPT_TUNING", prompt_tuning_init_state_dict_path="x"),
    **{f"kind {kind.value}": config(peft_type=kind.value) for kind in PeftType if kind.value != "LORA"},
    "kind of nothing": config(peft_type=None),
    "replicated layers": config(layer_replication=[[0, 1]] * 100_000),
    "a field of tomorrow": config(some_new_scale=2.0),
    "biases of the base": config(bias="all"),
    # Expressions
    "slow rank": config(rank_pattern={SLOW: 4}),
    "slow alpha": config(alpha_pattern={SLOW: 4}),
    "slow alphas": config(alpha_pattern={f"{SLOW}{number}": 4 for number in range(60)}),
    "many alphas": config(alpha_pattern={f".*{number}": 4 for number in range(9000)}),
    "alphas that compile for ever": config(alpha_pattern={"(" * 7 + "a" + "{1000})" * 7: 4}),
    "alphas with many repeats": config(alpha_pattern={".*" * 9 + "!": 4}),
    "open alpha": config(alpha_pattern={"((": 4}),
    # Whole layers and rows
    "whole layers without weights": config(modules_to_save=["model"]),
    "whole layers by an expression": config(modules_to_save=[SLOW]),
    "rows beyond the embeddings": config(trainable_token_indices=[10**6]),
    "rows before them": config(trainable_token_indices=[-1]),
    "rows of another layer": config(trainable_token_indices={"q_proj": [1]}),
    # Files
    "configuration is a pipe": pipe("adapter_config.json"),
    "weights are a pipe": pipe("adapter_model.safetensors"),
    "description is a pipe": pipe("lingraft.json"),
    "vocabulary is a pipe": pipe("vocabulary.json"),
    "configuration without end": link("adapter_config.json", "/dev/zero"),
    "weights without end": link("adapter_model.safetensors", "/dev/zero"),
    "weights are gone": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "weights are a folder": both(
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        lambda folder: (folder / "adapter_model.safetensors").mkdir(),
    ),
    "a header of 2**63 bytes": whole("adapter_model.safetensors", b"\xff" * 7 + b"\x7f{}"),
    "a header of nothing": whole("adapter_model.safetensors", b"\2\0\0\0\0\0\0\0{}"),
    "a tensor beyond the end": whole(
        "adapter_model.safetensors",
        (lambda header: len(header).to_bytes(8, "little") + header)(
            json.dumps({KEY: {"dtype": "F32", "shape": [4, 32], "data_offsets": [0, 512]}}).encode()
        ),
    ),
    "a deep configuration": whole("adapter_config.json", b'{"peft_type": "LORA", "x": ' + b"[" * 100_000),
    "a rather deep configuration": whole("adapter_config.json", b'{"x": ' + b"[" * 500 + b"]" * 500 + b"}"),
    "long numbers": whole("adapter_config.json", b'{"peft_type": "LORA", "r": ' + b"9" * 5000 + b"}"),
    "no object": whole("adapter_config.json", b"[]"),
    "no text": whole("adapter_config.json", b"\xff\xfe\x00"),
}
HARMLESS: dict[str, Callable[[Path], object]] = {
    "targets by a slow expression": config(target_modules=SLOW),
    "targets by an expression": config(target_modules=r".*\.(q_proj|v_proj)"),
    "left out by a slow expression": config(exclude_modules=SLOW),
    "another module, not used": config(megatron_core="megatron.evil"),
    "a class to import": config(auto_mapping={"base_model_class": "system", "parent_library": "os"}),
    "empty fields of tomorrow": config(a=None, b=False, c="", d=[], e={}),
    "alpha by an expression": config(alpha_pattern={r"layers\.\d+\.self_attn\.(q|k)_proj": 4}),
    "a base on another machine": config(base_model_name_or_path="//evil/share"),
    "weights of half precision": one(lambda tensor: tensor.half()),
    "layers by their numbers": config(layers_to_transform=[0], layers_pattern=SLOW),
}
FUZZED = {
    f"{field} {name}": config(**{field: value}) for field in FIELDS for name, value in ODD_VALUES.items() if value != ""
}
WORST = {
    "the embeddings",
    "a norm",
    "a layer below an update",
    "a buffer",
    "begins as pissa",
    "begins as olora",
    "NaN",
    "weights of torch.int8",
    "alpha 1e308",
    "rank 10**9",
    "a name with an escape",
    "megatron",
    "kind PROMPT_TUNING",
    "kind MULTITASK_PROMPT_TUNING",
    "replicated layers",
    "slow rank",
    "many alphas",
    "alphas that compile for ever",
    "whole layers without weights",
    "rows beyond the embeddings",
    "weights are a pipe",
    "vocabulary is a pipe",
    "configuration without end",
    "a deep configuration",
    "a tensor beyond the end",
}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("honest")
    with_adapter(tiny_llama(tiny_tokenizer())).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_loaded()


@pytest.fixture
def folder(tmp_path: Path, honest: dict[str, bytes]) -> Path:
    for name, content in honest.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("attack", default_and_long(REFUSED, WORST))
def test_refused_in_one_sentence(loaded: LoadedModel, folder: Path, attack: Callable[[Path], object]) -> None:
    attack(folder)
    assert str(folder) in refused_or_harmless(loaded, grafted(loaded, folder))


@pytest.mark.parametrize("attack", default_and_long(HARMLESS))
def test_taken_without_what_it_asks_for(loaded: LoadedModel, folder: Path, attack: Callable[[Path], object]) -> None:
    attack(folder)
    assert refused_or_harmless(loaded, grafted(loaded, folder)) == ""


@pytest.mark.long
@pytest.mark.parametrize("attack", default_and_long(FUZZED))
def test_odd_values_of_every_field(loaded: LoadedModel, folder: Path, attack: Callable[[Path], object]) -> None:
    attack(folder)
    refused_or_harmless(loaded, grafted(loaded, folder))


def test_no_program_of_the_working_folder_is_run(
    loaded: LoadedModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "megatron").mkdir()
    (tmp_path / "megatron" / "evil.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    config(megatron_config={"x": 1}, megatron_core="megatron.evil")(folder)
    assert "megatron_config" in refused_or_harmless(loaded, grafted(loaded, folder))
    config(megatron_config=None)(folder)
    assert refused_or_harmless(loaded, grafted(loaded, folder)) == ""


def test_the_copies_of_the_embeddings_that_peft_writes_are_taken_where_they_are_the_bases(folder: Path) -> None:
    loaded = tiny_loaded()
    name = f"{BASE}.embed_tokens.weight"
    tensors(**{name: loaded.model.get_input_embeddings().weight.detach().clone()})(folder)
    assert refused_or_harmless(loaded, grafted(loaded, folder)) == ""
    one(spiked(3.0), name)(folder)
    assert name in refused_or_harmless(loaded, grafted(loaded, folder))


def test_an_honest_graft_measures_the_same_behind_a_hostile_one(folder: Path, tmp_path: Path) -> None:
    loaded = tiny_loaded()
    evil = tmp_path / "evil"
    evil.mkdir()
    for path in folder.glob("adapter*"):
        (evil / path.name).write_bytes(path.read_bytes())
    tensors(**{f"{BASE}.norm.weight": torch.zeros(32)})(evil)
    with grafted(loaded, folder) as on:
        alone = on.model(input_ids=torch.arange(9)[None]).logits
    with pytest.raises(ModelError, match="it would overwrite the base"), grafted(loaded, evil):
        pass
    with grafted(loaded, folder) as on:
        assert torch.equal(on.model(input_ids=torch.arange(9)[None]).logits, alone)
