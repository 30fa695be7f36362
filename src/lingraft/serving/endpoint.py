"""An OpenAI-compatible endpoint of one graft or base, from its options to its end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from lingraft.conversation.chain import Caps
from lingraft.conversation.decoding import DecoderChoice
from lingraft.core.errors import UsageError
from lingraft.core.packages import install_command, is_installed
from lingraft.core.progress import Reporter

if TYPE_CHECKING:
    from lingraft.serving.streaming import Streaming

KEY = "LINGRAFT_API_KEY"


@dataclass(frozen=True)
class ServeOptions:
    """Where to serve, under which name, and how to answer.

    Attributes:
        waiting: requests that may wait for those that are answered.
        tokens: of all these together.
        batch: requests that are answered at once; 1: one after the other.
        batch_tokens: most tokens of these together, padding and what is still to be written included.
        most_read: tokens of a conversation; None for as many as the model takes.
        connections: open at once.
        without_key: others may ask without a key.
        route: what decides which questions the graft answers, and which its base; "": the graft all.
        decoder: answers requests for translations in several steps: a name of `list_entries("decoders")`, its `kind`
            and parameters, or a decoder itself; None: they are answered as all others are.
        beside: further grafts of the same base by the names by which clients ask for them. Route and decoder are the
            first one's. With them, or with a page, the base is served under the name "base", too.
        glossaries: folder where glossaries of clients are kept; None: in memory, until the server ends.
        page: serve a page in which base and grafts are asked side by side.
        engine: writes the answers: "transformers", the model in this process's memory; "vllm" or "openai", or one of
            these as `kind` with its parameters.
        origins: of web pages elsewhere that may ask, such as "https://cat.example.org"; "*", with a key: of all.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = ""
    caps: Caps = field(default_factory=Caps)
    temperature: float = 0.0
    waiting: int = 16
    tokens: int = 131_072
    batch: int = 32
    batch_tokens: int = 24_576
    most_read: int | None = None
    connections: int = 256
    without_key: bool = False
    route: str = ""
    decoder: DecoderChoice | None = None
    beside: Mapping[str, Path] = field(default_factory=dict)
    glossaries: Path | None = None
    page: bool = False
    engine: str | Mapping[str, Any] = "transformers"
    origins: Sequence[str] = ()


def serve_model(
    graft: Path | None, model: str | None, options: ServeOptions, reporter: Reporter, until: Event | None = None
) -> None:
    """Serve a graft, or a base, until SIGINT or SIGTERM. The key of clients is $LINGRAFT_API_KEY, if set.

    Args:
        graft: folder, or that of its run; None for the base alone.
        model: the base, where it is not the one that the graft names.
        options: where and how.
        reporter: is given a line for each answer.
        until: ends the service once it is set: in another thread than the main one, no signal does.

    Raises:
        LingraftError: a package is missing, the address cannot be had, or model, graft or decoder cannot be used.
    """
    missing = [name for name in ("starlette", "uvicorn") if not is_installed(name)]
    if missing:
        raise UsageError(f"`lingraft serve` needs {' and '.join(missing)}: {install_command('uvicorn')}")
    from lingraft.core.tasks import PLURAL
    from lingraft.engines.base import EngineModel
    from lingraft.engines.openai_http import is_loopback
    from lingraft.models.devices import one_core_left
    from lingraft.models.graft import find_graft, is_exported, read_asking, read_info
    from lingraft.routing.router import Router, decider_of
    from lingraft.serving.answerer import Answerer
    from lingraft.serving.app import Api
    from lingraft.serving.batching import Batching
    from lingraft.serving.decoder import ServedDecoder, decoder_plan
    from lingraft.serving.document import DocumentService
    from lingraft.serving.document_reading import READERS
    from lingraft.serving.glossaries import Glossaries
    from lingraft.serving.limits import Limits, descriptors
    from lingraft.serving.log import Aside, Log
    from lingraft.serving.origins import read_origins
    from lingraft.serving.page import Page
    from lingraft.serving.queue import RequestQueue
    from lingraft.serving.rationale import Rationales
    from lingraft.serving.server import bound, serve
    from lingraft.serving.streaming import engine_elsewhere, streaming
    from lingraft.serving.systems import ServedSystem, open_systems, systems_elsewhere
    from lingraft.serving.translation import TranslationService
    from lingraft.serving.translator import Translator

    key, local = client_key(os.environ), is_loopback(options.host)
    if key and options.without_key:
        raise UsageError(f"{KEY} is set, and clients have to send it; unset it, or leave out --without-key")
    if not (local or key or options.without_key):
        raise UsageError(
            f"whoever reaches {options.host} could ask: set {KEY} to a secret that clients send, leave out --host, or "
            f"let everybody ask with --without-key"
        )
    origins = read_origins(options.origins, with_key=bool(key))
    elsewhere = engine_elsewhere(options.engine)
    decided = plan = None
    folder = find_graft(graft) if graft is not None else None
    if options.route:
        decided = decider_of(folder, read_info(folder) if folder else None, options.route)
    merged = folder is None and model is not None and is_exported(Path(model))
    info = read_info(folder) if folder else read_asking(Path(str(model))) if merged else None
    if options.decoder is not None:
        decider, wordings = decided or (None, ())
        plan = decoder_plan(options.decoder, folder, info, wordings, decider)
        if plan.task == "code" and options.without_key:
            raise UsageError(
                f"the decoder {plan.decoder.name!r} runs programs that clients send: set {KEY} to a secret that they "
                f"send, too, instead of --without-key"
            )
    glossaries = Glossaries(options.glossaries)
    several = bool(options.beside) or options.page
    with bound(options.host, options.port) as socket, ExitStack() as stack:
        writing: Batching | Streaming
        named = (graft, model, options.name, options.beside)
        if elsewhere is None:
            stack.enter_context(one_core_left())  # for the server itself, which sends each token to its client
            systems = stack.enter_context(open_systems(*named, with_base=several))
            writing = batching = Batching.of(
                systems, options.batch, options.batch_tokens, base_too=bool(decided or plan)
            )
            stack.enter_context(batching.packed())
        else:
            systems = systems_elsewhere(*named, with_base=several)
            decider = decided[0] if decided else None
            writing, systems = stack.enter_context(
                streaming(*elsewhere, systems, options.batch, plan=plan, decider=decider)
            )
        first, loaded, markers = systems[0], systems[0].loaded, systems[0].markers
        desk = RequestQueue(options.waiting, options.tokens, writing.at_once, writing.step)
        aside = Aside(reporter.say)
        limits = Limits(connections=options.connections).within(descriptors())
        base = EngineModel.at(loaded.files, variables=info.template if info else None)
        if elsewhere is None:
            base = replace(base, load=lambda: first.in_memory)
        wake = desk.rounds.wake
        engines = writing.answering(first, wake)
        stack.callback(READERS.close)
        decoder = ServedDecoder(plan, loaded, base, engine=engines()) if plan is not None else None

        def translating(one: ServedSystem, **more: Any) -> tuple[TranslationService, DocumentService]:
            parts = (one.loaded, one.info, one.folder, base)
            how: dict[str, Any] = {"most": options.caps.native, "put_on": one.put_on, **more}
            beside, alone = engines if one is first else writing.answering(one, wake), writing.answering(one, wake)
            texts = TranslationService(Translator(*parts, **how, engine=beside()), options.tokens)
            return texts, DocumentService(Translator(*parts, **how, engine=alone()), texts, lambda: desk.over)

        translations, documents = translating(first, decoder=plan.decoder if plan else None)
        further = {one.name: translating(one) for one in systems[1:]}
        try:
            answerer = Answerer(
                loaded,
                markers,
                options.caps,
                temperature=options.temperature,
                most_read=options.most_read,
                router=Router(loaded, *decided) if decided else None,
                decoder=decoder,
                put_on=first.put_on,
                rationales=Rationales.of(first.info, decided[1] if decided else ()),
                writing=writing.writing(first.name),
                logprobs=writing.gives_logprobs,
            )
            beside = {
                one.name: Answerer(
                    one.loaded,
                    one.markers,
                    options.caps,
                    temperature=options.temperature,
                    most_read=options.most_read,
                    put_on=one.put_on,
                    rationales=Rationales.of(one.info),
                    writing=writing.writing(one.name),
                    logprobs=writing.gives_logprobs,
                )
                for one in systems[1:]
            }
            log = Log(aside)
            if not isinstance(writing, Batching):
                writing.tell(log.line)
            api = Api(
                answerer,
                first.name,
                desk,
                key=key,
                local_only=local and not key,
                literal_only=not (local or key),
                own_name=options.host,
                log=log.line,
                limits=limits,
                beside=beside,
                translations=translations,
                documents=documents,
                translations_beside=further,
                glossaries=glossaries,
                page=Page(systems, options.caps.native) if options.page else None,
                origins=origins,
                ended=lambda: not isinstance(writing, Batching) and writing.ended,
            )
            host, port = socket.getsockname()[:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            how = "without chain" if markers is None else f"in English, {', '.join(markers.languages)}"
            how = f"translations, its base all else ({options.route})," if decided else how
            how = f"{how.removesuffix(',')}, {PLURAL[decoder.task]} by {decoder.name}," if decoder else how
            others = f" ({', '.join(beside)} beside it)" if beside else ""
            how = f"{how.removesuffix(',')}, by the engine {elsewhere[0].name}," if elsewhere else how
            log.line(f"{first.name} answers {how} at http://{address}/v1{others}; Ctrl-C ends.")
            if options.page:
                log.line(f"The page: http://{address}/")
            serve(api.app(), desk, socket, limits, log, until)
            log.line("Ended.")
        finally:
            desk.close()
            writing.close()
            for texts, files in ((translations, documents), *further.values()):
                texts.close()
                files.close()
            if decoder is not None:
                decoder.close()
            aside.close()


def client_key(environment: Mapping[str, str]) -> str:
    """Return the key that clients must send, empty where none is set.

    Raises:
        UsageError: it is set, but holds nothing: a secret that was not filled in must not open the server.
    """
    key = environment.get(KEY)
    if key is not None and not key.strip():
        raise UsageError(f"{KEY} is set but empty; set it to a secret, or unset it to serve without a key")
    return (key or "").strip()
