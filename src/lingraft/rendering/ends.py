"""Where a model ends a text and how it is asked, by the files beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.core.strangers import from_strangers, read_object

MAX_ENDS = 1000


def end_ids(folder: Path) -> tuple[int, ...]:
    """Return the ids at which a model ends a text: `eos_token_id` of its `generation_config.json`, or where that says
    nothing of its `config.json`, as transformers and vLLM have it; empty where neither says.

    Raises:
        ModelError: one of the files is damaged.
    """
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if not path.exists():
            continue
        with from_strangers(f"{path} is damaged", "copy the model anew"):
            values = read_object(path)
            given = values.get("eos_token_id")
            if given is None:  # of models that also read images
                given = (values.get("text_config") or {}).get("eos_token_id")
        listed = given[:MAX_ENDS] if isinstance(given, list) else [given]
        if found := [end for end in listed if isinstance(end, int) and not isinstance(end, bool) and 0 <= end < 2**31]:
            return tuple(dict.fromkeys(found))
    return ()


def exported_variables(folder: Path) -> dict[str, Any] | None:
    """Return the variables of the chat template with which a graft was trained that is now one model with its base, as
    `lingraft export` wrote it; None where the folder holds another model.

    Raises:
        ModelError: `lingraft.json` is damaged.
    """
    path = folder / "lingraft.json"
    if not path.exists():
        return None
    with from_strangers(f"{path} is damaged", "copy the model anew"):
        return dict(read_object(path).get("template") or {})
