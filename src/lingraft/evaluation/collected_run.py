"""A finished run without its texts: its scorecard and the results of each item, sealed anew.

Of what people wrote and models answered nothing goes along, nor any path of a machine. An item keeps its id, by which
runs are compared, unless the id may itself be a text or a path: then a hash stands for it, the same on every machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import StoreError
from lingraft.core.hashing import content_hash, file_hashes
from lingraft.core.machine_paths import values_without_paths, without_paths
from lingraft.core.printable import printable
from lingraft.data.records import SideBySide
from lingraft.evaluation.compared_run import read_scorecard
from lingraft.evaluation.published import COLLECTED, NUMBERS, RUN, FinishedRun, open_run
from lingraft.evaluation.scorecard import Scorecard
from lingraft.statistics.items import Items, item_lines, read_items
from lingraft.store.durability import make_folder
from lingraft.store.files import read_lines, write_atomic, write_lines, write_sealed

OUTPUTS = "outputs.jsonl"
_LONGEST_ID = 100
_KEPT = ("seed", "device", "threads", "versions")
"""What `run.json` says of a run that holds for the collected one."""


def asked_texts(run: FinishedRun) -> Iterator[str]:
    """Yield every source, reference and prompt of a run.

    Raises:
        StoreError: it was collected without them, or they cannot be read.
    """
    path = run.file(OUTPUTS)
    try:
        for line in read_lines(path):
            row = SideBySide.from_json(line)
            yield from filter(None, (row.source.strip(), row.reference.strip()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read ({error}); run the recipe again, which keeps finished work") from error


def collect_run(
    folder: Path, out: Path, about: Mapping[str, Any], *, known: Collection[str] = (), texts: Collection[str] = ()
) -> None:
    """Write a finished run without its texts; one that was collected before is written as it is.

    Args:
        folder: of the run.
        out: folder to write.
        about: what else `run.json` is to say of where it is from; JSON-ready, without texts and paths.
        known: paths that may stand in its files.
        texts: what was asked, see `asked_texts`.

    Raises:
        StoreError: it is not finished, was changed or damaged, or is being published anew.
    """
    run = open_run(folder)
    make_folder(out)
    if run.collected:
        for name in (*NUMBERS, RUN):
            shutil.copyfile(folder / name, out / name)
        if open_run(out).record != run.record:
            raise StoreError(f"{folder} is being written; collect again when that is done")
        return
    card = read_scorecard(run)
    base, items = read_items(run.file("items.jsonl"))
    if run.origin != file_hashes(folder, NUMBERS):
        raise StoreError(f"{folder} is being published anew; collect again when that is done")
    name_of = _naming(texts)
    write_atomic(out / NUMBERS[0], _without_texts(card, name_of, known).to_json())
    write_lines(out / NUMBERS[1], item_lines((_anonymous(one, name_of, known) for one in items), base))
    record = {
        "name": card.run,
        "model": {"id": card.base.id, "sha256": card.base.sha256},
        **{key: run.record[key] for key in _KEPT if key in run.record},
        COLLECTED: {**about, "published": run.origin},
    }
    plain: dict[str, Any] = values_without_paths(record, known)
    write_sealed(out / RUN, {**plain, "published": file_hashes(out, NUMBERS)})


def _naming(texts: Collection[str]) -> Callable[[str], str]:
    """Return what gives an item, or a document, its name in a collected run."""
    known = frozenset(line.strip() for text in texts for line in (text, *text.splitlines()))

    def name(given: str) -> str:
        plain = given == printable(given, None) and len(given) <= _LONGEST_ID and not any(map(str.isspace, given))
        spoken = given in known or given.rpartition("/")[2] in known
        return given if plain and not spoken and without_paths(given) == given else f"item-{content_hash(given)[:16]}"

    return name


def _anonymous(one: Items, name_of: Callable[[str], str], known: Collection[str]) -> Items:
    facts = values_without_paths(vars(one.facts), known)
    return replace(
        one,
        system=without_paths(one.system, known),
        where=without_paths(one.where, known),
        metric=without_paths(one.metric, known),
        signature=without_paths(one.signature, known),
        ids=tuple(map(name_of, one.ids)),
        clusters=None if one.clusters is None else tuple(map(name_of, one.clusters)),
        facts=replace(one.facts, **{**facts, "cite": tuple(facts["cite"])}),
    )


def _without_texts(card: Scorecard, name_of: Callable[[str], str], known: Collection[str]) -> Scorecard:
    """Return a scorecard without the names of training rows, and with those of items as they are in a collected run."""
    values = json.loads(card.to_json())
    for row in values["contamination"]:
        row |= {"ids": [], "rows": []}
    for row in values["general"]:
        if changed := row.get("changed"):
            changed |= {key: [name_of(id_) for id_ in changed[key]] for key in ("lost_ids", "gained_ids")}
    return Scorecard.model_validate(values_without_paths(values, known))
