"""What does not fit the model's context is found where the rows are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.answers import prompt_within
from lingraft.errors import DataError, EngineError
from lingraft.progress import Reporter
from lingraft.recipe import parse_recipe
from lingraft.stages.context import Context
from lingraft.stages.prepare import Data, prepare

LONGEST = 200


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def model(folder: Path, family: str = "smollm2") -> Path:
    tokenizer = tiny_tokenizer(family)
    base = tiny_llama(tokenizer)
    base.config.max_position_embeddings = LONGEST
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe_values(folder: Path, rows: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    write(folder / "train.jsonl", [{"source": f"Satz {n} ist da.", "target": f"Sentence {n} is."} for n in range(30)])
    write(folder / "test.jsonl", [{"source": f"Etwas {n} fehlt.", "target": f"Thing {n} lacks."} for n in range(4)])
    write(folder / "prompts.jsonl", rows)
    return {
        "name": "lengths",
        "model": str(folder / "model"),
        "pairs": {
            "train": {"path": "train.jsonl", "source": "de", "target": "en"},
            "test": {"path": "test.jsonl", "source": "de", "target": "en"},
        },
        "prompts": {"path": "prompts.jsonl"},
        "stages": [
            {
                "method": "vanilla",
                "beside": [{"method": "recovery", "share": 0.5, "params": {"max_answer_tokens": 20}}],
            }
        ],
        "evaluate": {
            "translation": {"max_new_tokens": 8},
            "retention": {"suites": [{"kind": "self", "max_prompts": 4, "max_new_tokens": 9, "kl_max_new_tokens": 30}]},
        },
        **changes,
    }


def prepared(folder: Path, values: dict[str, Any]) -> tuple[Context, Data]:
    context = Context(parse_recipe(values, "test", folder), folder / "run", Reporter(quiet=True))
    return context, prepare(context)


SHORT_ANSWERS = {"retention": {"suites": [{"kind": "self", "max_new_tokens": 3, "kl_max_new_tokens": 4}]}}


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 30),  # the base's sampled answers of the suite
        ({"evaluate": SHORT_ANSWERS}, 20),  # the answers that are replayed
        ({"evaluate": SHORT_ANSWERS, "stages": [{"method": "radis"}]}, 4),
    ],
)
def test_a_prompt_that_leaves_no_room_for_the_longest_answer_is_rejected(
    tmp_path: Path, changes: dict[str, Any], most: int
) -> None:
    model(tmp_path / "model")
    prompts = [{"id": f"p{n}", "prompt": f"Say {n}: {'word ' * n}"} for n in range(40)]
    context, data = prepared(tmp_path, recipe_values(tmp_path, prompts, **changes))

    def answerable(text: str) -> bool:
        """Whether an engine takes it."""
        request = Request("x", (Message("user", text),), Sampling(most))
        try:
            prompt_within(context.renderer, request, LONGEST)
        except EngineError:
            return False
        return True

    fit = [number for number, row in enumerate(prompts, 1) if answerable(row["prompt"])]
    assert 10 < len(fit) < 40
    assert {prompt.id for prompt in (*data.replay, *data.retention)} == {f"p{number - 1}" for number in fit}
    path = str(tmp_path / "prompts.jsonl")
    assert data.counts[path] == {"too_long": 40 - len(fit)}
    assert data.rows_read[path] == 40
    assert [row.line for row in data.rejected] == [number for number in range(1, 41) if number not in fit]
    assert f"leave no room for {most} more in the model's context of {LONGEST}" in data.rejected[0].detail


def test_rejected_prompts_do_not_count_towards_the_limit(tmp_path: Path) -> None:
    model(tmp_path / "model")
    prompts = [{"prompt": "word " * 200}, *({"prompt": f"Say {n}."} for n in range(30))]
    values = recipe_values(tmp_path, prompts, prompts={"path": "prompts.jsonl", "limit": 20})
    _, data = prepared(tmp_path, values)
    assert len(data.replay) + len(data.retention) == 20


def test_a_prompt_that_the_chat_template_refuses_is_rejected(tmp_path: Path) -> None:
    model(tmp_path / "model", "gemma2")  # which knows no system message
    system = {"role": "system", "content": "Be brief."}
    asked = [{"messages": [{"role": "user", "content": f"Say {n}."}]} for n in range(20)]
    asked[7]["messages"].insert(0, system)
    _, data = prepared(tmp_path, recipe_values(tmp_path, asked))
    assert [(row.line, row.reason) for row in data.rejected] == [(8, "not_rendered")]
    assert len(data.replay) + len(data.retention) == 19


def test_where_no_prompt_is_left_the_reason_is_told(tmp_path: Path) -> None:
    model(tmp_path / "model")
    values = recipe_values(tmp_path, [{"prompt": "word " * 200} for _ in range(12)])
    with pytest.raises(
        DataError, match=r"prompts\.jsonl: too few prompts to hold some out: 12 are rejected, most as"
    ) as error:
        prepared(tmp_path, values)
    assert "too_long (12)" in str(error.value)
