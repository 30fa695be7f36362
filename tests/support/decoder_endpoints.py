"""Endpoints with tiny random models that translate through decoders."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from chains import MARKERS
from endpoints import CAPS, asking, tiny
from lingraft.conversation.chain import Caps
from lingraft.data.records import Message, Request
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep
from lingraft.decoders.direct import drafts
from lingraft.engines.base import EngineModel
from lingraft.models.graft import read_info
from lingraft.models.loading import LoadedModel
from lingraft.serving.answerer import Answerer
from lingraft.serving.decoder import ServedDecoder, decoder_plan
from lingraft.serving.decoding import Side
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import VARIANTS, TranslationSystem
from lingraft.translation.wording import ask as worded

SOURCE = Source("s", "Guten Tag.", "de", "en")
ASKED = worded(VARIANTS[1], SOURCE.text, "de", "en")[0].content


class Improved(Decoder):
    """The base improves what the system wrote."""

    name = "improved"
    summary = "translate, improve"

    def expected_steps(self) -> list[ExpectedStep]:
        return [ExpectedStep(name="drafts"), ExpectedStep(name="improved", of="base", tokens=30)]

    def run(self, sources: Any, system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        for one in list(drafts(sources, system, inputs)):
            sampling = replace(inputs.sampling, max_new_tokens=4)
            asked = Request(one.id, (Message("user", f"improve: {SOURCE.text}"),), sampling, direct=True)
            (answer,) = inputs.ask("improved", [asked], "base").values()
            yield replace(one, text=answer.text.strip(), calls=2, outcome="improved")


def decoder_of(
    choice: Any, loaded: LoadedModel | None = None, graft: Path | None = None, side: Side | None = None
) -> ServedDecoder:
    loaded = loaded or tiny()
    plan = decoder_plan(choice, graft, read_info(graft) if graft else None)
    return ServedDecoder(plan, loaded, EngineModel.of(loaded), side)


def answering(choice: Any, caps: Caps = CAPS, *, chain: bool = False, **options: Any) -> Answerer:
    loaded = tiny()
    return Answerer(loaded, MARKERS if chain else None, caps, decoder=decoder_of(choice, loaded), **options)


@contextmanager
def left_after_its_request(url: str, text: str = ASKED) -> Iterator[None]:
    """A client that asks for something, by default a translation, and leaves at the end of the block."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(asking(text)).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", f"Host: {host}", "Content-Type: application/json")
    head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "", ""))
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        yield
