"""Translations for endpoints in the forms of other services: the code path of `lingraft translate`, within the limits
of the server."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from lingraft.conversation.decoding import TOO_LONG
from lingraft.conversation.writing import Clock, Waits, never
from lingraft.core.errors import DataError, EngineError, ModelError, TooLongError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.sandbox import SandboxError
from lingraft.core.tasks import NOUNS, ONE, Task, task_in_use
from lingraft.data.glossary import Glossary
from lingraft.data.records import Generation, Sampling
from lingraft.decoders.base import Decoder
from lingraft.decoders.direct import Direct
from lingraft.decoders.glossary import GlossaryTerms
from lingraft.engines.base import EngineModel
from lingraft.language.placeholders import prose
from lingraft.models.graft import GraftInfo
from lingraft.models.loading import AskedModel
from lingraft.serving.bridge import Left
from lingraft.serving.decoder import is_cut
from lingraft.serving.decoding import AnsweringEngine, ServedDecoding, Side, engine_here, too_long, within_limits
from lingraft.serving.explained import Explained
from lingraft.serving.languages import IDENTIFIED, ServedLanguages, no_direction
from lingraft.serving.request import ApiError
from lingraft.serving.size import PromptSize
from lingraft.serving.translating import UNUSABLE, Cutter, Split, Text, Translated, unique
from lingraft.translation.direct import Source, Translation
from lingraft.translation.markup import TagRules
from lingraft.translation.wording import TranslationSystem

MOST_TEXTS = 1024
"""Of one request."""
SHORT = 40
"""Characters of a text that does not tell its language by itself: all texts of the request tell it together."""
WARMTH = 0.7
"""Temperature of further translations of a text."""
_BREAK = re.compile(r"\s*\n\s*")

Key = tuple[str, str, str]
"""What is asked for: text, source and target language."""


@dataclass(frozen=True, kw_only=True)
class TranslationJob:
    """What a request asks for.

    Attributes:
        texts: at least one.
        target: code of the language to translate into.
        source: code of the texts' language; "" where each is to be told.
        rules: how tags are taken; None where the texts are plain.
        split: see `lingraft.serving.translating.Split`.
        glossary: terms; None for those of the server's decoder, if any.
        alternatives: further translations of each text, at most.
        rationale: whether the model is to go on behind the translation, which is then told apart.
        partial: whether translations are wanted that have no text, or were cut; else they are an error.
    """

    texts: tuple[str, ...]
    target: str
    source: str = ""
    rules: TagRules | None = None
    split: Split = "paragraphs"
    glossary: Glossary | None = None
    alternatives: int = 0
    rationale: bool = False
    partial: bool = False


@dataclass(frozen=True, kw_only=True)
class PreparedJob:
    """A job that is ready for the model. `sure`: of each text's language, where it was to be told, from 0 to 1.
    `tokens`: about how many it comes to, read and written."""

    job: TranslationJob
    texts: Sequence[Text]
    sure: Sequence[float]
    target: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job. `alternatives`: of each text, those that differ from its translation."""

    texts: Sequence[Translated]
    alternatives: Sequence[Sequence[str]]
    target: str
    sure: Sequence[float]
    read: int


class TranslationService:
    """Translates texts with the model that is served; it belongs to one thread, but for `prepare` and the languages.

    Args:
        loaded: the model, its graft on.
        info: how the weights are asked; None for a base.
        graft: folder of what is on the weights; None where there is none.
        base: for embeddings and for engines that a decoder names.
        decoder: translates where a request brings no terms; None: each text is asked for once.
        most: tokens of a translation, or of a part of one that is asked for by itself.
        most_tokens: of a request, read and written.
        put_on: lets the model in memory answer as this system, see `Answerer`.
        side: to translate beside other answers; None: one request after the other, and nothing else meanwhile.
        engine: answers in place of the model.
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
        most_tokens: int = 131_072,
        put_on: Callable[[], None] = lambda: None,
        side: Side | None = None,
        engine: AnsweringEngine | None = None,
    ) -> None:
        self._system = info.translating if info else TranslationSystem()
        self._put_on, self._decoder = put_on, decoder or Direct()
        self.task = task_in_use(self._decoder.tasks)
        self.languages = ServedLanguages(info, self.task)
        self._most, self._most_tokens = most, most_tokens
        self._graft, self._base, self._renderer = graft, base, loaded.renderer
        self._engine = engine or engine_here(loaded, graft is not None, side)
        self._size = PromptSize(loaded.renderer, most_tokens)
        self._own = self._decoding(self._decoder)
        self._overhead = loaded.renderer.count(self._system.instruction) + 16

    def close(self) -> None:
        """Close what the decoder has opened."""
        self._own.close()

    def prepare(self, job: TranslationJob) -> PreparedJob:
        """Cut the texts into what is asked for by itself; it takes no model, and any thread.

        Raises:
            ApiError: a direction that is not served, too many texts or tokens, or tags that cannot be read.
        """
        if self.task != "translation":
            self._refuse_for_whole_texts(job)
            job = replace(job, split="none")
        if len(job.texts) > MOST_TEXTS:
            raise ApiError(413, f"there are {len(job.texts):,} texts; send at most {MOST_TEXTS:,} at once")
        try:
            self._size.check(job.texts)
        except ApiError as error:
            raise self._too_much() from error
        cutter = Cutter(
            split=job.split, most=max(1, min(self._most, self._engine.context) // 2), count=self._count, rules=job.rules
        )
        texts, sure, target = list[Text](), list[float](), ""
        directions, told = dict[str, tuple[str, str]](), dict[str, tuple[str, float]]()
        together = "\n".join(job.texts)[: 2 * IDENTIFIED]
        for number, text in enumerate(job.texts, start=1):
            of = text if len(text) > SHORT else together
            if of not in told:
                told[of] = (job.source, 1.0) if job.source else self.languages.told(prose(of), job.target)
            given, certain = told[of]
            sure.append(certain)
            if given not in directions:
                directions[given] = self.languages.direction(given, job.target)
            source, target = directions[given]
            try:
                texts.append(Text.of(text, source, target, cutter))
            except DataError as error:
                raise ApiError(400, f"text {number}: {error}", code="tags_refused") from error
        steps = [step for decoder in self._decoders(job) for step in decoder.expected_steps()]
        tokens = 0.0
        for asked, _, _ in unique(texts):
            read = self._count(asked)
            written = min(self._most, 2 * read + 16)
            sent = read + self._overhead
            tokens += sum(one.answers * (sent + (written if one.tokens is None else one.tokens)) for one in steps)
        if tokens > self._most_tokens:
            raise self._too_much()
        return PreparedJob(job=job, texts=texts, sure=sure, target=target, tokens=ceil(tokens))

    def _refuse_for_whole_texts(self, job: TranslationJob) -> None:
        """Refuse what is of translations alone.

        Raises:
            ApiError: something is asked for that summaries and programs do not have.
        """
        given = {
            "tags": job.rules is not None,
            "a glossary": job.glossary is not None,
            "alternatives": job.alternatives > 0,
            "a rationale": job.rationale,
        }
        if odd := next((name for name, there in given.items() if there), ""):
            raise ApiError(
                400, f"this server answers with {NOUNS[self.task]}, for which there is no use of {odd}; leave it out"
            )
        if self.task == "code" and not job.source:
            raise no_direction("the language of a program is not told by its text; name it as the source")

    def _count(self, text: str) -> int:
        return self._renderer.count(text)

    def _too_much(self) -> ApiError:
        message = f"the texts come to more than {self._most_tokens:,} tokens, read and written; send fewer at once"
        return ApiError(413, message, code="texts_too_long")

    def _decoders(self, job: TranslationJob) -> list[Decoder]:
        """Return what translates, once for each translation of a text."""
        first: Decoder = self._decoder
        if job.rationale:
            first = Explained()
        elif job.glossary is not None:
            terms = self._decoder.glossary.terms if isinstance(self._decoder, GlossaryTerms) else ()
            first = GlossaryTerms.holding(Glossary((*job.glossary.terms, *terms)))
        return [first, *[Direct()] * job.alternatives]

    def work(
        self, prepared: PreparedJob, left: Callable[[], bool] = never
    ) -> Generator[int | Outcome | Waits, None, None]:
        """Yield a number for each part that is translated, and at the end what came of the job; nothing more where
        nobody waits for it.

        Args:
            prepared: by `prepare`.
            left: whether nobody waits any more; asked between and within the parts.

        Raises:
            ApiError: a text has no translation, the model computes what is no number, or a decoder's step fails.
        """
        try:
            if (bridge := self._engine.bridge) is None:
                self._put_on()
                yield from self._work(prepared, left)
            else:
                yield from (yield from bridge.run(lambda: list(self._work(prepared, left)), left))
        except Left:
            return
        except ModelError as error:
            raise ApiError(500, str(error), code="model_broken") from error
        except (EngineError, DataError, UsageError, SandboxError) as error:
            message = f"a step of the decoder {self._decoder.name!r} was not answered; try again later"
            raise ApiError(500, message, code="decoder_failed") from error

    def _work(self, prepared: PreparedJob, left: Callable[[], bool]) -> Iterator[int | Outcome]:
        with within_limits(self.task, left):
            yield from self._worked(prepared, left)

    def _worked(self, prepared: PreparedJob, left: Callable[[], bool]) -> Iterator[int | Outcome]:
        self._engine.left, self._engine.clock = left, Clock()
        texts, outcomes, read = prepared.texts, list[list[Translated]](), 0
        for number, decoder in enumerate(self._decoders(prepared.job)):
            decoding = self._own if decoder is self._decoder else self._decoding(decoder)
            decoding.sampling = Sampling(self._most, WARMTH if number else 0.0, seed=number)
            decoding.read = 0
            found: dict[tuple[str, str], dict[str, Translation]] = defaultdict(dict)
            wanted = unique(texts)
            while wanted:
                for (asked, *direction), one in self._translations(decoding, list(wanted)):
                    found[direction[0], direction[1]][asked] = one
                    yield 1
                again = [(text, found[text.source, text.target]) for text in texts]
                wanted = {
                    (one, text.source, text.target): None
                    for text, known in again
                    for one in text.wanted_apart(known)
                    if one not in known
                }
            outcomes.append([text.translated(found[text.source, text.target]) for text in texts])
            read += decoding.read
            if not number and not prepared.job.partial:
                _refuse_unusable(outcomes[0], self.task)
        others = [
            [one.text for one in dict.fromkeys(further) if one.text != first.text and one.failure not in UNUSABLE]
            for first, *further in zip(*outcomes, strict=True)
        ]
        yield Outcome(texts=outcomes[0], alternatives=others, target=prepared.target, sure=prepared.sure, read=read)

    def _translations(self, decoding: ServedDecoding, keys: Sequence[Key]) -> Iterator[tuple[Key, Translation]]:
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

    def _decoding(self, decoder: Decoder) -> ServedDecoding:
        return ServedDecoding(
            decoder=decoder,
            system=self._system,
            sampling=Sampling(self._most),
            engine=self._engine,
            graft=self._graft,
            model=self._base,
            too_long=too_long(self._engine),
        )


def _refuse_unusable(texts: Sequence[Translated], task: Task) -> None:
    """Refuse what would look like a translation and is none.

    Raises:
        ApiError: see there.
    """
    failed = [(number, one.failure) for number, one in enumerate(texts, start=1) if one.failure in UNUSABLE]
    if not failed:
        return
    remedy = "; send shorter paragraphs" if task == "translation" else " that this server writes"
    why = {
        TOO_LONG: f"is too long for the model; send shorter {'paragraphs' if task == 'translation' else 'texts'}",
        "unfinished": f"was cut at the most tokens of {ONE[task]}{remedy}",
        "no_code": "was not translated, the model wrote no program with the function that it has",
    }
    number, failure = failed[0]
    others = f", and {len(failed) - 1} more of {len(texts)}" if len(failed) > 1 else ""
    told = why.get(failure, f"was not translated, the model wrote nothing of use ({failure})")
    raise ApiError(
        422, f"text {number}{others} {told}; with `lingraft.partial` what there is comes all the same", code=failure
    )
