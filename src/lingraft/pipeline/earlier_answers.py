"""What a run folder has answered already, so that rows and suites can be added, taken away or edited at their own cost.

An artefact of answers lists what was asked (`asked.jsonl`: id and hash of the question). Of those made with the same
model, graft and engine, answers to the very same question are taken over. Its id counts only where an answer is drawn
by chance: a row that has moved in its file has another id and the same greedy answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from lingraft.core.hashing import content_hash, text_hash
from lingraft.core.record import Record
from lingraft.store.artefacts import MANIFEST, verify
from lingraft.store.files import read_sealed, write_lines
from lingraft.store.record_files import RecordFile, RecordsById

ASKED = "asked.jsonl"


class IdentifiedRequest(Protocol):
    """A request or a continuation."""

    @property
    def id(self) -> str:
        """Unique within an artefact."""

    def to_dict(self) -> dict[str, Any]:
        """Return all that decides the answer."""


@dataclass(frozen=True)
class AnswerKey(Record):
    """A question that was answered: its id, and the hash of all that decides the answer."""

    id: str
    key: str

    @classmethod
    def of(cls, question: IdentifiedRequest) -> AnswerKey:
        """Return the note of a question; its id decides the answer only where that is drawn by chance."""
        values = question.to_dict()
        if not values.get("sampling", {}).get("temperature"):
            del values["id"]
        return cls(question.id, content_hash(values)[:32])


A = TypeVar("A", bound=Record)
Q = TypeVar("Q", bound=IdentifiedRequest)


def note_asked(folder: Path, questions: Iterable[IdentifiedRequest]) -> None:
    """Write what an artefact answers."""
    write_lines(folder / ASKED, (AnswerKey.of(question).to_json() for question in questions))


class _Source(Generic[A]):
    """An artefact's answers by what was asked, in 56 bytes a row."""

    def __init__(self, folder: Path, read: Callable[[Path], RecordsById[A]]) -> None:
        self.folder, self._read = folder, read
        self._asked = RecordFile(folder / ASKED, AnswerKey)
        hashes = np.fromiter((text_hash(each.key) for each in self._asked), np.uint64, len(self._asked))
        self._order = np.argsort(hashes, kind="stable")
        self.hashes = hashes[self._order]

    @cached_property
    def answers(self) -> RecordsById[A]:
        """The answers by id."""
        return self._read(self.folder)

    def id_of(self, key: str) -> str | None:
        """Return the id under which the question with this key was answered."""
        wanted = np.uint64(text_hash(key))
        place = int(np.searchsorted(self.hashes, wanted))
        while place < len(self.hashes) and self.hashes[place] == wanted:
            asked = self._asked[int(self._order[place])]
            if asked.key == key:
                return asked.id
            place += 1
        return None


class TakenOver(Generic[A, Q]):
    """The answers to some questions that whole artefacts in run folders already hold.

    Neither questions nor answers are held; memory: 8 bytes for each question, and 56 for each that was asked before.

    Args:
        roots: the run folder, and others whose answers may be taken over.
        identity: what besides the question decides an answer; as in the artefacts' inputs.
        questions: can be iterated more than once.
        answers: reads an artefact's answers.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        identity: Mapping[str, Any],
        questions: Iterable[Q],
        answers: Callable[[Path], RecordsById[A]],
    ) -> None:
        self._questions = questions
        self._sources: list[_Source[A]] = []
        folders = [folder for root in roots for folder in _artefacts(root) if _identity(folder) == identity]
        if not folders:
            return
        hashes = np.fromiter((text_hash(self._key(question)) for question in questions), np.uint64)
        for folder in folders:
            source = _Source(folder, answers)
            if np.isin(hashes, source.hashes).any() and verify(folder):
                self._sources.append(source)

    def _key(self, question: Q) -> str:
        return AnswerKey.of(question).key

    def _found(self, question: Q) -> tuple[_Source[A], str] | None:
        """Return where a question was answered before, and under which id."""
        if not self._sources:
            return None
        key = self._key(question)
        return next(((source, id_) for source in self._sources if (id_ := source.id_of(key)) is not None), None)

    def answers(self) -> Iterator[A]:
        """Yield the answers that there are, in the order of the questions and under their ids."""
        yield from (answer for answer, _ in self.answers_and_places())

    def answers_and_places(self) -> Iterator[tuple[A, Path]]:
        """Yield the answers as `answers` does, each with the artefact that it is from."""
        for question in self._questions:
            if found := self._found(question):
                source, id_ = found
                answer = replace(source.answers[id_], id=question.id)  # type: ignore[call-arg]  # answers have ids
                yield answer, source.folder

    def missing(self) -> Iterator[Q]:
        """Yield the questions that remain."""
        return (question for question in self._questions if self._found(question) is None)


def _artefacts(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"*/{ASKED}"))


def _identity(folder: Path) -> Any:
    manifest = read_sealed(folder / MANIFEST)
    return None if manifest is None else manifest["inputs"].get("identity")
