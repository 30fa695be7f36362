"""Given preferences: every form of a row, what is refused, and the examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError
from lingraft.data.records import Example, Message
from lingraft.methods.base import Available, MethodInputs, Tally
from lingraft.methods.preferences import Preferences

ROW = {"source": "Ja.", "chosen": "Yes.", "rejected": "No.", "source_lang": "de", "target_lang": "eng"}


def method(folder: Path, rows: list[Any], **params: Any) -> Preferences:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Preferences(Preferences.Params.model_validate({"path": str(path), **params}))


def made(folder: Path, rows: list[Any], **params: Any) -> tuple[list[Example], dict[str, int]]:
    tally = Tally()
    examples = list(method(folder, rows, **params).examples(MethodInputs([]), {}, tally))
    assert [example.sign for example in examples] == [1, -1] * (len(examples) // 2)
    assert [example.group for example in examples[::2]] == [example.group for example in examples[1::2]]
    assert len({example.group for example in examples}) == len(examples) // 2
    assert [example.messages for example in examples[::2]] == [example.messages for example in examples[1::2]]
    return examples, dict(tally.filters)


def test_a_row_becomes_a_chosen_and_a_rejected_translation(tmp_path: Path) -> None:
    (chosen, rejected), counts = made(tmp_path, [ROW])
    assert (chosen.id, rejected.id) == ("preferences:1:chosen", "preferences:1:rejected")
    assert [(span.text, span.role, span.loss) for span in (*chosen.spans, *rejected.spans)] == [
        ("Yes.", "translation", "ce"),
        ("No.", "translation", "ce"),
    ]
    assert "Ja." in chosen.messages[-1].content
    assert "English" in chosen.messages[-1].content
    assert counts == {"kept": 1}
    bare = {key: ROW[key] for key in ("source", "chosen", "rejected")}
    assert made(tmp_path, [bare], source="de", target="en")[0] == [chosen, rejected]
    assert made(tmp_path, [bare]) == ([], {"missing_field": 1})


def test_of_candidates_the_best_is_chosen_and_the_worst_rejected(tmp_path: Path) -> None:
    candidates = {"source": "Ja.", "candidates": ["Yes.", "Yes!", "No."], "scores": [0.8, 0.9, -1]}
    rows = [
        candidates,
        {**candidates, "scores": [1, 1, 1]},
        {**candidates, "scores": [1, 2]},
        {**candidates, "scores": [1, 2, "3"]},
        {**candidates, "scores": [1, 2, float("nan")]},
        {"source": "Ja.", "candidates": ["Yes."], "scores": [1]},
    ]
    examples, counts = made(tmp_path, rows, source="de", target="en")
    assert [example.spans[0].text for example in examples] == ["Yes!", "No."]
    assert counts == {"kept": 1, "no_preference": 1, "malformed": 4}


def test_answers_to_prompts_in_the_forms_of_trl(tmp_path: Path) -> None:
    asked, system = {"role": "user", "content": "Fruit?"}, {"role": "system", "content": "Be brief."}
    answers = [{"role": "assistant", "content": text} for text in ("A pear.", "A car.")]
    rows = [
        {"prompt": "Fruit?", "chosen": "A pear.", "rejected": "A car."},
        {"prompt": [system, asked], "chosen": answers[:1], "rejected": answers[1:]},
        {"chosen": [asked, answers[0]], "rejected": [asked, answers[1]]},
        {"messages": [asked, answers[1]], "chosen": "A pear.", "rejected": "A car."},
        {"prompt": [asked, answers[0]], "chosen": "A pear.", "rejected": "A car."},
        {"prompt": "Fruit?", "chosen": [asked], "rejected": "A car."},
        {"chosen": "A pear.", "rejected": "A car."},
    ]
    examples, counts = made(tmp_path, rows, holds="answers")
    assert counts == {"kept": 4, "malformed": 2, "missing_field": 1}
    assert [example.spans[0].text for example in examples] == ["A pear.", "A car."] * 4
    assert {example.spans[0].role for example in examples} == {"given_reply"}
    question = (Message("user", "Fruit?"),)
    wanted = [question, (Message("system", "Be brief."), *question), question, question]
    assert [example.messages for example in examples[::2]] == wanted


def test_rows_that_prefer_nothing_are_counted(tmp_path: Path) -> None:
    rows = [
        {**ROW, "rejected": "Yes. "},
        {**ROW, "chosen": " "},
        {**ROW, "target_lang": "xx-unknown"},
        [1],
        {**ROW, "source": ""},
    ]
    examples, counts = made(tmp_path, rows)
    assert not examples
    assert counts == {"no_preference": 1, "empty_target": 1, "language_mismatch": 1, "malformed": 1, "missing_field": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty"),
        (
            [{"prompt": "Fruit?", "answer": "A pear."}],
            "no row of .*can be used.*line 1: fields in the row: 'prompt', 'answer'",
        ),
        ([{**ROW, "source_lang": "", "target_lang": ""}], "no `source_lang`; give it in each row, or as the parameter"),
    ],
)
def test_a_file_without_a_pair_is_refused(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        method(tmp_path, rows).check(())


def test_what_it_asks_for_and_how_it_is_asked(tmp_path: Path) -> None:
    assert method(tmp_path, [ROW]).objective() == ({"kind": "cpo"},)
    assert method(tmp_path, [ROW], loss="ipo").objective() == ({"kind": "ipo"},)
    assert method(tmp_path, [ROW]).teaches_translation()
    assert not method(tmp_path, [ROW], holds="answers").teaches_translation()
    first = method(tmp_path, [ROW]).prepare(MethodInputs([]))
    assert first != method(tmp_path, [ROW, ROW]).prepare(MethodInputs([]))  # a file that has changed is read anew
    assert "give its parameter `path`" in Preferences(Preferences.Params()).lacks(Available())
    assert not method(tmp_path, [ROW]).lacks(Available())
