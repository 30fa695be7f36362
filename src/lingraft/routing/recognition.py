"""Requests for translations, told by their wording: what is to be translated, from which language and into which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from lingraft.core.hashing import content_hash
from lingraft.data.records import Message
from lingraft.language.codes import language_name, language_named, same_language
from lingraft.routing.wordings import fillings
from lingraft.translation.code import asked_in
from lingraft.translation.direct import Source


class RequestReader(Protocol):
    """Tells which conversations are requests of one kind."""

    def source(self, messages: Sequence[Message]) -> Source | None:
        """Return what a conversation asks to translate; None where it asks for something else, or in other words."""


class ProgramRecogniser:
    """Knows the requests for programs in another language, see `lingraft.translation.code.asked_in`: one message alone,
    for earlier ones may say how to translate."""

    def source(self, messages: Sequence[Message]) -> Source | None:
        """Return what a conversation asks to translate; see `RequestReader.source`."""
        return asked_in(messages[0].content) if [one.role for one in messages] == ["user"] else None


class Recogniser:
    """Knows the requests that are a wording, filled in, with languages that have a name or go without saying.

    A system message and earlier turns may say how to translate, which the wording does not have: a conversation of more
    than one message is none of these requests.

    Args:
        wordings: with the fields of `lingraft.translation.wording.check_wording`.
        directions: (source, target) codes of what was trained: a wording without the name of a language leaves it to
            them, and names are those of these languages first.
    """

    def __init__(self, wordings: Iterable[str], directions: Sequence[tuple[str, str]] = ()) -> None:
        self._wordings = tuple(dict.fromkeys(wordings))
        self._directions = tuple(dict.fromkeys(directions))
        self._names = [{language_name(one[side]).casefold(): one[side] for one in directions} for side in (0, 1)]

    def source(self, messages: Sequence[Message]) -> Source | None:
        """Return what a conversation asks to translate; None where it asks for something else, or in other words.

        The id of the source is that of its text and languages: what is drawn by it is the same at every request.
        """
        if [one.role for one in messages] != ["user"]:
            return None
        for found in fillings(messages[0].content, self._wordings):
            direction = self._direction(found.get("source_name", ""), found.get("target_name", ""))
            if direction is not None and found["source"]:
                return Source(content_hash([found["source"], *direction])[:16], found["source"], *direction)
        return None

    def _direction(self, source: str, target: str) -> tuple[str, str] | None:
        """Return the codes of two languages by their names, "" where the wording names none."""
        codes = [
            names.get(name) or language_named(name) for names, name in zip(self._names, (source, target), strict=True)
        ]
        if (source and not codes[0]) or (target and not codes[1]):
            return None
        fits = [
            one
            for one in self._directions
            if all(not code or same_language(known, code) for known, code in zip(one, codes, strict=True))
        ]
        if not (codes[0] and codes[1]):
            if len(fits) != 1:
                return None
            codes = [code or known for known, code in zip(fits[0], codes, strict=True)]
        first, second = str(codes[0]), str(codes[1])
        return None if first == second else (first, second)
