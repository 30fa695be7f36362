"""Translations of an endpoint in several steps: which requests are meant, what they may say, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path

from lingraft.conversation.chain import COMPLETE
from lingraft.conversation.decoding import DecoderChoice, chosen_decoder, task_of
from lingraft.conversation.stream import THOUGHT
from lingraft.conversation.writing import Clock, Done, Event, PartStart, never
from lingraft.core.code_languages import NAMES
from lingraft.core.errors import DataError, EngineError, LingraftError, TooLongError, UsageError
from lingraft.core.sandbox import SandboxError
from lingraft.core.tasks import ONE, Task
from lingraft.core.toolchains import missing_toolchain
from lingraft.data.records import TEXT, Generation, Sampling, Segment
from lingraft.decoders.base import Decoder
from lingraft.engines.base import EngineModel
from lingraft.models.graft import GraftInfo
from lingraft.models.loading import AskedModel
from lingraft.models.vocabulary import Vocabulary
from lingraft.rendering.renderer import Renderer
from lingraft.routing.base import Decider
from lingraft.routing.form import FormDecider
from lingraft.routing.recognition import ProgramRecogniser, Recogniser, RequestReader
from lingraft.serving.bridge import Left
from lingraft.serving.decoding import AnsweringEngine, ServedDecoding, Side, engine_here, too_long, within_limits
from lingraft.serving.languages import runnable
from lingraft.serving.request import ApiError, ChatRequest
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import SUMMARY_VARIANTS, VARIANTS, TranslationSystem

DIRECTIONS = 1024
"""For which it is remembered whether the decoder works; clients may name millions."""


@dataclass(frozen=True, kw_only=True)
class Decoded(Done):
    """A translation is complete; `failure` as in `Translation`.

    Attributes:
        decoder: its name.
        calls: requests that it took.
        outcome: as in `Translation`; words that can be counted.
    """

    decoder: str
    calls: int
    outcome: str


@dataclass(frozen=True, kw_only=True)
class DecoderPlan:
    """What is known of a decoder before weights are loaded.

    Attributes:
        decoder: translates.
        system: how the weights are asked for a translation.
        task: what it makes of texts.
        recogniser: tells which requests are for it.
        graft: folder of what is on the weights, and off while the base is asked; None where there is none.
    """

    decoder: Decoder
    system: TranslationSystem
    recogniser: RequestReader
    graft: Path | None
    task: Task = "translation"


def decoder_plan(
    choice: DecoderChoice,
    graft: Path | None,
    info: GraftInfo | None,
    wordings: Sequence[str] = (),
    decider: Decider | None = None,
) -> DecoderPlan:
    """Return how an endpoint translates in several steps.

    Args:
        choice: the decoder, see `chosen_decoder`.
        graft: folder of the graft; None for a base, or for a graft and its base as one model.
        info: how the weights are asked; None for a base.
        wordings: in which the graft is asked where the endpoint routes.
        decider: that routes.

    Raises:
        UsageError: the decoder lacks something here or for all directions of the graft, or asks a base that is not
            there.
        DataError: a file that it is to read cannot be read.
    """
    task = task_of(choice)
    directions = list(dict.fromkeys((one.source, one.target) for one in info.directions)) if info else []
    if task == "code":
        directions = []  # a graft says nothing of programming languages
    decoder, lacking = None, list[LingraftError]()
    each: list[tuple[str, str] | None] = [*directions] or [None]
    for direction in each:
        try:
            decoder = chosen_decoder(choice if decoder is None else decoder, direction)
        except (UsageError, DataError) as error:
            lacking.append(error)
    if decoder is None:
        raise lacking[0]
    if info is not None and decoder.asks_base:
        apart = ""
        if graft is None:
            apart = "is a graft and its base as one model"
        elif info.chat == "tcot" or Vocabulary.in_folder(graft) is not None:
            apart = (
                "has a vocabulary or a chain of thought of its own, so that its base cannot answer from the same model"
            )
        if apart:
            raise UsageError(
                f"the decoder {decoder.name!r} asks the untouched base, and what is served {apart}; let the system "
                f"answer its steps, or take another decoder"
            )
    own = decider.params.wordings if isinstance(decider, FormDecider) else ()
    system = info.translating if info else TranslationSystem()
    recogniser: RequestReader = Recogniser((system.instruction, *wordings, *VARIANTS, *own), directions)
    if task == "summary":
        recogniser = Recogniser(SUMMARY_VARIANTS, directions)
    elif task == "code":
        if len(runnable()) < 2:
            raise UsageError(
                f"the decoder {decoder.name!r} translates between languages that run here, and that is "
                f"{', '.join(runnable())} alone; {'; '.join(filter(None, map(missing_toolchain, NAMES)))}"
            )
        recogniser = ProgramRecogniser()
    return DecoderPlan(decoder=decoder, system=system, recogniser=recogniser, graft=graft, task=task)


class ServedDecoder:
    """Answers requests for translations in the steps of a decoder; it belongs to one thread, but for `source` and what
    refuses or counts.

    Args:
        plan: see there.
        loaded: the model, its graft on.
        base: for embeddings and for engines that the decoder names; it may load what is loaded, graft and all.
        side: to answer beside others; None: one translation after the other, and nothing else meanwhile.
        engine: answers in place of the model.
    """

    def __init__(
        self,
        plan: DecoderPlan,
        loaded: AskedModel,
        base: EngineModel,
        side: Side | None = None,
        engine: AnsweringEngine | None = None,
    ) -> None:
        self._plan, self._decoder = plan, plan.decoder
        self._steps = list(plan.decoder.expected_steps())
        self._can = lru_cache(DIRECTIONS)(self._works)
        self._engine = engine or engine_here(loaded, plan.graft is not None, side)
        self._decoding = ServedDecoding(
            decoder=plan.decoder,
            system=plan.system,
            sampling=Sampling(),
            engine=self._engine,
            graft=plan.graft,
            model=base,
            too_long=too_long(self._engine),
        )

    @property
    def name(self) -> str:
        """Of the decoder."""
        return self._decoder.name

    @property
    def task(self) -> Task:
        """What it makes of texts."""
        return self._plan.task

    @property
    def draws(self) -> bool:
        """Whether it draws by a temperature of its own."""
        return bool(getattr(self._decoder.params, "temperature", 0))

    def close(self) -> None:
        """Close metrics and engines."""
        self._decoding.close()

    def source(self, question: ChatRequest) -> Source | None:
        """Return what a question asks to translate; None where it is answered as without a decoder: it asks for
        something else, names the language of its answer, wants the rationale, or a direction for which the decoder
        lacks something."""
        if question.language or question.rationale:
            return None
        source = self._plan.recogniser.source(question.messages)
        return source if source is not None and self._can(source.source_lang, source.target_lang) else None

    def _works(self, source: str, target: str) -> bool:
        try:
            chosen_decoder(self._decoder, (source, target))
        except (UsageError, DataError):
            return False
        return True

    def refuse(self, question: ChatRequest) -> None:
        """Refuse what would not keep its meaning.

        Raises:
            ApiError: see there.
        """
        calls = sum(step.answers for step in self._steps)
        if question.max_completion_tokens is not None and calls > 1:
            raise self._refusal(
                "max_completion_tokens",
                f"takes several answers for {ONE[self.task]}; send max_tokens, which bounds each",
            )
        params = self._decoder.params
        for name, given in (("temperature", question.temperature), ("top_p", question.top_p)):
            own = getattr(params, name, None)
            if own is not None and given not in (own, None if name == "temperature" else 1.0):
                raise self._refusal(name, f"draws with a {name} of {own:g}; leave {name} out")

    def _refusal(self, param: str, what: str) -> ApiError:
        message = f"{param}: the decoder {self.name!r}, by which this is answered here, {what}"
        return ApiError(400, message, param=param, code="unsupported_parameter")

    def tokens(self, read: int, most: int) -> int:
        """Return about how many tokens a translation may come to, read and written in all steps.

        Args:
            read: tokens of the question.
            most: tokens that a translation may have.
        """
        return ceil(sum(step.answers * (read + (most if step.tokens is None else step.tokens)) for step in self._steps))

    def events(self, source: Source, sampling: Sampling, left: Callable[[], bool] = never) -> Iterator[Event]:
        """Yield the events of one translation, which comes as one piece; none where nobody waits for it any more.

        Args:
            source: what is to be translated.
            sampling: of the steps, as far as the decoder does not say otherwise.
            left: whether nobody waits any more; asked between and within the steps.

        Raises:
            ApiError: a step does not fit into the model's context, or what is to answer it fails.
            ModelError: the model computes what is no number.
        """

        def work() -> TooLongError | tuple[PartStart, Decoded]:
            return self._translated(source, sampling, left)

        try:
            bridge = self._engine.bridge
            found = work() if bridge is None else (yield from bridge.run(work, left))
        except Left:
            return
        except (EngineError, DataError, UsageError, SandboxError) as error:
            raise ApiError(
                500, f"a step of the decoder {self.name!r} was not answered; try again later", code="decoder_failed"
            ) from error
        if isinstance(found, TooLongError):
            raise ApiError(
                400,
                f"a step of the decoder {self.name!r} does not fit into the model's context ({found.reason}); shorten "
                f"the text",
                param="messages",
                code="context_length_exceeded",
            )
        yield from found

    def _translated(
        self, source: Source, sampling: Sampling, left: Callable[[], bool]
    ) -> TooLongError | tuple[PartStart, Decoded]:
        """Return the events of one translation, or that a step of it is too long; no other is made meanwhile."""
        self._engine.left, self._engine.clock = left, Clock()
        self._decoding.sampling, self._decoding.read = sampling, 0
        with within_limits(self.task, left):
            found = self._decoding.translation(source)
        if isinstance(found, TooLongError):
            return found
        self._engine.clock.shown(found.text)
        segments, cut = parts(found, self._decoding.known, self._engine.renderer)
        cut = cut or is_cut(found, self.task, self._decoding.known)
        return PartStart(TEXT, False, True), Decoded(
            text=found.text,
            segments=segments,
            timing=self._engine.clock.timing(self._decoding.read),
            state="unfinished" if cut else COMPLETE,
            failure=found.failure,
            lang="",
            decoder=self.name,
            calls=found.calls,
            outcome=found.outcome,
        )


def is_cut(translation: Translation, task: Task, answers: Mapping[tuple[str, str], Generation]) -> bool:
    """Return whether the token limit ended a summary or a program that is shown: its failure is that of the first step
    that had one, which may be another.

    Args:
        translation: what came of a text.
        task: of the decoder.
        answers: all that were written for it, by step and request.
    """
    if task == "translation" or not translation.text:
        return False
    shown = _shown(translation.text, {key: one for key, one in answers.items() if key[1] == translation.id})
    return shown is not None and answers[shown].finish_reason == "length"


def parts(
    translation: Translation, answers: Mapping[tuple[str, str], Generation], renderer: Renderer
) -> tuple[tuple[Segment, ...], bool]:
    """Return the tokens of the parts of a translation, and whether the token limit ended it.

    The part "text" is the answer from which the translation was taken: of those that hold it, the last one that says
    nothing else, or begins with it. All others stand under the names of their steps, without their texts.

    Args:
        translation: of a text.
        answers: all that were written for it, by step and request.
        renderer: of the model's tokenizer, which tells thoughts from what is said behind them.
    """
    shown = _shown(translation.text, answers)
    tokens = dict[str, int]()
    for key, answer in answers.items():
        if key != shown:
            tokens[key[0]] = tokens.get(key[0], 0) + len(answer.token_ids)
    written = len(answers[shown].token_ids) if shown else 0
    if shown and translation.thought:
        said = min(written, renderer.count(translation.text))
        tokens[THOUGHT], written = written - said, said
    segments = [Segment(role, "", count) for role, count in tokens.items() if count]
    cut = translation.failure == "unfinished" or (
        not translation.text and any(answer.finish_reason == "length" for answer in answers.values())
    )
    return (*segments, Segment(TEXT, translation.text, written)), cut


def _shown(text: str, answers: Mapping[tuple[str, str], Generation]) -> tuple[str, str] | None:
    """Return from which answer a text was taken; None if from none."""
    near = {key: _nearness(text, answers[key].text) for key in reversed([*answers])}
    best = max(near, key=lambda key: near[key], default=None)  # the last of equals
    return best if best is not None and near[best] else None


def _nearness(translation: str, answer: str) -> int:
    """Return how surely a translation was taken from an answer; 0: it was not."""
    said = answer.strip()
    if not translation or translation not in said:
        return 0
    return 3 if said == translation else 2 if said.startswith(translation) else 1
