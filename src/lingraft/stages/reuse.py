"""What a run folder has answered already, so that a suite or test set can be added at its own cost.

An artefact of answers lists what was asked (`asked.jsonl`: id and hash of the whole question). Of those made with the
same model, graft and engine, answers to the very same question under the same id are taken over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lingraft.data.records import Record
from lingraft.rows import RecordsById
from lingraft.store import MANIFEST, content_hash, read_lines, read_sealed, verify, write_lines

ASKED = "asked.jsonl"


class Question(Protocol):
    """A request or a continuation."""

    @property
    def id(self) -> str:
        """Unique within an artefact."""

    def to_dict(self) -> dict[str, Any]:
        """Return all that decides the answer."""


@dataclass(frozen=True)
class Asked(Record):
    """A question that was answered: its id, and the hash of the whole of it."""

    id: str
    key: str

    @classmethod
    def of(cls, question: Question) -> Asked:
        """Return the note of a question."""
        return cls(question.id, content_hash(question.to_dict())[:32])


A = TypeVar("A", bound=Record)
Q = TypeVar("Q", bound=Question)


def note_asked(folder: Path, questions: Iterable[Question]) -> None:
    """Write what an artefact answers."""
    write_lines(folder / ASKED, (Asked.of(question).to_json() for question in questions))


def taken_over(
    root: Path,
    identity: Mapping[str, Any],
    questions: Sequence[Q],
    answers: Callable[[Path], RecordsById[A]],
) -> tuple[list[A], list[Q]]:
    """Return the answers that whole artefacts in `root` already hold, and the questions that remain.

    Args:
        identity: what besides the question decides an answer; as in the artefact's inputs.
        answers: reads an artefact's answers.
    """
    open_ = {question.id: Asked.of(question).key for question in questions}
    found: dict[str, A] = {}
    for folder in sorted(path.parent for path in root.glob(f"*/{ASKED}")):
        manifest = read_sealed(folder / MANIFEST)
        if not open_ or manifest is None or manifest["inputs"].get("identity") != identity:
            continue
        noted = [Asked.from_json(line) for line in read_lines(folder / ASKED)]
        wanted = [each.id for each in noted if open_.get(each.id) == each.key]
        if not wanted or not verify(folder):
            continue
        known = answers(folder)
        for id_ in wanted:
            found[id_] = known[id_]
            del open_[id_]
    return (
        [found[question.id] for question in questions if question.id in found],
        [question for question in questions if question.id not in found],
    )
