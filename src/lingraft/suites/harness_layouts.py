"""Layouts of the files of known tasks: their rows become rows as the published data set has them.

Each layout is told by its fields. A function takes a row and returns the published row, or raises KeyError, ValueError,
TypeError or IndexError where the row is not of its layout.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Published = dict[str, Any]
Convert = Callable[[Row], Published]


@dataclass(frozen=True)
class TaskLayout:
    """One way to write a task's rows: its fields, and what makes published rows of them."""

    fields: tuple[str, ...]
    convert: Convert


@dataclass(frozen=True)
class LocalTask:
    """A task that can be read from a file.

    Attributes:
        task: lm-eval's name; `{}` in it stands for the value of `field`.
        folder: where lm-eval defines it, below its own tasks.
        layouts: known ones, the most telling first.
        field: of the published row, by whose values the file is cut into tasks of their own.
        only: the one value that is used; rows that have none at all are used too.
    """

    task: str
    folder: str
    layouts: tuple[TaskLayout, ...]
    field: str = ""
    only: str = ""


def _whole(value: Any, below: int) -> int:
    """Return an index given as a number or a string of digits."""
    index = int(value)
    if isinstance(value, float) or not 0 <= index < below:
        raise ValueError(f"{value!r} is not an index below {below}")
    return index


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(text, str) and text for text in value):
        raise TypeError("the choices are not a list of two or more texts")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a text")
    return value


def _hellaswag(row: Row) -> Published:
    endings = _texts(row["endings"])
    kept = {name: _text(row[name]) for name in ("activity_label", "ctx_a", "ctx_b")}
    return {**kept, "endings": endings, "label": str(_whole(row["label"], len(endings)))}


def _arc_row(question: str, texts: Sequence[str], labels: Sequence[str], answer: str) -> Published:
    list(labels).index(answer)
    return {"question": question, "choices": {"text": list(texts), "label": list(labels)}, "answerKey": answer}


def _arc(row: Row) -> Published:
    choices = row["choices"]
    texts = _texts(choices["text"])
    return _arc_row(_text(row["question"]), texts, choices["label"], row["answerKey"])


def _arc_original(row: Row) -> Published:
    choices = row["question"]["choices"]
    texts = _texts([choice["text"] for choice in choices])
    return _arc_row(_text(row["question"]["stem"]), texts, [choice["label"] for choice in choices], row["answerKey"])


def _question(query: Any) -> str:
    return _text(query).removeprefix("Question: ")


def _arc_query(row: Row) -> Published:
    texts = _texts(row["choices"])
    labels = [chr(ord("A") + i) for i in range(len(texts))]
    return _arc_row(_question(row["query"]), texts, labels, labels[_whole(row["gold"], len(texts))])


def _arc_instruction(row: Row) -> Published:
    """Read "Please choose ...: QUESTION, a blank line, Answer1: ... Answer2: ..., a blank line, Answer format: ..."."""
    body = _text(row["instruction"]).partition(": ")[2]
    question, _, rest = body.rpartition("\n\nAnswer format:")[0].rpartition("\n\nAnswer1: ")
    texts = _texts(re.split(r" Answer\d+: ", rest))
    answer = _whole(_text(row["answer"]).removeprefix("answer"), len(texts) + 1)
    labels = [str(i + 1) for i in range(len(texts))]
    return _arc_row(_text(question), texts, labels, str(answer))


def _piqa(row: Row) -> Published:
    return {name: _text(row[name]) for name in ("goal", "sol1", "sol2")} | {"label": _whole(row["label"], 2)}


def _piqa_query(row: Row) -> Published:
    first, second = _texts(row["choices"])
    return {"goal": _question(row["query"]), "sol1": first, "sol2": second, "label": _whole(row["gold"], 2)}


def _winogrande(row: Row) -> Published:
    kept = {name: _text(row[name]) for name in ("sentence", "option1", "option2")}
    kept["sentence"].index("_")
    return {**kept, "answer": str(_whole(row["answer"], 3))}


def _winogrande_contexts(row: Row) -> Published:
    """The sentence up to and with each option, and what follows: lm-eval puts an option in the place of "_"."""
    first, second = _texts(row["context_options"])
    sentence = f"_ {_text(row['continuation'])}"
    return {"sentence": sentence, "option1": first, "option2": second, "answer": str(_whole(row["gold"], 2) + 1)}


def _boolq(row: Row) -> Published:
    return {"question": _text(row["question"]), "passage": _text(row["passage"]), "label": _whole(row["label"], 2)}


def _boolq_original(row: Row) -> Published:
    """SuperGLUE, for which lm-eval's task is written, puts the title before the passage."""
    if not isinstance(row["answer"], bool):
        raise TypeError("answer is not true or false")
    passage = f"{_text(row['title'])} -- {_text(row['passage'])}"
    return {"question": _text(row["question"]), "passage": passage, "label": int(row["answer"])}


def _mmlu(row: Row) -> Published:
    choices = _texts(row["choices"])
    return _mmlu_row(row, choices)


def _mmlu_columns(row: Row) -> Published:
    return _mmlu_row(row, _texts([row[f"choice{i}"] for i in range(4)]))


def _mmlu_row(row: Row, choices: Sequence[str]) -> Published:
    answer = row["answer"]
    index = "ABCD".index(answer) if isinstance(answer, str) and answer in tuple("ABCD") else _whole(answer, 4)
    subject = "_".join(_text(row["subject"]).lower().split())
    return {"question": _text(row["question"]), "subject": subject, "choices": list(choices), "answer": index}


def _truthfulqa(row: Row) -> Published:
    out: Published = {"question": _text(row["question"])}
    for name in ("mc1_targets", "mc2_targets"):
        choices, labels = _texts(row[name]["choices"]), [_whole(label, 2) for label in row[name]["labels"]]
        if len(choices) != len(labels) or (name == "mc1_targets" and labels[0] != 1):
            raise ValueError(f"{name}: each choice needs a label, and of mc1_targets the first is the true one")
        out[name] = {"choices": choices, "labels": labels}
    return out


def _truthfulqa_columns(row: Row) -> Published:
    """The table of the original repository: answers are separated by semicolons."""
    best, wrong = _text(row["Best Answer"]).strip(), _answers(row["Incorrect Answers"])
    right = _answers(row["Correct Answers"])
    return {
        "question": _text(row["Question"]),
        "mc1_targets": {"choices": [best, *wrong], "labels": [1] + [0] * len(wrong)},
        "mc2_targets": {"choices": [*right, *wrong], "labels": [1] * len(right) + [0] * len(wrong)},
    }


def _answers(value: Any) -> list[str]:
    found = [text.strip() for text in _text(value).split(";") if text.strip()]
    if not found:
        raise ValueError("no answer")
    return found


def _gsm8k(row: Row) -> Published:
    _text(row["answer"]).index("#### ")
    return {"question": _text(row["question"]), "answer": row["answer"]}


def _mgsm(row: Row) -> Published:
    """The published rows of test sets have the number alone; those with worked answers are for few-shot examples."""
    number = row["answer_number"] if "answer_number" in row else row["answer"]
    worked = row["answer"] if "answer_number" in row else None
    if isinstance(number, str):
        number = int(number.replace(",", ""))
    return {
        "lang": _text(row.get("lang", "")),
        "question": _text(row["question"]),
        "answer": worked,
        "answer_number": int(number),
    }


def _xcopa(row: Row) -> Published:
    kept = {name: _text(row[name]) for name in ("premise", "choice1", "choice2")}
    if row["question"] not in ("cause", "effect") or not all(kept.values()):
        raise ValueError("question is neither cause nor effect, or a text is empty")
    return {**kept, "question": row["question"], "label": _whole(row["label"], 2)}


def _ifeval(row: Row) -> Published:
    ids, kwargs = row["instruction_id_list"], row["kwargs"]
    if not isinstance(ids, list) or len(ids) != len(kwargs) or not all(isinstance(each, dict) for each in kwargs):
        raise ValueError("instruction_id_list and kwargs are not lists of one length")
    return {
        "key": int(row["key"]),
        "prompt": _text(row["prompt"]),
        "instruction_id_list": list(map(_text, ids)),
        "kwargs": kwargs,
    }


_ARC = (
    TaskLayout(("instruction", "answer"), _arc_instruction),
    TaskLayout(("query", "choices", "gold"), _arc_query),
    TaskLayout(("question", "choices", "answerKey"), _arc),
    TaskLayout(("question", "answerKey"), _arc_original),
)
_TRUTHFULQA = (
    TaskLayout(("question", "mc1_targets", "mc2_targets"), _truthfulqa),
    TaskLayout(("Question", "Best Answer", "Correct Answers", "Incorrect Answers"), _truthfulqa_columns),
)
LOCAL_TASKS: dict[str, LocalTask] = {
    "hellaswag": LocalTask(
        "hellaswag", "hellaswag", (TaskLayout(("activity_label", "ctx_a", "ctx_b", "endings", "label"), _hellaswag),)
    ),
    "arc_easy": LocalTask("arc_easy", "arc", _ARC),
    "arc_challenge": LocalTask("arc_challenge", "arc", _ARC),
    "piqa": LocalTask(
        "piqa",
        "piqa",
        (TaskLayout(("goal", "sol1", "sol2", "label"), _piqa), TaskLayout(("query", "choices", "gold"), _piqa_query)),
    ),
    "winogrande": LocalTask(
        "winogrande",
        "winogrande",
        (
            TaskLayout(("sentence", "option1", "option2", "answer"), _winogrande),
            TaskLayout(("context_options", "continuation", "gold"), _winogrande_contexts),
        ),
    ),
    "boolq": LocalTask(
        "boolq",
        "super_glue/boolq",
        (
            TaskLayout(("question", "passage", "label"), _boolq),
            TaskLayout(("question", "title", "passage", "answer"), _boolq_original),
        ),
    ),
    "mmlu": LocalTask(
        "mmlu_{}",
        "mmlu/default",
        (
            TaskLayout(("question", "subject", "choices", "answer"), _mmlu),
            TaskLayout(("question", "subject", "choice0", "choice1", "choice2", "choice3", "answer"), _mmlu_columns),
        ),
        field="subject",
    ),
    "truthfulqa_mc1": LocalTask("truthfulqa_mc1", "truthfulqa", _TRUTHFULQA),
    "truthfulqa_mc2": LocalTask("truthfulqa_mc2", "truthfulqa", _TRUTHFULQA),
    "gsm8k": LocalTask("gsm8k", "gsm8k", (TaskLayout(("question", "answer"), _gsm8k),)),
    "mgsm": LocalTask(
        "mgsm_direct_{}", "mgsm/direct", (TaskLayout(("lang", "question", "answer"), _mgsm),), field="lang"
    ),
    **{
        f"mgsm_{lang}": LocalTask(
            "mgsm_direct_{}", "mgsm/direct", (TaskLayout(("question", "answer"), _mgsm),), "lang", lang
        )
        for lang in ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
    },
    **{
        f"xcopa_{lang}": LocalTask(
            f"xcopa_{lang}", "xcopa", (TaskLayout(("premise", "choice1", "choice2", "question", "label"), _xcopa),)
        )
        for lang in ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
    },
    "ifeval": LocalTask("ifeval", "ifeval", (TaskLayout(("key", "prompt", "instruction_id_list", "kwargs"), _ifeval),)),
}
