"""The seal of a graft: `lingraft.json` holds one hash of all that decides what the adapter does.

That is PEFT's configuration, the weights, and the vocabulary where the graft has one of its own. The card and
`lingraft.json` itself may be edited. A graft of an older version has no seal, and is read as it is.
"""

from __future__ import annotations

from pathlib import Path

from lingraft.core.errors import ModelError
from lingraft.core.hashing import content_hash, file_hash
from lingraft.core.strangers import ANEW, from_strangers, read_object
from lingraft.models.vocabulary import FILE as VOCABULARY
from lingraft.models.vocabulary import tokenizer_files

INFO = "lingraft.json"
SEAL = "adapter_sha256"
"""Key of the seal in `lingraft.json`."""
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def adapter_hash(folder: Path) -> str | None:
    """Return the hash of the adapter in a folder and of its vocabulary; None where there is no adapter (yet)."""
    paths = [folder / name for name in ADAPTER]
    if not all(path.is_file() for path in paths):
        return None
    if (folder / VOCABULARY).is_file():
        paths += [folder / VOCABULARY, *tokenizer_files(folder)]
    return content_hash({path.name: file_hash(path) for path in paths})


def check_seal(folder: Path) -> None:
    """Check that the adapter in a folder is the one that its `lingraft.json` was written for.

    Raises:
        ModelError: it has been changed or damaged since, or `lingraft.json` is damaged. A folder without it holds a
            plain adapter, of which nothing is promised.
    """
    path = folder / INFO
    if not path.exists():
        return
    with from_strangers(f"{path} is damaged", ANEW):
        seal = read_object(path).get(SEAL)
        found = None if seal is None else adapter_hash(folder)
    missing = [name for name in ADAPTER if not (folder / name).is_file()]
    if seal is not None and missing:
        raise ModelError(f"the adapter in {folder} is damaged ({missing[0]} is missing); {ANEW}")
    if seal != found:
        raise ModelError(
            f"the adapter in {folder} is damaged: its weights, configuration or vocabulary are not those that {INFO} "
            f"was written for (other {SEAL}); {ANEW}"
        )
