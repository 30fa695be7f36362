"""What all kinds of streamed answers are made of: their events, and a model that writes on."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol

import torch
from peft import PeftModel
from transformers import DynamicCache

from lingraft.conversation.text_pieces import TextStream
from lingraft.core.errors import EngineError
from lingraft.core.hashing import seed_of
from lingraft.data.records import Segment
from lingraft.engines.slot_batch import Written, noted
from lingraft.engines.slot_cache import layers_for_slots
from lingraft.engines.slot_decoder import choose
from lingraft.models.loading import AskedModel, LoadedModel

PIECE = 512
"""Tokens of a prompt that are read at once: work that has begun cannot be ended."""
PADDING = 64
"""Lengths of pieces are multiples of this many tokens."""


@dataclass(frozen=True)
class PromptProgress:
    """A long prompt is being read. `done`, `total`: tokens."""

    done: int
    total: int


@dataclass(frozen=True)
class Waits:
    """The answer goes on when the model has computed a step of it together with others."""


@dataclass(frozen=True)
class PartStart:
    """A part of the answer begins. `forced`: its marker was put. `visible`: the user is to see its text."""

    role: str
    forced: bool
    visible: bool


@dataclass(frozen=True)
class TextDelta:
    """More text of the part; all of them together are the segment's text.

    Attributes:
        role: of the part.
        text: what came.
        visible: whether the user is to see it.
        tokens: that it was written with, where their log-probabilities are asked for.
    """

    role: str
    text: str
    visible: bool
    tokens: tuple[Written, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Seconds from the question on.

    Attributes:
        first_token: to the first token, the computation of the prompt included.
        first_visible: to the first text that the user sees; None where there is none.
        total: to the end.
        prompt_tokens: read.
    """

    first_token: float
    first_visible: float | None
    total: float
    prompt_tokens: int


@dataclass(frozen=True, kw_only=True)
class Done:
    """The answer is complete.

    Attributes:
        text: what the user sees; begins with the visible deltas, if there were any.
        segments: its parts with their tokens.
        state: as in `Chain` ("unfinished" where it was cut).
        failure: as in `Chain`.
        lang: language of the answer; empty outside of the chain.
        route: which model answered, "graft" or "base", where a decider chose; else "".
    """

    text: str
    segments: tuple[Segment, ...]
    timing: Timing
    state: str
    failure: str
    lang: str
    route: str = ""


Event = PromptProgress | Waits | PartStart | TextDelta | Done


class TextPieces(Protocol):
    """Text out of tokens that come one by one; see `TextStream`."""

    def step(self, token: int) -> str:
        """Return the text that a token completes."""
        ...

    def rest(self) -> str:
        """Return what is left at the end."""
        ...


class Writer(Protocol):
    """Writes one answer token by token.

    Attributes:
        room: tokens that may still be written.
        noted: the proposed token, where log-probabilities are asked for.
    """

    room: int
    noted: Written | None

    def read(self) -> Iterator[PromptProgress | Waits]:
        """Read the prompt; yield in between."""
        ...

    def next(self) -> Generator[Waits, None, int | None]:
        """Return the token that comes next, yielding while others' steps are waited for; it counts once accepted. None:
        nothing more may be written, though there seemed to be room."""
        ...

    def accept(self, token: int) -> None:
        """Go on behind a token, be it the proposed one or another."""
        ...

    def text(self, behind: Sequence[int] | None = None) -> TextPieces:
        """Return what makes text of the accepted tokens.

        Args:
            behind: tokens of running text that they follow; None for a part of its own.
        """
        ...

    def close(self) -> None:
        """Give up what is held for the answer."""
        ...


class MakeWriter(Protocol):
    """Begins to write behind a prompt; see `TokenWriter` for the arguments."""

    def __call__(
        self,
        loaded: Any,
        prompt: Sequence[int],
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        most: int | None = None,
        top: int | None = None,
    ) -> Writer:
        """Return the writer; `loaded` is the model as what writes needs it, with weights or without.

        Raises:
            EngineError: the prompt fills the context.
        """
        ...


@dataclass
class TokenWriter:
    """A model that writes a token at a time behind a prompt, keeping keys and values.

    The prompt is read in pieces, between which the work can be ended, and whose lengths are padded: oneDNN keeps some
    memory for every length that it has met. Models whose layers keep more than keys and values of each token read it
    at once, as it is.

    Args:
        loaded: the model, its graft on.
        prompt: ids; not empty.
        temperature: 0 for the most probable token.
        top_p: share of the probability that sampled tokens are drawn from; 1 for all.
        seed: of the sampling.
        most: tokens that may be written; None for as many as the context holds.
        top: of how many tokens beside the one written the log-probabilities are noted; None for none at all.

    Attributes:
        room: tokens that may still be written.
        noted: the proposed token, where log-probabilities are asked for.

    Raises:
        EngineError: the prompt fills the context.
    """

    loaded: LoadedModel
    prompt: Sequence[int]
    _: KW_ONLY
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    most: int | None = None
    top: int | None = None
    noted: Written | None = field(default=None, init=False)
    _cache: Any = None
    _waiting: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting = list(self.prompt)
        self._draws = random.Random(seed_of([self.seed, list(self.prompt)]))
        self.room = room_behind(self.loaded, self.prompt, self.most)
        takes = inspect.signature(self._inner.forward).parameters
        # The second is Mamba's; newer versions of the library have one name for all, and ignore others.
        names = [name for name in ("past_key_values", "cache_params", "cache") if name in takes]
        self._kept = names[0] if names else "past_key_values"

    @property
    def _inner(self) -> Any:
        """The model without its adapter's wrapping. Adapters sit inside the layers, so that it computes with them."""
        model: Any = self.loaded.model
        return model.get_base_model() if isinstance(model, PeftModel) else model

    def read(self) -> Iterator[PromptProgress]:
        """Read the prompt but for its last token, where it can be read in pieces; yield after each but the last.

        `propose` does what is left of it.
        """
        model, inner = self.loaded.model, self._inner
        if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
            return  # prompts learnt as vectors do not sit inside the layers
        most = len(self.prompt) + self.room
        if self._cache is not None or not layers_for_slots(inner, 1):
            return
        padding = PADDING if layers_for_slots(inner, most) else 1  # a full window cannot let go of the padding
        self._cache = DynamicCache(config=inner.config)
        while len(self._waiting) > 1:
            piece = self._waiting[: min(PIECE, len(self._waiting) - 1)]
            begin = len(self.prompt) - len(self._waiting)
            padded = min(-len(piece) % padding, most - begin - len(piece))
            self._read(inner, piece, begin, padded)
            self._waiting = self._waiting[len(piece) :]
            if len(self._waiting) > 1:
                yield PromptProgress(begin + len(piece), len(self.prompt))

    @torch.inference_mode()
    def _read(self, model: Any, piece: Sequence[int], begin: int, padded: int) -> None:
        """Compute keys and values of a piece. Padding behind it is seen by nothing before it, and is removed."""
        ids = torch.tensor([[*piece, *[piece[-1]] * padded]], device=self.loaded.device)
        positions = torch.arange(begin, begin + ids.shape[1], device=self.loaded.device)[None]
        model.get_decoder()(input_ids=ids, position_ids=positions, past_key_values=self._cache, use_cache=True)
        if padded:
            self._cache.crop(-padded)

    @torch.inference_mode()
    def propose(self) -> int:
        """Return the token that comes next; it counts once it is accepted."""
        for _ in self.read():
            pass
        model: Any = self.loaded.model
        ids = torch.tensor([self._waiting], device=self.loaded.device)
        out = model(input_ids=ids, **{self._kept: self._cache}, use_cache=True, logits_to_keep=1)
        self._cache, self._waiting = getattr(out, self._kept), []
        draws = [self._draws.random()] if self.temperature > 0 else []
        token = int(choose(out.logits[:, -1], self.temperature, self.top_p, draws)[0])
        self.noted = None if self.top is None else noted(out.logits[0, -1], token, self.top)
        return token

    def next(self) -> Generator[Waits, None, int]:
        """Return the token that comes next, and yield nothing: it is computed at once."""
        yield from ()
        return self.propose()

    def accept(self, token: int) -> None:
        """Go on behind a token, be it the proposed one or another."""
        self._waiting.append(token)
        self.room -= 1

    def text(self, behind: Sequence[int] | None = None) -> TextStream:
        """Return what makes text of the tokens."""
        return TextStream(self.loaded.renderer, behind)

    def close(self) -> None:
        """Give up the keys and values."""
        self._cache = None


def room_behind(loaded: AskedModel, prompt: Sequence[int], most: int | None) -> int:
    """Return how many tokens may be written behind a prompt.

    Args:
        loaded: the model.
        prompt: ids.
        most: that are wanted; None for as many as the context holds.

    Raises:
        EngineError: the prompt fills the context.
    """
    limit = loaded.context
    room = (limit or 1 << 30) - len(prompt)
    if room < 1:
        raise EngineError(
            f"the conversation has {len(prompt)} tokens, which leaves no room for an answer in the model's "
            f"context of {limit}; shorten it, or begin a new one"
        )
    return room if most is None else min(room, most)


def never() -> bool:
    """Say that the answer is not yet enough: it goes on to its own end."""
    return False


class Clock:
    """Takes the times of one answer."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._first: float | None = None
        self._visible: float | None = None

    def token(self) -> None:
        """A token was written."""
        self._first = self._first or time.perf_counter() - self._begin

    def shown(self, text: str) -> None:
        """Text was shown."""
        if text and self._visible is None:
            self._visible = time.perf_counter() - self._begin

    def timing(self, prompt_tokens: int) -> Timing:
        """Return the times so far."""
        total = time.perf_counter() - self._begin
        return Timing(total if self._first is None else self._first, self._visible, total, prompt_tokens)
