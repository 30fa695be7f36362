"""Every method, objective and tuner against forgetting on the same pairs: what it gains, keeps and costs.

python benchmarks/methods.py --out FOLDER [--pairs FILE --from de --to en --test FILE --prompts FILE] [--only NAME ...]

Without files of your own it takes the shipped starter data, which show the mechanism and no more. A killed one goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import SEED, STARTER, device_name, parser, positive, run

import lingraft as lg
from lingraft.core.environment import versions
from lingraft.core.errors import UsageError

KINDS = ("synthesis", "training")
"""How the stages of costs begin: what was written for the training, and the training."""
LORA = {"kind": "lora", "rank": 16, "dropout": 0}
REPLAY = {"method": "recovery", "share": 0.3, "params": {"max_answer_tokens": 96}}
SELF = {"method": "recovery", "share": 0.3, "params": {"prompts": "self", "self_prompts": 120, "max_answer_tokens": 96}}
SHORT = {"max_rationale_tokens": 64}

ONE_STAGE: dict[str, dict[str, Any]] = {
    "vanilla": {"method": "vanilla"},
    "radis": {"method": "radis", "params": SHORT},
    "radis-soft": {"method": "radis", "params": {**SHORT, "targets": "soft"}},
    "seqkd": {"method": "seqkd", "params": {"fallback": "reference"}},
    "sdft": {"method": "sdft"},
    "vanilla+recovery": {"method": "vanilla", "beside": [REPLAY]},
    "vanilla+recovery-self": {"method": "vanilla", "beside": [SELF]},
    "vanilla+mix": {"method": "vanilla", "beside": [{"method": "mix", "share": 0.3}]},
    "self_critique": {"method": "self_critique"},
    "cft": {"method": "cft"},
    "eaft": {"method": "vanilla", "objective": [{"kind": "eaft"}]},
    "stm": {"method": "vanilla", "objective": [{"kind": "stm"}]},
    "cc": {"method": "vanilla", "objective": [{"kind": "cc"}]},
    "kl_base": {"method": "vanilla", "objective": [{"kind": "kl_base", "weight": 0.1, "on": "translation"}]},
    "l2_init": {"method": "vanilla", "objective": [{"kind": "l2_init"}]},
    "ewc": {"method": "vanilla", "beside": [REPLAY], "objective": [{"kind": "ewc"}]},
    "spd": {"method": "vanilla", "objective": [{"kind": "spd"}]},
    "dora": {"method": "vanilla", "tuner": {**LORA, "dora": True}},
    "rslora": {"method": "vanilla", "tuner": {**LORA, "rslora": True}},
    "oplora": {"method": "vanilla", "tuner": {**LORA, "orthogonal": 16}},
    "layers": {
        "method": "vanilla",
        "tuner": {**LORA, "layers": ["first 5", "last 5"]},
    },
    "full": {"method": "vanilla", "tuner": {"kind": "full"}, "train": {"learning_rate": 5e-5}},
    "sparse": {"method": "vanilla", "tuner": {"kind": "sparse"}, "train": {"learning_rate": 5e-5}},
    "ssu": {"method": "vanilla", "beside": [REPLAY], "tuner": {"kind": "ssu"}, "train": {"learning_rate": 5e-5}},
    "osf": {"method": "vanilla", "tuner": {"kind": "osf"}, "train": {"learning_rate": 5e-5}},
    "three": {
        "method": "radis",
        "params": {**SHORT, "targets": "soft"},
        "beside": [SELF],
        "objective": [{"kind": "kl_base", "weight": 0.1, "on": "translation"}],
    },
}
"""Systems of one stage: what each has instead of plain fine-tuning with LoRA."""

TWO_STAGES: dict[str, list[dict[str, Any]]] = {
    "language_aware": [
        {"method": "vanilla"},
        {
            "method": "language_aware",
            "params": {"languages": ["fr", "es"]},
            "train": {"learning_rate": 5e-5, "max_steps": 20},
        },
    ],
    "radis-before": [
        {"method": "vanilla"},
        {"method": "radis", "params": {**SHORT, "rationales": "before"}},
    ],
    "self_critique-dpo": [
        {"method": "self_critique"},
        {"method": "self_critique", "params": {"teach": "preferences"}, "train": {"learning_rate": 5e-5}},
    ],
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One system: what it gains, keeps and costs.

    Attributes:
        chrf: corpus chrF++.
        agreement: of answers to general prompts with the base's own, 0 to 100.
        kl: nats a token from the base, on its own answers.
        written: tokens that the base (or another model) wrote for it.
        writing: seconds of that.
        tokens: real ones that were trained on, in all stages.
        training: seconds of that.
    """

    name: str
    chrf: float
    agreement: float
    kl: float
    written: int = 0
    writing: float = 0.0
    tokens: int = 0
    training: float = 0.0


def recipe_of(options: argparse.Namespace, name: str, stages: list[dict[str, Any]], compare: list[Any]) -> lg.Recipe:
    """Return a run on the data of the command line."""
    pairs = {"source": options.source or "de", "target": options.target or "en"}
    usual = {"tuner": LORA}
    train = {"learning_rate": 5e-4, "tokens_per_step": 1024, "micro_tokens": 2048}
    values: dict[str, Any] = {
        "name": name,
        "model": options.model,
        "seed": SEED,
        "pairs": {
            "train": {"path": options.pairs or STARTER, "limit": options.rows or 400, **pairs},
            "test": {"path": options.test, "limit": options.test_rows, **pairs},
        },
        "prompts": {"path": options.prompts, "limit": 300},
        "stages": [{**usual, **stage, "train": {**train, **stage.get("train", {})}} for stage in stages],
        "compare": compare,
        "evaluate": {
            "translation": {"metrics": ["chrf++"], "max_new_tokens": 96},
            "retention": {"suites": [{"kind": "self", "max_prompts": 40, "max_pairs": 1, "max_new_tokens": 64}]},
        },
    }
    folder = Path(options.out).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(values, indent=2) + "\n", "utf-8")  # JSON is YAML
    return lg.load_recipe(path)


def measured(folder: Path) -> list[Measured]:
    """Return what the scorecard of a run says of its systems."""
    card = lg.Run.read(folder).scorecard
    found = []
    for system in (one.name for one in card.systems):
        rows = [(row.metric, row.score) for row in card.translation if row.system == system]
        scores = dict(rows + [(row.metric, row.score) for row in card.general if row.system == system])
        costs = {
            kind: [one for one in card.cost if one.system == system and one.stage.startswith(kind)] for kind in KINDS
        }
        tokens, seconds = (
            {kind: sum(getattr(one, of) or 0 for one in costs[kind]) for kind in KINDS} for of in ("tokens", "seconds")
        )
        found.append(
            Measured(
                name=system,
                chrf=scores["chrf++"],
                agreement=scores["agreement"],
                kl=scores["kl_from_base"],
                written=int(tokens["synthesis"]),
                writing=seconds["synthesis"],
                tokens=int(tokens["training"]),
                training=seconds["training"],
            )
        )
    return found


def result(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is not there yet and return all that was measured."""
    folder, only = Path(options.out), set(options.only or (*ONE_STAGE, *TWO_STAGES))
    if unknown := sorted(only - {*ONE_STAGE, *TWO_STAGES}):
        raise UsageError(f"--only: there is no {unknown[0]!r}; known: {', '.join((*ONE_STAGE, *TWO_STAGES))}")
    plain, *others = [{"name": name, **ONE_STAGE[name]} for name in ONE_STAGE if name in only | {"vanilla"}]
    stage = {key: value for key, value in plain.items() if key != "name"}
    lg.run(recipe_of(options, "one-stage", [stage], others), out=folder / "one-stage")
    rows = measured(folder / "one-stage")
    for name in (name for name in TWO_STAGES if name in only):
        lg.run(recipe_of(options, name, TWO_STAGES[name], []), out=folder / name)
        rows += [replace(row, name=name) for row in measured(folder / name) if row.name != "base"]
    return {
        "name": "methods",
        "device": device_name(torch.device("cpu")),
        "versions": versions(),
        "systems": [asdict(row) for row in rows],
    }


def shown(found: Mapping[str, Any]) -> str:
    """Return the table, in Markdown."""
    lines = ["| system | chrF++ | agreement | KL | written | trained | seconds |", "|---|---|---|---|---|---|---|"]
    for row in found["systems"]:
        lines.append(
            f"| {row['name']} | {row['chrf']:.1f} | {row['agreement']:.1f} | {row['kl']:.3f} | {row['written']:,} "
            f"| {row['tokens']:,} | {row['writing']:.0f} + {row['training']:.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run it from the command line."""
    made = parser("Gain, retention and cost of every method on the same pairs.")
    made.add_argument("--out", required=True, help="folder of the runs; what is finished there is not made again")
    made.add_argument("--test", default="starter:test.de-en.jsonl", help="file of test pairs")
    made.add_argument("--test-rows", type=positive, default=100, help="of the test pairs")
    made.add_argument("--prompts", default="starter:prompts.jsonl", help="file of general prompts")
    made.add_argument("--only", nargs="+", metavar="NAME", help="some of the systems")
    options = made.parse_args()
    return run(result, options, shown)


if __name__ == "__main__":
    sys.exit(main())
