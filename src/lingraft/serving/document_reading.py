"""Documents of clients are read, checked and written in processes that can be ended: in the server's own, a file that
takes long to read would stop it for all, and nothing could end that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from lingraft.conversation.writing import never
from lingraft.core.bounded_calls import BoundedCalls, CallGivenUp, OutOfBoundsError
from lingraft.documents.base import Filled, Segment
from lingraft.documents.opened import segments_of, spoiling_of, written_with
from lingraft.serving.bridge import Left
from lingraft.serving.queue import ending
from lingraft.serving.request import ApiError

MOST_SEGMENTS = 20_000
REFUSED = "document_refused"
SECONDS, SECONDS_PER_MIB = 5.0, 5.0
"""Of processor time for reading a file; four times what the slowest format, Markdown, takes for pages of people."""
CHECKS = 12
"""Times the seconds of reading for checking a translation, which takes some readings for each faulty segment."""

P = ParamSpec("P")
R = TypeVar("R")


READERS = BoundedCalls()
"""The processes of all servers of this one."""


def read_document(
    format_: str, data: bytes, source: str, target: str, given_up: Callable[[], bool] = never
) -> ReadDocument:
    """Return a document, with at most one segment more than one may have.

    Args:
        format_: registered name of its format.
        data: what is in it.
        source: language code of its texts.
        target: that of the translations.
        given_up: whether nobody waits for it any more, since the server ends.

    Raises:
        DataError: it is not of the format.
        ApiError: it takes too long, or the server ends.
    """
    asked = (format_, data, source, target)
    try:
        segments = READERS.call(_seconds(data), given_up, segments_of, *asked, MOST_SEGMENTS + 1)
    except CallGivenUp as error:
        raise ending() from error
    except OutOfBoundsError as error:
        raise ApiError(413, f"reading the file {error}; send it in pieces", code=REFUSED) from error
    return ReadDocument(segments, asked)


@dataclass
class ReadDocument:
    """A document that is read; what is left to do with it takes some time, too.

    Attributes:
        segments: in the order of the file.
        asked: format, data and languages.
        left: whether nobody waits for it any more.
    """

    segments: Sequence[Segment]
    asked: tuple[str, bytes, str, str]
    left: Callable[[], bool] = never

    def spoiling(self, filled: Mapping[str, Filled]) -> Collection[str]:
        """Return the ids of the segments whose translations change the document's structure.

        Raises:
            ApiError: it takes too long.
            Left: nobody waits for it any more.
        """
        return self._call(CHECKS, spoiling_of, *self.asked, filled)

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file with translations by segment id; see `spoiling` for what is raised."""
        return self._call(2, written_with, *self.asked, filled)

    def _call(self, times: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return READERS.call(times * _seconds(self.asked[1]), self.left, function, *args, **kwargs)
        except CallGivenUp as error:
            raise Left from error
        except OutOfBoundsError as error:
            message = f"putting the translations into the file {error}; send it in pieces"
            raise ApiError(413, message, code=REFUSED) from error


def _seconds(data: bytes) -> float:
    return SECONDS + SECONDS_PER_MIB * len(data) / (1 << 20)
