"""Translations for endpoints in the forms of other services: the code path of `lingraft translate`, within the limits
of the server."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from lingraft.conversation.decoding import TOO_LONG
from lingraft.conversation.writing import Waits, never
from lingraft.core.errors import DataError
from lingraft.core.tasks import NOUNS, ONE, Task
from lingraft.data.glossary import Glossary
from lingraft.data.records import Sampling
from lingraft.decoders.base import Decoder
from lingraft.decoders.direct import Direct
from lingraft.language.placeholders import prose
from lingraft.serving.explained import Explained
from lingraft.serving.languages import IDENTIFIED, no_direction
from lingraft.serving.request import ApiError
from lingraft.serving.size import PromptSize
from lingraft.serving.translating import UNUSABLE, Cutter, Split, Text, Translated, unique
from lingraft.serving.translator import Translator
from lingraft.translation.direct import Translation
from lingraft.translation.markup import TagRules

MOST_TEXTS = 1024
"""Of one request."""
SHORT = 40
"""Characters of a text that does not tell its language by itself: all texts of the request tell it together."""
WARMTH = 0.7
"""Temperature of further translations of a text."""


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

    @property
    def sample(self) -> str:
        """Text by which its language can be told."""
        return prose("\n".join(self.texts)[: 2 * IDENTIFIED])

    @property
    def samples(self) -> Sequence[str]:
        """The texts that are long enough to tell their language by themselves."""
        return [prose(one) for one in dict.fromkeys(self.texts[:MOST_TEXTS]) if len(one) > SHORT]


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

    @property
    def failures(self) -> Counter[str]:
        """What went wrong first in each text; "" counts those without failure."""
        return Counter(one.failure for one in self.texts)

    @property
    def tokens(self) -> int:
        """That were written."""
        return sum(one.tokens for one in self.texts)

    @property
    def told(self) -> str:
        """What it is, for the log."""
        return f"{len(self.texts)} text{'s' * (len(self.texts) != 1)}"


class TranslationService:
    """Translates texts with the model that is served; it belongs to one thread, but for `prepare` and the languages.

    Args:
        translator: asks the model.
        most_tokens: of a request, read and written.
    """

    def __init__(self, translator: Translator, most_tokens: int = 131_072) -> None:
        self.translator, self.most_tokens = translator, most_tokens
        self.task, self.languages = translator.task, translator.languages
        self._size = PromptSize(translator.renderer, most_tokens)

    def close(self) -> None:
        """Close what the decoder has opened."""
        self.translator.close()

    def check_size(self, texts: Sequence[str]) -> None:
        """Refuse texts that certainly come to too many tokens.

        Raises:
            ApiError: they do.
        """
        try:
            self._size.check(texts)
        except ApiError as error:
            raise self._too_much() from error

    def tokens(self, texts: Iterable[str], decoders: Iterable[Decoder]) -> int:
        """Return about how many tokens are read and written where each of some texts is asked for by itself.

        Args:
            texts: each.
            decoders: that translate them, one after the other.

        Raises:
            ApiError: more than a request may come to.
        """
        steps, own, tokens = [step for one in decoders for step in one.expected_steps()], self.translator, 0.0
        for asked in texts:
            read = own.count(asked)
            written = min(own.most, 2 * read + 16)
            sent = read + own.overhead
            tokens += sum(one.answers * (sent + (written if one.tokens is None else one.tokens)) for one in steps)
        if tokens > self.most_tokens:
            raise self._too_much()
        return ceil(tokens)

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
        self.check_size(job.texts)
        own = self.translator
        cutter = Cutter(split=job.split, most=own.longest_part, count=own.count, rules=job.rules)
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
        tokens = self.tokens((asked for asked, _, _ in unique(texts)), self._decoders(job))
        return PreparedJob(job=job, texts=texts, sure=sure, target=target, tokens=tokens)

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

    def _too_much(self) -> ApiError:
        message = f"the texts come to more than {self.most_tokens:,} tokens, read and written; send fewer at once"
        return ApiError(413, message, code="texts_too_long")

    def _decoders(self, job: TranslationJob) -> list[Decoder]:
        """Return what translates, once for each translation of a text."""
        first: Decoder = Explained() if job.rationale else self.translator.with_terms(job.glossary)
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
        return self.translator.run(lambda: self._worked(prepared), left)

    def _worked(self, prepared: PreparedJob) -> Iterator[int | Outcome]:
        own, texts, outcomes, read = self.translator, prepared.texts, list[list[Translated]](), 0
        for number, decoder in enumerate(self._decoders(prepared.job)):
            decoding = own.decoding(decoder, Sampling(own.most, WARMTH if number else 0.0, seed=number))
            found: dict[tuple[str, str], dict[str, Translation]] = defaultdict(dict)
            wanted = unique(texts)
            while wanted:
                for (asked, *direction), one in own.translations(decoding, list(wanted)):
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
