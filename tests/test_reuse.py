"""What is taken over from earlier artefacts: answers to the same question by the same model, nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lingraft.data.records import Generation, Request
from lingraft.stages.reuse import note_asked, taken_over
from lingraft.stages.synthesise import read_answers
from lingraft.store import PartStore, build_artefact
from models_support import request

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


def test_the_same_questions_are_taken_over_in_their_order(tmp_path: Path) -> None:
    answered(tmp_path, ASKED[:1])
    answered(tmp_path, ASKED[:2])  # holds the first again
    new = request("d", "question d")
    found, missing = taken_over(tmp_path, IDENTITY, [ASKED[1], new, ASKED[0]], read_answers)
    assert [(one.id, one.text) for one in found] == [("b", "to question b"), ("a", "to question a")]
    assert missing == [new]


@pytest.mark.parametrize(
    "other",
    [
        request("a", "question A"),
        request("a", "question a", max_new_tokens=13),
        request("a", "question a", prefill="So"),
        replace(ASKED[0], prompt_ids=(1, 2)),
        replace(ASKED[0], id="x"),
    ],
)
def test_another_question_is_asked(tmp_path: Path, other: Request) -> None:
    answered(tmp_path, ASKED)
    assert taken_over(tmp_path, IDENTITY, [other], read_answers) == ([], [other])


def test_other_models_unfinished_and_damaged_artefacts_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "decode-base-1.partial").mkdir()
    note_asked(tmp_path / "decode-base-1.partial", ASKED)
    answered(tmp_path, ASKED, {**IDENTITY, "graft": "g"})
    answered(tmp_path, ASKED[:2], note=False)  # made before answers were noted
    assert taken_over(tmp_path, IDENTITY, ASKED, read_answers) == ([], ASKED)
    whole = answered(tmp_path, ASKED)
    assert taken_over(tmp_path, IDENTITY, ASKED, read_answers)[1] == []
    (part,) = whole.glob("parts/part-*.jsonl")
    part.write_text(part.read_text("utf-8").replace("to question a", "to question z"), "utf-8")
    assert taken_over(tmp_path, IDENTITY, ASKED, read_answers) == ([], ASKED)
