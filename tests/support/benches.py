"""Folders of benches without any model: runs that are published and sealed, and the table over them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lingraft.evaluation.published import PUBLISHED, published_hashes
from lingraft.evaluation.retention import suite_rows
from lingraft.evaluation.scorecard import Cost, ModelIdentity, Scorecard, System
from lingraft.evaluation.scoring import Resampling, translation_rows
from lingraft.evaluation.summary import summarise
from lingraft.statistics.items import Items, item_lines
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.store.files import write_sealed

N = 60
HOW = Resampling(200, 1)


def items(system: str, level: float, kept: float, seed: int = 0, **place: str) -> list[Items]:
    """A test set on which a metric has the mean `level`, and a suite of which a share `kept` is right.

    `asked` tells questions from those of other benches.
    """
    noise = np.random.default_rng(seed).normal(0, 1, N)
    ids, ones = tuple(f"i{number}" for number in range(N)), np.ones(N)
    scores = np.stack([level + noise, ones], axis=1)
    right = np.stack([(np.arange(N) < kept * N).astype(float), ones], axis=1)
    headline = MetricFacts(label="Quality", role="headline", decimals=1)
    test, suite, asked = place.get("test", "news"), place.get("suite", "quiz"), place.get("asked", "a")
    return [
        Items(system, test, "de-en", "quality", ids, scores, facts=headline, signature="quality", content=asked),
        Items(system, suite, "", "acc", ids, right, facts=MetricFacts(label="Accuracy"), content="b"),
    ]


def publish(folder: Path, systems: Mapping[str, tuple[float, float]], **place: str) -> Path:
    """Write a finished run of trained systems, name -> (level, kept); `NAME#2` is a further seed of NAME.

    `base` is the hash of the base, `base_level` what it reaches, `device` where it was, `seed` of the recipe, `outputs`
    what all wrote.
    """
    folder.mkdir(parents=True)
    seed_of_run = int(place.pop("seed", 1))
    rows = items("base", float(place.get("base_level", 10.0)), 0.8, **place)
    plans, cost = [System(name="base")], []
    for number, (name, (level, kept)) in enumerate(systems.items(), 1):
        rows += items(name, level, kept, number, **place)
        group, _, seed = name.partition("#")
        again = {"group": group, "seed": int(seed)} if seed else {}
        plans.append(System(name=name, method="vanilla", tuner="lora", **again))  # type: ignore[arg-type]
        if not seed:
            cost.append(Cost(system=name, stage="synthesis-radis", seconds=30.0, tokens=1200))
        cost.append(Cost(system=name, stage="training", seconds=1000.0 * number, tokens=5000, supervised_tokens=2000))
    cost = [one.model_copy(update={"device": place.get("device", "cpu")}) for one in cost]
    translation, general = translation_rows(rows[::2], HOW), suite_rows(rows[1::2], HOW)
    card = Scorecard(
        schema="lingraft.scorecard/1",
        run=folder.name,
        created="2026-01-01T00:00:00+00:00",
        base=ModelIdentity(id="tiny", sha256=place.get("base", "0" * 64)),
        seed=seed_of_run,
        versions={"lingraft": "0.1.0"},
        systems=plans,
        translation=translation,
        general=general,
        summary=summarise([one.name for one in plans], translation, general, items=rows, how=HOW),
        cost=cost,
    )
    for name in PUBLISHED:
        (folder / name).write_text(place.get("outputs", "") if name == "outputs.jsonl" else "", "utf-8")
    (folder / "scorecard.json").write_text(card.to_json(), "utf-8")
    (folder / "items.jsonl").write_text("\n".join(item_lines(rows, card.base.sha256)) + "\n", "utf-8")
    write_sealed(folder / "run.json", {"published": published_hashes(folder, trained=False)})
    return folder


def row(name: str, status: str = "done", **given: Any) -> dict[str, Any]:
    """A row as `bench.json` has it."""
    run = {"run": f"rows/{name}"} if status == "done" else {}
    return {"name": name, "status": status, "why": "", "set": {}, **run, **given}


def write_table(folder: Path, rows: Sequence[Mapping[str, Any]], **given: Any) -> Path:
    """Write `bench.json`, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    table = {"schema": "lingraft.bench/1", "name": "small", "rows": list(rows), **given}
    (folder / "bench.json").write_text(json.dumps(table), "utf-8")
    return folder
