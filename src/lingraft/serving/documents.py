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
KEPT = 3600.0
"""Seconds for which a translation is kept."""


@dataclass(eq=False)
class ServedDocument:
    """A document of a client.

    Attributes:
        prepared: what is translated.
        id: names it.
        key: that a client must present.
        began: when, on the clock of `Documents`.
        outcome: once it is translated.
        failed: why it will not be.
        ended: when either came.
    """

    prepared: PreparedDocument
    began: float
    id: str = field(default_factory=lambda: secrets.token_hex(16).upper())
    key: str = field(default_factory=lambda: secrets.token_hex(32).upper())
    outcome: DocumentOutcome | None = None
    failed: ApiError | None = None
    ended: float | None = None

    @property
    def name(self) -> str:
        """The file's name with the code of the language that it is in now: `manual.en.md`."""
        given = PurePath(self.prepared.job.name)
        return f"{given.stem}.{self.prepared.target}{given.suffix}"

    @property
    def size(self) -> int:
        """Bytes that it holds, about."""
        return len(self.prepared.job.data) + (len(self.outcome.data) if self.outcome else 0)

    @property
    def state(self) -> str:
        """How far it is: queued, translating, done, error."""
        if self.outcome is not None:
            return "done"
        if self.failed is not None:
            return "error"
        return "translating" if self.prepared.begun else "queued"

    def remaining(self, now: float) -> int | None:
        """Return about how many seconds it will take; None where nothing tells."""
        done = self.prepared.done
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
        made.outcome, made.ended = outcome, self._clock()
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
        try:
            made.outcome = await translated(api, work, made.prepared.tokens, client, DocumentOutcome)
        except ApiError as error:
            made.failed = error
        made.ended = self._clock()

    def _held_as(self, prepared: PreparedDocument, more: int = 0) -> ServedDocument:
        self._forget()
        made = ServedDocument(prepared, self._clock())
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
