"""A delta for a language and one for a task, trained apart and added: ranking passages on XQuAD, in English and Thai.

python benchmarks/deltas.py --out FOLDER --xquad xquad.en-th.jsonl --texts en=c4.jsonl --texts th=news.jsonl

After Litschko et al. 2022 (arXiv 2204.02292): the task is trained upon the delta of English, with English queries, and
measured without a language's delta, with the English one, and with the Thai one in its place. A killed one goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import SEED, device_name, positive, run

import lingraft as lg
from lingraft.core.environment import versions
from lingraft.core.errors import UsageError

NEAR, FAR = 4, 5
"""Passages that do not answer a query: of the same article, and of others."""


def queries(path: Path, lang: str, *, train: bool) -> Iterator[dict[str, Any]]:
    """Yield the questions of XQuAD in one language with their paragraph and others of that language.

    Args:
        path: JSON Lines, one paragraph a row: `lang`, `title`, `paragraph`, `context`, `qas`.
        lang: of questions and paragraphs.
        train: those of every second article; else those of the others.
    """
    rows = [row for row in map(json.loads, path.read_text("utf-8").splitlines()) if row["lang"] == lang]
    titles = sorted({row["title"] for row in rows})
    used = [row for row in rows if titles.index(row["title"]) % 2 == int(train)]
    draws = np.random.default_rng(SEED)
    for row in used:
        near = [one["context"] for one in used if one["title"] == row["title"] and one is not row]
        far = [one["context"] for one in used if one["title"] != row["title"]]
        for asked in row["qas"]:
            wrong = [near[i] for i in draws.permutation(len(near))[:NEAR]]
            wrong += [far[i] for i in draws.permutation(len(far))[:FAR]]
            id_ = f"{lang}-{asked['id']}"
            yield {"id": id_, "lang": lang, "query": asked["question"], "positive": row["context"], "negative": wrong}


def written(path: Path, rows: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> Path:
    """Write rows as JSON Lines, where they are not there yet, and return the path."""
    if not path.exists():
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def trained(options: argparse.Namespace, name: str, stage: dict[str, Any], **more: Any) -> Path:
    """Train one delta, if it is not there yet, and return its graft."""
    tuner = {"kind": "sparse", "density": options.density}
    train = {"learning_rate": options.rate, "tokens_per_step": 1024, "micro_tokens": 1024, "max_tokens": options.tokens}
    ran = run_of(options, name, stages=[{"tuner": tuner, "train": train, **stage}], **more)
    return ran.graft


def run_of(options: argparse.Namespace, name: str, **values: Any) -> lg.Run:
    """Run a recipe that measures ranking, and as little else as there may be."""
    folder = Path(options.out).resolve()
    suite = {"kind": "retrieval", "queries": str(folder / "test.jsonl"), "by": options.by}
    suite["max_characters"] = options.characters
    evaluate: dict[str, Any] = {
        "translation": {"metrics": ["chrf++"], "max_new_tokens": 8},
        "retention": {"suites": [{**suite, "max_queries": options.queries, "max_candidates": options.candidates}]},
    }
    if values.get("stages"):  # measured together, later
        evaluate["retention"]["suites"][0]["max_queries"] = 1
    test = {"path": "starter:test.de-en.jsonl", "source": "de", "target": "en", "limit": 1}
    recipe = {"name": name, "model": options.model, "seed": SEED, "pairs": {"test": test}, "evaluate": evaluate}
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({**recipe, **values}, indent=2) + "\n", "utf-8")  # JSON is YAML
    return lg.run(lg.load_recipe(path), out=folder / name)


def result(options: argparse.Namespace) -> dict[str, Any]:
    """Train the deltas, measure their sums, and return all rows of the suite."""
    folder, xquad, texts = Path(options.out).resolve(), Path(options.xquad), dict(options.texts)
    if set(texts) != {"en", "th"}:
        raise UsageError("--texts: give two files, --texts en=FILE --texts th=FILE")
    folder.mkdir(parents=True, exist_ok=True)
    test = [row for lang in texts for row in queries(xquad, lang, train=False)]
    written(folder / "test.jsonl", test)
    learnt = written(folder / "train.jsonl", queries(xquad, "en", train=True))
    language = {
        lang: trained(
            options,
            f"language-{lang}",
            {"method": "pretraining", "params": {"languages": [lang]}},
            texts=[{"path": str(Path(path).resolve()), "lang": lang}],
        )
        for lang, path in texts.items()
    }
    asked = {"queries": str(learnt), "by": options.by, "max_characters": options.characters}
    stage = {"method": "relevance", "params": asked}
    task = trained(options, "task", {**stage, "upon": str(language["en"])})
    measured = run_of(
        options,
        "measured",
        stages=[],
        grafts=[
            {"name": "task", "path": str(task)},
            *({"name": f"{lang}+task", "path": [str(graft), str(task)]} for lang, graft in language.items()),
            {"name": "th", "path": str(language["th"])},
        ],
    )
    rows = [row for row in measured.scorecard.general if row.suite.startswith("retrieval")]
    return {
        "name": "deltas",
        "device": device_name(torch.device("cpu")),
        "versions": versions(),
        "rows": [
            {"system": row.system, "metric": row.metric, "score": row.score, "ci95": row.ci95, "n": row.n}
            for row in rows
        ],
    }


def shown(found: Mapping[str, Any]) -> str:
    """Return the table, in Markdown: a row a system, a column a metric."""
    rows = found["rows"]
    systems, metrics = (list(dict.fromkeys(row[key] for row in rows)) for key in ("system", "metric"))
    by = {(row["system"], row["metric"]): row for row in rows}
    lines = [f"| system | {' | '.join(metrics)} |", "|---" * (1 + len(metrics)) + "|"]
    for system in systems:
        cells = (by[system, metric] for metric in metrics)
        lines.append(
            f"| {system} | "
            + " | ".join(f"{one['score']:.1f} [{one['ci95'][0]:.1f}, {one['ci95'][1]:.1f}]" for one in cells)
            + " |"
        )
    return "\n".join(lines)


def pair(text: str) -> tuple[str, str]:
    """Return language and file of an option such as th=news.jsonl."""
    lang, _, path = text.partition("=")
    if not path:
        raise argparse.ArgumentTypeError(f"{text!r} is no LANG=FILE")
    return lang, path


def main() -> int:
    """Run it from the command line."""
    made = argparse.ArgumentParser(description="Deltas of languages and of a task, added: ranking on XQuAD.")
    made.add_argument("--out", required=True, help="folder of the runs; what is finished there is not made again")
    made.add_argument("--xquad", required=True, help="paragraphs with questions, one a row, in English and Thai")
    made.add_argument("--texts", required=True, action="append", type=pair, metavar="LANG=FILE", help="of en and th")
    made.add_argument("--model", default="smollm2-135m-instruct", help="alias, folder or hub id")
    made.add_argument("--by", choices=["query", "answer"], default="query", help="how passages are scored")
    made.add_argument("--tokens", type=positive, default=60_000, help="that each delta is trained on")
    made.add_argument("--queries", type=positive, default=60, help="of each language")
    made.add_argument(
        "--candidates", type=positive, default=1 + NEAR + FAR, help="passages of a query, the right one first"
    )
    made.add_argument("--characters", type=positive, default=1500, help="of each passage, from its beginning")
    made.add_argument("--density", type=float, default=0.05, help="share of the numbers that learn")
    made.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = made.parse_args()
    return run(result, options, shown)


if __name__ == "__main__":
    sys.exit(main())
