"""Mix: which files and rows are mixed in, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Example, Message, Prompt, Text
from lingraft.methods.base import METHODS, Available, MethodInputs, Tally
from lingraft.methods.mix import Mix, MixParams
from lingraft.translation.markers import Markers

PROMPTS = [
    Prompt("p1", (Message("user", "Name a town."),), reference="Kiel."),
    Prompt("p2", (Message("user", "Name another."),)),
]
TEXTS = [Text("t1", "Im Hafen liegen Schiffe.", "de")]
INPUTS = MethodInputs((), PROMPTS, texts=TEXTS)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Instruction files of the common forms, and documents."""
    rows: dict[str, list[dict[str, Any]]] = {
        "alpaca": [
            {"instruction": "Add.", "input": "2 and 3", "output": "5"},
            {"instruction": "Say nothing.", "output": ""},
            {"instruction": "Think.", "output": "<think>Hm.</think>Yes."},
        ],
        "chat": [
            {
                "id": "c1",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Hello."},
                    {"role": "assistant", "content": "Hi."},
                    {"role": "user", "content": "Bye."},
                    {"role": "assistant", "content": "See you."},
                ],
            }
        ],
        "asked": [{"question": "Where?", "answer": "There."}],
        "bare": [{"prompt": "Why?"}],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "texts.txt").write_text("First text.\n\nSecond text.\n")
    return {path.stem: str(path) for path in tmp_path.iterdir()}


def examples(inputs: MethodInputs = INPUTS, **params: Any) -> tuple[list[Example], dict[str, int]]:
    tally = Tally()
    return list(Mix(MixParams(**params)).examples(inputs, {}, tally)), dict(tally.filters)


def test_given_answers_and_documents_are_learnt_as_they_are(files: dict[str, str]) -> None:
    """Worked out by hand: what each row of each form becomes."""
    found, tally = examples(prompts=[files["alpaca"], files["chat"]], texts=[files["texts"]], block_tokens=32)
    assert [(example.id, [span.text for span in example.spans], example.block) for example in found] == [
        ("mix:0:alpaca:1", ["5"], 0),
        ("mix:1:c1", ["See you."], 0),
        ("mix:0:texts:1", ["First text."], 32),
        ("mix:0:texts:3", ["Second text."], 32),
    ]
    assert [message.content for message in found[0].messages] == ["Add.\n\n2 and 3"]
    assert [message.content for message in found[1].messages] == ["Be brief.", "Hello.", "Hi.", "Bye."]
    assert not found[2].messages
    assert {(span.role, span.loss, span.weight) for example in found for span in example.spans} == {
        ("given_reply", "ce", 1.0),
        ("text", "ce", 1.0),
    }
    assert tally["kept"] == 4
    assert (tally["no_reference"], tally["thinking"]) == (1, 1)


def test_without_files_the_recipes_own_are_used(files: dict[str, str]) -> None:
    found, tally = examples()
    assert [(example.id, example.spans[0].text) for example in found] == [
        ("mix:p1", "Kiel."),
        ("mix:t1", "Im Hafen liegen Schiffe."),
    ]
    assert tally == {"kept": 2, "no_reference": 1}
    assert [example.id for example in examples(kinds=["texts"])[0]] == ["mix:t1"]
    assert Mix(MixParams(kinds=["texts"])).made_of == {"texts"}
    own = Mix(MixParams(texts=[files["texts"]]))
    assert own.made_of == frozenset()
    assert [example.id for example in own.examples(INPUTS, {}, Tally())] == ["mix:0:texts:1", "mix:0:texts:3"]


def test_english_answers_come_behind_the_marker_where_the_graft_answers_behind_it() -> None:
    markers = Markers.for_languages(["de"])
    opened = examples(MethodInputs((), PROMPTS, markers=markers))[0][0]
    assert [span.text for span in opened.spans] == [markers.response, "Kiel."]
    direct = examples(MethodInputs((), PROMPTS, markers=markers, english_opening=False))[0][0]
    assert [span.text for span in direct.spans] == ["Kiel."]


def test_columns_can_be_named_and_files_are_told_apart_by_their_contents(files: dict[str, str]) -> None:
    found, _ = examples(prompts=[files["asked"]], fields={"prompt": "question", "reference": "answer"})
    assert [(example.messages[0].content, example.spans[0].text) for example in found] == [("Where?", "There.")]
    one, other = (Mix(MixParams(texts=[files[name]])).prepare(INPUTS)["files"] for name in ("texts", "chat"))
    assert (len(one), one == other) == (1, False)
    assert Mix(MixParams()).prepare(INPUTS) == {}


def test_columns_of_documents_can_be_named_as_messages_advise(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("".join(f"Schiff Nummer {n},Ein Text {n}.\n" for n in (1, 2, 3)))
    (tmp_path / "more.jsonl").write_text('{"body": "Mehr Text."}\n')
    with pytest.raises(DataError, match=r"say which one holds what, by name or number: `fields: \{text: 1\}`"):
        examples(texts=[str(tmp_path / "two.csv")])
    by_number = examples(texts=[str(tmp_path / "two.csv")], fields={"text": 2})[0]
    assert [example.spans[0].text for example in by_number] == ["Ein Text 1.", "Ein Text 2.", "Ein Text 3."]
    with pytest.raises(DataError, match=r"name the columns: `fields: \{text: \.\.\.\}`"):
        examples(texts=[str(tmp_path / "more.jsonl")])
    both = {"prompt": "question", "reference": "answer", "text": "body"}
    found, _ = examples(prompts=[files["asked"]], texts=[str(tmp_path / "more.jsonl")], fields=both)
    assert [example.spans[0].text for example in found] == ["There.", "Mehr Text."]
    with pytest.raises(UsageError, match=r"unknown field 'prompt'; known: content, id, text"):
        METHODS.create({"kind": "mix", "texts": ["a.csv"], "fields": {"prompt": "a"}})


def test_no_format_is_advised_where_none_can_be_set(tmp_path: Path) -> None:
    for name in ("texts", "prompts"):
        (tmp_path / "rows.dat").write_text("Ein Text.\n")
        with pytest.raises(UsageError, match=r"does not tell the format; let it end in one of \.jsonl, .*\.parquet, "):
            examples(**{name: [str(tmp_path / "rows.dat")]})


def test_what_cannot_be_mixed_in_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    Mix(MixParams(prompts=[files["alpaca"]], texts=[files["texts"]])).check(())
    with pytest.raises(DataError, match=r"bare.jsonl: no row has an answer to train on; name its column `output`"):
        Mix(MixParams(prompts=[files["bare"]])).check(())
    with pytest.raises(DataError, match=r"missing.jsonl"):
        Mix(MixParams(texts=[str(tmp_path / "missing.jsonl")])).check(())
    (tmp_path / "blank.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(DataError, match=r"blank.jsonl: no row has a text to train on"):
        Mix(MixParams(texts=[str(tmp_path / "blank.jsonl")])).check(())
    with pytest.raises(UsageError, match=r"unknown field 'questoin'"):
        METHODS.create({"kind": "mix", "prompts": [files["bare"]], "fields": {"questoin": "a"}})
    assert "add `prompts:` or `texts:` to the recipe" in Mix(MixParams()).lacks(Available())
    assert not Mix(MixParams()).lacks(Available(texts=True))
    assert not Mix(MixParams(texts=["a"])).lacks(Available())
