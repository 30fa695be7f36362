"""A graft on its base, or a base alone, that translates and holds conversations until it is closed."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from lingraft.conversation.chat import Chat, Held
from lingraft.conversation.decoding import (
    DRAWN,
    TOO_LONG,
    DecoderChoice,
    Decoding,
    answers,
    chosen_decoder,
    engine_kind,
    no_room,
    task_of,
)
from lingraft.conversation.directions import chosen_direction, program_direction, untrained_note
from lingraft.conversation.opening import DEFAULT_MODEL, markers_in_use
from lingraft.conversation.session import ChatOptions
from lingraft.core.errors import TooLongError, UsageError
from lingraft.core.progress import Reporter
from lingraft.core.tasks import ALL_TASKS, NOUNS, Task
from lingraft.data.records import Request, Sampling
from lingraft.decoders.base import Decoder
from lingraft.engines.base import Engine, EngineModel
from lingraft.models.files import ModelFiles, find_model, longest_sequence
from lingraft.models.graft import (
    GraftInfo,
    find_base,
    find_graft,
    graft_renderer,
    grafted,
    is_exported,
    read_asking,
    read_info,
)
from lingraft.models.graft_seal import adapter_hash
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer
from lingraft.routing.router import Router, decider_of
from lingraft.translation.blocks import TextBlock, document_blocks, joined, line_blocks
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.markers import Markers
from lingraft.translation.wording import TranslationSystem


class OpenGraft:
    """A graft on its base, or a base alone. Weights are loaded when they are first needed.

    It does one thing at a time: other threads wait for their turn.

    Args:
        graft: folder of the graft, of its run, or of a graft and its base as one model; None for a base alone.
        model: the base, where it is not the one that the graft names; without a graft, what answers.
        engine: what answers requests for translations: a name, or `kind` with its parameters as in a recipe.
        reporter: is told what a user should know.
        route: what decides which turns of a conversation the graft answers, and which its base; "": the graft all.

    Attributes:
        graft: folder of the adapter; None of a base, or of a graft and its base as one model.
        info: how it is asked; None of a base.

    Raises:
        UsageError: unknown engine, or one that is not installed.
        ModelError: no graft.
    """

    def __init__(
        self,
        graft: Path | None = None,
        model: str | None = None,
        engine: str | Mapping[str, Any] = "auto",
        reporter: Reporter | None = None,
        route: str = "",
    ) -> None:
        self._reporter = reporter or Reporter(quiet=True)
        self._kind, self._params = engine_kind(engine)
        self.info: GraftInfo | None = None
        self._merged = graft if graft is not None and is_exported(graft) else None
        if self._merged is not None:
            if model is not None:
                raise UsageError(f"{graft} is a whole model and takes no base; leave out the model")
            model, graft = str(self._merged), None
        self.graft = find_graft(graft) if graft is not None else None
        if self.graft is not None:
            self.info = read_info(self.graft)
        elif model is not None and is_exported(Path(model)):
            self.info = read_asking(Path(model))
        self._model = model
        self._decider = decider_of(self.graft, self.info, route) if route else None
        self._engine: Engine | None = None
        self._chatting = ExitStack()
        self._on: tuple[LoadedModel, Markers | None] | None = None
        self._turn = threading.Lock()
        self._at_work = 0  # the thread whose turn it is

    def __enter__(self) -> OpenGraft:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take the graft off and stop the engine."""
        self._leave_chat()
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def identity(self) -> list[Any]:
        """What decides translations beside what is asked: the base, the graft, how it is asked, and the engine."""
        graft = adapter_hash(self.graft) if self.graft is not None else None
        how = self.info.model_dump(mode="json") if self.info else None
        return [self.files.sha256, graft, how, self._kind.identity(self._params)]

    @property
    def answers_through_chain(self) -> bool:
        """Whether it holds conversations through the translation chain of thought."""
        return self.graft is not None and self.info is not None and self.info.chat == "tcot"

    @cached_property
    def files(self) -> ModelFiles:
        """Where the base is and what it is.

        Raises:
            ModelError: it is not found, or has other weights than those the graft was trained on.
        """
        if self.info is not None and self.graft is not None:
            return find_base(self.info, self.graft, self._model)
        return find_model(self._model or DEFAULT_MODEL)

    @cached_property
    def _base(self) -> EngineModel:
        return EngineModel.at(self.files, variables=self.info.template if self.info else None)

    @cached_property
    def _renderer(self) -> Renderer:
        return graft_renderer(self.files, self.graft) if self.graft else self._base.renderer

    @cached_property
    def _context(self) -> int | None:
        return self._kind.longest(self._params, longest_sequence(self.files.folder))

    def direction(self, source: str = "", target: str = "", task: Task = "translation") -> tuple[str, str]:
        """Return the languages of a translation, those that are not given from the graft's directions.

        Args:
            source: code of the texts' language.
            target: that of their translations.
            task: what they are; languages of programs ("code") are always given.

        Raises:
            UsageError: they are not given, and no graft or several directions of it leave them open.
        """
        if task == "code":
            return program_direction(source, target)
        trained = [(one.source, one.target) for one in self.info.directions] if self.info else None
        chosen = chosen_direction(trained, source, target)
        if source and target and (note := untrained_note(trained or (), *chosen)):
            self._reporter.say(f"Note: {note}")
        return chosen

    def blocks(
        self, lines: Sequence[str], source: str, target: str, max_new_tokens: int, *, document: bool
    ) -> list[TextBlock]:
        """Return the parts of a text that are asked for one by one, and those that are copied.

        Args:
            lines: of the text.
            source: its language.
            target: language of the translation.
            max_new_tokens: of a translation.
            document: whether the lines are one text, and its parts paragraphs; else each line is a part.
        """
        if not document:
            return line_blocks(lines)
        # A translation takes up to twice the tokens of its source; longer paragraphs are cut.
        most = max(1, min(max_new_tokens, self._context or max_new_tokens) // 2)
        return document_blocks(lines, most, self._renderer.count, source, target)

    def decoder(self, choice: DecoderChoice, source: str, target: str, tasks: Collection[Task] = ALL_TASKS) -> Decoder:
        """Return a decoder that works here, before any weights are loaded.

        Args:
            choice: a name of `list_entries("decoders")`, its `kind` and parameters, or a decoder itself.
            source: language code of the texts, as `direction` gives it.
            target: language code of the translations, likewise.
            tasks: what it may be for; a text is a document for one of summaries, and a program for one of programs.

        Raises:
            UsageError: unknown decoder or parameter, one that is for none of the tasks, or that lacks something here.
            DataError: a file that it is to read cannot be read.
        """
        found = chosen_decoder(choice, (source, target), tasks)
        if self.graft is None and self.info is not None and found.asks_base:
            raise UsageError(
                f"the decoder {found.name!r} asks the untouched base, and {self._model} is a graft and its base as "
                f"one model; give the graft itself"
            )
        return found

    def translations(
        self,
        texts: Mapping[str, str],
        source: str,
        target: str,
        max_new_tokens: int = 512,
        decoder: DecoderChoice | None = None,
        draw: int = 0,
    ) -> Iterator[Translation | TooLongError]:
        """Start the engine, and return an iterator over the translations as they are finished.

        Args:
            texts: id -> text.
            source: language code of the texts, as `direction` gives it.
            target: language code of the translations, likewise.
            max_new_tokens: longest translation, in tokens.
            decoder: translates in steps of its own, see `decoder`; None: each text is asked for once.
            draw: 0: the likeliest translations; other numbers draw others, each its own.

        Returns:
            In any order, for each id a translation, or the error of a text that is too long for the model.

        Raises:
            ModelError: base or graft cannot be used.
            EngineError: the engine cannot be started, or an answer fails.
            UsageError, DataError: the decoder does not work here.
        """
        chosen = None if decoder is None else self.decoder(decoder, source, target)
        how = self.info.translating if self.info else TranslationSystem()
        sources = {key: Source(key, text, source, target) for key, text in texts.items()}
        refused, asked = list[TooLongError](), list[Request]()
        sampling = Sampling(max_new_tokens, DRAWN if draw else 0.0, seed=draw)
        with self._busy():
            for request in requests(sources.values(), how, sampling):
                if task_of(chosen) != "translation":  # it is asked otherwise, and step by step is told what is too long
                    asked.append(request)
                    continue
                if reason := self._too_long(request, self._renderer):
                    refused.append(TooLongError(request.id, reason))
                else:
                    asked.append(request)
            if asked and self._engine is None:
                self._engine = self._kind.create(self._base, self._params)

        def finished() -> Iterator[Translation | TooLongError]:
            yield from refused
            if self._engine is None or not asked:
                return
            with self._busy():
                self._leave_chat()
                if chosen is not None:
                    yield from self._decoding(chosen, how, sampling).translations(
                        [sources[request.id] for request in asked]
                    )
                    return
                for answer in answers(self._engine, asked, self.graft):
                    if isinstance(answer, TooLongError):
                        yield answer
                    else:
                        yield extract(sources[answer.id], answer, how.stop)

        return finished()

    def _too_long(self, request: Request, renderer: Renderer) -> str:
        """Return why a request leaves no room for its answer; "" if it does."""
        tokens = len(renderer.prompt_ids(request.messages).ids)
        return no_room(tokens, request.sampling.max_new_tokens, self._context)

    def _decoding(self, decoder: Decoder, how: TranslationSystem, sampling: Sampling) -> Decoding:
        assert self._engine is not None

        def too_long(request: Request, of: str) -> str:
            return self._too_long(request, self._base.renderer if of == "base" else self._renderer)

        return Decoding(
            decoder=decoder,
            system=how,
            sampling=sampling,
            engine=self._engine,
            graft=self.graft,
            model=self._base,
            too_long=too_long,
        )

    def translate(
        self,
        texts: Sequence[str],
        *,
        source: str = "",
        target: str = "",
        max_new_tokens: int = 512,
        document: bool = False,
        decoder: DecoderChoice | None = None,
    ) -> list[Translation]:
        """Translate texts.

        A text without a letter is copied. What went wrong with one is named in its `failure`: see
        `lingraft.translation.direct.extract`, and "too_long" for the model, whose translation is empty.

        Args:
            texts: any number.
            source: language of the texts, e.g. "de"; by default that of the graft's only direction.
            target: language to translate into; likewise.
            max_new_tokens: longest translation of a text (with `document` of a paragraph), in tokens.
            document: translate each text paragraph by paragraph; its first failure is that of the whole. Not for
                decoders of summaries and of programs, which take each text as a whole.
            decoder: translates in steps of its own: a name of `list_entries("decoders")`, its `kind` and parameters, or
                a decoder itself; None: each text is asked for once. `calls` of a translation says how many it took. One
                of summaries gives a summary of each text in the other language, one of programs a program.

        Returns:
            One translation a text, in the order of the texts; `id` is the place in it, from "0".

        Raises:
            UsageError: no languages are given, and the graft leaves them open; or the decoder does not work here.
            DataError: a file that the decoder is to read cannot be read.
            ModelError: base or graft cannot be used.
            EngineError: an answer fails.
        """
        if isinstance(texts, str):
            raise UsageError("translate takes a list of texts, not one text; put it in brackets: [text]")
        task = task_of(decoder)
        if document and task != "translation":
            raise UsageError(f"the decoder takes each text as a whole, for {NOUNS[task]}; leave `document` out")
        source, target = self.direction(source, target, task)
        chosen = None if decoder is None else self.decoder(decoder, source, target)
        parts: list[list[TextBlock]] = []
        for text in texts:
            if document:
                parts.append(self.blocks(text.split("\n"), source, target, max_new_tokens, document=True))
            else:
                copied = not any(block.translate for block in line_blocks(text.split("\n")))
                parts.append([TextBlock(1, text, "", translate=not copied)])
        wanted = dict.fromkeys(block.text for blocks in parts for block in blocks if block.translate)
        texts_by_id = {str(number): text for number, text in enumerate(wanted)}
        found: dict[str, Translation] = {}
        for one in self.translations(texts_by_id, source, target, max_new_tokens, chosen):
            key = one.request_id if isinstance(one, TooLongError) else one.id
            found[texts_by_id[key]] = Translation(key, "", 0, TOO_LONG) if isinstance(one, TooLongError) else one
        return [joined(str(number), blocks, found) for number, blocks in enumerate(parts)]

    def chat(self, options: ChatOptions | None = None) -> Chat:
        """Begin a conversation, through the translation chain of thought where the graft was trained for it.

        Args:
            options: language of the answers, limits, sampling, system message.

        Raises:
            UsageError: a language that the graft does not answer in, or a system message that the template refuses.
            ModelError: base or graft cannot be used.
        """
        return Chat(self.held, options or ChatOptions())

    def loaded(self) -> tuple[LoadedModel, Markers | None]:
        """Return the model in memory, the graft on, and the markers where it is asked through the chain.

        Raises:
            ModelError: base or graft cannot be used.
        """
        if self._on is None:
            if self._merged is not None:
                read_info(self._merged)  # says how a graft and its base as one model are given
            if self.graft is None or self.info is None:
                self._on = self._base.load(), None
            else:
                loaded = self._chatting.enter_context(grafted(self._base.load(), self.graft))
                self._on = loaded, markers_in_use(self.graft, self.info, loaded.renderer)
        return self._on

    def router(self) -> Router | None:
        """Return what lets the graft answer some turns and its base the others; None where one model answers all.

        Raises:
            ModelError: base or graft cannot be used.
        """
        return None if self._decider is None else Router(self.loaded()[0], *self._decider)

    def _leave_chat(self) -> None:
        """Take the graft off, which an engine puts on for itself."""
        self._on = None
        self._chatting.close()

    @contextmanager
    def held(self) -> Iterator[Held]:
        """Wait for a turn; while the block runs, nobody else has what a conversation goes on with."""
        with self._busy():
            loaded, markers = self.loaded()
            yield Held(loaded, markers, self.router())

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Wait for a turn, and keep it while the block runs."""
        own = threading.get_ident()
        if self._at_work == own:
            raise UsageError(
                "this graft is writing another answer, and does one thing at a time; read that to its end before"
            )
        with self._turn:
            self._at_work = own
            try:
                yield
            finally:
                self._at_work = 0
