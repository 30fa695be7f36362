"""CFT: references, and beside them the base's own answers to tasks on the English sides of some pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import ClassVar

from pydantic import Field, field_validator

from lingraft.core.hashing import stable_fraction
from lingraft.data.records import Example, Generation, Message, Pair, Request, asked_text
from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language
from lingraft.language.measures import is_looping
from lingraft.language.thinking import said, thinks
from lingraft.methods.base import Available, Likeness, Method, MethodInputs, MethodParams, Tally
from lingraft.methods.base_distillation import DistillationParams
from lingraft.methods.vanilla import translation_example
from lingraft.translation.wording import ask_for

TASKS = (
    "What is this text about? Answer in one or two sentences.\n\n{text}",
    "Write a short continuation of this text.\n\n{text}",
    "Explain the following to somebody who knows nothing about it.\n\n{text}",
    "Say the following in other words.\n\n{text}",
    "Which questions does this text leave open?\n\n{text}",
    "Give this text a title, and say why it fits.\n\n{text}",
)


class CFTParams(DistillationParams):
    """Parameters of continual fine-tuning with generative replay."""

    replay_share: float = Field(
        0.05, ge=0, le=1, description="of the pairs, whose English side the base works on as well; 0: vanilla"
    )
    tasks: list[str] = Field(
        default_factory=lambda: list(TASKS),
        min_length=1,
        description="what the base is asked to do with an English text, {text}; one is drawn for each pair",
    )
    max_answer_tokens: int = Field(128, ge=1, description="longest answer asked for, in tokens")
    embedder: str | None = Field(
        None,
        min_length=1,
        description="embedding model by path or hub id, such as sentence-transformers/LaBSE, by which the similarity "
        "of the training data to the base's own answers is told before training; default: the base's hidden states",
    )

    @field_validator("tasks")
    @classmethod
    def _fillable(cls, value: list[str]) -> list[str]:
        for task in value:
            try:
                fields = [name for _, name, _, _ in Formatter().parse(task) if name is not None]
            except ValueError as error:
                raise ValueError(f"{task!r}: {error}; write {{{{ and }}}} for braces in the text") from error
            if fields != ["text"]:
                raise ValueError(f"{task!r} needs {{text}}, once, and no other field")
        return value


class CFT(Method):
    """Continual fine-tuning (Aggarwal et al. 2024, arXiv 2410.16006): phase 2 of a model that has learnt its tasks in
    English, with generative replay.

    Phase 1, English instructions, is the chat model as it is. Phase 2 are the pairs. For a share of them the base
    answers the English version of what phase 2 asks, and is trained on its answer:
    L = -log P(reference | request) - log P(own answer | English request). Before anything is trained the similarity of
    the two sets is told, DES: the cosine of the mean embeddings of what is trained on and of what the base itself
    writes. In the paper data at 0.924 (LaBSE) kept the English abilities, and data at 0.746 lost some.

    Departures: the paper's phase 2 are instructions in other languages, whose English version says the same. A request
    to translate has none: what stands for it is the pair's English side, as the text of a plain task (`tasks`), so that
    the base works on the same content as it is wont to. Pairs without English have no replay. The paper freezes layers
    as an alternative to replay: that is `tuner.layers`. Answers that are empty, loop or hold thoughts are dropped and
    counted. The paper replays 5 % or 10 %, of which 5 % is better.
    """

    name: ClassVar[str] = "cft"
    summary: ClassVar[str] = "references, and the base's own answers to tasks on some of their English sides"
    paper: ClassVar[str] = "arXiv 2410.16006"
    cite: ClassVar[tuple[str, ...]] = ("aggarwal-2024-cft",)
    Params: ClassVar[type[MethodParams]] = CFTParams
    params: CFTParams

    @classmethod
    def expected_tokens(cls, params: CFTParams) -> float:
        """Return about how many tokens the base writes for a pair."""
        return 0.75 * params.max_answer_tokens * params.replay_share

    @property
    def replays(self) -> bool:
        """Whether any pair is replayed."""
        return self.params.replay_share > 0

    def lacks(self, available: Available) -> str:
        """Say so where no pair has an English side."""
        directions = available.directions
        if not self.params.replay_share or any("en" in map(base_language, direction) for direction in directions):
            return ""
        return (
            "its replay is the base's work on the English sides of pairs, and no direction has English; set "
            "`replay_share: 0`, or put `recovery` beside it"
        )

    def _english(self, pair: Pair, seed: int) -> str:
        """Return the English side of a chosen pair, "" if it is not chosen or has none."""
        if stable_fraction("cft", seed, pair.id) >= self.params.replay_share:
            return ""
        sides = ((pair.source_lang, pair.source), (pair.target_lang, pair.target))
        return next((text.strip() for lang, text in sides if base_language(lang) == "en"), "")

    def _task(self, pair: Pair, text: str, seed: int) -> tuple[Message, ...]:
        tasks = self.params.tasks
        return (Message("user", tasks[int(stable_fraction("task", seed, pair.id) * len(tasks))].format(text=text)),)

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask the base for its work on the English sides of the chosen pairs."""
        sampling = self.params.sampling(self.params.max_answer_tokens, inputs.seed)
        for pair in inputs.pairs:
            if text := self._english(pair, inputs.seed):
                yield self.params.asked(Request(_id(pair), self._task(pair, text, inputs.seed), sampling))

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield each pair's reference, and behind it the base's own answer where there is a fit one."""
        for pair in inputs.pairs:
            yield translation_example(pair, self.params.instructions, inputs.seed)
            if replayed := self._replayed(pair, inputs, generations, tally):
                yield replayed

    def _replayed(
        self, pair: Pair, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally
    ) -> Example | None:
        text = self._english(pair, inputs.seed)
        if not text:
            return None
        messages, generation = self._task(pair, text, inputs.seed), generations[_id(pair)]
        given, cut = asked_text(messages), generation.finish_reason == "length"
        reason = self._fault(generation, given, cut)
        tally.filters[reason or ("kept_truncated" if cut else "kept")] += 1
        if reason:
            return None
        return Example(_id(pair), messages, (self.params.written(generation, "reply", given=given),), end_turn=not cut)

    def _fault(self, generation: Generation, given: str, cut: bool) -> str:
        if thinks(generation.text, given):
            return "thinking"
        text = said(generation.text, given).text.strip()
        if is_blank(text):
            return "empty"
        if cut and self.params.truncated == "drop":
            return "truncated"
        return "looping" if is_looping(text) else ""

    def likeness(self, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Likeness | None:
        """Return requests with references, and the tasks with the base's answers."""
        if not self.params.replay_share:
            return None

        def taught() -> Iterator[str]:
            for pair in inputs.pairs:
                yield f"{asked_text(ask_for(pair, self.params.instructions, inputs.seed))}\n\n{pair.target}"

        def own() -> Iterator[str]:
            for pair in inputs.pairs:
                if example := self._replayed(pair, inputs, answers, Tally()):
                    yield f"{asked_text(example.messages)}\n\n{example.spans[0].text}"

        return Likeness(taught, own, self.params.embedder)


def _id(pair: Pair) -> str:
    return f"cft:{pair.id}"
