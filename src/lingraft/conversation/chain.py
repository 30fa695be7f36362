"""The translation chain of thought as a strict state machine over token ids: what stands where, what is missing, and
which marker to put there. No engine and no model: batches (`chain_engine.py`) and streams (`stream.py`) both walk it.

An answer to a native prompt is `<EN>` English query `<RESPONSE>` English answer `<TH>` native answer; an answer to an
English prompt is `<RESPONSE>` English answer. Anything else is a failure: it is named and counted, and a missing marker
is put in its place, each at most once, after which the model goes on writing.

Source: Geng et al. 2024 (arXiv 2405.13923), whose repair appends a missing `<RESPONSE>` or `<TH>` and continues, and
whose further turns see the earlier ones in English. Departures: an answer that does not begin with its first marker
is begun anew with it, and each part has a limit of its own, after which the next marker is put.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from lingraft.core.errors import ModelError, UsageError
from lingraft.data.records import NATIVE, QUERY, REPLY, TEXT, Message, Segment
from lingraft.language.codes import base_language
from lingraft.rendering.renderer import Renderer
from lingraft.translation.markers import ENGLISH, RESPONSE, Markers

OPEN, COMPLETE = "open", "complete"
Fallback = Literal["english", "text", "empty"]
"""What is shown in place of a native answer that is missing: the English one (if there is none, what stands outside of
the chain), only what stands outside of the chain, or nothing."""

CHAIN = "chain:1"
"""Names how a conversation is led through the chain; the number grows when the same one is asked or read otherwise."""
_MARKER = re.compile(r"<([A-Z]{2,3})>")
_MOST_BLANKS = 2  # tokens before the first marker; some templates open an answer with white space


@dataclass(frozen=True)
class Caps:
    """Most tokens of each part of a chain, its marker aside.

    Raises:
        UsageError: a cap below 1.
    """

    query: int = 512
    english: int = 1024
    native: int = 1024

    def __post_init__(self) -> None:
        if min(self.query, self.english, self.native) < 1:
            raise UsageError("a part of the chain may have no token; give caps of at least 1")

    def of(self, role: str) -> int:
        """Return the cap of a role."""
        return {QUERY: self.query, REPLY: self.english, NATIVE: self.native}[role]


@dataclass(frozen=True)
class ChainIds:
    """Token ids of the markers: (language, id) of each language carried to. `ends`: ids that end a turn."""

    english: int
    response: int
    native: tuple[tuple[str, int], ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, renderer: Renderer, markers: Markers) -> ChainIds:
        """Return the ids of markers.

        Raises:
            ModelError: a marker is not one control token of the tokenizer.
        """
        tokenizer = renderer.tokenizer
        added = {token.content: int(id_) for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
        lacking = [token for token in markers.tokens if token not in added]
        if lacking:
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path or 'the model'} has no control token {lacking[0]!r}, which "
                f"the translation chain of thought needs as one token; use a graft trained with an extended vocabulary"
            )
        native = tuple((lang, added[token]) for lang, token in markers.native)
        return cls(added[markers.english], added[markers.response], native, renderer.end_ids)

    @property
    def markers(self) -> frozenset[int]:
        """All of them."""
        return frozenset((self.english, self.response, *(id_ for _, id_ in self.native)))

    def path(self, lang: str) -> tuple[tuple[str, int], ...]:
        """Return the (role, marker) of each part of an answer in a language.

        Raises:
            UsageError: the language has no marker.
        """
        code, known = base_language(lang), dict(self.native)
        if code == "en":
            return ((REPLY, self.response),)
        if code not in known:
            raise UsageError(f"the language {lang!r} has no marker here; known: {', '.join(['en', *known])}")
        return ((QUERY, self.english), (REPLY, self.response), (NATIVE, known[code]))


def markers_in(renderer: Renderer) -> Markers | None:
    """Return the markers among a tokenizer's control tokens; None if there are none.

    They follow `<EN>` and `<RESPONSE>` by their ids, as an extended vocabulary has them: tokenizers have control tokens
    of their own that look like markers (`<PAD>`, `<SEP>`). Where there is a `vocabulary.json`, it knows better.
    """
    special = {
        int(id_): token.content for id_, token in renderer.tokenizer.added_tokens_decoder.items() if token.special
    }
    ids = {content: id_ for id_, content in special.items()}
    if RESPONSE not in ids or ids.get(ENGLISH) != ids[RESPONSE] - 1:
        return None
    codes: list[str] = []
    while hit := _MARKER.fullmatch(special.get(ids[RESPONSE] + 1 + len(codes), "")):
        codes.append(hit[1].lower())
    return Markers.for_languages(codes) if codes else None


@dataclass(frozen=True, kw_only=True)
class Chain:
    """An answer, taken apart.

    Attributes:
        segments: in order; their tokens (markers included) add up to those of `ids`.
        state: "complete", or why it is not: "missing_response" or "missing_native" (the part before ended, or a later
            marker came; the query went over its cap), "english_cut" (the English answer went over its cap, which is no
            fault of the format: the native marker goes on from there), "no_chain" (does not begin with its first
            marker), "wrong_language", "wrong_order", "empty_segment", "unfinished" (no end of the turn; over the cap of
            the last part).
        failure: the first thing that went wrong, whether it was repaired or not; empty for nothing.
        lang: language of the answer that was wanted.
        ids: all tokens, those put there included, without the end.
        missing: marker that would go on from here, None where the chain has all of them.
    """

    segments: tuple[Segment, ...]
    state: str
    failure: str
    lang: str
    ids: tuple[int, ...]
    missing: int | None = None

    @property
    def complete(self) -> bool:
        """Whether all parts are there, in order, with text, up to the end of the turn; markers may have been put."""
        return self.state == COMPLETE

    def text(self, role: str) -> str:
        """Return the text of a role; empty if it is missing."""
        return "\n".join(segment.text for segment in self.segments if segment.role == role and segment.text)

    def shown(self, fallback: Fallback = "english") -> str:
        """Return what the user sees."""
        wanted = self.text(REPLY if self.lang == "en" else NATIVE)
        if wanted or fallback == "empty":
            return wanted
        return (self.text(REPLY) if fallback == "english" else "") or self.text(TEXT)


class Walk:
    """A way through one answer, a token at a time.

    Attributes:
        ids: tokens taken so far, in order.
        state: "open" while more may come, else as `Chain.state`.
        problems: what has gone wrong so far, in order.
    """

    def __init__(self, reader: ChainReader, lang: str, caps: Caps | None = None) -> None:
        self._reader, self._lang, self._caps = reader, base_language(lang), caps
        self._path = reader.ids.path(lang)
        self._opened: list[tuple[int, bool]] = []  # of each part: index of its marker, and whether it was put
        self.ids: list[int] = []
        self.state = OPEN
        self.problems: list[str] = []

    @property
    def role(self) -> str:
        """Of the part that is being written; empty before the first."""
        return self._path[len(self._opened) - 1][0] if self._opened else ""

    @property
    def part(self) -> list[int]:
        """Tokens of the part that is being written, without its marker."""
        return self.ids[self._opened[-1][0] + 1 :] if self._opened else []

    @property
    def missing(self) -> int | None:
        """The next marker, None where the chain has all."""
        return self._path[len(self._opened)][1] if len(self._opened) < len(self._path) else None

    @property
    def room(self) -> int:
        """Most tokens that may still come, markers and the end included; as many as the caps allow."""
        caps = self._caps or Caps()
        ahead = sum(caps.of(role) + 1 for role, _ in self._path[len(self._opened) :])
        here = max(0, caps.of(self.role) - len(self.part)) if self._opened else 0
        return here + ahead + 1

    def feed(self, token: int) -> bool:
        """Take the next token. False: it may not stand here, or it is the end; `state` says which."""
        if self.state != OPEN:
            return False
        ids, opened = self._reader.ids, len(self._opened)
        if token == self.missing:
            self._open(put=False)
        elif token in ids.ends:
            return self._stop(self._lacks() if self.missing is not None else COMPLETE)
        elif token in ids.markers:
            return self._stop(self._misplaced(token))
        elif not opened and (len(self.ids) >= _MOST_BLANKS or not self._reader.blank(token)):
            return self._stop("no_chain")
        elif opened and self._caps and len(self.part) >= self._caps.of(self.role):
            return self._stop(self._over())
        else:
            self.ids.append(token)
        return True

    def force(self) -> int:
        """Put the missing marker, after which the chain is open again, and return it.

        Raises:
            ValueError: none is missing.
        """
        marker = self.missing
        if marker is None:
            raise ValueError("no marker is missing")
        if self.state == OPEN:
            self.problems.append(self._lacks())
        self._open(put=True)
        self.state = OPEN
        return marker

    def run_out(self) -> None:
        """Say that no more tokens come, although the turn has not ended."""
        if self.state == OPEN:
            self._stop("unfinished")

    def chain(self, rest: Sequence[int] = ()) -> Chain:
        """Return the answer so far; `rest`: tokens after it that stand outside of the chain."""
        segments = []
        starts = [start for start, _ in self._opened]
        begins = [0, *starts[1:]] if starts else []  # blanks before the first marker count with it
        for (role, _), begin, (start, put), end in zip(
            self._path, begins, self._opened, [*starts[1:], len(self.ids)], strict=False
        ):
            segments.append(Segment(role, self._reader.text(self.ids[start + 1 : end]), end - begin, put))
        outside = [*rest] if starts else [*self.ids, *rest]
        empty = any(not segment.text for segment in segments)
        if outside:
            segments.append(Segment(TEXT, self._reader.text(outside), len(outside)))
        state = "empty_segment" if empty and self.state == COMPLETE else self.state
        failure = next(iter(self.problems), "empty_segment" if empty else "")
        return Chain(
            segments=tuple(segments),
            state=state,
            failure=failure,
            lang=self._lang,
            ids=(*self.ids, *rest),
            missing=self.missing,
        )

    def _open(self, *, put: bool) -> None:
        self._opened.append((len(self.ids), put))
        self.ids.append(self._path[len(self._opened) - 1][1])

    def _stop(self, state: str) -> bool:
        self.state = state
        if state != COMPLETE:
            self.problems.append(state)
        return False

    def _lacks(self) -> str:
        """Return what it is called when the next marker is not there."""
        if not self._opened:
            return "no_chain"
        return "missing_response" if self._path[len(self._opened)][0] == REPLY else "missing_native"

    def _over(self) -> str:
        """Return what it is called that a part is as long as it may be."""
        if self.missing is None:
            return "unfinished"
        return "english_cut" if self.role == REPLY else self._lacks()

    def _misplaced(self, token: int) -> str:
        """Return what it is called that a marker came which is not the next."""
        if not self._opened:
            return "no_chain"
        ahead = self._path[len(self._opened) :]
        native = {id_ for _, id_ in self._reader.ids.native}
        if token in native and ahead and ahead[0][0] == NATIVE:
            return "wrong_language"
        skipped = token in native and any(role == NATIVE for role, _ in ahead)
        return self._lacks() if skipped else "wrong_order"


class ChainReader:
    """Reads answers of one tokenizer.

    Args:
        renderer: of the tokenizer that knows the markers.
        markers: of the graft.

    Raises:
        ModelError: a marker is not one control token of the tokenizer.
    """

    def __init__(self, renderer: Renderer, markers: Markers) -> None:
        self.renderer, self.markers = renderer, markers
        self.ids = ChainIds.of(renderer, markers)

    def walk(self, lang: str, caps: Caps | None = None) -> Walk:
        """Begin an answer in a language.

        Raises:
            UsageError: the language has no marker.
        """
        return Walk(self, lang, caps)

    def parse(self, ids: Sequence[int], lang: str, caps: Caps | None = None, put: Collection[int] = ()) -> Chain:
        """Take an answer apart; what stands after the first failure is a segment of role "text".

        Args:
            ids: written, up to and including the end of the turn (what follows it is left out).
            lang: of the answer that is wanted.
            caps: most tokens of its parts; none by default.
            put: places in `ids` of markers that the model did not write.
        """
        end = next((place for place, token in enumerate(ids) if token in self.ids.ends), len(ids))
        walk = self.walk(lang, caps)
        for place, token in enumerate(ids[:end]):
            if place in put and token == walk.missing and walk.state == OPEN:
                walk.force()
            elif not walk.feed(token):
                return walk.chain(ids[place:end])
        if end < len(ids):
            walk.feed(ids[end])
        walk.run_out()
        return walk.chain()

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of a part."""
        return self.renderer.decode(ids).strip()

    def blank(self, token: int) -> bool:
        """Whether a token is white space alone."""
        return not self.renderer.decode_all([token]).strip()


def english_history(messages: Sequence[Message], answers: Sequence[Sequence[Segment]]) -> tuple[Message, ...]:
    """Return a conversation whose earlier turns are in English, as the model answered them; the last turn stays.

    A user's turn becomes the English query of its answer, an answer its English reply. Where these are not known (an
    answer without chain, or one that another program gives as text alone) both turns stay as they are: the model then
    sees a conversation in two languages, which it was not trained on.

    Args:
        messages: of the conversation, up to the user's last.
        answers: segments of each earlier assistant message, in order; empty where there are none.
    """
    out = list(messages)
    places = [place for place, message in enumerate(messages) if message.role == "assistant"]
    for place, segments in zip(places, answers, strict=False):
        found = {segment.role: segment.text for segment in segments if segment.text}
        if REPLY not in found:
            continue
        query = found.get(QUERY)
        if query is None and any(segment.role in (QUERY, NATIVE) for segment in segments):
            continue  # a chain whose query is empty: an English answer to a native question would confuse more
        out[place] = Message("assistant", found[REPLY])
        if query and place and out[place - 1].role == "user":
            out[place - 1] = Message("user", query)
    return tuple(out)
