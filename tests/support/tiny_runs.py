"""A recipe whose run on a tiny random model takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.core.progress import Reporter

QUIET = Reporter(quiet=True)


def values(model: Path, **changes: Any) -> dict[str, Any]:
    """A recipe small enough for a test."""
    return {
        "name": "tiny",
        "model": str(model),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "source": "de", "target": "en", "limit": 24},
            "test": {"path": "starter:test.de-en.jsonl", "source": "de", "target": "en", "limit": 6},
        },
        "prompts": {"path": "starter:prompts.jsonl", "limit": 24},
        "stages": [
            {
                "method": "radis",
                "params": {"max_rationale_tokens": 16, "filters": [], "min_rationale_words": 0},
                "tuner": {"kind": "lora", "rank": 4},
                "train": {
                    "tokens_per_step": 512,
                    "micro_tokens": 512,
                    "save_every_steps": 2,
                    "precision": "fp32",
                    "learning_rate": 0.01,
                },
            }
        ],
        "compare": ["vanilla"],
        "evaluate": {
            "bootstrap": 100,
            "translation": {"max_new_tokens": 12},
            "retention": {
                "suites": [
                    {"kind": "self", "max_prompts": 6, "max_new_tokens": 10, "kl_max_new_tokens": 10},
                    {"kind": "refusal", "max_prompts": 4, "max_new_tokens": 8},
                ]
            },
        },
        "seed": 7,
        **changes,
    }
