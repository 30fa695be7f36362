"""Where a model ends a text and how it is asked, by the files beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lingraft.errors import ModelError, first_line


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
        try:
            values = json.loads(path.read_text("utf-8"))
            given = values.get("eos_token_id")
            if given is None:  # of models that also read images
                given = (values.get("text_config") or {}).get("eos_token_id")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path} is damaged ({first_line(error)}); copy the model anew") from error
        listed = given if isinstance(given, list) else [given]
        if found := [end for end in listed if isinstance(end, int) and not isinstance(end, bool) and end >= 0]:
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
    try:
        found = json.loads(path.read_text("utf-8")).get("template") or {}
        return dict(found)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({first_line(error)}); copy the model anew") from error
