"""What the page of an endpoint is tested with: a graft's words, and a model that says what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Generator

from endpoints import CAPS, tiny
from lingraft.conversation.writing import Clock, PartStart, TextDelta, never
from lingraft.data.records import TEXT, Segment
from lingraft.models.graft import GraftInfo
from lingraft.serving.answerer import Answer, Answerer, Piece
from lingraft.serving.request import ChatRequest

INFO = GraftInfo.model_validate(
    {
        "schema": "lingraft.graft/1",
        "method": "radis",
        "instruction": "Into {target_name}: {source}",
        "stop": ["\nNote:"],
        "directions": [{"source": "de", "target": "en"}],
        "base_sha256": "0" * 64,
    }
)


class Says(Answerer):
    """Answers what it is told to, piece by piece."""

    def __init__(self, say: Callable[[str], str]) -> None:
        super().__init__(tiny(), None, CAPS)
        self._say = say

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        text, clock = self._say(question.messages[-1].content), Clock()
        yield PartStart(TEXT, False, True)
        for begin in range(0, len(text), 7):
            yield TextDelta(TEXT, text[begin : begin + 7], True)
        yield Answer(
            text=text,
            finish_reason="stop",
            segments=(Segment(TEXT, text, 3),),
            state="complete",
            failure="",
            language="",
            timing=clock.timing(1),
            seed=None,
            turns=0,
            known=0,
        )
