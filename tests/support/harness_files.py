"""Small files in the published layouts of the tasks that the suite `harness` ships."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PUBLISHED: dict[str, list[dict[str, Any]]] = {
    "hellaswag": [
        {
            "activity_label": "Cooking",
            "ctx_a": f"A cook takes {count} eggs.",
            "ctx_b": "then she",
            "endings": ["boils them.", "sings [a] song.", "flies away.", f"sells {count} of them."],
            "label": str(count % 4),
        }
        for count in range(1, 7)
    ],
    "arc_easy": [
        {
            "question": f"What is {a} + 1?",
            "choices": {"text": [str(a), str(a + 1), "fish"], "label": ["A", "B", "C"]},
            "answerKey": "B",
        }
        for a in range(4)
    ],
    "piqa": [{"goal": "Open a door", "sol1": "Turn the handle", "sol2": "Boil the handle", "label": 0}],
    "winogrande": [
        {"sentence": "Ann met Eve because _ was late.", "option1": "Ann", "option2": "Eve", "answer": "2"},
    ],
    "boolq": [{"question": "is fish a fruit", "passage": "Fish -- A fish is an animal.", "label": 0}],
    "mmlu": [
        {"question": f"Which is {k}?", "subject": subject, "choices": ["w", "x", "y", "z"], "answer": k}
        for k, subject in enumerate(["anatomy", "anatomy", "virology"])
    ],
    "truthfulqa_mc2": [
        {
            "question": "Do fish fly?",
            "mc1_targets": {"choices": ["Few do", "All do", "None"], "labels": [1, 0, 0]},
            "mc2_targets": {"choices": ["Few do", "Some glide", "All do"], "labels": [1, 1, 0]},
        }
    ],
    "gsm8k": [{"question": f"What is {k} and {k}?", "answer": f"Twice {k}.\n#### {2 * k}"} for k in range(1, 4)],
    "mgsm": [{"lang": lang, "question": "Was ist 1 + 1?", "answer": "2"} for lang in ("de", "en", "de")],
    "xcopa_th": [{"premise": "ฝนตก.", "choice1": "ถนนเปียก", "choice2": "ถนนแห้ง", "question": "effect", "label": 0}],
    "ifeval": [
        {
            "key": 1,
            "prompt": "Write two sentences without commas.",
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_sentences"],
            "kwargs": [{}, {"relation": "at least", "num_sentences": 2}],
        },
        {
            "key": 2,
            "prompt": "Answer in German.",
            "instruction_id_list": ["language:response_language"],
            "kwargs": [{"language": "de"}],
        },
    ],
}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write JSON Lines and return the path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


def task_file(folder: Path, task: str) -> str:
    """Write the published rows of a task."""
    return write_rows(folder / f"{task}.jsonl", PUBLISHED[task])
