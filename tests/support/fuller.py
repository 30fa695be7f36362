"""Contents with everything that a report may hold beyond a small run: seeds, scales, corrected p-values, overlap."""

from __future__ import annotations

import dataclasses
from typing import Any

from lingraft.data.records import SideBySide
from lingraft.evaluation.gate import check_gates, parse_gate
from lingraft.evaluation.scorecard import (
    Contamination,
    Delta,
    Gain,
    GeneralScore,
    Scorecard,
    SeedSpread,
    SummaryRow,
    System,
    TranslationScore,
)
from lingraft.reporting.contents import Breakdown, ReportContents, Work

FURTHER = {"radis#2": (4.1, 90.2), "radis*0.5": (2.9, 96.0), "vanilla*0.5": (1.1, 60.0)}
"""System -> gain and retention; the last one is worse than radis*0.5 in both."""


def enriched(contents: ReportContents) -> ReportContents:
    """Return the contents with two scales, a second seed, lengths, a guard's verdicts, breakdowns and overlap."""
    card = contents.scorecard
    systems = [
        *card.systems,
        System(name="radis#2", method="radis", tuner="lora", group="radis", seed=2),
        System(name="radis*0.5", method="radis", tuner="lora", group="radis", scale=0.5),
        System(name="vanilla*0.5", method="vanilla", tuner="lora", group="vanilla", scale=0.5),
    ]
    summary = list(card.summary)
    for name, (gain, kept) in FURTHER.items():
        reached = Gain(metric="chrf++", value=gain, ci95=(gain - 0.8, gain + 0.8))
        summary.append(SummaryRow(system=name, gain=reached, retention_mean=kept, retention_min=kept - 6))
    values: dict[str, Any] = card.model_dump(by_alias=True)
    values |= {
        "systems": systems,
        "summary": summary,
        "translation": [*map(_corrected, card.translation), *_lengths(card)],
        "general": [*card.general, *_guarded(card)],
        "seeds": [
            SeedSpread(
                system="radis", where="test.de-en de-en", metric="bleu", scores={"1": 29.64, "2": 29.1}, sd=0.382
            ),
            SeedSpread(system="radis", where="summary", metric="gain", scores={"1": 4.595, "2": 4.1}, sd=0.35),
            SeedSpread(system="radis", where="self", metric="agreement", scores={"1": 71.3, "2": 68.8}, sd=1.768),
        ],
        "contamination": [
            Contamination(
                where="test.de-en",
                kind="exact",
                n=240,
                shared=3,
                ids=["17", "40"],
                rows=["train/3"],
                signature="exact|x",
            ),
            Contamination(where="test.en-zh", kind="ngram", n=240, shared=0, signature="13-gram|words"),
        ],
    }
    breakdowns = [
        Breakdown("test.de-en", "de-en", 240, {"base": {"empty": 12, "looping": 30}, "vanilla": {"copied_source": 1}}),
        Breakdown("test.en-zh", "en-zh", 240, {"base": {"odd <kind>": 6}, "vanilla": {}}),
    ]
    card = Scorecard.model_validate(values)
    return dataclasses.replace(
        contents,
        scorecard=card,
        breakdowns=breakdowns,
        headline_system="radis",
        work=Work(3725.0, trained=489_600, written=12_345),
        gates=check_gates(
            map(parse_gate, ("gain>=3", "chrf++.gain>=4", "output_tokens_per_translation<=60")), card, ["radis"]
        ),
    )


def many(contents: ReportContents, segments: int, systems: int) -> ReportContents:
    """Return the contents with so many translated segments by so many systems, texts of about 250 characters."""
    card = contents.scorecard
    names = ["base", *(f"system-{n}" for n in range(1, systems))]
    rows = [System(name=name, method="radis" if name != "base" else None) for name in names]
    sample = contents.examples[0]
    words = f"{sample.source} {sample.reference}".split()
    items = []
    for number in range(segments):

        def text(shift: int, number: int = number) -> str:
            start = (number * 7 + shift * 3) % len(words)
            return " ".join((words * 3)[start : start + 38]) + f" ({number})"

        outputs = {name: text(shift // 2) for shift, name in enumerate(names, start=1)}
        items.append(SideBySide(f"test/{number}", "de-en", text(0), text(1), outputs))
    values: dict[str, Any] = card.model_dump(by_alias=True)
    values |= {"systems": rows, "summary": [], "general": [], "cost": []}
    values["translation"] = [row for row in card.translation if row.system == "base"]
    slim = Scorecard.model_validate(values)
    return ReportContents(scorecard=slim, recipe_yaml=contents.recipe_yaml, examples=items)


def _corrected(row: TranslationScore) -> TranslationScore:
    if row.delta is None:
        return row
    p = 0.2 if row.metric == "off_target" else 0.004
    delta = Delta(**{**row.delta.model_dump(), "p_holm": p, "test": "approximate randomisation"})
    return row.model_copy(update={"delta": delta})


def _lengths(card: Scorecard) -> list[TranslationScore]:
    rows = [row for row in card.translation if row.metric == "bleu"]
    return [
        row.model_copy(update={"metric": "length_ratio", "score": score, "ci95": (score - 0.05, score + 0.04)})
        for row, score in zip(rows, (1.61, 0.98, 1.02, 1.2, 0.95, 1.0), strict=True)
    ]


def _guarded(card: Scorecard) -> list[GeneralScore]:
    rows = [row for row in card.general if row.metric == "refusal_rate"]
    return [
        row.model_copy(
            update={"metric": metric, "score": value, "ci95": (max(0, value - 9), value + 9), "retention": None}
        )
        for row, value in zip(rows, (70.0, 40.0, 66.0), strict=True)
        for metric in ("refusal_rate_guard", "guard_disagreement")
    ]
