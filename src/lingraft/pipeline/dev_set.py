"""The development set among a run's rows: its own sources, or a share of the training pairs, and some prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lingraft.core.errors import DataError
from lingraft.core.hashing import text_hash
from lingraft.data import reasons
from lingraft.data.file_checks import check_test_rows
from lingraft.data.overlap import OverlapIndex
from lingraft.data.readers import PairSource
from lingraft.data.records import Pair, Prompt, Rejected
from lingraft.data.remarks import Remarks
from lingraft.pipeline.context import Context
from lingraft.pipeline.sources import read_test_rows
from lingraft.store.files import write_lines
from lingraft.store.record_files import RecordFile

MOST_PROMPTS = 32
"""General prompts that are held back for the divergence, of at most a tenth of those for replay."""

Reject = Callable[[str, Rejected], None]
Accepted = list[tuple[PairSource, RecordFile[Pair]]]


def read_dev(context: Context, index: OverlapIndex, reject: Reject, rows_read: dict[str, int]) -> list[Pair]:
    """Return the pairs of the sources of a development set, and add them to what must not be trained on.

    Args:
        context: of the run.
        index: the test sets; what overlaps them is left out.
        reject: is given what is left out.
        rows_read: rows by source, added to.

    Raises:
        DataError: nothing of a source is left, or it is not in its languages.
    """
    found: list[Pair] = []
    for source in context.recipe.pairs.dev:
        own, left_out, remarks = list[Pair](), 0, Remarks()
        rows = check_test_rows(read_test_rows(source, remarks), context.recipe.checks, file=source.path)
        for item in rows:
            if isinstance(item, Pair) and (overlap := index.match(item)) is not None:
                item = _overlapping(source, item, overlap)
            if isinstance(item, Rejected):
                reject(source.path, item)
                left_out += 1
            elif source.limit is None or len(own) < source.limit:
                own.append(item)
        if not own:
            raise DataError(f"{source.path}: no row of the development set can be used; they are in rejected.jsonl")
        rows_read[source.path] = rows_read.get(source.path, 0) + len(own) + left_out
        found += own if not source.both_directions else [way for pair in own for way in (pair, pair.reversed())]
    for pair in found:
        index.add(pair)
    return found


def take_share(share: float, accepted: Accepted, seed: int, reject: Reject) -> tuple[list[Pair], Accepted]:
    """Take a development set out of the accepted training pairs.

    A pair is taken by a hash of its id, or of its document, which stays whole. Its opposite direction goes with it, and
    what is left and overlaps it, as training pairs may overlap no test set, is rejected.

    Args:
        share: of the pairs, about.
        accepted: each source with its pairs, whose files are written anew.
        seed: of the choice.
        reject: is given what overlaps.

    Raises:
        DataError: it takes nothing, or all.
    """

    def taken(source: PairSource, pair: Pair) -> bool:
        unit = pair.id if pair.document is None else f"document {pair.document}"
        return text_hash(str(seed), source.name, unit) / 2**64 < share

    found: list[Pair] = []
    for source, pairs in accepted:
        for pair in pairs:
            if taken(source, pair):
                found += [pair, pair.reversed()] if source.both_directions else [pair]
    if not found:
        count = sum(len(pairs) for _, pairs in accepted)
        raise DataError(f"pairs.dev_share: {share:g} of {count:,} training pairs is none; raise it")
    index, left = OverlapIndex(found), Accepted()
    for source, pairs in accepted:
        kept = pairs.path.with_suffix(".kept.jsonl")

        def lines(source: PairSource = source, pairs: Sequence[Pair] = pairs) -> Iterator[str]:
            for pair in pairs:
                if taken(source, pair):
                    continue
                if (overlap := index.match(pair)) is not None:
                    reject(source.path, _overlapping(source, pair, overlap))
                else:
                    yield pair.to_json()

        write_lines(kept, lines())
        pairs.path.unlink()
        left.append((source, RecordFile(kept, Pair)))
    if not any(len(pairs) for _, pairs in left):
        raise DataError("pairs.dev: the development set takes or overlaps all training pairs; give one of its own")
    return found, left


def _overlapping(source: PairSource, pair: Pair, overlap: str) -> Rejected:
    # Its line is not known any more; its id names it.
    return Rejected(source.path, 0, reasons.OVERLAP_WITH_TEST, f"{pair.id}: {overlap}")


def held_count(prompts: int) -> int:
    """Return how many of so many prompts for replay are held back."""
    return min(MOST_PROMPTS, prompts // 10)


def held_back(replay: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Return the prompts for replay without some, and these: chosen by a hash of their text."""
    count = held_count(len(replay))
    ranked = sorted(range(len(replay)), key=lambda i: text_hash("dev", *(one.content for one in replay[i].messages)))
    chosen = {*ranked[:count]}
    return [one for i, one in enumerate(replay) if i not in chosen], [replay[i] for i in ranked[:count]]
