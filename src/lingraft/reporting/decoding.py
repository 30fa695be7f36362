"""What decoders gain over asking once, and what a segment costs them, for the report and the paper."""

from __future__ import annotations

from collections.abc import Mapping

from lingraft.evaluation.probe import is_probe
from lingraft.evaluation.scorecard import Delta, Scorecard, SummaryRow, System
from lingraft.evaluation.scoring import BASE
from lingraft.evaluation.summary import improvement, mean_of_deltas
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.reporting.citations import Citations
from lingraft.reporting.numbers import MISSING, count, decimals_for, interval, number
from lingraft.reporting.tables import Cell, Group, Names, Table, grouped, text


def decoded_systems(scorecard: Scorecard) -> list[System]:
    """Return the systems that translate by a decoder."""
    return [system for system in scorecard.systems if system.weights]


def over_weights(scorecard: Scorecard, system: System) -> tuple[str, Delta] | None:
    """Return the metric of the gain, and what a decoder gains in it over its weights when they are asked once; None
    where they were not both measured."""
    metric = next((row.gain.metric for row in scorecard.summary if row.gain), "")
    rows = [row for row in scorecard.translation if row.system == system.name and row.metric == metric]
    deltas = [row.delta if system.weights == BASE else row.versus.get(system.weights or "") for row in rows]
    found = [delta for delta in deltas if delta is not None]
    if not found or len(found) < len(rows):
        return None
    return metric, improvement(mean_of_deltas(found), rows[0])


def decoder_notes(scorecard: Scorecard) -> list[str]:
    """Say of each decoder whether it is better than asking once, and how many calls and tokens that takes."""
    notes = []
    for system in decoded_systems(scorecard):
        measured = over_weights(scorecard, system)
        if measured is None or system.decoder == "direct" or is_probe(system.name):
            continue
        metric, delta = measured
        facts = gain_facts(metric, scorecard.translation)
        places = decimals_for(facts, [delta.value])
        change = f"{number(delta.value, places, signed=True)} {interval(delta.ci95, places, signed=True)} {facts.title}"
        low, high = delta.ci95
        verdict = "is better" if low > 0 else "is worse" if high < 0 else "is not significantly better"
        cost = _at(scorecard, system)
        notes.append(f"Decoder: {system.name} {verdict} than {system.weights} asked once: {change}{cost}.")
    return notes


def _at(scorecard: Scorecard, system: System) -> str:
    """Return at which cost, in words."""
    rows = {row.system: row for row in scorecard.summary}
    own, weights = rows.get(system.name), rows.get(system.weights or "")
    if own is None or own.calls_per_translation is None:
        return ""
    calls = number(own.calls_per_translation)
    words = f", at {calls} call{'' if calls == '1.0' else 's'} a segment"
    tokens, once = own.output_tokens_per_translation, weights.output_tokens_per_translation if weights else None
    return f"{words} and {number(tokens / once)} times the tokens" if tokens is not None and once else words


def outcome_notes(outcomes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say how often a decoder did what, where it says so: failures to read an answer are among it."""
    notes = []
    for name, counts in outcomes.items():
        total = sum(counts.values())
        shown = "; ".join(
            f"{words} ({count(n)})" for words, n in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        )
        notes.append(f"Decoder: {name}, of {count(total)} segments: {shown}.")
    return notes


def decoder_table(scorecard: Scorecard, names: Names) -> Table | None:
    """Return what a segment takes by each decoder, beside what it gains; None where there is none."""
    decoded = decoded_systems(scorecard)
    if not decoded:
        return None
    rows = {row.system: row for row in scorecard.summary}
    shown = dict.fromkeys(name for one in decoded for name in (one.weights or "", one.name))
    systems = {system.name: system for system in scorecard.systems}
    metric = next((row.gain.metric for row in scorecard.summary if row.gain), "")
    facts = gain_facts(metric, scorecard.translation)
    columns = [
        "System",
        "Decoder",
        f"Over asking once, {facts.title}",
        "95 % interval",
        "Calls a segment",
        "Tokens a segment",
        "Seconds a segment",
    ]
    cells = []
    for name in sorted(shown, key=lambda one: (names.order[systems[one].weights or one], names.order[one])):
        measured = over_weights(scorecard, systems[name]) if systems[name].weights else None
        places = decimals_for(facts, [measured[1].value]) if measured else 1
        change = [MISSING, MISSING]
        if measured:
            delta = measured[1]
            change = [number(delta.value, places, signed=True), interval(delta.ci95, places, signed=True)]
        cells.append(
            [
                names.cell(name),
                text(systems[name].decoder or "asked once"),
                *map(Cell, change),
                *_costs(rows.get(name)),
            ]
        )
    note = (
        "of all steps by their share of tokens, of answers that were taken over from another system as well, and of "
        "the scores by which a decoder chooses"
    )
    caption = "What a segment takes by each decoder"
    return Table(caption, columns, [Group(cells)], frozenset(columns[2:]), [("Seconds a segment", note, "")])


def _costs(row: SummaryRow | None) -> list[Cell]:
    if row is None:
        return [Cell(MISSING)] * 3
    return [
        Cell(number(row.calls_per_translation)),
        Cell(number(row.output_tokens_per_translation)),
        Cell(number(row.seconds_per_translation, 2)),
    ]


def decoder_sentences(scorecard: Scorecard, cited: Citations) -> list[str]:
    """Say for a paper which systems translate by which decoder."""
    sentences = []
    for _, systems in grouped(decoded_systems(scorecard), lambda one: (one.decoder, one.name.partition("/")[2])):
        *others, last = [one.name for one in systems]
        named = f"{', '.join(others)} and {last} translate" if others else f"{last} translates"
        by = f"{systems[0].decoder}{cited.mark(systems[0].cite_decoder)}"
        sentences.append(f"{named} by the decoder {by}, with the weights named before the slash.")
    return sentences
