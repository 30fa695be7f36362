"""A translation in a chat ends where its graft was trained to end it: the rationale is for those who ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lingraft.engines.finishing import before_stop
from lingraft.models.graft import GraftInfo
from lingraft.routing.recognition import Recogniser
from lingraft.serving.request import ChatRequest
from lingraft.serving.stops import Cut
from lingraft.translation.by_sentence import stops_for, without_rationale
from lingraft.translation.wording import VARIANTS


class TranslationEnd:
    """Cuts a translation that comes in pieces at its delimiter, by the rule of `lingraft translate`.

    Behind the only line of a text the delimiter is sure to be the end. In the translation of another text it may stand
    itself, which only the whole of it tells: from the first place on, all is held until then.

    Args:
        source: what is translated.
        stops: at which translations end.

    Attributes:
        source: as given.
        stops: as given.
        hit: the delimiter, where it has surely ended the translation.
    """

    def __init__(self, source: str, stops: Sequence[str]) -> None:
        self.source, self.stops = source, tuple(stops)
        self._raw, self._given, self._held = "", 0, False
        self.hit = ""

    def take(self, text: str, *, last: bool = False) -> str:
        """Return what may be shown after one more piece; all that is left after the last one."""
        self._raw += text
        if last:
            part, _ = without_rationale(self.source, self._raw, self.stops)
            if len(part) < len(self._raw):
                self.hit = next(stop for stop in self.stops if self._raw.startswith(stop, len(part)))
            return self._upto(len(part))
        if self._held:
            return ""
        ready, stop = before_stop(self._raw[self._given :], self.stops)
        end = self._given + len(ready)
        if stop:
            self._held, self.hit = True, stop if stop in stops_for(self.source, self.stops) else ""
            return self._upto(end)
        return self._upto(end - self._begun(self._raw))

    def _upto(self, end: int) -> str:
        """Return what is not shown yet, up to a place."""
        begin, self._given = self._given, max(self._given, end)
        return self._raw[begin : self._given]

    def _begun(self, text: str) -> int:
        """Return the length of the longest end of a text that may begin a stop string."""
        longest = max(map(len, self.stops), default=1) - 1
        sizes = range(min(longest, len(text)), 0, -1)
        return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in self.stops)), 0)


class CutTranslation:
    """Shows of an answer what is the translation, and of that what a client's own stop strings leave.

    Args:
        end: of the translation.
        cut: by what the client has sent.
    """

    def __init__(self, end: TranslationEnd, cut: Cut) -> None:
        self._end, self._cut = end, cut

    @property
    def given(self) -> str:
        """The text so far."""
        return self._cut.given

    @property
    def hit(self) -> str:
        """What has ended it, so that the model need not go on."""
        return self._cut.hit or self._end.hit

    def keep_all(self) -> None:
        """Show all of it, which another model than the graft writes."""
        self._end.stops = ()

    def take(self, text: str, *, last: bool = False) -> str:
        """Return what may be shown after one more piece; all of it after the last one."""
        if self.hit:
            return ""
        more = self._end.take(text, last=last)
        return self._cut.take(more, last=last or bool(self._end.hit))


@dataclass(frozen=True)
class Rationales:
    """Which answers of a graft are translations with a rationale behind them.

    Attributes:
        recogniser: knows the wordings in which the graft is asked.
        stops: at which its translations end.
    """

    recogniser: Recogniser
    stops: tuple[str, ...]

    @classmethod
    def of(cls, info: GraftInfo | None, wordings: Sequence[str] = ()) -> Rationales | None:
        """Return those of a graft; None of a base, and of a graft whose translations end where it ends.

        Args:
            info: of the graft.
            wordings: further ones in which it is asked.
        """
        if info is None or not info.stop:
            return None
        directions = [(one.source, one.target) for one in info.directions]
        return cls(Recogniser((info.instruction, *wordings, *VARIANTS), directions), tuple(info.stop))

    def cut(self, question: ChatRequest, cut: Cut) -> Cut:
        """Return what cuts the answer to a question; where its last turn asks for no translation, or the client for the
        rationale as well, that is what the client has sent.

        Args:
            question: that is answered.
            cut: by what the client has sent.
        """
        source = None if question.rationale else self.recogniser.source(question.messages[-1:])
        return cut if source is None else CutTranslation(TranslationEnd(source.text, self.stops), cut)
