"""Stage `texts`: read, check and freeze the documents to pre-train on, some of them held out to measure perplexity."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.core.errors import DataError
from lingraft.core.hashing import HashSet, stable_fraction
from lingraft.data.document_checks import Removed, SeenTexts, TextLimits, check_texts
from lingraft.data.overlap import OverlapIndex
from lingraft.data.pair_checks import enforce_share
from lingraft.data.readers import TextSource, read_texts
from lingraft.data.records import Rejected, Text
from lingraft.language.codes import base_language
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import UNMEASURED, Data
from lingraft.pipeline.sources import fingerprint, open_once, own_id
from lingraft.store.artefacts import artefact_contents
from lingraft.store.files import line_writer, read_lines, write_json, write_lines
from lingraft.store.record_files import RecordFile

LAYOUT = 1
"""Of the artefact's files: one of another layout is made anew."""


@dataclass(frozen=True, kw_only=True)
class PreparedDocuments:
    """The prepared documents, read from the disk when asked for.

    Attributes:
        folder: of the artefact.
        train: documents to train on.
        heldout: others, which are never trained on.
        rejected: rows that are not used.
        counts: file -> reason -> rejected rows.
        rows_read: file -> rows.
        removed: file -> characters, and those of repeated lines and of lines in test sets that were left out.
        characters: language -> characters to train on.
    """

    folder: Path
    train: Sequence[Text]
    heldout: Sequence[Text]
    rejected: Sequence[Rejected]
    counts: dict[str, dict[str, int]]
    rows_read: dict[str, int]
    removed: dict[str, dict[str, int]]
    characters: dict[str, int]


def prepare_texts(context: Context, data: Data, sources: Sequence[TextSource], limits: TextLimits) -> PreparedDocuments:
    """Return the run's documents.

    Args:
        context: of the run.
        data: whose test sets the documents must not hold.
        sources: files of documents, as the recipe has them.
        limits: what a document may be, and how many are held out.

    Raises:
        DataError: a file that cannot be read, or too many rows of one are bad (they are in `rejected-texts.jsonl` of
            the run).
    """
    open_once(sources, read_texts)
    files = [fingerprint(source) for source in sources]
    unseen = [*(f"{test.key}.jsonl" for test in data.tests), UNMEASURED]
    inputs = {
        "texts": files,
        "limits": limits.model_dump(mode="json"),
        "tests": [artefact_contents(data.folder, name) for name in unseen],
        "layout": LAYOUT,
    }

    def build(folder: Path) -> dict[str, Any]:
        facts = _build(context, data, sources, limits, folder)
        if [fingerprint(source) for source in sources] != files:
            raise DataError("a data file changed while it was read; run the same command again when it is complete")
        return facts

    return _load(context.artefact("texts", inputs, build))


def _build(
    context: Context, data: Data, sources: Sequence[TextSource], limits: TextLimits, folder: Path
) -> dict[str, Any]:
    index = OverlapIndex(chain(*(test.pairs for test in data.tests), data.unmeasured))
    seen, ids = SeenTexts(), HashSet()
    counts: dict[str, Counter[str]] = {}
    rows_read: Counter[str] = Counter()
    removed: dict[str, Removed] = {}
    fractions: dict[str, array[float]] = {}
    failures: list[DataError] = []
    scratch = folder / "accepted.jsonl"
    with line_writer(folder / "rejected.jsonl") as reject, line_writer(scratch) as accept:
        for source in sources:
            refused, accepted = Counter[str](), 0
            cut = removed.setdefault(source.path, Removed())
            with context.reporter.task(f"reading {source.name}", source.limit or 0) as task:
                rows = check_texts(
                    read_texts(source),
                    limits,
                    file=source.path,
                    overlap=index,
                    seen=seen,
                    removed=cut,
                    limit=source.limit,
                )
                for item in rows:
                    if isinstance(item, Rejected):
                        refused[item.reason] += 1
                        reject(item.to_json())
                        continue
                    accept(replace(item, id=own_id(item.id, source.name, ids)).to_json())
                    fractions.setdefault(base_language(item.lang), array("d")).append(_fraction(item))
                    accepted += 1
                    task.update(accepted)
            counts.setdefault(source.path, Counter()).update(refused)
            rows_read[source.path] += accepted + refused.total()
            try:
                enforce_share(
                    refused,
                    accepted,
                    limits.max_rejected_share,
                    source.path,
                    context.place("rejected-texts.jsonl"),
                )
            except DataError as error:
                failures.append(error)
    write_lines(context.root / "rejected-texts.jsonl", read_lines(folder / "rejected.jsonl"))
    if failures:
        raise failures[0]
    # A document is held out for its content: wherever it stands, and whatever else there is of its language.
    highest = {code: _highest(values, limits) for code, values in fractions.items()}
    characters: Counter[str] = Counter()
    with line_writer(folder / "texts.jsonl") as train, line_writer(folder / "heldout.jsonl") as hold:
        for text in RecordFile(scratch, Text):
            code = base_language(text.lang)
            if _fraction(text) <= highest[code]:
                hold(text.to_json())
            else:
                train(text.to_json())
                characters[code] += len(text.text)
    scratch.unlink()
    facts = {
        "counts": {file: dict(counter) for file, counter in counts.items() if counter},
        "rows_read": dict(rows_read),
        "removed": {file: asdict(cut) for file, cut in removed.items()},
        "characters": dict(sorted(characters.items())),
    }
    write_json(folder / "counts.json", facts)
    return {"characters": characters.total()}


def _fraction(text: Text) -> float:
    return stable_fraction("heldout", text.text)


def held_out(documents: int, limits: TextLimits) -> int:
    """Return how many of so many different documents of a language are held out."""
    if not limits.heldout_share:
        return 0
    return max(0, min(limits.heldout_documents, max(1, round(limits.heldout_share * documents)), documents - 1))


def _highest(fractions: Sequence[float], limits: TextLimits) -> float:
    """Return the fraction up to which documents are held out: one document at least, and never all of them."""
    wanted = held_out(len(fractions), limits)
    if not wanted:
        return -1.0
    return float(np.partition(np.asarray(fractions), wanted - 1)[wanted - 1])


def _load(folder: Path) -> PreparedDocuments:
    facts = json.loads((folder / "counts.json").read_text("utf-8"))
    return PreparedDocuments(
        folder=folder,
        train=RecordFile(folder / "texts.jsonl", Text),
        heldout=RecordFile(folder / "heldout.jsonl", Text),
        rejected=RecordFile(folder / "rejected.jsonl", Rejected),
        **facts,
    )
