"""One folder is one experiment: what a run's folder holds, and how another recipe differs from it.

`experiment.json` is written when a run begins: the recipe, and the hashes of the base and of the local files it names.
A folder of an older version has no such record; its `recipe.yaml` then says what it holds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lingraft.core.errors import LingraftError, UsageError
from lingraft.core.hashing import content_hash, file_hash
from lingraft.evaluation.published import PUBLISHED, RUN, is_collected
from lingraft.models.files import find_model
from lingraft.models.graft import find_graft
from lingraft.pipeline.given_grafts import pinned_recipe
from lingraft.pipeline.shared_settings import leaves, plain
from lingraft.recipe.load import dump_recipe, load_recipe, parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import RECORD, listing
from lingraft.store.files import read_sealed, write_atomic, write_sealed
from lingraft.store.progress_file import FILE

HARMLESS = ("name", "expected", "base_id", "repo_id", "evaluate.gate", "evaluate.bootstrap", "evaluate.test")
"""Keys that change no answer and no weight: what is said of a run, what is asked of it, and how it is resampled."""
_SHOWN = 4


class Experiment:
    """What a recipe makes, as far as a folder is concerned: its values, and the contents of the files it names."""

    def __init__(self, recipe: Recipe) -> None:
        self.given = recipe

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, with each graft of the hub at its commit.

        Raises:
            ModelError: one cannot be fetched.
        """
        return pinned_recipe(self.given)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The recipe as it is written down."""
        return self.recipe.model_dump(mode="json", exclude_none=True)

    @cached_property
    def contents(self) -> dict[str, str]:
        """The hash of each local file, and of each folder of data or of a graft, by the key that names it."""
        return dict(_contents(self.values))

    def refuse_other(self, root: Path, replace: bool = False, sha256: str | None = None) -> None:
        """Refuse to put the experiment into a folder that holds another; nothing is written.

        Args:
            root: the folder, which need not exist.
            replace: whether what is published there may be replaced.
            sha256: hash of the base, where it is known.

        Raises:
            UsageError: the folder holds another experiment, one of a recipe that is refused by now, or files that no
                run wrote.
        """
        if replace and _has_results(root):
            return
        if is_collected(root):
            raise UsageError(f"{root} holds results that were collected without their texts: --out NEW")
        known = _known(root)
        if known is None:
            self._refuse_foreign(root)
            return
        finished = (root / RUN).exists()
        if found := self._differences(known, sha256, finished):
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise _another(root, f"another recipe ({', '.join(found[:_SHOWN])}{more})")

    def begin(self, root: Path, sha256: str) -> None:
        """Note in the folder which experiment it holds from now on.

        Raises:
            StoreError: it cannot be written.
        """
        record = {"recipe": self.values, "base_sha256": sha256, "contents": self.contents}
        if read_sealed(root / RECORD) != record:
            write_sealed(root / RECORD, record)
        write_atomic(root / "recipe.yaml", dump_recipe(self.recipe))

    def _refuse_foreign(self, root: Path) -> None:
        """Refuse a folder with files of somebody's own under the names that a run writes.

        Raises:
            UsageError: there is one.
        """
        if (root / RECORD).exists() or _has_results(root):
            return
        for name in ("recipe.yaml", "README.md", "graft", FILE, *PUBLISHED):
            path = root / name
            if name == "recipe.yaml" and path.is_file() and path.read_bytes() == dump_recipe(self.recipe).encode():
                continue  # of an older version's run that ended before anything was made
            if path.exists():
                raise UsageError(f"{path} was not written by a run, and a run there would replace it: --out NEW")

    def _differences(self, known: Mapping[str, Any], sha256: str | None, finished: bool) -> list[str]:
        """Return what makes it another experiment than a known one, in words.

        Args:
            known: what the folder notes of its experiment.
            sha256: hash of the base; None where it is not known.
            finished: whether results of the known one are published. Before that, a file may be mended.
        """
        earlier, contents = known["contents"], self.contents if known["contents"] else {}
        if sha256 is None and os.path.isdir(self.recipe.model):
            sha256 = find_model(self.recipe.model).sha256
        same_base = None if None in (sha256, known["base_sha256"]) else sha256 == known["base_sha256"]
        found = []
        for key, one, other in _changes(known["recipe"], self.values):
            if any(key == name or key.startswith(f"{name}.") for name in HARMLESS):
                continue
            if key in ("model", "revision") and same_base:
                continue
            same_file = None if None in (earlier.get(key), contents.get(key)) else earlier[key] == contents[key]
            if plain(one) != plain(other):
                if not same_file:  # else it has only been moved
                    found.append(f"{key} {_shown(one)} -> {_shown(other)}")
            elif same_file is False and finished:
                found.append(f"{key}: {other} has other contents")
        if same_base is False and not any(text.startswith("model ") for text in found):
            found.append(f"model: {self.recipe.model} has other weights")
        return found


def _another(root: Path, held: str) -> UsageError:
    """Return the refusal of a folder that holds what `held` says."""
    finished = (root / RUN).exists()
    return UsageError(
        f"{root} holds {'' if finished else 'an unfinished run of '}{held}: --out NEW, or --replace, which "
        f"{'replaces what is published' if finished else 'goes on'} there and keeps finished stages that do not depend "
        f"on the change"
    )


def _known(root: Path) -> dict[str, Any] | None:
    """Return what the folder holds; None where it is nothing that could be lost, or cannot be told.

    Raises:
        UsageError: it holds a recipe that is refused by now.
    """
    if not _has_results(root):
        return None
    run = read_sealed(root / RUN) or {}
    record = read_sealed(root / RECORD) or {"base_sha256": (run.get("model") or {}).get("sha256"), "contents": {}}
    try:  # read as a recipe, so that keys which are newer than the folder have their defaults
        recipe = parse_recipe(record["recipe"], RECORD, root) if "recipe" in record else load_recipe(str(root))
    except LingraftError as error:
        if "recipe" in record:  # whole, but of a version that took what is refused by now: results are not lost for it
            raise _another(root, f"a recipe that is refused by now ({error})") from error
        return None  # damaged: it can be compared with nothing
    return {**record, "recipe": recipe.model_dump(mode="json", exclude_none=True)}


def _has_results(root: Path) -> bool:
    """Whether a run has finished anything there."""
    if (root / RUN).exists():
        return True
    return any(re.fullmatch(r".+-[0-9a-f]{8}", path.parent.name) for path in root.glob("*/manifest.json"))


def _changes(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the values of two recipes that stand at one key, by dotted keys; most are equal.

    What only one of them has is one value with all that belongs to it, and so is what chooses among things with
    settings of their own: the settings of one kind, or method, are no change of those of another.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = [*dict.fromkeys([*before, *now])]
        if before.get("kind") != now.get("kind"):
            names = ["kind"]
        elif before.get("method") != now.get("method"):
            names = [name for name in names if name != "params"]
        for name in names:
            yield from _changes(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(before, list) and isinstance(now, list):
        for i in range(max(len(before), len(now))):
            one, other = (part[i] if i < len(part) else None for part in (before, now))
            yield from _changes(one, other, f"{key}.{i}")
    elif isinstance(before, Mapping) and isinstance(now, list):  # a single entry is written down without its list
        yield from _changes([before], now, key)
    elif isinstance(before, list) and isinstance(now, Mapping):
        yield from _changes(before, [now], key)
    else:
        yield key, before, now


def _contents(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in leaves(values):
        if key == "model" or not isinstance(value, str) or not os.path.isabs(value):
            continue
        path = Path(value)
        if os.path.isfile(path):
            yield key, file_hash(path)
        elif re.fullmatch(r"merge\.\d+\.of\.\d+", key) and os.path.isfile(path / "config.json"):
            yield key, find_model(value).sha256
        elif re.fullmatch(r".*path|merge\.\d+\.of\.\d+", key) and os.path.isdir(path):
            # The card of a graft is written anew with each report.
            files = listing(find_graft(path))
            yield key, content_hash({name: file for name, file in files.items() if name != "README.md"})


def _shown(value: Any) -> str:
    """Return a value in few words; of settings their name, or what was chosen."""
    if isinstance(value, Mapping):
        said = next((value[name] for name in ("name", "kind", "method", "path") if value.get(name)), None)
        value = said or {name: given for name, given in value.items() if given not in ("", [], {}, None, False)}
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:20]}...{text[-37:]}"
