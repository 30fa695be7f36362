"""Whole runs on a base whose chat template has variables, thinks, and leaves out turns."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from builders import tiny_llama
from lingraft.core.errors import UsageError
from lingraft.core.progress import Reporter
from lingraft.data.records import Message, Request, Sampling
from lingraft.models.files import find_model
from lingraft.models.graft import read_info
from lingraft.models.loading import load_renderer
from lingraft.pipeline.answers import answer, read_answers
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.run import run
from lingraft.pipeline.suites import open_suites
from lingraft.recipe.load import parse_recipe
from lingraft.store.artefacts import facts
from lingraft.store.files import read_lines
from lingraft.translation.direct import Source, extract
from models_support import forced_llama
from template_support import tokenizer_of, turns

QUIET = Reporter(quiet=True)
LAST_USER = "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}{{ tone | default('') }}"
SWITCH = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tokenizer_of(turns(before=LAST_USER, opened=SWITCH))
    llama = tiny_llama(tokenizer, seed=3)
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.mul_(3)
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def values(model: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    source = {"source": "de", "target": "en"}
    with (folder / "prompts.jsonl").open("w") as handle:
        for number in range(24):
            system = [{"role": "system", "content": "Be brief."}] if number % 8 == 0 else []
            messages = [*system, {"role": "user", "content": f"What is {number}?"}]
            handle.write(json.dumps({"messages": messages}) + "\n")
    return {
        "name": "template",
        "model": str(model),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 12, **source},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 3, **source},
        },
        "prompts": {"path": "prompts.jsonl"},
        "stages": [
            {
                "method": "vanilla",
                "tuner": {"kind": "lora", "rank": 2},
                "train": {"tokens_per_step": 512, "micro_tokens": 512, "precision": "fp32", "learning_rate": 6e-4},
            }
        ],
        "evaluate": {
            "bootstrap": 100,
            "translation": {"max_new_tokens": 4},
            "retention": {"suites": [{"kind": "self", "max_prompts": 3, "max_new_tokens": 4, "kl_max_new_tokens": 4}]},
        },
        **changes,
    }


def test_a_run_asks_with_the_variables_and_its_graft_keeps_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    recipe = parse_recipe(values(model, tmp_path, template={"tone": "Be kind."}), "test", tmp_path)
    run(recipe, tmp_path / "run", QUIET)
    graft = tmp_path / "run" / "graft"
    assert read_info(graft).template == {"tone": "Be kind.", "enable_thinking": False}
    (example,) = (tmp_path / "run").glob("train-*/example.txt")
    assert example.read_text("utf-8").startswith("Be kind.<|im_start|>user\n")
    assert "<|im_start|>assistant\n<think></think>\ue000" in example.read_text("utf-8")
    card = (tmp_path / "run" / "README.md").read_text("utf-8")
    assert "add_generation_prompt=True, tone='Be kind.', enable_thinking=False, return_dict=True" in card
    rejected = [json.loads(line) for line in read_lines(tmp_path / "run" / "rejected.jsonl")]
    assert {row["line"] for row in rejected if row["file"].endswith("prompts.jsonl")} == {1, 9, 17}
    assert all("leaves out the system message" in row["detail"] for row in rejected)


def test_a_variable_that_the_template_lacks_stops_a_run_at_its_beginning(model: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(values(model, tmp_path, template={"tune": 1}), "test", tmp_path)
    with pytest.raises(UsageError, match=r"template: the chat template of .* has no variable 'tune'"):
        run(recipe, tmp_path / "run", QUIET)
    assert not list((tmp_path / "run").glob("data-*"))


def test_a_suite_whose_turns_would_vanish_stops_a_run_before_anything_is_asked(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(
        turns(before="{% set messages = messages[-2:] if messages[-1].role == 'assistant' else messages[-1:] %}")
    )
    tiny_llama(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert load_renderer(find_model(str(tmp_path / "model"))).template.variables == {}
    suites = {"bootstrap": 100, "retention": {"suites": [{"kind": "mt_bench", "judge": "scripted"}]}}
    given = values(tmp_path / "model", tmp_path, evaluate=suites)
    del given["prompts"]
    recipe = parse_recipe(given, "test", tmp_path)
    with Context(recipe, tmp_path / "run", QUIET) as context:
        data = prepare(context)
        with pytest.raises(UsageError, match=r"suite 'mt_bench': .*leaves out .*user assistant user.*leave the"):
            open_suites(context, data)


def test_a_stage_says_and_counts_how_many_answers_hold_thoughts(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(turns(), ("[THINK]", "[/THINK]"))
    (line_end,) = tokenizer("\n", add_special_tokens=False).input_ids
    written = tokenizer.convert_tokens_to_ids(["[THINK]", "H", "m", ".", "[/THINK]", "X", "!", "<|im_end|>"])
    forced_llama(tokenizer, [line_end, *written]).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    recipe = parse_recipe(values(tmp_path / "model", tmp_path, engine="transformers"), "test", tmp_path)
    reporter = Reporter(quiet=True)
    reporter.console = Console(file=io.StringIO(), width=10_000)
    asked = [
        Request(str(number), (Message("user", "Hi"),), Sampling(limit)) for number, limit in enumerate((20, 3, 20))
    ]
    with Context(recipe, tmp_path / "run", reporter) as context:
        folder = answer(context, "decode-base", asked)
    assert facts(folder)["thoughts"] == 3
    assert "Warning: decode-base: 3 of 3 answers hold thoughts" in reporter.console.file.getvalue()  # type: ignore[attr-defined]
    source = Source("0", "Gut!", "de", "en")
    found = [extract(source, generation) for generation in read_answers(folder).records()]
    assert [(one.text, one.failure) for one in found] == [("X!", ""), ("", "thinking"), ("X!", "")]
    # Tags that the question itself holds, or what is begun of the answer, are text.
    quoting = [
        Request("a", (Message("user", "What are [THINK] and [/THINK]?"),), Sampling(20)),
        Request("b", (Message("user", "Hi"),), Sampling(20), prefill="[THINK] and [/THINK]\n"),
        asked[0],
    ]
    with Context(recipe, tmp_path / "run", reporter) as context:
        folder = answer(context, "decode-quoting", quoting)
    written_in = {one.id: "[THINK]" in one.text for one in read_answers(folder).records()}
    assert written_in == {"a": True, "b": True, "0": True}
    assert facts(folder)["thoughts"] == 1
