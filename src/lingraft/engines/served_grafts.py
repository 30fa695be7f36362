"""What a server can answer with: grafts that it has under a name, or that it loads; told before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.errors import EngineError

SERVED_RANK = 512
"""Highest rank of a low-rank update that vLLM 0.32 can be started for (`MaxLoRARanks`)."""
ANY = "*"
"""In place of a folder: whichever graft is asked for."""


@dataclass(frozen=True)
class AskedGraft:
    """A graft that an engine is to answer with, as far as it is known before a run starts.

    Attributes:
        name: of the system.
        folder: of the graft; None where the run makes it.
        odd: what makes it more than a low-rank update that servers load, as words behind "a graft"; "" where nothing
            does, or where that has been checked.
        grown: whether it has a vocabulary of its own, which its prompts would need.
    """

    name: str
    folder: Path | None = None
    odd: str = ""
    grown: bool = False


def beyond_rank(rank: int) -> str:
    """Return what a rank is that servers do not load, as words behind "a graft"; "" where they do."""
    return f"of rank {rank} (vLLM's highest is {SERVED_RANK})" if rank > SERVED_RANK else ""


def configs_beyond_updates(configs: Sequence[Mapping[str, Any]]) -> str:
    """Return what makes a graft, or the sum of several, more than a low-rank update that servers load.

    Args:
        configs: the `adapter_config.json` of each.

    Returns:
        Words behind "a graft"; "" where nothing does.
    """
    for config in configs:
        if config.get("peft_type") == "SHIRA":
            return "that changes single numbers of the base"
        if config.get("peft_type") != "LORA":
            return f"of type {config.get('peft_type')}"
        if config.get("modules_to_save"):
            return "of whole layers"
        if config.get("trainable_token_indices"):
            return "that holds embeddings"
        if config.get("use_dora"):
            return "with lengths of rows (DoRA)"
    ranks = [max([config.get("r") or 0, *(config.get("rank_pattern") or {}).values()]) for config in configs]
    return beyond_rank(sum(ranks))


def unserved(names: Mapping[str, str], loads: bool, asked: Sequence[AskedGraft]) -> str:
    """Return why a server cannot answer with all grafts of a run, and the remedy; "" if it can as far as is known.

    Args:
        names: folder of a graft, or `ANY`: the server's name of it.
        loads: whether the server loads what has no name.
        asked: the grafts.
    """
    known = {Path(folder).expanduser().resolve() for folder in names if folder != ANY}
    given = {one.folder.resolve() for one in asked if one.folder is not None}
    # What a run trains lies in a folder whose name ends in a hash, which was seen in an earlier start at best.
    made = sum(path.name == "graft" and bool(re.search(r"-[0-9a-f]{8}$", path.parent.name)) for path in known - given)
    ours = [one for one in asked if one.folder is None]
    nameless = [*ours[made:], *(one for one in asked if one.folder is not None and one.folder.resolve() not in known)]
    for one in asked:
        if one.grown:
            return f"the vocabulary of {one.name!r} is not that of the prompts it is sent; take transformers or vllm"
        if one.odd and ANY not in names and one in nameless:
            return (
                f"a server loads no graft {one.odd}, as {one.name!r} is; take transformers or vllm, or serve an export "
                f"of it and name that (`grafts: {{FOLDER: NAME}}`)"
            )
    listed = ", ".join(one.name for one in nameless)
    if ANY in names and len(nameless) > 1:
        return (
            f"`grafts: {{'*': NAME}}` is the name of one graft, and {len(nameless)} are asked ({listed}); set "
            f"load_grafts in its place with a vLLM server, or take transformers or vllm"
        )
    if nameless and not loads and ANY not in names:
        return (
            f"`grafts` has no folder of {listed}, and load_grafts is not set; set that, or name what is asked "
            f"(`'*'` for a single graft that is trained here)"
        )
    return ""


def refuse_unloadable(root: str, graft: Path, *, wanted: bool, able: bool) -> None:
    """Refuse a graft that a server has no name for and does not load.

    Args:
        root: address of the server.
        graft: folder of the graft.
        wanted: whether the server is to load grafts.
        able: whether it can.

    Raises:
        EngineError: it does not.
    """
    if wanted and able:
        return
    if wanted:
        raise EngineError(
            f"the server at {root} cannot load the graft {graft} (only vLLM can); serve the graft there and give its "
            f"name in engine.grafts"
        )
    raise EngineError(
        f"the server at {root} is not known to serve the graft {graft}; serve it (vLLM: --enable-lora --lora-modules "
        f"NAME=FOLDER) and set engine.grafts to {{FOLDER: NAME}}, or start vLLM with "
        f"VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and set engine.load_grafts to true"
    )
