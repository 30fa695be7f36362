"""Adapters of other programs as grafts: what PEFT computes stays what it is, and what cannot be one is refused."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, ShiraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import lingraft as lg
from builders import tiny_llama, tiny_tokenizer
from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from hub import Hub, hub  # noqa: F401  (fixture)
from lingraft.models.adopt import directions
from lingraft.models.files import find_model
from lingraft.models.graft import grafted, read_info
from lingraft.models.loading import load_model
from models_support import with_adapter

IDS = torch.arange(5, 60)[None]
WORDING = "Into {target_name}, please: {source}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """An adapter as PEFT saves it, which names the folder of its base."""
    folder = tmp_path / "adapter"
    with_adapter(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)).save_pretrained(folder)
    return folder


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(values | changes), "utf-8")
    return values


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora", "whole layers"])
def test_the_graft_computes_what_peft_computes_and_says_how_it_is_asked(kind: str, base: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "rslora": {"use_rslora": True},
        "dora": {"use_dora": True},
        "whole layers": {"modules_to_save": ["embed_tokens"]},
    }.get(kind, {})
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(plain, LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "down_proj"], **more))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    before = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}

    found = lg.adopt(
        tmp_path / "adapter", tmp_path / "graft", source="de", target="en", both_directions=True, instruction=WORDING
    )

    files = find_model(str(base))
    info = read_info(tmp_path / "graft")
    assert (info.instruction, info.base_sha256, info.method) == (WORDING, files.sha256, "adopted")
    assert [(one.source, one.target) for one in info.directions] == [("de", "en"), ("en", "de")]
    assert found["base_sha256"] == files.sha256
    assert found["notes"] == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()} == before
    fresh: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    other = PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    with torch.inference_mode():
        wanted = other(input_ids=IDS).logits
        with grafted(load_model(files, "fp32", torch.device("cpu")), tmp_path / "graft") as on:
            assert torch.allclose(torch.as_tensor(on.model(input_ids=IDS).logits), wanted, atol=1e-5)
    assert str(base) not in (tmp_path / "graft" / "adapter_config.json").read_text("utf-8")


def test_it_is_measured_translates_and_merges_as_any_graft(adapter: Path, tmp_path: Path, lingraft: Any) -> None:
    done = lingraft("adopt", adapter, "--from", "de", "--to", "en", "--stop", "\n", "--out", tmp_path / "graft")
    assert done.code == 0, done.err
    assert "in Lingraft's own wording" in done.err
    assert "--instruction" in done.err
    translated = lingraft("translate", "--graft", tmp_path / "graft", "--max-new-tokens", "4", stdin="Guten Tag.\n")
    assert translated.code == 0, translated.err
    assert len(translated.out.splitlines()) == 1
    assert lg.merge([tmp_path / "graft", "base"], tmp_path / "half", quiet=True)["form"] == "graft"
    one_sentence(lingraft("translate", "--graft", adapter, stdin="x"), 1, "without lingraft.json", "lingraft adopt")
    again = lingraft("adopt", tmp_path / "graft", "--from", "de", "--to", "en", "--out", tmp_path / "again")
    one_sentence(again, 2, "is a graft already")


def test_the_command_of_the_documentation_asks_with_line_breaks(adapter: Path, tmp_path: Path, lingraft: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text("utf-8")
    command = next(re.finditer(r"^\$ lingraft (adopt org/name@v1 (?:.*\\\n)*.*)$", page, re.MULTILINE))[1]
    words = shlex.split(command)
    asked = {name: words[words.index(name) + 1] for name in ("--instruction", "--stop")}
    done = lingraft("adopt", adapter, "--from=de", "--to=en", *itertools.chain(*asked.items()), "-o", tmp_path / "one")
    assert done.code == 0, done.err
    info = read_info(tmp_path / "one")
    assert info.instruction.splitlines()[1:] == ["", "{source}"]
    assert info.stop == ["\nNote:"]
    # Line breaks of a shell's own, and of Python, stay what they are; so does a backslash of Python.
    for number, (given, meant) in enumerate(
        [("{source}\n", "{source}\n"), (r"\\n\t\d{source}\\", "\\n\t\\d{source}\\")]
    ):
        out = tmp_path / f"graft{number}"
        assert lingraft("adopt", adapter, "--from=de", "--to=en", "--instruction", given, "--out", out).code == 0
        assert read_info(out).instruction == meant
    lg.adopt(adapter, tmp_path / "python", source="de", target="en", instruction=r"\n{source}")
    assert read_info(tmp_path / "python").instruction == r"\n{source}"


@pytest.mark.parametrize("layers", [["q_proj", "embed_tokens"], ["q_proj", "lm_head"], ["embed_tokens", "lm_head"]])
@pytest.mark.parametrize("tied", [True, False])
def test_copies_of_the_base_beside_updates_of_its_embeddings_only_tell_the_base(
    layers: list[str], tied: bool, tmp_path: Path
) -> None:
    """PEFT writes them in the type that the base had in training, which may be any."""
    tokenizer = tiny_tokenizer("smollm2")
    for name, seed in {"base": 3, "other": 4}.items():
        tiny_llama(tokenizer, seed=seed, tied=tied).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    files = find_model(str(tmp_path / "base"))
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "upcast": torch.bfloat16}
    for kind, dtype in kinds.items():
        plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
        if kind == "upcast":  # as before trainings beside a base in 4 bits
            plain = plain.float()
        adapted = get_peft_model(plain, LoraConfig(r=2, target_modules=layers, task_type="CAUSAL_LM"))
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if ".lora_" in name:
                    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
        adapted.save_pretrained(tmp_path / kind)
        assert any("base_layer" in name for name in load_file(tmp_path / kind / "adapter_model.safetensors"))
        graft = tmp_path / f"{kind}-graft"
        found = lg.adopt(tmp_path / kind, graft, source="de", target="en", model=str(files.folder))
        assert found["layers"] == sum(name.endswith(tuple(layers)) for name, _ in plain.named_modules())
        fresh: Any = AutoModelForCausalLM.from_pretrained(files.folder, dtype=torch.float32)
        for precision in ("fp32", "bf16"):
            with grafted(load_model(files, precision, torch.device("cpu")), graft) as on, torch.inference_mode():
                logits = torch.as_tensor(on.model(input_ids=IDS).logits)
            if precision == "fp32":
                # From the adapter itself PEFT puts the copies, in the type that they have, into the base.
                other = PeftModel.from_pretrained(fresh, tmp_path / "fp32" if kind == "fp32" else graft).eval()
                assert torch.allclose(logits, other(input_ids=IDS).logits, atol=1e-4)
        with pytest.raises(lg.ModelError, match=r"does not fit .*other: it holds .* has other numbers there; give the"):
            lg.adopt(tmp_path / kind, tmp_path / "no", source="de", target="en", model=str(tmp_path / "other"))
        assert not (tmp_path / "no").exists()


def test_what_peft_warns_of_does_not_reach_the_terminal(base: Path, tmp_path: Path) -> None:
    """It would name the line of PEFT on this machine."""
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(plain, LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"], task_type="CAUSAL_LM"))
    torch.nn.init.ones_(adapted.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight"))
    adapted.save_pretrained(tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="peft")
        lg.adopt(tmp_path / "adapter", tmp_path / "graft", source="de", target="en", model=str(base))
        with grafted(load_model(find_model(str(base)), "fp32", torch.device("cpu")), tmp_path / "graft"):
            pass
        with pytest.raises(UserWarning, match="tie_word_embeddings"):
            get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["embed_tokens"]))


def test_embeddings_that_were_widened_are_not_taken_for_the_bases(base: Path, tmp_path: Path) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = plain.config.vocab_size
    plain.resize_token_embeddings(rows + 8)
    with_adapter(plain).save_pretrained(tmp_path / "adapter")
    assert any("embed_tokens.weight" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    with pytest.raises(
        lg.ModelError, match=rf"of {rows + 8} x 32 numbers, where .* has {rows} x 32; give the base as it"
    ):
        lg.adopt(tmp_path / "adapter", tmp_path / "graft", source="de", target="en")


@pytest.mark.parametrize(("layers", "count"), [(["q_proj", "down_proj"], 4), (["q_proj", "lm_head"], 3)])
def test_sparse_changes_are_adopted_and_their_layers_counted_once(
    layers: list[str], count: int, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer("smollm2")
    plain: Any = tiny_llama(tokenizer, tied=False)
    plain.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    adapted = get_peft_model(plain, ShiraConfig(r=2, target_modules=layers, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "shira" in name:
                parameter.add_(0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    found = lg.adopt(tmp_path / "adapter", tmp_path / "graft", source="de", target="en", model=str(tmp_path / "base"))
    assert found["layers"] == count
    with (
        grafted(load_model(find_model(str(tmp_path / "base")), "fp32", torch.device("cpu")), tmp_path / "graft") as on,
        torch.inference_mode(),
    ):
        logits = torch.as_tensor(on.model(input_ids=IDS).logits)
        assert torch.allclose(logits, adapted.eval()(input_ids=IDS).logits, atol=1e-5)


def _pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _linked(folder: Path) -> None:
    shutil.copy(folder / "adapter_model.safetensors", folder.parent / "elsewhere")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to(folder.parent / "elsewhere")


def _zeroed(kind: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        save_file({name: torch.zeros_like(t) if kind in name else t for name, t in tensors.items()}, path)

    return spoil


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (_pickled, "is a pickle, which may hold a program"),
    "no adapter": (lambda folder: (folder / "adapter_config.json").unlink(), "holds no PEFT adapter"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors"),
    "link elsewhere": (_linked, "is a link to a file elsewhere"),
    "start of its own": (lambda folder: config(folder, init_lora_weights="pissa"), "began as 'pissa'"),
    "no word on biases": (lambda folder: config(folder, bias=None), "'bias' is null in it.*; write 'none' there"),
    "scale zero": (lambda folder: config(folder, lora_alpha=0), "changes nothing"),
    "scales zero": (lambda folder: config(folder, alpha_pattern={".*": 0}), "changes nothing"),
    "first factors zero": (_zeroed("lora_A"), "changes nothing"),
    "another kind": (lambda folder: config(folder, peft_type="IA3"), "kind"),
    "no base": (lambda folder: config(folder, base_model_name_or_path=None), "does not name the base"),
    "base elsewhere": (
        lambda folder: config(folder, base_model_name_or_path="/no/such/model"),
        "'?/no/such/model'? as its base, which is not on this machine; give it with",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_adapter_that_can_be_read_is_refused(case: str, adapter: Path, tmp_path: Path) -> None:
    spoil, words = REFUSED[case]
    spoil(adapter)
    with pytest.raises(lg.ModelError, match=words):
        lg.adopt(adapter, tmp_path / "graft", source="de", target="en")
    assert not (tmp_path / "graft").exists()
    assert not list(tmp_path.glob(".graft*"))


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path, lingraft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("there is no adapter at nowhere; give the folder that holds adapter_config.json, or a name of the hub",)
    one_sentence(lingraft("adopt", "nowhere", "--from", "de", "--to", "en", "--out", "graft"), 1, *words)
    for given in ("nowhere", Path("nowhere")):
        with pytest.raises(lg.ModelError, match=words[0]):
            lg.adopt(given, "graft", source="de", target="en")
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(lg.ModelError, match=r"file is no folder; give the folder that holds adapter_config\.json"):
        lg.adopt("file", "graft", source="de", target="en")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_layer_with_a_scale_is_enough(adapter: Path, base: Path, tmp_path: Path) -> None:
    config(adapter, lora_alpha=0, alpha_pattern={"layers.1.mlp.down_proj": 4})
    lg.adopt(adapter, tmp_path / "graft", source="de", target="en")


def test_one_of_another_model_or_without_effect_is_refused(adapter: Path, base: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, hidden=128).save_pretrained(tmp_path / "wider")
    tokenizer.save_pretrained(tmp_path / "wider")
    with pytest.raises(
        lg.ModelError, match=rf"the adapter in {adapter} does not fit .*another base than .*wider"
    ) as one:
        lg.adopt(adapter, tmp_path / "graft", source="de", target="en", model=str(tmp_path / "wider"))
    assert str(one.value).count(";") == 1  # one remedy, and nobody is to train what others have trained
    assert "again" not in str(one.value)
    with pytest.raises(lg.ModelError, match=rf"has no adapter_config.json; did you mean {adapter}\?"):
        lg.adopt(adapter.parent, tmp_path / "graft", source="de", target="en")
    for wrong in ({"stop": ["\n", ""]}, {"stop": ["x" * 1001]}, {"stop": ["x"] * 65}):
        with pytest.raises(lg.UsageError, match="a graft cannot be asked so: stop"):
            lg.adopt(adapter, tmp_path / "graft", source="de", target="en", **wrong)  # type: ignore[arg-type]
    with_adapter(AutoModelForCausalLM.from_pretrained(base), identity=True).save_pretrained(tmp_path / "untrained")
    with pytest.raises(lg.ModelError, match="changes nothing"):
        lg.adopt(tmp_path / "untrained", tmp_path / "graft", source="de", target="en")
    assert not (tmp_path / "graft").exists()
    with pytest.raises(lg.UsageError, match=r"has no \{source\}"):
        lg.adopt(adapter, tmp_path / "graft", source="de", target="en", instruction="Translate!")
    (tmp_path / "graft").mkdir()
    with pytest.raises(lg.UsageError, match="exists already"):
        lg.adopt(adapter, tmp_path / "graft", source="de", target="en")


def test_another_chat_template_beside_the_adapter_is_told(adapter: Path, base: Path, tmp_path: Path) -> None:
    own = tiny_tokenizer("smollm2").chat_template
    for number, (text, told) in enumerate([(f"{own}\n", False), ("{{ messages }}", True)]):
        (adapter / "chat_template.jinja").write_text(text, "utf-8")
        notes = lg.adopt(adapter, tmp_path / f"graft{number}", source="de", target="en", instruction=WORDING)["notes"]
        assert any("chat_template.jinja" in note for note in notes) == told


def test_an_adapter_of_the_hub_is_adopted(hub: Hub, adapter: Path, base: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in adapter.iterdir()}
    commit = hub.add("org/adapter", files)
    lg.adopt("org/adapter", tmp_path / "graft", source="de", target="en", model=str(base))
    assert read_info(tmp_path / "graft").params == {"adapter": f"org/adapter@{commit}"}


def test_directions_are_normalised_and_given_once() -> None:
    assert directions(["deu", "en"], ["en", "de"], both=True) == [("de", "en"), ("en", "de")]
    for source, target, words in (
        (["de", "fr"], ["en"], "names 2 languages"),
        ("de", "de", "are both 'de'"),
        ("xx-no", "de", "unknown language code"),
    ):
        with pytest.raises(lg.UsageError, match=words):
            directions(source, target)
