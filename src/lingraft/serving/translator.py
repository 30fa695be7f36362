"""The model that is served, asked for translations of parts of texts: with its decoder, beside other answers, and with
its failures as responses."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lingraft.conversation.decoding import TOO_LONG
from lingraft.conversation.writing import Clock, Waits, never
from lingraft.core.errors import DataError, EngineError, ModelError, TooLongError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.sandbox import SandboxError
from lingraft.core.tasks import task_in_use
from lingraft.data.glossary import Glossary
from lingraft.data.records import Generation, Sampling
from lingraft.decoders.base import Decoder
from lingraft.decoders.direct import Direct
from lingraft.decoders.glossary import GlossaryTerms
from lingraft.engines.base import EngineModel
from lingraft.models.graft import GraftInfo
from lingraft.models.loading import AskedModel
from lingraft.serving.bridge import Left
from lingraft.serving.decoder import is_cut
from lingraft.serving.decoding import AnsweringEngine, ServedDecoding, Side, engine_here, too_long, within_limits
from lingraft.serving.languages import ServedLanguages
from lingraft.serving.request import ApiError
from lingraft.serving.translating import UNUSABLE
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

_BREAK = re.compile(r"\s*\n\s*")

T = TypeVar("T")
Key = tuple[str, str, str]
"""What is asked for: text, source and target language."""


class Translator:
    """Asks the model for translations; it belongs to one thread, but for `count`.

    Args:
        loaded: the model, its graft on.
        info: how the weights are asked; None for a base.
        graft: folder of what is on the weights; None where there is none.
        base: for embeddings and for engines that a decoder names.
        decoder: translates where a request brings no terms; None: each text is asked for once.
        most: tokens of a translation.
        put_on: lets the model in memory answer as this system, see `Answerer`.
        side: to translate beside other answers; None: one request after the other, and nothing else meanwhile.
        engine: answers in place of the model.

    Attributes:
        decoder: translates.
        task: what texts become.
        most: tokens of a translation.
        renderer: of the model's conversations.
        languages: that are translated.
        overhead: tokens that a request has beside its text.
    """

    def __init__(
        self,
        loaded: AskedModel,
        info: GraftInfo | None,
        graft: Path | None,
        base: EngineModel,
        *,
        decoder: Decoder | None = None,
        most: int = 1024,
        put_on: Callable[[], None] = lambda: None,
        side: Side | None = None,
        engine: AnsweringEngine | None = None,
    ) -> None:
        self._system = info.translating if info else TranslationSystem()
        self._put_on, self.decoder = put_on, decoder or Direct()
        self.task = task_in_use(self.decoder.tasks)
        self.languages = ServedLanguages(info, self.task)
        self.most, self._graft, self._base, self.renderer = most, graft, base, loaded.renderer
        self._engine = engine or engine_here(loaded, graft is not None, side)
        self._own: ServedDecoding | None = None
        self._own = self.decoding(self.decoder)
        self.overhead = loaded.renderer.count(self._system.instruction) + 16

    @property
    def longest_part(self) -> int:
        """Tokens of a text that is asked for as a whole, if it has places to be cut at."""
        return max(1, min(self.most, self._engine.context) // 2)

    def count(self, text: str) -> int:
        """Return the tokens of a text."""
        return self.renderer.count(text)

    def with_terms(self, glossary: Glossary | None) -> Decoder:
        """Return what translates with terms, and with those of the server's own decoder, if it has any."""
        if glossary is None:
            return self.decoder
        own = self.decoder.glossary.terms if isinstance(self.decoder, GlossaryTerms) else ()
        return GlossaryTerms.holding(Glossary((*glossary.terms, *own)))

    def close(self) -> None:
        """Close what the decoder has opened."""
        if self._own is not None:
            self._own.close()

    def run(
        self, work: Callable[[], Iterator[T]], left: Callable[[], bool] = never
    ) -> Generator[T | Waits, None, None]:
        """Yield what some work yields that asks for translations; nothing more where nobody waits for it.

        Args:
            work: is begun when the model is this system's; where others are answered beside it, in another thread.
            left: whether nobody waits any more; asked between and within the parts.

        Raises:
            ApiError: the model computes what is no number, or a decoder's step fails.
        """

        def within() -> Iterator[T]:
            with within_limits(self.task, left):
                self._engine.left, self._engine.clock = left, Clock()
                yield from work()

        try:
            if (bridge := self._engine.bridge) is None:
                self._put_on()
                yield from within()
            else:
                yield from (yield from bridge.run(lambda: list(within()), left))
        except Left:
            return
        except ModelError as error:
            raise ApiError(500, str(error), code="model_broken") from error
        except (EngineError, DataError, UsageError, SandboxError) as error:
            message = f"a step of the decoder {self.decoder.name!r} was not answered; try again later"
            raise ApiError(500, message, code="decoder_failed") from error

    def decoding(self, decoder: Decoder, sampling: Sampling | None = None) -> ServedDecoding:
        """Return a decoder on the model, with nothing read yet.

        Args:
            decoder: the server's own one keeps what it has opened.
            sampling: None: the likeliest translation, of at most `most` tokens.
        """
        sampling = sampling or Sampling(self.most)
        if decoder is self.decoder and self._own is not None:
            self._own.sampling, self._own.read = sampling, 0
            return self._own
        return ServedDecoding(
            decoder=decoder,
            system=self._system,
            sampling=sampling,
            engine=self._engine,
            graft=self._graft,
            model=self._base,
            too_long=too_long(self._engine),
        )

    def translations(self, decoding: ServedDecoding, keys: Sequence[Key]) -> Iterator[tuple[Key, Translation]]:
        """Yield the translations of parts as they are finished; a part of one line has a translation of one line."""
        sources = {content_hash(key)[:16]: key for key in keys}  # what is drawn by the id is the same at every request
        asked = [Source(id_, *key) for id_, key in sources.items()]
        for one in decoding.several(asked):
            id_ = one.request_id if isinstance(one, TooLongError) else one.id
            key = sources[id_]
            if isinstance(one, TooLongError):
                yield key, Translation(id_, "", 0, TOO_LONG)
            else:
                yield key, self._as_one_line(key[0], self._known_failure(one, decoding.known))

    def _as_one_line(self, text: str, one: Translation) -> Translation:
        """Return the translation of a text of one line as one line; summaries and programs have lines of their own."""
        if self.task != "translation" or "\n" in text:
            return one
        return replace(one, text=_BREAK.sub(" ", one.text))

    def _known_failure(self, one: Translation, answers: Mapping[tuple[str, str], Generation]) -> Translation:
        """Return a summary or a program with what is wrong with its text, whatever was wrong with a step before it."""
        if self.task == "translation":
            return one
        failure = "unfinished" if is_cut(one, self.task, answers) else one.failure
        return replace(one, failure=failure if one.text or failure in UNUSABLE else "empty")
