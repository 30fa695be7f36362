"""What is taken over from earlier artefacts: answers to the same question by the same model, nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.progress import Reporter
from lingraft.data.records import Generation, Request
from lingraft.pipeline.answers import read_answers
from lingraft.pipeline.context import Context
from lingraft.pipeline.earlier_answers import TakenOver, note_asked
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.synthesise import synthesise
from lingraft.recipe.load import parse_recipe
from lingraft.store.artefacts import build_artefact, facts
from lingraft.store.files import write_lines
from lingraft.store.parts import PartStore
from models_support import request, save_tiny_model

IDENTITY = {"model": "m", "graft": "", "engine": {"engine": "transformers"}}
ASKED = [request(name, f"question {name}") for name in "abc"]


def answered(root: Path, asked: list[Request], identity: Any = IDENTITY, *, note: bool = True) -> Path:
    """An artefact with answers."""

    def build(folder: Path) -> dict[str, Any]:
        lines = (Generation(one.id, f"to {one.messages[0].content}", (1, 2), "stop").to_json() for one in asked)
        PartStore(folder / "parts").put(0, "0" * 12, lines)
        if note:
            note_asked(folder, asked)
        return {}

    return build_artefact(root, "decode-base", {"identity": identity, "requests": [one.id for one in asked]}, build)


def taken_over(root: Path, identity: Any, asked: list[Request]) -> tuple[list[Generation], list[Request]]:
    found: TakenOver[Generation, Request] = TakenOver((root,), identity, asked, read_answers)
    return list(found.answers()), list(found.missing())


def test_the_same_questions_are_taken_over_in_their_order(tmp_path: Path) -> None:
    answered(tmp_path, ASKED[:1])
    answered(tmp_path, ASKED[:2])  # holds the first again
    new = request("d", "question d")
    found, missing = taken_over(tmp_path, IDENTITY, [ASKED[1], new, ASKED[0]])
    assert [(one.id, one.text) for one in found] == [("b", "to question b"), ("a", "to question a")]
    assert missing == [new]


SAMPLED = replace(ASKED[0], sampling=replace(ASKED[0].sampling, temperature=0.7))


@pytest.mark.parametrize(
    "other",
    [
        request("a", "question A"),
        request("a", "question a", max_new_tokens=13),
        request("a", "question a", prefill="So"),
        replace(ASKED[0], prompt_ids=(1, 2)),
        replace(SAMPLED, id="x"),  # its draws depend on its id
    ],
)
def test_another_question_is_asked(tmp_path: Path, other: Request) -> None:
    answered(tmp_path, [*ASKED, replace(SAMPLED, id="s")])
    assert taken_over(tmp_path, IDENTITY, [other]) == ([], [other])


def test_a_greedy_answer_is_taken_over_under_another_id(tmp_path: Path) -> None:
    answered(tmp_path, ASKED)
    moved = [replace(ASKED[1], id="x"), replace(ASKED[1], id="y")]
    found, missing = taken_over(tmp_path, IDENTITY, moved)
    assert [(one.id, one.text) for one in found] == [("x", "to question b"), ("y", "to question b")]
    assert missing == []
    answered(tmp_path, [SAMPLED])
    assert [one.id for one in taken_over(tmp_path, IDENTITY, [SAMPLED])[0]] == ["a"]


def test_other_models_unfinished_and_damaged_artefacts_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "decode-base-1.partial").mkdir()
    note_asked(tmp_path / "decode-base-1.partial", ASKED)
    answered(tmp_path, ASKED, {**IDENTITY, "graft": "g"})
    answered(tmp_path, ASKED[:2], note=False)  # made before answers were noted
    assert taken_over(tmp_path, IDENTITY, ASKED) == ([], ASKED)
    whole = answered(tmp_path, ASKED)
    assert taken_over(tmp_path, IDENTITY, ASKED)[1] == []
    (part,) = whole.glob("parts/part-*.jsonl")
    part.write_text(part.read_text("utf-8").replace("to question a", "to question z"), "utf-8")
    assert taken_over(tmp_path, IDENTITY, ASKED) == ([], ASKED)


RULES = [{"pattern": r"Say (\w+)\.$", "answer": r"I say \1."}, {"answer": "A note on the verb of the sentence above."}]


def made(root: Path, prompts: list[str], pairs: list[str]) -> dict[str, int]:
    """Let a run's synthesis answer, and return how many requests of each method it had to ask."""
    write_lines(root / "prompts.jsonl", (json.dumps({"prompt": text}) for text in prompts))
    write_lines(root / "train.jsonl", (json.dumps({"source": f"Satz {x}.", "target": f"Row {x}."}) for x in pairs))
    write_lines(root / "test.jsonl", [json.dumps({"source": "Etwas fehlt hier.", "target": "Something lacks here."})])
    values = {
        "name": "reuse",
        "model": str(root / "model"),
        "engine": {"kind": "scripted", "rules": RULES},
        "pairs": {name: {"path": f"{name}.jsonl", "source": "de", "target": "en"} for name in ("train", "test")},
        "prompts": {"path": "prompts.jsonl"},
        "checks": {"language_check": False},
        "stages": [{"method": "radis", "beside": [{"method": "recovery", "share": 0.5}]}],
        "evaluate": {"engine": "transformers", "retention": {"suites": []}},
    }
    recipe = parse_recipe(values, "test", root)
    with Context(recipe, root / "run", Reporter(quiet=True)) as context:
        data = prepare(context)
        parts = synthesise(context, data, recipe.systems()[0]).components
    new = {}
    kept = {pair.id: pair.target for pair in data.train} | {p.id: p.messages[-1].content for p in data.replay}
    for part in parts:
        (folder,) = part.artefacts
        counted = facts(folder)
        new[part.method.name] = counted["requests"] - counted.get("taken_over", 0)
        assert len(part.answers) == counted["requests"]
        for id_ in part.answers:
            text = kept[id_.removeprefix("recovery:")]
            expected = f"I {text[0].lower()}{text[1:]}" if text.startswith("Say") else RULES[1]["answer"]
            assert part.answers[id_].text == expected, id_
    return new


def test_only_what_is_new_in_the_files_is_asked(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    prompts, pairs = [f"Say w{n}." for n in range(40)], [f"a{n}" for n in range(12)]
    first = made(tmp_path, prompts, pairs)
    assert first["radis"] == 12
    # All ids, which are line numbers, move; nothing is asked again.
    assert made(tmp_path, prompts[1:], pairs[2:]) == {"radis": 0, "recovery": 0}
    changed = made(tmp_path, ["Say nothing.", *prompts, "Say more."], ["new", *pairs[1:]])
    assert changed["radis"] == 1
    assert 0 <= changed["recovery"] <= 2
