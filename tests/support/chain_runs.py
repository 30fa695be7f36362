"""Runs of several stages with an extended vocabulary, on a tiny random model: everything real but the size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.progress import Reporter
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe

QUIET = Reporter(quiet=True)
STARTER = {"source": "de", "target": "en"}
WORDING = "Say this in {target_name}: {source}"


def chain_data(folder: Path) -> Path:
    """Write a tiny model, texts in two languages, prompts and their translations."""
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    towns = ("Husum", "Emden", "Kiel", "Lübeck", "Rostock", "Wismar", "Stade", "Leer", "Jever", "Norden")
    german = [
        f"Im Hafen von {town} liegen {i} Schiffe, und die Fischer reden über das Wetter."
        for i, town in enumerate(towns, 2)
    ]
    english = [
        f"There are {i} ships in the harbour of {town}, and the fishermen talk." for i, town in enumerate(towns, 2)
    ]
    for lang, rows in (("de", german), ("en", english)):
        lines = [{"text": f"{text} {other}"} for i, text in enumerate(rows) for other in rows[i + 1 : i + 4]]
        (folder / f"{lang}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines))
    prompts = [
        {"id": f"p{i}", "prompt": f"Tell me {i} things about harbours.", "reference": f"Harbours have {i} ships."}
        for i in range(40)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    known = {f"Tell me {i} things about harbours.": f"Nenne mir {i} Dinge über Häfen." for i in range(40)}
    known |= {f"Harbours have {i} ships.": f"Häfen haben {i} Schiffe." for i in range(40)}
    rows = [{"source": source, "target": target} for source, target in known.items()]
    (folder / "translations.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    questions = [{"en": f"Where is {town}?", "de": f"Wo liegt {town}, und was gibt es dort?"} for town in towns[:4]]
    pairs = [{"en": "Good weather.", "de": "Gutes Wetter."}]
    for name, rows in (("questions", questions), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def chain_values(data: Path, *, save_every_steps: int = 20, **changes: Any) -> dict[str, Any]:
    """Return a recipe of three stages that carry the tiny model to German."""
    train = {
        "tokens_per_step": 256,
        "micro_tokens": 256,
        "precision": "fp32",
        "save_every_steps": save_every_steps,
        "learning_rate": 0.005,
    }
    beside = [
        {"method": "recovery", "share": 0.3, "params": {"answers": "reference"}},
        {"method": "vanilla", "share": 0.2, "params": {"instructions": [WORDING]}},
    ]
    return {
        "name": "chain",
        "model": str(data / "model"),
        "engine": "transformers",
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 24, "both_directions": True, **STARTER},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 3, **STARTER},
        },
        "prompts": {"path": str(data / "prompts.jsonl")},
        "texts": [{"path": str(data / f"{lang}.jsonl"), "lang": lang} for lang in ("de", "en")],
        "vocabulary": {"size": 40, "languages": ["de"]},
        "stages": [
            {"method": "pretraining", "tuner": {"kind": "lora", "rank": 4, "embeddings": "all"}, "train": train},
            {
                "method": "translation_pretraining",
                "beside": [{"method": "pretraining", "share": 0.2, "params": {"languages": ["en"]}}],
                "train": train,
            },
            {
                "name": "transllm",
                "method": "tcot",
                "params": {"answers": "reference", "translations": str(data / "translations.jsonl")},
                "beside": beside,
                "train": train,
            },
        ],
        "compare": [{"name": "no-rkd", "without": ["recovery"]}],
        "evaluate": {
            "bootstrap": 100,
            "stages": True,
            "translation": {"max_new_tokens": 8},
            "retention": {
                "suites": [
                    {"kind": "self", "max_prompts": 3, "max_pairs": 2, "max_new_tokens": 6, "kl_max_new_tokens": 6},
                    {"kind": "perplexity", "max_texts": 3, "max_characters": 120},
                    {
                        "kind": "tcot",
                        "language": "de",
                        "prompts": str(data / "questions.jsonl"),
                        "pairs": str(data / "pairs.jsonl"),
                        "max_new_tokens": 6,
                    },
                ]
            },
        },
        "seed": 5,
        **changes,
    }  # fmt: skip


def executed(data: Path, folder: Path, **changes: Any) -> Path:
    """Run the recipe, changed, in a folder and return that."""
    run(parse_recipe(chain_values(data, **changes), "test", Path("/")), folder, QUIET, replace=True)
    return folder


def folders(run_folder: Path, stage: str) -> list[Path]:
    """Return the artefacts of a stage."""
    name = re.compile(re.escape(stage) + "-[0-9a-f]{8}")
    return sorted(path for path in run_folder.iterdir() if name.fullmatch(path.name))


def figures(folder: Path) -> dict[str, Any]:
    """The scorecard's numbers: all but times."""
    card = json.loads((folder / "scorecard.json").read_text("utf-8"))
    for row in card["summary"]:
        row.pop("seconds_per_translation", None)
    return {key: card[key] for key in ("systems", "translation", "general", "summary", "base", "seed")}
