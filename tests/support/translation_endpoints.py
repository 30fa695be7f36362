"""Endpoints that translate with tiny random models, or by a rule that needs none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from endpoints import answerer, client, tiny
from lingraft.decoders.base import Decoder, DecoderInputs
from lingraft.engines.base import EngineModel
from lingraft.models.graft import Direction, GraftInfo
from lingraft.serving.translation import TranslationService
from lingraft.serving.translator import Translator
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import DEFAULT, TranslationSystem

PAIRS = (("de", "en"), ("fr", "en"), ("de", "th"))


class Rule(Decoder):
    """Translates by a function of the text: what the model would write, or a whole `Translation`.

    Attributes:
        asked: all that it was asked for.
    """

    name = "rule"
    summary = "a function"

    def __init__(self, of: Callable[[str], str | Translation] = str.upper) -> None:
        super().__init__()
        self.of, self.asked = of, list[Source]()

    def expected_steps(self) -> list[Any]:
        return []

    def run(self, sources: Any, system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        for one in sources:
            self.asked.append(one)
            found = self.of(one.text)
            yield Translation(one.id, found, 3) if isinstance(found, str) else replace(found, id=one.id)


def asking_info(*pairs: tuple[str, str], instruction: str = DEFAULT, stop: tuple[str, ...] = ()) -> GraftInfo:
    """Return what a graft of these directions says of itself."""
    directions = [Direction(source=one, target=two) for one, two in pairs]
    values: dict[str, Any] = {"instruction": instruction, "stop": list(stop), "directions": directions}
    return GraftInfo(schema="lingraft.graft/1", method="radis", base_sha256="0" * 64, **values)


def translations(
    decoder: Decoder | None = None,
    info: GraftInfo | None = None,
    graft: Path | None = None,
    most_tokens: int = 131_072,
    **options: Any,
) -> TranslationService:
    """Return what translates: by a rule with a graft of `PAIRS`, unless another decoder or graft is given."""
    loaded = tiny()
    parts = (loaded, info or asking_info(*PAIRS), graft, EngineModel.of(loaded))
    return TranslationService(Translator(*parts, decoder=decoder, **options), most_tokens)


@contextmanager
def translating(service: TranslationService | None = None, **options: Any) -> Iterator[TestClient]:
    """Yield a client of an endpoint within this process."""
    with client(answerer(chain=False), translations=service or translations(Rule()), **options) as http:
        yield http
