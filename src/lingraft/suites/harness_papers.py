"""What the tasks of lm-eval are cited by."""

from __future__ import annotations

import re

LM_EVAL = "gao-2024-harness"
PAPERS = {
    "hellaswag": "zellers-2019-hellaswag",
    r"(^|[^a-z])arc([^a-z]|$)": "clark-2018-arc",
    "piqa": "bisk-2020-piqa",
    "winogrande": "sakaguchi-2020-winogrande",
    "boolq": "clark-2019-boolq",
    "mmlu": "hendrycks-2021-mmlu",
    "truthful": "lin-2022-truthfulqa",
    "gsm8k": "cobbe-2021-gsm8k",
    "mgsm": "shi-2023-mgsm",
    "xcopa": "ponti-2020-xcopa",
    "ifeval": "zhou-2023-ifeval",
}
"""Pattern found in the names of a family of tasks -> key of its paper."""


def task_papers(task: str) -> tuple[str, ...]:
    """Return the papers of a task, and that of lm-eval itself."""
    name = task.lower()
    return (*(key for pattern, key in PAPERS.items() if re.search(pattern, name)), LM_EVAL)
