"""Where a model ends a text, by the files beside its weights."""

from __future__ import annotations

import json
from pathlib import Path

from lingraft.errors import ModelError


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
            raise ModelError(f"{path} is damaged ({str(error).splitlines()[0]}); copy the model anew") from error
        listed = given if isinstance(given, list) else [given]
        if found := [end for end in listed if isinstance(end, int) and not isinstance(end, bool) and end >= 0]:
            return tuple(dict.fromkeys(found))
    return ()
