"""The interface of a decoder: one file a decoder, registered by name in `DECODERS`.

A decoder knows no model, no folder and no progress bar. It asks in steps, each of which is as much as can be asked
without further answers; in a run the answers of a step are an artefact, so that a killed run goes on within any step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from lingraft.core.errors import EngineError
from lingraft.core.registry import Registry
from lingraft.core.tasks import ONLY_TRANSLATION, Task
from lingraft.core.validation import Settings, paths_in
from lingraft.data.files import locate
from lingraft.data.records import Generation, Pair, Request, Sampling
from lingraft.translation.direct import Source, Translation
from lingraft.translation.markers import Markers
from lingraft.translation.wording import SUMMARY, TranslationSystem

if TYPE_CHECKING:
    import numpy as np

Of = Literal["system", "base"] | Mapping[str, Any]
"""Who is asked: the weights of the system, the untouched base, or an engine, as `engine:` of a recipe has it."""

Score = Callable[[str | Mapping[str, Any], Sequence[Pair], Sequence[str]], list[float]]
"""Gives each text its score as a translation of the pair at its place; see `DecoderInputs.score`."""

Embed = Callable[[Sequence[str], str | None], "np.ndarray"]
"""Gives texts (at least one) their embeddings, float32 (n, dimension), of length 1: by the model of that name, or by
the base's own hidden states where it is None."""


class Ask(Protocol):
    """Lets somebody answer all requests of a step."""

    def __call__(self, step: str, requests: Iterable[Request], of: Of = "system") -> Mapping[str, Generation]:
        """Return the answers by request id.

        Args:
            step: its name, as in `expected_steps`; of letters, digits and hyphens.
            requests: can be iterated more than once; their ids are unique within the step.
            of: who answers.
        """


@dataclass(frozen=True, kw_only=True)
class DecoderInputs:
    """What a decoder sees beside the sources.

    Attributes:
        ask: lets a step be answered.
        sampling: of what a test set asks for in one step: its most tokens, temperature 0; `stop` is the system's.
        task: of the test sets that are decoded, one of the decoder's `tasks`.
        seed: of the run; what is drawn by chance depends on it and on ids alone.
        exemplars: pairs to learn from by example: of the training or development data, never of a test set. They can be
            iterated more than once, and may be read from a file each time.
        score: gives each text its score as a translation of the pair at its place, by a metric's name or by its `kind`
            and parameters; NaN where that has nothing to measure. The pairs are made by the decoder: `target` is what
            the text is compared with, "" for metrics without references. None: nobody scores here.
        embed: gives texts their embeddings, see `Embed`. None: nothing embeds here.
        markers: of weights that translate plain text, each sentence behind a marker; None for all others.
        summarising: how a summary is asked for in one step, see `lingraft.translation.summaries`.
    """

    ask: Ask
    sampling: Sampling
    task: Task = "translation"
    seed: int = 0
    exemplars: Iterable[Pair] = ()
    score: Score | None = None
    embed: Embed | None = None
    markers: Markers | None = None
    summarising: str = SUMMARY


@dataclass(frozen=True, kw_only=True)
class ExpectedStep:
    """A step as far as a decoder's parameters tell of it: for dry runs, and for checks when a recipe is read.

    Attributes:
        name: as the decoder asks for it.
        of: who answers.
        answers: how many are asked for a segment, about.
        tokens: that each of them has, about; None: as many as a translation.
        key: the parameter that says who answers, for messages.
    """

    name: str
    of: Of = "system"
    answers: float = 1.0
    tokens: float | None = None
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What there is for a decoder, as far as it is known before anything is asked: of a recipe, or in daily use.

    Attributes:
        directions: (source, target) languages of what is to be translated; () where they are not known yet.
        exemplars: directions of which there are training or development pairs.
        reported: the metrics by which translations will be reported, by name or by `kind` and parameters.
        native: languages to which a chat model is carried.
        scores: whether there is something that scores.
    """

    directions: Sequence[tuple[str, str]] = ()
    exemplars: Sequence[tuple[str, str]] = ()
    reported: Sequence[str | Mapping[str, Any]] = ()
    native: Sequence[str] = ()
    scores: bool = True


class Decoder(ABC):
    """Base of all decoders.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list decoders`.
        paper: where it comes from.
        cite: what a report cites for it: keys of `reporting/references.bib`, BibTeX entries or addresses.
        version: grows when the same answers give other translations, or other questions are asked.
        tasks: what it can be used for.
        answers_questions: whether it answers the suites, too; by default the answers are those of the weights.
        lengthened_by: parameters that make what it asks longer, for messages.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    cite: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    tasks: ClassVar[frozenset[Task]] = ONLY_TRANSLATION
    answers_questions: ClassVar[bool] = False
    lengthened_by: ClassVar[tuple[str, ...]] = ()

    class Params(Settings):
        """Typed parameters; every field has a default and a description."""

    def __init__(self, params: Any = None) -> None:
        self.params: Any = self.Params() if params is None else params

    def check(self) -> None:
        """Refuse what cannot work before anything starts: by default files in the parameters that cannot be read.

        Raises:
            DataError: a file is missing, empty or unreadable.
        """
        for path in paths_in(self.Params, self.params.model_dump()):
            locate(path, "jsonl", Path())

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return what it runs that whoever starts a recipe has to allow, as `Engine.acts` does."""
        return []

    def lacks(self, available: Surroundings) -> str:
        """Return what is lacking for it, and the remedy, in a sentence; "" if nothing."""
        return ""

    def rehearsed(self) -> Decoder:
        """Return a decoder that asks for as much as this one and needs nothing that takes long: with it a run finds out
        what does not fit the model's context before anything is answered."""
        return self

    def stand_in(self, step: str, mark: str) -> str | None:
        """Return what stands for an answer where a decoder is rehearsed, so that it asks all that it may ask; None
        where it can be rehearsed no further, since it goes on by what answers say.

        Args:
            step: its name.
            mark: the part of the text that stands for all that the model will have written.
        """
        return mark

    @property
    def selects_by(self) -> Sequence[str | Mapping[str, Any]]:
        """The metrics that choose between translations, as `DecoderInputs.score` takes them.

        They are checked when a recipe is read, and a report that measures by one of them says so.
        """
        return ()

    @property
    def reads_base(self) -> bool:
        """Whether it asks for embeddings by the base's own states, for which no graft may be on the base."""
        return False

    @property
    def asks_base(self) -> bool:
        """Whether it needs the untouched base beside the system: its answers, or its states."""
        return self.reads_base or any(step.of == "base" for step in self.expected_steps())

    @abstractmethod
    def expected_steps(self) -> Sequence[ExpectedStep]:
        """Return what is known of the steps from the parameters alone: who is asked, and for how much.

        A step that is asked only where an earlier answer calls for it is among them.
        """

    @abstractmethod
    def run(self, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        """Yield a translation of each source, with the source's id, in any order.

        The same arguments and answers ask the same, step by step: a run that was interrupted asks for all steps again.

        Args:
            sources: what is to be translated; ids are unique.
            system: how the weights that answer are asked for a translation.
            inputs: who answers, who scores, and what else there is.
        """


def decoded(
    decoder: Decoder, sources: Sequence[Source], system: TranslationSystem, inputs: DecoderInputs
) -> dict[str, Translation]:
    """Return what a decoder makes of the sources, by their ids and in their order.

    Raises:
        EngineError: the decoder left one out, gave one twice, or one that nobody asked for.
    """
    found: dict[str, Translation] = {}
    wanted = {source.id for source in sources}
    for translation in decoder.run(sources, system, inputs):
        if translation.id in found or translation.id not in wanted:
            what = "twice" if translation.id in found else "unasked"
            raise EngineError(f"the decoder {decoder.name!r} gave the translation {translation.id!r} {what}; mend it")
        found[translation.id] = translation
    if missing := next((source.id for source in sources if source.id not in found), None):
        raise EngineError(f"the decoder {decoder.name!r} gave no translation of {missing!r}; mend it")
    return {source.id: found[source.id] for source in sources}


DECODERS: Registry[type[Decoder]] = Registry(
    "decoder",
    {
        "code": "lingraft.decoders.code:Code",
        "direct": "lingraft.decoders.direct:Direct",
        "icl": "lingraft.decoders.icl:Icl",
        "glossary": "lingraft.decoders.glossary:GlossaryTerms",
        "pivot": "lingraft.decoders.pivot:Pivot",
        "rerank": "lingraft.decoders.rerank:Rerank",
        "sitr": "lingraft.decoders.sitr:Sitr",
        "tear": "lingraft.decoders.tear:Tear",
    },
)
"""What a recipe may list under `evaluate.decoders`."""
