"""The tables of the report about the run itself: cost, losses, data, seeds, overlap with training data, versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from lingraft.core.tasks import NOUNS
from lingraft.data.reasons import REASONS
from lingraft.data.records import Rejected
from lingraft.evaluation.scorecard import Contamination, Scorecard
from lingraft.evaluation.summary_facts import spread_facts
from lingraft.reporting.contents import LossPoint
from lingraft.reporting.numbers import (
    MISSING,
    change_mark,
    count,
    decimals_for,
    interval,
    number,
    p_value,
    share,
)
from lingraft.reporting.tables import Cell, Group, Names, Table, grouped, text


def cost_table(scorecard: Scorecard, names: Names) -> Table:
    """What each stage cost, system after system in the order of all tables."""
    columns = [
        "System",
        "Stage",
        "Seconds",
        "Tokens",
        "Supervised tokens",
        "Tokens a second",
        "Peak memory, MB",
        "Device",
    ]
    rows = [
        [
            names.cell(cost.system),
            text(cost.stage),
            Cell(number(cost.seconds)),
            Cell(count(cost.tokens)),
            Cell(count(cost.supervised_tokens)),
            Cell(number(cost.tokens / cost.seconds, 0) if cost.tokens is not None and cost.seconds > 0 else MISSING),
            Cell(number(cost.peak_memory_mb, 0)),
            text(cost.device),
        ]
        for cost in sorted(scorecard.cost, key=lambda cost: names.order.get(cost.system, len(names.order)))
    ]
    note = (
        "of a stage on a GPU; on a CPU the highest that the process has had so far, earlier stages included, so that "
        "it never falls"
    )
    groups, numeric = [Group(rows)], frozenset(columns[2:7])
    return Table("Time, tokens and memory by stage", columns, groups, numeric, [("Peak memory", note, "")])


def averages_table(scorecard: Scorecard, names: Names) -> Table:
    """Translation metrics averaged over test sets and directions, where there are several."""
    columns = ["System", "Score", "95 % interval", "Change from base", "95 % interval", "p", "Against base"]
    groups = []
    for (task, _), rows in grouped(scorecard.averages, lambda row: (row.task, row.metric)):
        facts = rows[0].facts
        places = decimals_for(facts, [row.score for row in rows])
        cells = []
        for row in rows:
            delta = row.delta
            change = [MISSING] * 4
            if delta:
                bounds = interval(delta.ci95, places, signed=True)
                change = [number(delta.value, places, signed=True), bounds, p_value(delta.p)]
                change.append(change_mark(facts.better, delta.ci95))
            cells.append(
                [
                    names.cell(row.system),
                    *map(Cell, [number(row.score, places), interval(row.ci95, places), *change[:3]]),
                    Cell(change[3], "mark"),
                ]
            )
        of = "" if task == "translation" else f" of {NOUNS[task]}"
        groups.append(Group(cells, facts.title, f"{rows[0].rows} test sets and directions{of}"))
    note = [("p", "normal approximation; the sets are taken as independent and count alike", "")]
    return Table("Mean over test sets and directions", columns, groups, frozenset(columns[1:-1]), note)


def loss_table(losses: Mapping[str, Sequence[LossPoint]], names: Names) -> Table:
    """First and last losses in numbers, beside the curves; the last is the mean of the last tenth of the steps."""
    columns = ["System", "Steps", "Tokens", "First loss", "Last loss"]
    rows = []
    for system, points in losses.items():
        if not points:
            continue
        tail = points[-max(1, len(points) // 10) :]
        last = sum(point.loss for point in tail) / len(tail)
        cells = [count(len(points)), count(points[-1].tokens), number(points[0].loss, 3), number(last, 3)]
        rows.append([names.cell(system), *map(Cell, cells)])
    caption = "First and last loss (last: mean of the last tenth of the steps)"
    return Table(caption, columns, [Group(rows)], frozenset(columns[1:]))


_OUTCOMES = {
    "kept_truncated": "kept, cut off by the limit",
    "echo": "repeats source or reference",
    "empty": "empty",
    "too_short": "too short",
    "looping": "repeats itself",
    "wrong_language": "in another language",
    "second_translation": "translates again",
    "thinking": "holds thoughts",
    "unfinished": "did not end",
    "truncated": "cut off by the limit",
    "no_reference": "without a reference",
    "length_ratio": "far longer or shorter than what it was made from",
    "numbers_lost": "numbers are missing",
}
_KEPT = {"kept_": "kept", "left_out_": "left out"}
_OVERLAPS = {"exact": "exact", "ngram": "n-gram"}


def outcome_words(outcome: str) -> str:
    """Return what became of a rationale or answer in words.

    Methods put before it which part of a mixture (`name: `) or which text of an example it is about; an outcome without
    words of its own, such as one of a plugin's method, is shown as the method calls it, with spaces.
    """
    part, _, name = outcome.rpartition(": ")
    if part:
        return f"{part}: {outcome_words(name)}"
    if name in _OUTCOMES:
        return _OUTCOMES[name]
    for start, words in _KEPT.items():
        if name.startswith(start):
            return f"{words}: {name.removeprefix(start)}"
    known = max((reason for reason in _OUTCOMES if name.endswith(f"_{reason}")), key=len, default="")
    if known:
        return f"{name.removesuffix(f'_{known}').replace('_', ' ')}: {_OUTCOMES[known]}"
    return name.replace("_", " ")


def filter_table(filters: Mapping[str, Mapping[str, int]], names: Names) -> Table:
    """How many rationales each filter dropped, and how many were kept."""
    columns = ["Outcome", "Rationales", "Share"]
    groups = []
    for system, counts in filters.items():
        total = sum(counts.values())
        ordered = sorted(counts.items(), key=lambda item: (item[0] != "kept", -item[1], item[0]))
        rows = [[text(outcome_words(reason)), Cell(count(n)), Cell(share(n, total))] for reason, n in ordered]
        groups.append(Group(rows, system, f"{count(total)} written"))
    return Table("Rationale filters", columns, groups, frozenset(columns[1:]))


def _rejection(reason: str) -> str:
    return REASONS.get(reason, reason.replace("_", " "))


def rejected_table(rows_read: Mapping[str, int], rejected: Mapping[str, Mapping[str, int]]) -> Table:
    """Rows read and rejected by file and reason."""
    columns = ["File", "Rows read", "Reason", "Rows rejected", "Share"]
    rows = []
    for file in dict.fromkeys([*rows_read, *rejected]):
        read = rows_read.get(file)
        reasons = sorted(rejected.get(file, {}).items(), key=lambda item: (-item[1], item[0])) or [("", 0)]
        for reason, n in reasons:
            part = share(n, read) if read is not None else MISSING
            rows.append([Cell(file, "code"), Cell(count(read)), text(_rejection(reason)), Cell(count(n)), Cell(part)])
    return Table("Rows read and rejected", columns, [Group(rows)], frozenset({"Rows read", "Rows rejected", "Share"}))


def rejected_examples_table(rejected: Iterable[Rejected]) -> Table:
    """A few rejected rows with their place."""
    columns = ["File", "Line", "Reason", "Detail"]
    rows = [
        [
            Cell(row.file, "code"),
            Cell(count(row.line) if row.line else "-"),
            text(_rejection(row.reason)),
            text(row.detail),
        ]
        for row in rejected
    ]
    return Table("Examples of rejected rows", columns, [Group(rows)], frozenset({"Line"}))


def pairs_table(caption: str, columns: tuple[str, str], values: Mapping[str, str]) -> Table:
    """Names and values, for example package versions."""
    return Table(caption, columns, [Group([[text(name), Cell(value, "code")] for name, value in values.items()])])


def seeds_table(scorecard: Scorecard, names: Names) -> Table:
    """Every score of a system that was trained with several seeds."""
    seeds = list(dict.fromkeys(seed for spread in scorecard.seeds for seed in spread.scores))
    columns = ["System", "Where", "Metric", *(f"Seed {seed}" for seed in seeds), "Standard deviation"]
    rows = []
    for spread in scorecard.seeds:
        facts = spread_facts(scorecard, spread)
        places = decimals_for(facts, spread.scores.values())
        scores = [Cell(number(spread.scores.get(seed), places)) for seed in seeds]
        label = text(facts.title)
        rows.append(
            [names.cell(spread.system), text(spread.where), label, *scores, Cell(number(spread.sd, places + 1))]
        )
    return Table("Scores by training seed", columns, [Group(rows)] if rows else [], frozenset(columns[3:]))


def contamination_table(scorecard: Scorecard) -> Table:
    """How many items of each test set and suite are found in the training data, and which."""
    columns = ["Test set or suite", "Overlap", "Items", "Shared", "Share", "First of them, and the training row"]
    rows = [
        [
            text(row.where),
            text(_OVERLAPS[row.kind]),
            Cell(count(row.n)),
            Cell(count(row.shared)),
            Cell(share(row.shared, row.n)),
            text(", ".join(_found(row)) + (", ..." if len(row.ids) < row.shared else "")),
        ]
        for row in scorecard.contamination
    ]
    signatures = dict.fromkeys(
        (_OVERLAPS[row.kind], row.signature, "") for row in scorecard.contamination if row.signature
    )
    groups = [Group(rows)] if rows else []
    return Table("Overlap with the training data", columns, groups, frozenset(columns[2:5]), list(signatures))


def _found(row: Contamination) -> list[str]:
    return [f"{id_} ({where})" if where else id_ for id_, where in zip_longest(row.ids, row.rows[: len(row.ids)])]


def unchecked_words(systems: Sequence[str]) -> str:
    """Say that a system's scores may be too high for a reason that nobody has looked for."""
    return (
        f"Contamination: not checked for {', '.join(systems)}, which this run did not train; if test items were among "
        f"its training data, scores are too high."
    )


def contamination_warnings(scorecard: Scorecard) -> list[str]:
    """Return a sentence for each test set or suite that shares items with the training data, and one for systems whose
    training data were not searched."""
    unchecked = [unchecked_words(scorecard.unchecked)] if scorecard.unchecked else []
    return unchecked + [
        f"Contamination: {count(row.shared)} of {count(row.n)} items of {row.where} "
        f"({share(row.shared, row.n)}) {'are' if row.kind == 'exact' else 'share n-grams with rows'} "
        f"in the training data; scores there may be too high (see Data)."
        for row in scorecard.contamination
        if row.shared
    ]
