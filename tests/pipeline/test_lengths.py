"""What does not fit the model's context is found where the rows are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.cli.run import execute
from lingraft.core.errors import DataError, EngineError, ExampleError
from lingraft.core.progress import Reporter
from lingraft.data.records import Example, Message, Prompt, Request, Sampling, Span
from lingraft.engines.finishing import prompt_within
from lingraft.methods.base import Tally
from lingraft.methods.tcot import TCoT
from lingraft.pipeline.context import Context
from lingraft.pipeline.judges import Judge, in_roles, verdicts_wanted
from lingraft.pipeline.lengths import Room, Window, too_long
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.questions import check_unstarted
from lingraft.pipeline.run import run
from lingraft.pipeline.suites import OpenSuite
from lingraft.pipeline.synthesise import synthesise
from lingraft.recipe.load import parse_recipe
from lingraft.rendering.renderer import Renderer
from lingraft.suites.base import SUITES, SuiteInputs
from models_support import tiny_loaded

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


PROMPTS = [{"prompt": f"Say {n}."} for n in range(24)]


def questions(turns: int, words: int) -> list[dict[str, Any]]:
    asked = [{"question_id": n, "category": "writing", "turns": [f"Say {n}.", "Once more."][:turns]} for n in range(5)]
    asked[3]["turns"][-1] += " word" * words
    return asked


MT_BENCH = {
    "kind": "mt_bench",
    "questions": "questions.jsonl",
    "judge": {"kind": "scripted"},
    "temperatures": "greedy",
    "max_new_tokens": 20,
}
TCOT = {"kind": "tcot", "language": "de", "prompts": "native.jsonl", "max_new_tokens": 20}
SELF = {"kind": "self", "max_prompts": 4, "max_pairs": 4, "max_new_tokens": 8, "kl_max_new_tokens": 8}


@pytest.mark.parametrize(
    ("suite", "files", "told"),
    [
        (
            SELF,
            {"test.jsonl": [{"id": "long", "source": "Wort " * 100, "target": "Word."}]},
            r"test set .*test\.jsonl: 1 segments too long, first 'long': ",
        ),
        (MT_BENCH, {"questions.jsonl": questions(1, 150)}, "suite 'mt_bench': 1 questions too long, first '3/1': "),
        # By itself its second turn would fit, not after the longest answer to the first.
        (MT_BENCH, {"questions.jsonl": questions(2, 33)}, "suite 'mt_bench': 1 questions too long, first '3/2': "),
        # The judge is the base, and is shown the question with the longest answers to both turns.
        (
            {**MT_BENCH, "judge": {"kind": "transformers"}, "verdict_tokens": 4},
            {"questions.jsonl": questions(2, 0)},
            "judge of suite 'mt_bench': 10 verdicts too long, first '.*': [0-9]+ prompt tokens, 20 of them of",
        ),
        (
            TCOT,
            {"native.jsonl": [{"id": "a", "en": "Fine.", "de": "Gut. " * 90}]},
            "suite 'tcot': 1 questions too long, first 'a': ",
        ),
        (
            {**SELF, "max_new_tokens": 100},
            {"test.jsonl": [{"id": "x", "source": "Ein langer Satz. " * 5, "target": "One."}]},
            "suite 'self': 1 questions too long",
        ),
    ],
    ids=["segment", "question", "second turn", "verdict", "native question", "segment of a suite"],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(
    tmp_path: Path, suite: dict[str, Any], files: dict[str, list[dict[str, Any]]], told: str
) -> None:
    model(tmp_path / "model")
    evaluate = {"translation": {"max_new_tokens": 8}, "retention": {"suites": [suite]}}
    values = recipe_values(tmp_path, PROMPTS, evaluate=evaluate)
    for name, rows in files.items():
        write(tmp_path / name, rows)
    recipe = parse_recipe(values, "test", tmp_path)
    with pytest.raises(DataError, match=told + rf"[^;]* of {LONGEST}; "):
        check_unstarted(recipe)
    with pytest.raises(DataError, match=told):
        run(recipe, tmp_path / "run", Reporter(quiet=True))
    made = {path.name.partition("-")[0] for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert made == {"data"}


@pytest.mark.parametrize(
    ("decoder", "told"),
    [
        ({"kind": "icl", "k": 8}, "decoder 'icl', step 'with-exemplars': 4 requests too long, first 'test/test:1': "),
        ({"kind": "icl", "k": 8, "max_bytes": 60}, ""),
        ({"kind": "tear"}, "decoder 'tear', step 'estimate': 4 requests too long, "),
        ({"kind": "rerank", "samples": 2}, ""),
        ({"kind": "direct"}, ""),
    ],
    ids=["many pairs", "few pairs", "steps", "samples", "once"],
)
def test_what_a_decoder_asks_is_refused_before_anything_is_asked(
    tmp_path: Path, decoder: dict[str, Any], told: str
) -> None:
    model(tmp_path / "model")
    evaluate = {"translation": {"max_new_tokens": 8}, "retention": {"suites": []}, "decoders": [decoder]}
    recipe = parse_recipe(recipe_values(tmp_path, PROMPTS, evaluate=evaluate), "test", tmp_path)
    if not told:
        assert not [note for note in check_unstarted(recipe) if "decoder" in note]
        return
    with pytest.raises(DataError, match=told + rf".* of {LONGEST}; .*lower evaluate\.translation\.max_new_tokens"):
        check_unstarted(recipe)
    with pytest.raises(DataError, match=told):
        run(recipe, tmp_path / "run", Reporter(quiet=True))
    made = {path.name.partition("-")[0] for path in (tmp_path / "run").iterdir() if path.is_dir()}
    assert made == {"data"}


@pytest.mark.parametrize(("kind", "limit", "excess"), [("mt_bench", 20, 20), ("alpaca_eval", 30, 60)])
def test_a_verdict_has_room_for_all_answers_that_the_judge_is_shown(kind: str, limit: int, excess: int) -> None:
    entry = SUITES.get(kind)
    judge = {"kind": "transformers"}
    suite = entry(entry.Params(judge=judge, max_new_tokens=limit, max_prompts=1))  # type: ignore[attr-defined]
    opened = OpenSuite("judged", suite, SuiteInputs([], [], renderer=tiny_loaded().renderer))
    (first, more), *_ = verdicts_wanted(opened)
    assert more == excess
    window = Judge.of(suite.judge).window(tiny_loaded().renderer, 1000)
    assert window is not None
    tokens = len(window.renderer.prompt_ids(in_roles(window.renderer, [first])[0].messages).ids)
    assert window.excess(first, more) == tokens + excess + first.sampling.max_new_tokens - 1000
    assert Judge.of({"kind": "openai", "model": "x"}).window(window.renderer, 1000) is None
    assert Judge.of({**judge, "model": "org/nowhere"}).window(window.renderer, 1000) is None


def test_what_fits_is_told_by_the_dry_run_with_the_prompts_that_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model(tmp_path / "model")
    values = recipe_values(tmp_path, [*PROMPTS, {"prompt": "word " * 90}])
    recipe = parse_recipe(values, "test", tmp_path)
    execute(recipe, tmp_path / "run", dry_run=True, replace=False, quiet=True)
    assert "prompts.jsonl: 1 prompts will be rejected as too_long." in capsys.readouterr().out
    elsewhere = recipe.model_copy(update={"model": "org/name"})
    assert check_unstarted(elsewhere) == ["Lengths were not checked: the model is not on this machine."]


@pytest.mark.parametrize(("words", "limit"), [(1, 20), (28, 20), (45, 20), (100, 20)])
def test_an_answer_may_have_what_the_context_leaves(tmp_path: Path, words: int, limit: int) -> None:
    renderer = tiny_loaded().renderer
    request = Request("x", (Message("user", "word " * words),), Sampling(limit))
    tokens = len(renderer.prompt_ids(request.messages).ids)
    fitted = Window(renderer, LONGEST).fitted(request)
    assert fitted.sampling.max_new_tokens == max(0, min(limit, LONGEST - tokens))
    assert replace(fitted, sampling=request.sampling) == request
    assert Window(renderer, None).fitted(request) == request


def test_a_translation_that_does_not_fit_is_dropped_and_ends_nothing(tmp_path: Path) -> None:
    model(tmp_path / "model")
    stage = {"method": "native_sft", "params": {"languages": ["de"], "translator": {"kind": "transformers"}}}
    stage["params"]["max_answer_tokens"] = 20
    words = "".join(f"The {n}th of all fine words. " for n in range(40))
    rules = [{"pattern": "Say [0-9]*[02468]\\.", "answer": "Fine words."}, {"answer": words}]
    engines = {"engine": {"kind": "scripted", "rules": rules}}
    values = recipe_values(tmp_path, PROMPTS, stages=[stage], **engines)
    values["evaluate"]["engine"] = "transformers"
    context, data = prepared(tmp_path, values)
    (part,) = synthesise(context, data, context.recipe.systems()[0]).components
    tally = Tally()
    list(part.examples(tally))
    assert sum(tally.filters.values()) == len(data.replay)
    long = [prompt.id for prompt in data.replay if prompt.messages[-1].content[-2] in "13579"]
    answers = [part.answers[f"translation:de:{id_}:reply:0"] for id_ in long]
    assert [(answer.text, answer.finish_reason) for answer in answers] == [("", "length")] * len(long)
    assert len(long) > 3


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


@pytest.mark.parametrize(("answers", "rejected"), [("base", {}), ("reference", {"too_long": 1})])
def test_an_answer_that_came_with_its_prompt_needs_room_where_it_is_trained_on(
    tmp_path: Path, answers: str, rejected: dict[str, int]
) -> None:
    model(tmp_path / "model")
    prompts = [{"prompt": f"Say {n}.", "reference": "word " * (100 if n == 3 else 1)} for n in range(20)]
    beside = [{"method": "recovery", "share": 0.5, "params": {"answers": answers, "max_answer_tokens": 20}}]
    values = recipe_values(tmp_path, prompts, stages=[{"method": "vanilla", "beside": beside}])
    _, data = prepared(tmp_path, values)
    assert data.counts.get(str(tmp_path / "prompts.jsonl"), {}) == rejected


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


def examples(words: int, count: int = 4) -> list[Example]:
    chain = (Span("word " * words, "english_query"), Span("word " * words, "english_reply"))
    return [Example(f"tcot:{number}", (Message("user", "Wort"),), chain) for number in range(count)]


def test_examples_that_are_too_long_before_they_are_translated_are_told() -> None:
    renderer = tiny_loaded().renderer
    fits = next(words for words in range(1, 200) if too_long(renderer, LONGEST, examples(words)))
    told = too_long(renderer, LONGEST, examples(fits))
    assert told.startswith("4 of 4 training examples cannot be rendered, for instance 'tcot:0': ")
    assert isinstance(renderer.render_many(examples(fits), LONGEST)[0], ExampleError)
    assert not any(isinstance(row, ExampleError) for row in renderer.render_many(examples(fits - 1), LONGEST))
    assert too_long(renderer, LONGEST, [*examples(fits, 1), *examples(1, 99)]) == ""
    assert too_long(renderer, LONGEST, [*examples(fits, 6), *examples(1, 94)])
    assert too_long(renderer, None, examples(fits)) == ""


def test_a_prompt_whose_chain_cannot_fit_is_rejected(tmp_path: Path) -> None:
    renderer = Renderer(tiny_tokenizer("smollm2"))
    method = TCoT(TCoT.Params.model_validate({"answers": "reference"}))
    prompt = Prompt("a", (Message("user", "What is it?"),), reference="word " * 20)
    needed = len(renderer.prompt_ids(prompt.messages).ids) + sum(
        map(renderer.count, ("What is it?", prompt.reference or ""))
    )
    room = Room(renderer=renderer, context=None, answer=0, methods=[method], longest=needed)
    assert room.fault(prompt) is None
    reason, detail = replace(room, longest=needed - 1).fault(prompt) or ("", "")
    assert (reason, detail.rpartition(" ")[2]) == ("too_long", str(needed - 1))
