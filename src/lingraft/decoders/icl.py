"""Decoder `icl`: translations shown before the question (Zhu et al. 2024, arXiv 2304.04675)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import seed_of
from lingraft.core.model_names import is_place
from lingraft.core.validation import IS_PATH, Needs, as_value_error
from lingraft.data.files import Row
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Message, Pair, Request
from lingraft.decoders.base import Decoder, DecoderInputs, ExpectedStep, Surroundings
from lingraft.decoders.direct import DRAFTS, drafts
from lingraft.decoders.exemplars import Pool, Retriever
from lingraft.language.codes import language, language_name
from lingraft.translation.by_sentence import stops_for
from lingraft.translation.direct import Source, Translation, extract
from lingraft.translation.wording import TranslationSystem, ask

STEP = "with-exemplars"

Direction = tuple[str, str]


class Icl(Decoder):
    """k pairs of the training or development data, or of a translation memory, as turns before the question.

    Each pair is a turn of the user, in the words that the system was taught, and one of the assistant: its
    translation. A pair whose source is the text to translate, or nearly is, is never shown. Of those chosen,
    what does not fit into `max_bytes` behind the more similar ones is left out and counted. `control` spoils them, to
    see what the model takes from them; `wrong` is a probe of contamination, too: who translates as well with wrong
    pairs did not need them. `embedding` compares sources by vectors, those of `embedder`, else the base's own hidden
    states, net of the mean of all pairs'. Departures from the paper: turns in place of `<X>=<Y>`, no
    retriever by description length or votes, and of more than 300 pairs chrF compares those with the greatest BM25.
    """

    name: ClassVar[str] = "icl"
    summary: ClassVar[str] = "show translations first: k of the training data, or of a translation memory"
    paper: ClassVar[str] = "Zhu et al. 2024, Multilingual Machine Translation with LLMs, arXiv 2304.04675"
    cite: ClassVar[tuple[str, ...]] = ("zhu-2024-multilingual", "robertson-2009-bm25", "popovic-2015-chrf")
    lengthened_by: ClassVar[tuple[str, ...]] = ("k", "max_bytes")

    class Params(Decoder.Params):
        """Parameters of `icl`."""

        needs: ClassVar[Needs] = {
            "at_least": ("`retriever: chrf`", lambda own: own.retriever == "chrf"),
            "embedder": ("`retriever: embedding`", lambda own: own.retriever == "embedding"),
            "draw": (
                "something drawn (`retriever: random`, `order: random`, `control: wrong` or `words`)",
                lambda own: "random" in (own.retriever, own.order) or own.control in ("wrong", "words"),
            ),
        }
        k: int = Field(8, ge=0, le=256, description="pairs that are shown; 0: none, as `direct`")
        retriever: Retriever = Field(
            "random",
            description="which: `random`: drawn for each text; `bm25`: with most words in common; `chrf`: with most "
            "characters in common; `embedding`: nearest by what `embedder` makes of the sources",
        )
        embedder: str | None = Field(
            None,
            min_length=1,
            description="of `retriever: embedding`: an embedding model by path or hub id, such as "
            "sentence-transformers/LaBSE; default: the base's own hidden states",
        )
        order: Literal["last", "first", "random"] = Field(
            "last", description="where the most similar pair stands: `last`, next to the question; `first`; `random`"
        )
        at_least: float = Field(
            0,
            ge=0,
            le=100,
            description="of `retriever: chrf`: chrF of a pair's source against the text from which it is shown; 0: any",
        )
        below: float = Field(
            90, gt=0, le=100, description="a pair whose source has this chrF or more against the text is never shown"
        )
        control: Literal["none", "wrong", "words", "repeat", "reversed"] = Field(
            "none",
            description="what is wrong with the pairs: `wrong`: each has another one's translation; `words`: the words "
            "of the translations are in drawn order; `repeat`: the most similar one k times; `reversed`: shown in the "
            "other direction",
        )
        languages: tuple[str, str] | None = Field(
            None,
            description="[source, target] of the pairs that are shown, where they are to be of another direction than "
            "the text; of `memory`: its languages",
        )
        memory: Annotated[str | None, IS_PATH] = Field(
            None,
            description="a translation memory (TMX, or any file of pairs) in place of the training and development "
            "pairs; it is used in both directions",
        )
        max_bytes: int = Field(
            6000,
            ge=1,
            description="most that the pairs shown with a text have together, in bytes of UTF-8, the words of the "
            "instruction not counted",
        )
        pool: int = Field(
            20_000, ge=0, description="pairs of a direction that are chosen from, drawn by their ids; 0: all"
        )
        draw: int = Field(0, ge=0, description="another number draws others; the paper advises the mean of several")

        @field_validator("languages")
        @classmethod
        def _known(cls, codes: Direction | None) -> Direction | None:
            if codes is None:
                return None
            with as_value_error():
                found = language(codes[0]), language(codes[1])
            if found[0] == found[1]:
                raise ValueError(f"source and target are both {found[0]!r}; a pair needs two languages")
            return found

        @model_validator(mode="after")
        def _sensible(self) -> Self:
            if self.at_least >= self.below:
                raise ValueError(
                    f"`at_least` is {self.at_least:g} and `below` {self.below:g}, so that no pair is shown; set "
                    f"`at_least` below `below`"
                )
            if self.control == "wrong" and self.k == 1:
                raise ValueError("`control: wrong` exchanges translations, and one pair has none to give; set `k: 2`")
            if self.memory is not None and self.languages is None:
                raise ValueError("`memory` needs its `languages`, such as [de, en]")
            return self

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._sorted: tuple[Iterable[Pair], int, dict[Direction, Pool]] | None = None

    def check(self) -> None:
        """Refuse a memory that cannot be read, and an embedding model that is not where it is said to be.

        Raises:
            UsageError: the format of the memory cannot be told.
            DataError: the memory is missing, unreadable, or holds no pair.
            ModelError: there is no embedding model in the folder, or it is damaged.
        """
        if self.params.embedder is not None and is_place(self.params.embedder):  # one of the hub is fetched when needed
            from lingraft.models.embedding import embedder_folder

            embedder_folder(self.params.embedder)
        if self.params.memory is not None:
            _ = self._memory

    def lacks(self, available: Surroundings) -> str:
        """Say where there are no pairs to show."""
        params = self.params
        if not params.k:
            return ""
        if params.memory is not None:
            there = [params.languages, params.languages[::-1]]
            wanted = list(available.directions)
            remedy = "give a memory of these languages"
        else:
            there = list(available.exemplars)
            wanted = [params.languages] if params.languages else list(available.directions)
            remedy = "add some to `pairs.train` or `pairs.dev`, name other `languages`, give a `memory`, or set `k: 0`"
            if not there:
                return "it shows training or development pairs, and there are none here; give a `memory`"
        missing = next((one for one in wanted if tuple(one) not in {tuple(other) for other in there}), None)
        if missing is None:
            return ""
        return f"there are no pairs from {language_name(missing[0])} into {language_name(missing[1])} to show; {remedy}"

    def rehearsed(self) -> Icl:
        """Return one that draws its pairs: they are about as long as those that are chosen."""
        plain = {"retriever": "random", "embedder": None, "at_least": 0.0}
        return type(self)(self.params.model_copy(update=plain))

    @property
    def reads_base(self) -> bool:
        """Whether the base's own states compare."""
        return bool(self.params.k) and self.params.retriever == "embedding" and self.params.embedder is None

    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return the one step."""
        return (ExpectedStep(name=STEP if self.params.k else DRAFTS),)

    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield what was answered, by the rule that all systems are read by; see `Decoder.run`."""
        if not self.params.k:
            yield from drafts(sources, system, inputs)
            return
        if not sources:
            return
        pools = self._pools({self._direction(source) for source in sources}, inputs)
        near = self._near(pools, sources, inputs)
        shown = {
            source.id: self._shown(pools[self._direction(source)], source, inputs, near.get(source.id))
            for source in sources
        }
        asked = []
        for source in sources:
            messages: list[Message] = []
            for pair in shown[source.id][0]:
                turn = ask(system.instruction, pair.source, pair.source_lang, pair.target_lang)
                messages += [*turn, Message("assistant", pair.target)]
            messages += ask(system.instruction, source.text, source.source_lang, source.target_lang)
            sampling = replace(inputs.sampling, stop=stops_for(source.text, system.stop))
            asked.append(Request(source.id, tuple(messages), sampling, direct=True))
        answers = inputs.ask(STEP, asked)
        for source in sources:
            pairs, long = shown[source.id]
            outcome = f"pairs shown: {len(pairs)}" + (f", too long: {long}" if long else "")
            steps = {"shown": " ".join(pair.id for pair in pairs), STEP: answers[source.id].text}
            yield replace(extract(source, answers[source.id], system.stop), steps=steps, outcome=outcome)

    def _direction(self, source: Source) -> Direction:
        if self.params.languages and self.params.memory is None:
            return self.params.languages[0], self.params.languages[1]
        return source.source_lang, source.target_lang

    def _near(
        self, pools: Mapping[Direction, Pool], sources: Sequence[Source], inputs: DecoderInputs
    ) -> dict[str, np.ndarray]:
        """Return how near each pair is to each source, by embeddings; nothing where other retrievers choose."""
        if self.params.retriever != "embedding":
            return {}
        if (embed := inputs.embed) is None:
            raise UsageError("pairs are to be chosen by embeddings, and nothing embeds here; take another `retriever`")
        found: dict[str, np.ndarray] = {}
        for direction, pool in pools.items():
            own = [source for source in sources if self._direction(source) == direction]
            near = pool.nearness([source.text for source in own], lambda texts: embed(texts, self.params.embedder))
            found |= {source.id: row for source, row in zip(own, near, strict=True)}
        return found

    def _shown(
        self, pool: Pool, source: Source, inputs: DecoderInputs, near: np.ndarray | None
    ) -> tuple[list[Pair], int]:
        """Return the pairs as they are shown with a source, in their order, and how many did not fit."""
        params = self.params
        draw = ("icl", inputs.seed, params.draw, source.id)
        limits = {"at_least": params.at_least, "below": params.below}
        found = pool.chosen(source.text, params.k, params.retriever, draw, near=near, **limits)
        if params.control == "repeat":
            found = found[:1] * params.k
        kept, size = list[Pair](), 0
        for pair in found:
            own = len(f"{pair.source}{pair.target}".encode())
            if size + own <= params.max_bytes:
                size += own
                kept.append(pair)
        # Each draws by a seed of its own, so that a control shows the same pairs in the same order.
        spoilt = _controlled(kept, params.control, Random(seed_of([*map(str, draw), "control"])))
        return self._ordered(spoilt, Random(seed_of([*map(str, draw), "order"]))), len(found) - len(kept)

    def _ordered(self, pairs: list[Pair], random: Random) -> list[Pair]:
        if self.params.order == "last":
            return pairs[::-1]
        return random.sample(pairs, len(pairs)) if self.params.order == "random" else pairs

    def _pools(self, directions: Iterable[Direction], inputs: DecoderInputs) -> Mapping[Direction, Pool]:
        """Return the pairs of some directions; what was sorted before is kept, as in a server that asks again."""
        pairs = inputs.exemplars if self.params.memory is None else self._memory
        if self._sorted is None or self._sorted[0] is not pairs or self._sorted[1] != inputs.seed:
            self._sorted = (pairs, inputs.seed, {})
        known = self._sorted[2]
        for one in directions:
            if one not in known:
                fitting = (pair for pair in pairs if (pair.source_lang, pair.target_lang) == one)
                known[one] = Pool(fitting, self.params.pool, inputs.seed)
        return known

    @cached_property
    def _memory(self) -> Sequence[Pair]:
        """The pairs of the memory in both directions; rows that are no pairs are left out."""
        path, languages = self.params.memory, self.params.languages
        source = _Memory(path=path, source=languages[0], target=languages[1])
        found = [row.record for row in read_pairs(source) if isinstance(row, Row)]
        if not found:
            raise DataError(f"{path}: holds no pair of {languages[0]} and {languages[1]}; give another `memory`")
        return [*found, *(pair.reversed() for pair in found)]


class _Memory(PairSource):
    """A file of pairs that a parameter names, with no keys for columns and format beside it."""

    fields_key: ClassVar[str] = ""
    format_key: ClassVar[str] = ""


def _controlled(pairs: list[Pair], control: str, random: Random) -> list[Pair]:
    """Return pairs, the most similar first, with what a control makes wrong of them."""
    if control == "reversed":
        return [pair.reversed() for pair in pairs]
    if control == "words":
        return [replace(pair, target=_shuffled(pair.target, random)) for pair in pairs]
    if control != "wrong":
        return pairs
    # A round through all in drawn order leaves nobody its own; one alone has no other's, and would be right.
    turn = random.sample(range(len(pairs)), len(pairs)) if len(pairs) > 1 else []
    given = dict(zip(turn, turn[1:] + turn[:1], strict=True))
    return [replace(pair, target=pairs[given[place]].target) for place, pair in enumerate(pairs) if place in given]


def _shuffled(text: str, random: Random) -> str:
    """Return a text with its words in drawn order; with its characters, where no spaces are between words."""
    words = text.split()
    if len(words) > 1:
        return " ".join(random.sample(words, len(words)))
    return "".join(random.sample(text.strip(), len(text.strip())))
