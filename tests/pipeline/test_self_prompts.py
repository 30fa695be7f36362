"""Replay without data: the base writes the prompts, and answers those that are fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError, UsageError
from lingraft.core.progress import Reporter
from lingraft.data.records import Pair
from lingraft.pipeline.contamination import ContaminationCheck
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.preview import preview_examples
from lingraft.pipeline.render import render_system
from lingraft.pipeline.run import run
from lingraft.pipeline.synthesise import ask_ahead, synthesise
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe

ASKED, ANSWER = "What can I do on a rainy day in a small harbour town?", "Read a long book by the fire."
SCRIPTED = {"kind": "scripted", "rules": [{"pattern": "^$", "answer": ASKED}, {"answer": ANSWER}]}


def values(model: str, **changes: Any) -> dict[str, Any]:
    """A recipe without prompts: the embedded starter pairs, and replay that the base writes."""
    starter = {"source": "de", "target": "en"}
    params = {"prompts": "self", "self_prompts": 6}
    return {
        "name": "own",
        "model": model,
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 10, **starter},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 4, **starter},
        },
        "stages": [{"method": "vanilla", "beside": [{"method": "recovery", "share": 0.3, "params": params}]}],
        "evaluate": {"retention": {"suites": []}, "engine": "transformers"},
        **changes,
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def parsed(given: Mapping[str, Any]) -> Recipe:
    return parse_recipe(dict(given), "test", Path("/"))


def test_what_the_base_has_written_is_answered_and_trained_on(model: Path, tmp_path: Path) -> None:
    recipe = parsed(values(str(model), engine=SCRIPTED))
    context = Context(recipe, tmp_path, Reporter(quiet=True))
    data = prepare(context)
    ask_ahead(context, data)
    (system,) = recipe.systems()
    made = synthesise(context, data, system)
    folders = [folder.name.rpartition("-")[0] for folder in made.components[1].artefacts]
    assert folders == ["synthesis-prompts", "synthesis-recovery"]
    rendered = render_system(context, data, made)
    rows = [row for row in rendered.rows if row.id.startswith("recovery:")]
    assert [row.id for row in rows] == ["recovery:self:0"]
    text = context.renderer.decode_all(rows[0].input_ids)
    assert ASKED in text
    assert ANSWER in text
    assert rendered.filters == {"recovery: kept": 1, "recovery: prompt_duplicate": 5}


def test_prompts_that_are_measured_on_are_not_learnt(model: Path, tmp_path: Path) -> None:
    recipe = parsed(values(str(model), engine=SCRIPTED))
    context = Context(recipe, tmp_path, Reporter(quiet=True))
    data = prepare(context)
    measured = replace(data.tests[0], pairs=[Pair("t", "Was kann ich tun?", ASKED.upper(), "de", "en")])
    data = replace(data, tests=[measured])
    check = ContaminationCheck(context, data, [])
    assert check.holds(ASKED)
    assert not check.holds("What can I do on a sunny day?")
    with pytest.raises(DataError, match=r"none of 6 prompts that the base has written is fit \(6 held_out\)"):
        ask_ahead(context, replace(data, held_out=check.holds))


def test_a_preview_has_few_written(model: Path) -> None:
    changed = values(str(model), engine=SCRIPTED)
    changed["stages"][0]["beside"][0]["params"]["self_prompts"] = 10**6
    shown = list(preview_examples(parsed(changed), 2))
    assert [one.id for one in shown if one.id.startswith("recovery")] == ["recovery:self:0"]


def test_a_template_that_cannot_be_opened_is_told_before_anything_is_trained(model: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("smollm2")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}<|im_end|>\n{% endfor %}"
    folder = tmp_path / "model"
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    context = Context(parsed(values(str(folder), engine=SCRIPTED)), tmp_path / "run", Reporter(quiet=True))
    with pytest.raises(UsageError, match="does not show where a user's text begins and ends"):
        ask_ahead(context, prepare(context))


@pytest.mark.long
@pytest.mark.model
def test_the_embedded_model_writes_prompts_that_are_fit(tmp_path: Path) -> None:
    given = values("smollm2-135m-instruct", evaluate={"retention": {"suites": []}, "bootstrap": 100})
    given["stages"][0]["beside"][0]["params"] |= {"self_prompts": 24, "max_answer_tokens": 32}
    given["stages"][0]["train"] = {"tokens_per_step": 512}
    run(parsed(given), tmp_path, Reporter(quiet=True))
    (folder,) = tmp_path.glob("synthesis-recovery-*")
    answers = [line for part in (folder / "parts").glob("part-*.jsonl") for line in part.read_text().splitlines()]
    assert len(answers) >= 12
