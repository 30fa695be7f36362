"""Stage `contamination`: what the test sets and the suites' questions have in common with the training data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lingraft.data.contamination import EXACT_SIGNATURE, SIGNATURE, ContaminationIndex, Item, Overlap
from lingraft.data.records import Pair
from lingraft.evaluation.scorecard import Contamination
from lingraft.stages.context import Context
from lingraft.stages.prepare import Data
from lingraft.stages.suites import OpenSuite
from lingraft.store import list_hash, write_json

SHOWN = 20
"""Items of a set that are named."""


def contamination(context: Context, data: Data, suites: Sequence[OpenSuite]) -> list[Contamination]:
    """Return the overlap of each test set and suite with training pairs, prompts for replay and documents, and warn.

    A suite's items are its first questions, without system messages, and what it names as `unseen_texts`; no system is
    asked for this. Two rows a set: "exact" and "ngram", see `lingraft.data.contamination`.
    """
    if not data.train:  # a run that only measures: what its grafts were trained on is not known
        return []
    sets = {
        f"{test.name} {test.pairs[0].source_lang}-{test.pairs[0].target_lang}": _pairs(test.pairs)
        for test in data.tests
    }
    sets |= {suite.name: items for suite in suites if (items := _questions(suite))}

    def build(folder: Path) -> dict[str, Any]:
        index = ContaminationIndex()
        for name, items in sets.items():
            index.add(name, items)
        total = len(data.train) + len(data.replay) + len(data.texts)
        with context.reporter.task("contamination", total) as task:
            for done, (row, texts) in enumerate(_trained(data), start=1):
                for text in texts:
                    index.look_up(row, text)
                task.update(done)
        write_json(folder / "overlap.json", [vars(overlap) for overlap in index.result()])
        return {"rows": total}

    digests = {name: list_hash([item.id, *item.texts] for item in items)[0] for name, items in sets.items()}
    inputs = {
        "data": data.folder.name,
        "sets": digests,
        "rule": [SIGNATURE, EXACT_SIGNATURE],
        **({"texts": data.texts_folder.name} if data.texts_folder else {}),
    }
    folder = context.artefact("contamination", inputs, build)
    overlaps = [Overlap(**values) for values in json.loads((folder / "overlap.json").read_text("utf-8"))]
    for overlap in overlaps:
        _warn(context, overlap)
    return [row for overlap in overlaps for row in _rows(overlap)]


def _trained(data: Data) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield all training rows: a name and their texts."""
    for pair in data.train:
        yield pair.id, (pair.source, pair.target)
    for prompt in data.replay:
        yield f"prompt {prompt.id}", tuple(message.content for message in prompt.messages if message.role != "system")
    for text in data.texts:
        yield f"text {text.id}", (text.text,)


def _pairs(pairs: Sequence[Pair]) -> list[Item]:
    return [Item(pair.id, (pair.source, pair.target, *pair.references)) for pair in pairs]


def _questions(suite: OpenSuite) -> list[Item]:
    prefix = f"{suite.name}/"
    asked = [
        Item(request.id.removeprefix(prefix), tuple(m.content for m in request.messages if m.role != "system"))
        for request in suite.requests()
    ]
    asked += [Item(id_, texts) for id_, texts in suite.suite.unseen_texts(suite.inputs).items()]
    renderer = suite.inputs.renderer
    if renderer is None:
        return asked
    contexts: dict[tuple[int, ...], str] = {}
    for one in suite.continuations():
        contexts.setdefault(one.context, one.id.removeprefix(prefix))
    return asked + [Item(id_, (renderer.decode_all(ids),)) for ids, id_ in contexts.items()]


def _rows(overlap: Overlap) -> list[Contamination]:
    if not overlap.items:
        return []
    return [
        Contamination(
            where=overlap.name,
            kind=kind,
            n=overlap.items,
            shared=len(found),
            ids=list(found)[:SHOWN],
            rows=list(found.values())[:SHOWN],
            signature=signature,
        )
        for kind, found, signature in (
            ("exact", overlap.exact, EXACT_SIGNATURE),
            ("ngram", overlap.ngram, SIGNATURE),
        )
    ]


def _warn(context: Context, overlap: Overlap) -> None:
    """Say which items of a set are in the training data; a score on such a set is not one on unseen text."""
    found = {**overlap.ngram, **overlap.exact}
    if found:
        item, row = next(iter(found.items()))
        context.reporter.say(
            f"Warning: {len(found):,} of {overlap.items:,} items of {overlap.name} share a whole text or 13 words in a "
            f"row with the training data, first {item!r} with {row!r}; they are listed under contamination in "
            f"scorecard.json",
            always=True,
        )
