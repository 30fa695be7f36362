"""A decider beside a graft: `route-KIND.json`, and `route-KIND.safetensors` where it has learnt something.

A stranger may have written them: they are read as such, and hold no code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import load, save

from lingraft.core.errors import LingraftError, ModelError, UsageError
from lingraft.core.hashing import file_hash
from lingraft.core.strangers import from_strangers, parsed, read_bytes, read_object, shown
from lingraft.core.validation import validated
from lingraft.routing.base import DECIDERS, Decider
from lingraft.store.files import write_atomic, write_json

SCHEMA = "lingraft.route/1"
MOST_WORDINGS = 256


class StoredRoute(BaseModel):
    """What `route-KIND.json` holds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_: str = Field(SCHEMA, alias="schema")
    by: str = Field(max_length=200)
    version: int
    params: dict[str, Any] = Field(default_factory=dict)
    wordings: list[Annotated[str, Field(max_length=20_000)]] = Field(default_factory=list, max_length=MOST_WORDINGS)
    base_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the base whose states it reads")
    learnt_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    facts: dict[str, Any] = Field(default_factory=dict, description="figures of its learning")


def route_files(folder: Path) -> list[Path]:
    """Return the files of all deciders in a folder."""
    return sorted([*folder.glob("route-*.json"), *folder.glob("route-*.safetensors")])


def write_route(
    folder: Path, decider: Decider, wordings: Sequence[str], base_sha256: str, facts: dict[str, Any]
) -> None:
    """Write a decider with what it has learnt.

    Args:
        folder: of a graft, or of an artefact.
        decider: that decides.
        wordings: in which the graft is asked for translations.
        base_sha256: hash of the base.
        facts: figures of its learning, ready for JSON.
    """
    learnt, place = decider.learnt(), folder / f"route-{decider.name}.safetensors"
    if learnt:
        write_atomic(place, save({name: np.ascontiguousarray(values) for name, values in learnt.items()}))
    stored = StoredRoute(
        schema=SCHEMA,
        by=decider.name,
        version=decider.version,
        params=decider.params.model_dump(mode="json"),
        wordings=list(wordings),
        base_sha256=base_sha256,
        learnt_sha256=file_hash(place) if learnt else None,
        facts=facts,
    )
    write_json(folder / f"route-{decider.name}.json", stored.model_dump(mode="json", by_alias=True))


def read_route(folder: Path, by: str, base_sha256: str | None = None) -> tuple[Decider, StoredRoute]:
    """Return a decider as it was stored in a folder.

    Args:
        folder: of a graft, or of an artefact.
        by: its name.
        base_sha256: hash of the base that it is used with; None: not checked.

    Raises:
        UsageError: there is none of that name.
        ModelError: it is damaged, of another version, or was made for another base.
    """
    kind = DECIDERS.get(by)
    path = folder / f"route-{by}.json"
    if not path.is_file():
        raise UsageError(
            f"the graft {folder} holds no decider {by!r}; `lingraft route {folder} --by {by}` makes one, as a run does "
            f"that has `evaluate.route: [{{by: {by}}}]`, or route by 'form' or 'caller'"
        )
    remedy = "learn it again (`lingraft route`, or its recipe), or copy the graft anew"
    with from_strangers(f"{path} is damaged", remedy):
        values = read_object(path)
        if values.get("schema") != SCHEMA or values.get("version") != kind.version:
            raise ModelError(f"{path} is of another version than this one reads; {remedy}")
        stored = parsed(StoredRoute, values)
        try:
            decider = kind(validated(kind.Params, stored.params, ""))
        except LingraftError as error:
            raise ValueError(shown(str(error))) from error
    if base_sha256 is not None and stored.base_sha256 != base_sha256:
        raise ModelError(f"{path} was made for a base with another hash; {remedy}")
    if stored.learnt_sha256 is not None:
        place = folder / f"route-{by}.safetensors"
        with from_strangers(f"{place} is damaged", remedy):
            data = read_bytes(place)
            if file_hash(place) != stored.learnt_sha256:
                raise ValueError(f"it is not what {path.name} was written for")
            decider.remember(load(data))
    return decider, stored
