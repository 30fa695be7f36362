"""Stage `rows-<system>`: examples to token ids on the disk, so that a killed training need not make them again."""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.core.errors import DataError, ExampleError
from lingraft.core.hashing import stable_fraction
from lingraft.data.records import Example, Rejected
from lingraft.methods.base import Tally
from lingraft.pipeline.context import Context
from lingraft.pipeline.lengths import MAX_REFUSED_SHARE
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.synthesise import Component, StageExamples
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.row_files import RenderedRows, write_rendered
from lingraft.rendering.rows import RENDERING, Rendered
from lingraft.store.artefacts import artefact_contents
from lingraft.store.files import line_writer, write_json, write_lines
from lingraft.store.record_files import RecordFile

MANY_DROPPED = 0.5
"""Share of answers dropped by a method's filters from which the run says so."""
_NOT_DROPPED = ("kept", "left_out")
BATCH = 256  # examples rendered at once


@dataclass(frozen=True)
class SystemRows:
    """A system's rendered examples, in their artefact."""

    folder: Path

    @property
    def rows(self) -> RenderedRows:
        """The rows, on the disk."""
        return RenderedRows(self.folder / "rows")

    @property
    def content(self) -> list[str]:
        """Hashes of the rows."""
        return artefact_contents(self.folder, "rows/*")

    @property
    def filters(self) -> dict[str, int]:
        """Answers kept and dropped, by reason; of methods beside the first one with the method's name."""
        return dict(json.loads((self.folder / "filters.json").read_text("utf-8")))


def render_system(context: Context, data: Data, synthesised: StageExamples) -> SystemRows:
    """Return the system's rows, rendering its examples if needed.

    Raises:
        DataError: too many examples cannot be rendered.
    """
    inputs = {
        "model": context.files.sha256,
        **_made_of(data, synthesised),
        "components": [part.identity() for part in synthesised.components],
        **({"vocabulary": vocabulary.folder.name} if (vocabulary := data.vocabulary_of(synthesised.system)) else {}),
        **({"template": context.recipe.template} if context.recipe.template else {}),
        "seed": context.recipe.seed,
        "code": RENDERING,
    }
    name = synthesised.shared_name  # the rows are the same for every seed
    return SystemRows(context.artefact(f"rows-{name}", inputs, lambda path: _build(context, data, synthesised, path)))


def _made_of(data: Data, synthesised: StageExamples) -> dict[str, list[str]]:
    """Return the hashes of what the stage's examples are made of, so that other prompts do not make a stage of texts
    anew."""
    kinds = frozenset[str]().union(*(part.method.made_of for part in synthesised.components))
    found: dict[str, list[str]] = {}
    if "pairs" in kinds:
        found["pairs"] = artefact_contents(data.folder, "train.jsonl")
    if "prompts" in kinds:
        found["prompts"] = artefact_contents(data.folder, "replay.jsonl")
    if "texts" in kinds and data.texts_folder:
        found["texts"] = artefact_contents(data.texts_folder, "texts.jsonl")
    return found


def _build(context: Context, data: Data, synthesised: StageExamples, folder: Path) -> dict[str, Any]:
    name = synthesised.shared_name
    renderer = data.renderer_of(context, synthesised.system)
    with (
        line_writer(folder / "refused.jsonl") as write,
        context.reporter.task(f"rows-{name}", len(data.train)) as task,
    ):
        rendering = _Rendering(
            context=context,
            renderer=renderer,
            name=name,
            scratch=folder / "examples.jsonl",
            refuse=lambda item: write(item.to_json()),
        )
        count = write_rendered(folder / "rows", rendering.rows(synthesised.components), task.update)
    write_json(folder / "filters.json", rendering.filters)
    mixture = {f"{method}_tokens": tokens for method, tokens in rendering.tokens.items()}
    return {
        "rows": count,
        "tokens": rendering.tokens.total(),
        "refused": rendering.refused,
        **(mixture if len(mixture) > 1 else {}),
    }


@dataclass(kw_only=True)
class _Rendering:
    """One pass over a system's examples, and what it finds.

    Attributes:
        renderer: of the system's tokenizer.
        scratch: file for examples that have to be put into another order.
        refuse: is given what cannot be rendered.
        filters: see `SystemRows`.
        tokens: of the rows, by method.
        refused: examples that cannot be rendered.
    """

    context: Context
    renderer: Renderer
    name: str
    scratch: Path
    refuse: Callable[[Rejected], None]
    filters: dict[str, int] = field(default_factory=dict)
    tokens: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    def rows(self, parts: Sequence[Component]) -> Iterator[Rendered]:
        """Yield all rows of the first method, and of each other method as many as its share of the tokens allows.

        Raises:
            DataError: too many examples of a method cannot be rendered.
        """
        total, shares = 0.0, sum(part.share or 0.0 for part in parts)
        for part in parts:
            name, tally = part.method.name, Tally()
            examples, budget = part.examples(tally), math.inf
            if part.share is not None:
                examples, budget = self._shuffled(examples), part.share * total
            used = tried = refused = 0
            first: Rejected | None = None
            for item in self._rendered(examples):
                if used >= budget:
                    break
                if isinstance(item, Rejected):
                    tried, refused, first = tried + 1, refused + 1, first or item
                    self.refuse(item)
                    continue
                tried += len(item)
                used += sum(len(row.input_ids) for row in item)
                yield from item
            self.refused += refused
            if first and refused > MAX_REFUSED_SHARE * tried:  # of this method: others beside it may have far more
                raise DataError(
                    f"{self.name}: {refused} of {tried} training examples of {name} cannot be rendered, for instance "
                    f"{first.file!r}: {first.detail}; shorten or leave out such rows"
                )
            self._tell_of_dropped(name, tally)
            self.tokens[name] += used
            self.filters |= {key if part is parts[0] else f"{name}: {key}": n for key, n in tally.filters.items()}
            if part.share is None:
                total = used / (1 - shares)
            elif used < budget:
                self.context.reporter.say(
                    f"{self.name}: {name} has {used / total:.0%} of the tokens instead of {part.share:.0%}, since "
                    f"there are no more answers; give more prompts"
                )
        self.scratch.unlink(missing_ok=True)

    def _tell_of_dropped(self, method: str, tally: Tally) -> None:
        """Warn where a method's filters have dropped most answers: what is left may teach something else."""
        dropped = Counter({reason: n for reason, n in tally.filters.items() if not reason.startswith(_NOT_DROPPED)})
        total = dropped.total() + sum(n for reason, n in tally.filters.items() if reason.startswith("kept"))
        if dropped.total() > MANY_DROPPED * total:
            common = ", ".join(f"{reason} {n:,}" for reason, n in dropped.most_common(3))
            self.context.reporter.say(
                f"Warning: {self.name}: of {total:,} answers {method} dropped {dropped.total():,} ({common}); change "
                f"its `params`, or give other data",
                always=True,
            )

    def _shuffled(self, examples: Iterator[Example]) -> Iterator[Example]:
        """Put examples into an order of their own, so that any of them may be used and not the first of the file."""
        keys = array("d")

        def lines() -> Iterator[str]:
            for example in examples:
                # Rows of a group have one key, so that they stay one after the other.
                keys.append(stable_fraction("mix", self.context.recipe.seed, example.group or example.id))
                yield example.to_json()

        write_lines(self.scratch, lines())
        rows = RecordFile(self.scratch, Example)
        return (rows[number] for number in np.argsort(np.frombuffer(keys), kind="stable").tolist())

    def _rendered(self, examples: Iterator[Example]) -> Iterator[list[Rendered] | Rejected]:
        """Yield rows, those of a group together, and what cannot be rendered: a group is used whole or not at all."""
        limit = self.context.longest
        renderer, begin = self.renderer, 1
        units = groupby(enumerate(examples), lambda item: item[1].group or item[0])
        members = ([example for _, example in unit] for _, unit in units)
        while batch := list(chain.from_iterable(islice(members, BATCH))):
            places = {example.id: number for number, example in enumerate(batch, begin)}
            texts = [example for example in batch if not example.messages]
            chats = [example for example in batch if example.messages]
            lost = {text.group: text.id for text in texts}
            found = list(zip(chats, renderer.render_many(chats, limit), strict=True))
            lost |= {example.group: example.id for example, row in found if isinstance(row, ExampleError)}
            # In the order in which they came: of a share, neither kind may take the place of the other.
            merged = merge(
                _of_chats(found, lost, places),
                _of_texts(renderer.render_texts(texts, limit), places),
                key=itemgetter(0),
            )
            yield from (item for _, item in merged)
            begin += len(batch)


Placed = tuple[int, list[Rendered] | Rejected]
"""Number of an example, and its rows with those of its group, or why there are none."""


def _of_chats(
    found: Sequence[tuple[Example, Rendered | ExampleError]], lost: Mapping[str, str], places: Mapping[str, int]
) -> Iterator[Placed]:
    """Yield the rows of conversations.

    Args:
        found: examples with their rows, those of a group behind each other.
        lost: group -> an example of it that cannot be rendered.
        places: example id -> its number.
    """
    for _, unit in groupby(found, lambda item: item[0].group or places[item[0].id]):
        kept: list[Rendered] = []
        place = 0
        for example, row in unit:
            place = place or places[example.id]
            if isinstance(row, ExampleError):
                yield place, _not_rendered(row, places)
            elif example.group and example.group in lost:
                reason = f"{lost[example.group]!r} of the same group cannot be rendered"
                yield place, _not_rendered(ExampleError(example.id, reason), places)
            else:
                kept.append(row)
        if kept:
            yield place, kept


def _of_texts(rows: Iterator[Rendered | ExampleError], places: Mapping[str, int]) -> Iterator[Placed]:
    """Yield the rows of documents, one by one."""
    for row in rows:
        if isinstance(row, ExampleError):
            yield places[row.example_id], _not_rendered(row, places)
        else:
            yield places.get(row.id) or places[row.id.rpartition("#")[0]], [row]


def _not_rendered(error: ExampleError, places: Mapping[str, int]) -> Rejected:
    return Rejected(error.example_id, places[error.example_id], "not_rendered", error.reason)
