"""Stage `contamination-<rows>`: what the test sets and the suites' questions share with what a stage trains on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.hashing import HashSet, list_hash, text_hash
from lingraft.data.contamination import EXACT_SIGNATURE, SIGNATURE, WORDS, ContaminationIndex, HeldOutItem, Overlap
from lingraft.data.records import Continuation, Example, Pair
from lingraft.evaluation.scorecard import Contamination
from lingraft.methods.base import Tally
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.render import SystemRows
from lingraft.pipeline.suites import OpenSuite
from lingraft.pipeline.synthesise import StageExamples
from lingraft.rendering.row_files import RenderedRows
from lingraft.rendering.turn import MARKER
from lingraft.store.files import write_json

SHOWN = 20
"""Items of a set that are named."""

TrainedOn = tuple[StageExamples, SystemRows]
"""What the examples of a stage of a system are made of, and the rows that were made of them."""


class ContaminationCheck:
    """The items of all test sets and suites, looked for in what each stage of each system is trained on.

    A suite's items are its first questions, without system messages, its continuations, and what it names as
    `unseen_texts`; no system is asked for this. Two rows a set: "exact" and "ngram", see
    `lingraft.data.contamination`.
    """

    def __init__(self, context: Context, data: Data, suites: Sequence[OpenSuite]) -> None:
        self._context, self._data = context, data
        self._looked: set[str] = set()
        self._sets: dict[str, list[HeldOutItem]] = {}
        if not data.train:  # a run that only measures: what its grafts were trained on is not known
            return
        for test in data.tests:
            first = test.pairs[0]
            self._sets[f"{test.name} {first.source_lang}-{first.target_lang}"] = _pairs(test.pairs)
        if data.dev:
            self._sets["development set"] = _pairs(data.dev)
        self._sets |= {suite.name: items for suite in suites if (items := _questions(suite))}
        self._digests = {
            name: list_hash([item.id, *item.texts] for item in items)[0] for name, items in self._sets.items()
        }
        self._overlaps = {name: Overlap(name, len(items)) for name, items in self._sets.items()}
        self._index: ContaminationIndex | None = None

    def look_in(self, trained: Iterable[TrainedOn]) -> None:
        """Look through the texts of the stages that were not looked through yet, and warn of what is found.

        What a stage trains on is known when its rows are made, so that this can go before its training.
        """
        if not self._sets:
            return
        known = {name: len({*overlap.exact, *overlap.ngram}) for name, overlap in self._overlaps.items()}
        for synthesised, rendered in trained:
            if rendered.folder.name in self._looked:
                continue
            self._looked.add(rendered.folder.name)
            for found in self._found_in(synthesised, rendered):
                overlap = self._overlaps[found.name]
                overlap.exact.update({**found.exact, **overlap.exact})
                overlap.ngram.update({**found.ngram, **overlap.ngram})
        for name, overlap in self._overlaps.items():
            if len({*overlap.exact, *overlap.ngram}) > known[name]:
                _warn(self._context, overlap)

    def holds(self, text: str) -> bool:
        """Return whether a text shares a whole text or a long run of words with any item."""
        index = self._indexed()
        index.look_up("", text)
        return index.found

    def rows(self) -> list[Contamination]:
        """Return what was found so far, two rows for each set."""
        return [row for name in self._sets for row in _rows(self._in_order(name))]

    def _in_order(self, name: str) -> Overlap:
        """Return the overlap of a set with its items in the set's order, whichever stage they were found in."""
        items, overlap = self._sets[name], self._overlaps[name]
        exact, ngram = (
            {item.id: of[item.id] for item in items if item.id in of} for of in (overlap.exact, overlap.ngram)
        )
        return Overlap(name, overlap.items, exact, ngram)

    def _found_in(self, synthesised: StageExamples, rendered: SystemRows) -> list[Overlap]:
        name = f"contamination-{synthesised.shared_name}"

        def build(folder: Path) -> dict[str, Any]:
            index = self._indexed()
            rows = rendered.rows
            with self._context.reporter.task(name, len(rows)) as task:
                for done, (label, text) in trained_texts(self._data, synthesised, rows):
                    index.look_up(label, text)
                    task.update(done)
            write_json(folder / "overlap.json", [vars(overlap) for overlap in index.result()])
            return {"rows": len(rows)}

        inputs = {"rows": rendered.folder.name, "sets": self._digests, "rule": [SIGNATURE, EXACT_SIGNATURE]}
        folder = self._context.artefact(name, inputs, build)
        return [Overlap(**values) for values in json.loads((folder / "overlap.json").read_text("utf-8"))]

    def _indexed(self) -> ContaminationIndex:
        """Return the index of all items, with nothing found yet."""
        if self._index is None:
            self._index = ContaminationIndex()
            for name, items in self._sets.items():
                self._index.add(name, items)
        self._index.forget()
        return self._index


def trained_texts(data: Data, synthesised: StageExamples, rows: RenderedRows) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield the texts that a stage trains on, each once: rows so far, and (name of the row, text).

    They are the turns and spans of the examples that became rows, and the sides of the pairs that these are made of,
    which a request quotes. Memory: two 64-bit hashes a row, and one a text.
    """
    used, seen = HashSet(), HashSet()
    for id_ in rows.ids():
        used.add(text_hash(id_))
        used.add(text_hash(id_.rpartition("#")[0]))  # a document that was cut into rows
    parts, done = synthesised.components, 0
    quoted = any(part.method.consumes == "pairs" for part in parts)
    of_pairs = ((pair.id, text) for pair in data.train for text in (pair.source, pair.target))
    for id_, text in of_pairs if quoted else ():
        if text_hash(id_) in used and seen.add(text_hash(text)):
            yield done, (id_, text)
    for part in parts:
        for example in part.examples(Tally()):
            if text_hash(example.id) not in used:
                continue
            done += 1
            for label, text in _texts(example):
                if seen.add(text_hash(text)):
                    yield done, (label, text)


def _texts(example: Example) -> Iterator[tuple[str, str]]:
    for message in example.messages:
        if message.role != "system":
            yield f"{'prompt' if message.role == 'user' else message.role} {example.id}", message.content
    for span in example.spans:
        if span.role != MARKER:
            yield f"{span.role} {example.id}", span.text


def _pairs(pairs: Sequence[Pair]) -> list[HeldOutItem]:
    return [HeldOutItem(pair.id, (pair.source, pair.target, *pair.references)) for pair in pairs]


def _questions(suite: OpenSuite) -> list[HeldOutItem]:
    prefix = f"{suite.name}/"
    asked = [
        HeldOutItem(request.id.removeprefix(prefix), tuple(m.content for m in request.messages if m.role != "system"))
        for request in suite.requests()
    ]
    asked += [HeldOutItem(id_, texts) for id_, texts in suite.suite.unseen_texts(suite.inputs).items()]
    # Continuations of one context, the choices of a question, are one item; what follows nothing is one by itself.
    grouped: dict[tuple[int, ...] | str, list[Continuation]] = {}
    for one in suite.continuations():
        grouped.setdefault(one.context if len(one.context) > 1 else one.id, []).append(one)
    return asked + [_continued(suite, prefix, group) for group in grouped.values()]


def _continued(suite: OpenSuite, prefix: str, group: Sequence[Continuation]) -> HeldOutItem:
    """Return a context and what may follow it, with the end of the context before it."""
    renderer, first = suite.inputs.renderer, group[0]
    if renderer is None:
        raise UsageError(f"suite {suite.name!r} has continuations and no tokenizer; give SuiteInputs a renderer")
    if len(first.context) <= 1:
        return HeldOutItem(first.id.removeprefix(prefix), (renderer.decode(first.continuation),))
    context = renderer.decode(first.context)
    before = context.rsplit(None, WORDS)
    end = context[len(before[0]) :] if len(before) > WORDS else context
    texts = [context]
    for one in group:
        whole = renderer.decode((*one.context, *one.continuation))
        texts.append(end + (whole[len(context) :] if whole.startswith(context) else renderer.decode(one.continuation)))
    return HeldOutItem(first.id.removeprefix(prefix), tuple(texts))


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
