"""Documents of clients: translated while nobody waits, kept in memory until they are fetched, within bounds."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from pathlib import PurePath

from lingraft.serving.document import DocumentJob, DocumentOutcome, PreparedDocument
from lingraft.serving.reply import Endpoint
from lingraft.serving.request import ApiError, later
from lingraft.serving.services import Services
from lingraft.serving.translation_reply import Work, translated

MOST = 64
"""Documents that are kept or translated."""
MOST_KEPT = 1 << 26
"""Bytes of these together."""
LONGEST_NAME = 100
KEPT = 3600.0
"""Seconds for which a translation is kept."""


@dataclass(eq=False)
class ServedDocument:
    """A document of a client.

    Attributes:
        name: of its translation: the file's with the code of the language that it is in now, `manual.en.md`.
        characters: of its texts.
        given: bytes of the file.
        began: when, on the clock of `Documents`.
        prepared: what is translated; None when that is over.
        id: names it.
        key: that a client must present.
        data: once it is translated.
        segments: that it then has.
        lost: of these, those that are left as in the source.
        failed: why it will not be.
        ended: when either came.
    """

    name: str
    characters: int
    given: int
    began: float
    prepared: PreparedDocument | None
    id: str = field(default_factory=lambda: secrets.token_hex(16).upper())
    key: str = field(default_factory=lambda: secrets.token_hex(32).upper())
    data: bytes | None = None
    segments: int = 0
    lost: int = 0
    failed: ApiError | None = None
    ended: float | None = None

    @classmethod
    def of(cls, prepared: PreparedDocument, now: float) -> ServedDocument:
        """Return a document that is to be translated."""
        given = PurePath(prepared.job.name)
        name = f"{given.stem[:LONGEST_NAME]}.{prepared.target}{given.suffix}"
        return cls(name, prepared.characters, len(prepared.job.data), now, prepared)

    def end(self, now: float, outcome: DocumentOutcome | None = None, failed: ApiError | None = None) -> None:
        """Keep what came of it, and let go of what it was made of."""
        self.failed, self.ended, self.prepared = failed, now, None
        if outcome is not None:
            self.data, self.segments, self.lost = outcome.data, len(outcome.segments), outcome.lost

    @property
    def done(self) -> float:
        """Share of its segments that are translated."""
        return self.prepared.done if self.prepared else 1.0

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        return self.given if self.prepared else len(self.data or b"")

    @property
    def state(self) -> str:
        """How far it is: queued, translating, done, error."""
        if self.data is not None:
            return "done"
        if self.failed is not None:
            return "error"
        return "translating" if self.prepared and self.prepared.begun else "queued"

    def remaining(self, now: float) -> int | None:
        """Return about how many seconds it will take; None where nothing tells."""
        done = self.done
        return ceil((now - self.began) / done * (1 - done)) if 0 < done < 1 and self.ended is None else None


class Documents:
    """The documents of all clients; it belongs to the event loop.

    Args:
        services: translate.
        clock: seconds that only grow.
    """

    def __init__(
        self, services: Services[DocumentJob, PreparedDocument], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.services, self._clock = services, clock
        self._held: dict[str, ServedDocument] = {}
        self._tasks = set[asyncio.Task[None]]()

    def begin(
        self, api: Endpoint, prepared: PreparedDocument, work: Work[DocumentOutcome], client: str
    ) -> ServedDocument:
        """Let a document be translated, whoever waits for it.

        Raises:
            ApiError: there is no room for it.
        """
        made = self._held_as(prepared)
        task = asyncio.get_running_loop().create_task(self._translate(api, made, work, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return made

    def keep(self, prepared: PreparedDocument, outcome: DocumentOutcome) -> ServedDocument:
        """Keep a document that is translated.

        Raises:
            ApiError: there is no room for it.
        """
        made = self._held_as(prepared, len(outcome.data))
        made.end(self._clock(), outcome)
        return made

    def get(self, id_: str, key: str | None = None) -> ServedDocument:
        """Return a document.

        Args:
            id_: of it.
            key: that belongs to it; None where the id alone is enough.

        Raises:
            ApiError: there is none, or it has another key.
        """
        self._forget()
        found = self._held.get(id_)
        if found is None or (key is not None and not hmac.compare_digest(key.encode(), found.key.encode())):
            raise ApiError(404, "there is no such document here, or it is kept no longer", code="document_not_found")
        return found

    def seconds(self, document: ServedDocument) -> int | None:
        """Return about how many seconds a document will take from now; None where nothing tells."""
        return document.remaining(self._clock())

    async def _translate(self, api: Endpoint, made: ServedDocument, work: Work[DocumentOutcome], client: str) -> None:
        prepared, outcome, failed = made.prepared, None, None
        assert prepared is not None
        try:
            outcome = await translated(api, work, prepared.tokens, client, DocumentOutcome)
        except ApiError as error:
            failed = error
        made.end(self._clock(), outcome, failed)

    def _held_as(self, prepared: PreparedDocument, more: int = 0) -> ServedDocument:
        self._forget()
        made = ServedDocument.of(prepared, self._clock())
        need = made.size + more
        while self._held and (
            len(self._held) >= MOST or sum(one.size for one in self._held.values()) + need > MOST_KEPT
        ):
            oldest = next((one for one in self._held.values() if one.ended is not None), None)
            if oldest is None:
                raise later("too many documents are being translated; try again later", "busy")
            del self._held[oldest.id]
        self._held[made.id] = made
        return made

    def _forget(self) -> None:
        """Let go of what was kept for long enough."""
        now = self._clock()
        self._held = {id_: one for id_, one in self._held.items() if one.ended is None or now - one.ended < KEPT}
