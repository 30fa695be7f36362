"""Decoders in daily use: their steps are answered by an open engine, and a text that is too long costs that text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from lingraft.core.environment import cache_folder
from lingraft.core.errors import TooLongError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.tasks import ALL_TASKS, Task, misfit, task_in_use
from lingraft.core.validation import HOLDS_ENGINE, HOLDS_METRIC, holding
from lingraft.data.records import Generation, Pair, Request, Sampling
from lingraft.decoders.base import DECODERS, Decoder, DecoderInputs, Of, Surroundings, decoded
from lingraft.engines.base import ENGINES, Engine, EngineModel
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.metrics.segments import segment_scores
from lingraft.store.artefacts import LOCK
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import make_folder
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

if TYPE_CHECKING:
    import numpy as np

    from lingraft.models.embedding import TextEmbedder

FIRST_WINDOW = 16
"""Texts asked for first by an engine that answers in parts; later parts grow up to `LAST_WINDOW`."""
LAST_WINDOW = 64
"""What a kill may lose, at most: an engine gives the answers of a part in any order."""

TOO_LONG = "too_long"
"""`Translation.failure` of a text that is too long for the model."""

DRAWN = 0.7
"""Temperature of translations that are drawn, where the likeliest one will not do."""

_ANY = ("de", "en")
"""Tells whether what a metric needs is installed, where nobody has said which languages it is for."""

DecoderChoice = str | Mapping[str, Any] | Decoder
"""A decoder by its name, by its `kind` and parameters, or itself."""

T = TypeVar("T")


def task_of(choice: DecoderChoice | None) -> Task:
    """Return what a decoder makes of texts in daily use: translations, if it can, else summaries or programs.

    Args:
        choice: the decoder; None: each text is asked for once, for a translation.

    Raises:
        UsageError: an unknown decoder.
    """
    return "translation" if choice is None else task_in_use(_entry(choice).tasks)


def _entry(choice: DecoderChoice) -> type[Decoder]:
    if isinstance(choice, Decoder):
        return type(choice)
    kind = choice if isinstance(choice, str) else choice.get("kind")
    if not isinstance(kind, str):
        raise UsageError("a decoder has a `kind`, see `lingraft list decoders`, and its parameters beside it")
    return DECODERS.get(kind)


def chosen_decoder(
    choice: DecoderChoice, direction: tuple[str, str] | None, tasks: Collection[Task] = ALL_TASKS
) -> Decoder:
    """Return a decoder that has all it needs where nothing but texts is given.

    Args:
        choice: the decoder.
        direction: codes of the source and target languages; None where each text has its own.
        tasks: what it may be for, see `task_of`.

    Raises:
        UsageError: unknown decoder, parameter, metric or engine; one that is not for any of these tasks, or that lacks
            something.
        DataError: a file that it is to read cannot be read.
    """
    entry = _entry(choice)
    if not entry.tasks & set(tasks):  # no parameter would mend that
        wanted = task_in_use(tasks)
        fitting = [name for name in DECODERS if wanted in DECODERS.get(name).tasks]
        raise UsageError(misfit("decoder", entry.name, entry.tasks, wanted, fitting))
    if isinstance(choice, str):
        choice = {"kind": choice}
    decoder = choice if isinstance(choice, Decoder) else DECODERS.create(choice)
    for name in holding(decoder.Params, HOLDS_METRIC):
        if (metric := getattr(decoder.params, name, None)) is not None:
            tried = direction or _ANY
            open_metric(metric).metric.build(*tried, tried)  # says whether it can be measured here
    for name in holding(decoder.Params, HOLDS_ENGINE):
        if isinstance(engine := getattr(decoder.params, name, None), Mapping):
            _engine_class(engine)
    decoder.check()
    if lacking := decoder.lacks(Surroundings(directions=() if direction is None else (direction,))):
        raise UsageError(f"decoder {decoder.name!r}: {lacking}")
    return decoder


def engine_kind(choice: str | Mapping[str, Any]) -> tuple[type[Engine], Any]:
    """Return the engine that a choice stands for, and its parameters.

    Args:
        choice: a name, or `kind` with its parameters as in a recipe.

    Raises:
        UsageError: unknown engine or parameter.
    """
    kind, params = ENGINES.read({"kind": choice} if isinstance(choice, str) else {"kind": "auto", **choice})
    found, params, _ = kind.chosen(params)
    return found, params


def _engine_class(choice: Mapping[str, Any]) -> tuple[type[Engine], Any]:
    found, params = engine_kind(choice)
    if lacking := found.missing():
        raise UsageError(f"engine {found.name!r}: {lacking}")
    return found, params


def no_room(tokens: int, most: int, context: int | None) -> str:
    """Return why a request leaves no room for its answer; "" if it does.

    Args:
        tokens: of the prompt.
        most: tokens that the answer may have.
        context: tokens that the model can hold; None: no limit is known.
    """
    if context is None or tokens + most <= context:
        return ""
    return f"{tokens:,} tokens leave no room for {most:,} of {context:,}"


def windows(texts: Sequence[T], engine: Engine) -> Iterator[Sequence[T]]:
    """Yield what is asked for at once: all of an engine that streams, else parts that grow."""
    begin, size = 0, len(texts) if engine.streams else FIRST_WINDOW
    while begin < len(texts):
        yield texts[begin : begin + size]
        begin, size = begin + size, min(2 * size, max(LAST_WINDOW, engine.part_size // 4))


def answers(engine: Engine, asked: Sequence[Request], graft: Path | None) -> Iterator[Generation | TooLongError]:
    """Yield the answers, the first texts' first: an engine that does not stream is asked window by window.

    What turns out to be too long only when it is asked (a server may hold less than the model) is given as its error.
    """
    for window in windows(asked, engine):
        waiting = {request.id: request for request in window}
        while waiting:
            try:
                for generation in engine.generate(list(waiting.values()), graft):
                    del waiting[generation.id]
                    yield generation
            except TooLongError as error:
                del waiting[error.request_id]
                yield error


@dataclass(kw_only=True)
class Decoding:
    """A decoder on an open engine.

    Attributes:
        decoder: asks.
        system: how the weights are asked for a translation.
        sampling: of a translation.
        engine: answers, with the graft or without.
        graft: of the system; None where it is the base itself.
        model: the base, for other engines that a decoder names.
        too_long: of a request and who is asked, "system" or "base": why it leaves no room for its answer, "" if it
            does.
        known: the answers to the texts at hand, by step and request id, in the order in which they came.
    """

    decoder: Decoder
    system: TranslationSystem
    sampling: Sampling
    engine: Engine
    graft: Path | None
    model: EngineModel
    too_long: Callable[[Request, str], str]
    known: dict[tuple[str, str], Generation] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)
    _engines: dict[str, Engine] = field(default_factory=dict)
    _metrics: dict[str, OpenMetric] = field(default_factory=dict)
    _embedders: dict[str | None, TextEmbedder] = field(default_factory=dict)

    def translations(self, sources: Sequence[Source]) -> Iterator[Translation | TooLongError]:
        """Yield, window by window, the translation of each source, or why it has none: a step of it is too long.

        Raises:
            EngineError: an answer fails, or the decoder leaves a text out.
        """
        with self._open:
            asks_others = any(step.of != "system" for step in self.decoder.expected_steps())
            if not asks_others and not self.decoder.reads_base:
                self._open.enter_context(self.engine.keeping(self.graft))
            for window in windows(sources, self.engine):
                self.known.clear()
                yield from self._decoded(window)

    def translation(self, source: Source) -> Translation | TooLongError:
        """Return the translation of one text, or why it has none; metrics and engines stay open until `close`.

        Raises:
            EngineError: an answer fails, or the decoder leaves the text out.
        """
        self.known.clear()
        (found,) = self._decoded([source])
        return found

    def close(self) -> None:
        """Close metrics and engines."""
        self._open.close()

    def _decoded(self, sources: Sequence[Source]) -> Iterator[Translation | TooLongError]:
        """Yield what a decoder makes of a window. Where a step of a text is too long, halves of the window are decoded
        anew until it stands alone; what was answered before is not asked again."""
        task = task_in_use(self.decoder.tasks)
        inputs = DecoderInputs(ask=self, sampling=self.sampling, task=task, score=self._score, embed=self._embed)
        try:
            found = decoded(self.decoder, sources, self.system, inputs)
        except TooLongError as error:
            if len(sources) == 1:
                yield TooLongError(sources[0].id, error.reason)
                return
            middle = len(sources) // 2
            yield from self._decoded(sources[:middle])
            yield from self._decoded(sources[middle:])
        else:
            yield from found.values()

    def __call__(self, step: str, requests: Iterable[Request], of: Of = "system") -> Mapping[str, Generation]:
        """Return the answers to a step; see `lingraft.decoders.base.Ask`.

        Raises:
            TooLongError: a request leaves no room for its answer; all others of the step are answered and known.
        """
        asked = list(requests)
        waiting = {request.id: request for request in asked if (step, request.id) not in self.known}
        refused: list[TooLongError] = []
        if isinstance(of, str):
            for request in list(waiting.values()):
                if reason := self.too_long(request, of):
                    del waiting[request.id]
                    refused.append(TooLongError(request.id, reason))
        engine = self.engine if isinstance(of, str) else self._other(of)
        while waiting:
            try:
                for answer in engine.generate(list(waiting.values()), self.graft if of == "system" else None):
                    del waiting[answer.id]
                    self.known[step, answer.id] = answer
            except TooLongError as error:
                del waiting[error.request_id]
                refused.append(error)
        if refused:
            raise refused[0]
        return {request.id: self.known[step, request.id] for request in asked}

    def _other(self, choice: Mapping[str, Any]) -> Engine:
        key = content_hash(dict(choice))
        if key not in self._engines:
            kind, params = _engine_class(choice)
            self._engines[key] = kind.create(self.model, params)
            self._open.callback(self._engines[key].close)
        return self._engines[key]

    def _embed(self, texts: Sequence[str], embedder: str | None) -> np.ndarray:
        """Embed texts; see `lingraft.decoders.base.Embed`. Those of more than a window are kept in the user's cache.

        Raises:
            UsageError: the base's own states are wanted, and the engine holds the base elsewhere.
            ModelError: the embedding model cannot be used.
        """
        from lingraft.models.embedding import TextEmbedder, embedder_folder, kept_vectors
        from lingraft.models.hashes import model_hash

        if embedder is None and not self.engine.local:
            raise UsageError(
                f"pairs are to be chosen by the base's own states, which the engine {self.engine.name!r} does not "
                f"give; name an `embedder`, take another `retriever`, or the engine transformers"
            )

        def opened() -> TextEmbedder:
            if embedder not in self._embedders:
                made = TextEmbedder.open(embedder) if embedder else TextEmbedder.of_base(self.model.load())
                self._embedders[embedder] = made
            return self._embedders[embedder]

        if len(texts) <= LAST_WINDOW:
            return opened().vectors(texts)
        with_base = [self.model.files.sha256, self.model.precision]
        identity = with_base if embedder is None else [model_hash(embedder_folder(embedder))]
        folder = cache_folder() / "vectors" / content_hash([identity, texts])[:32]
        with explain_os_errors(folder):
            make_folder(folder)
            with FileLock(folder / LOCK):  # one process embeds, others read what it has made
                return kept_vectors(opened, texts, folder, identity)

    def _score(self, metric: str | Mapping[str, Any], pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
        """Score texts; see `DecoderInputs.score`. A metric stays open until all is translated."""
        key = content_hash(metric if isinstance(metric, str) else dict(metric))
        if key not in self._metrics:
            self._metrics[key] = open_metric(metric)
            self._open.callback(self._metrics[key].metric.close)
        return segment_scores(self._metrics[key], list(zip(pairs, texts, strict=True)), ())
