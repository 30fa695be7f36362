"""A graft for vLLM beside its base, and a small gateway that sends translations to it and everything else there."""

from __future__ import annotations

import shlex
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.models.adapter import read_parts, write_parts
from lingraft.models.graft import find_base, find_graft, read_info, write_info
from lingraft.models.vocabulary import Vocabulary
from lingraft.routing.base import NO_ROUTE
from lingraft.store.files import write_atomic, write_json
from lingraft.store.publishing import new_folder, refuse_existing
from lingraft.translation.wording import VARIANTS

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM can be started with."""
_SERVE = """#!/bin/sh
# vLLM with the base as `{base}` and the graft as `{graft}`; then, in another terminal: python3 gateway.py
cd "$(dirname "$0")" || exit 1
exec vllm serve {place} --served-model-name {base} --enable-lora --max-lora-rank {rank} \\
    --lora-modules {graft}=./graft --host 127.0.0.1 --port 8000 --generation-config vllm "$@"
"""
_README = """# {graft} for translations, {base} for everything else

1. `sh serve.sh` starts vLLM with both under names of their own, from one copy of the base.
2. `python3 gateway.py` (standard library alone) takes requests on http://127.0.0.1:8080/v1 for the model `auto`, and
   for either by its name. Answers pass through as they are written; the header `X-Lingraft-Route` says whose they are.

Requests whose last turn is worded as in `route.json` go to `{graft}`, all others to `{base}`; add wordings there. A
client says it itself with `"lingraft": {{"route": "graft"}}`. A classifier reads the base's own states, which vLLM does
not give: `lingraft serve --route classifier` has it. Keys are checked by vLLM (`--api-key`):
what clients send is passed on.
"""


def export_route(graft: Path, out: Path, model: str | None = None) -> dict[str, Any]:
    """Write a graft as vLLM loads it beside its base, how to start that, and the gateway.

    Args:
        graft: its folder, or that of its run.
        out: folder to write, which must not exist yet.
        model: the base, if not where the graft says.

    Returns:
        `folder`, `base` and `graft` (the names of the two models), `rank` that vLLM is started with, `wordings`.

    Raises:
        UsageError: `out` exists, or vLLM cannot load the graft beside its base.
        ModelError: no graft, or another base.
        StoreError: it cannot be written.
    """
    refuse_existing(out)
    graft = find_graft(graft)
    info = read_info(graft)
    if info.chat == "tcot" or Vocabulary.in_folder(graft) is not None:
        raise UsageError(f"the graft {graft} cannot be routed to: {NO_ROUTE}; export it without --route")
    base = find_base(info, graft, model)
    parts = read_parts(graft)
    plain = not (parts.whole or parts.rows or parts.sparse)
    if not plain or any(one.embedding or one.lengths is not None for one in parts.factors.values()):
        raise UsageError(
            f"the graft {graft} changes more than low-rank updates of linear layers, which vLLM does not load beside a "
            f"base; export it merged, without --route"
        )
    rank = max(len(one.a) for one in parts.factors.values())
    if rank > RANKS[-1]:
        raise UsageError(f"the graft {graft} has rank {rank}, vLLM takes up to {RANKS[-1]}; export it without --route")
    names = {"base": "base", "graft": "graft"}
    config = {
        **names,
        "wordings": list(dict.fromkeys([info.instruction, *VARIANTS])),
        "template": info.template or {},
    }
    settings = {**names, "rank": next(one for one in RANKS if one >= rank)}
    place = base.name if not Path(base.name).expanduser().is_dir() else str(base.folder.resolve())
    with new_folder(out) as partial:
        (partial / "graft").mkdir()
        write_parts(parts, partial / "graft")
        write_info(partial / "graft", info)  # sealed anew: the same changes stand in another form
        gateway = resources("lingraft.shipped").joinpath("gateway", "gateway.py")
        write_atomic(partial / "gateway.py", gateway.read_text("utf-8"))
        write_atomic(partial / "wordings.py", resources("lingraft.routing").joinpath("wordings.py").read_text("utf-8"))
        write_json(partial / "route.json", config)
        write_atomic(partial / "serve.sh", _SERVE.format(**settings, place=shlex.quote(place)))
        write_atomic(partial / "README.md", _README.format(**names))
    return {"folder": str(out), **settings, "wordings": len(config["wordings"])}
