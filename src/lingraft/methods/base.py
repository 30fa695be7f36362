"""The interface of a method. It knows no files, no devices and no progress bars: values in, values out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from lingraft.core.registry import Registry
from lingraft.core.validation import Settings, also, as_value_error, paths_in
from lingraft.data.files import locate
from lingraft.data.records import Example, Generation, Prompt, Request
from lingraft.methods.inputs import Available as Available
from lingraft.methods.inputs import Likeness as Likeness
from lingraft.methods.inputs import MethodInputs as MethodInputs
from lingraft.methods.inputs import Score as Score
from lingraft.methods.inputs import Tally as Tally
from lingraft.methods.rounds import ExpectedRound as ExpectedRound
from lingraft.methods.rounds import Of as Of
from lingraft.methods.rounds import Round as Round
from lingraft.methods.rounds import nobody_before as nobody_before
from lingraft.translation.wording import DEFAULT, VARIANTS, check_wording


class MethodParams(Settings):
    """Parameters every method has; each method adds its own."""

    instructions: list[str] = Field(
        default_factory=lambda: [DEFAULT],
        min_length=1,
        description="wordings of the translation request, drawn per pair; `varied` stands for the five shipped ones; "
        "the first is used to translate",
        json_schema_extra=also({"const": "varied"}),
    )

    @field_validator("instructions", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return list(VARIANTS) if value == "varied" else value

    @field_validator("instructions")
    @classmethod
    def _fillable(cls, value: list[str]) -> list[str]:
        with as_value_error():
            return [check_wording(wording) for wording in value]

    @property
    def soft(self) -> bool:
        """Whether it trains on distributions, which whoever writes has to give."""
        return False


Consumed = Literal["pairs", "prompts", "texts", "files"]
"""What examples are made of: training pairs, general prompts (the replay half), texts, or files of a method's own."""


class Method(ABC):
    """Base of all methods.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list methods`.
        paper: where it comes from.
        cite: what a report cites for it: keys of `reporting/references.bib`, BibTeX entries or addresses.
        version: grows when the same answers give other examples, or other questions are asked: folders of runs that an
            older version made are then made anew. Comments and names may change without it.
        Params: its parameters.
        consumes: what its examples are made of: training pairs, general prompts (the replay half), texts, or files that
            its own parameters name.
        rows_each: of methods made of pairs, about how many examples each pair becomes, for the estimates.
        keeps_references: of methods made of pairs, whether the translations they teach are the pairs' own.
        needs_markers: whether it cannot do without an extended vocabulary's markers.
        translates_text: whether what it has trained translates plain text, each sentence behind a marker.
        chat: how it teaches to hold conversations: directly, or through the translation chain of thought; None where it
            teaches none, or as the methods beside it do.
        cost: how often an example holds the prompt's question and its answer as supervised text, for the estimates
            of a dry run; of methods made of prompts.
        request_cache: name under which what `requests` asks is kept; methods that ask the same share the answers.
        follow_up_cache: the same for `follow_ups`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    cite: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    Params: ClassVar[type[MethodParams]] = MethodParams
    consumes: ClassVar[Consumed] = "pairs"
    rows_each: ClassVar[int] = 1
    keeps_references: ClassVar[bool] = True
    needs_markers: ClassVar[bool] = False
    translates_text: ClassVar[bool] = False
    chat: ClassVar[Literal["direct", "tcot"] | None] = None
    cost: ClassVar[tuple[int, int]] = (0, 1)
    request_cache: ClassVar[str] = ""
    follow_up_cache: ClassVar[str] = ""

    def teaches_translation(self) -> bool:
        """Whether its examples teach to translate when asked to, by the first of `instructions`; of methods made of
        pairs all but those whose examples are plain text. It says how the graft is asked, and where translations end.
        """
        return self.consumes == "pairs"

    @property
    def replays(self) -> bool:
        """Whether its examples hold answers that the base itself has written (spans of role `reply`), which an
        objective may look at as what is to be kept."""
        return False

    @property
    def paired(self) -> bool:
        """Whether its examples are preference pairs, which need an objective that compares them."""
        return False

    @property
    def delimiter(self) -> str:
        """What stands behind the translation in its examples, as its parameters say; empty for nothing."""
        return ""

    @classmethod
    def expected_tokens(cls, params: Any) -> float:
        """Return about how many tokens the base writes for each pair (or prompt): for the estimates of a dry run."""
        return 0.0

    def __init__(self, params: Any) -> None:
        self.params = params

    def check(self, languages: Sequence[str]) -> None:
        """Refuse what cannot work before anything starts: by default files in the parameters that cannot be read.

        Args:
            languages: those with a marker; none without an extended vocabulary.

        Raises:
            DataError: a file is missing, empty or unreadable.
        """
        for path in paths_in(self.Params, self.params.model_dump()):
            locate(path, "jsonl", Path())

    @property
    def made_of(self) -> frozenset[str]:
        """What of the recipe's pairs, prompts and texts its examples depend on."""
        return frozenset({self.consumes})

    def lacks(self, available: Available) -> str:
        """Return what the recipe lacks for it, and the remedy, "" if nothing: asked when the recipe is read. That there
        is none of what it `consumes` is said without it."""
        return ""

    def prepare(self, inputs: MethodInputs) -> dict[str, Any]:
        """Return decisions that depend on the data, such as a delimiter; handed back as `inputs.prepared`, hashed, and
        stored with the graft."""
        return {}

    def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
        """Return what is asked next during synthesis; None: nothing more.

        By default `requests` of the base, then `follow_ups` of whom `translator` names. The same arguments give the
        same round: a run that was interrupted asks for all of them again. Where a round has no requests, the next
        follows.

        Args:
            number: of the round, from 0.
            inputs: what the run has for the method.
            answers: to all rounds before, by request id; may be on the disk.
        """
        if number == 0:
            return Round(requests=lambda: self.requests(inputs), name=self.request_cache)
        if number == 1:
            return Round(
                requests=lambda: self.follow_ups(inputs, answers),
                of="before" if self.translator is None else self.translator,
                name=self.follow_up_cache,
                kind="translation",
            )
        return None

    def expected_rounds(self) -> Sequence[ExpectedRound]:
        """Return what is known of the rounds from the parameters alone: who is asked, and for how much.

        A method with a `round` of its own that asks anyone but the base says so here, and the recipe is checked for it.
        """
        rounds = []
        if tokens := self.expected_tokens(self.params):
            rounds.append(ExpectedRound(name=self.request_cache, tokens=tokens, logprobs=self.params.soft))
        if self.translator is not None or self.asks_before:
            of: Of = "before" if self.translator is None else self.translator
            rounds.append(
                ExpectedRound(of=of, name=self.follow_up_cache, kind="translation", tokens=None, key="translator")
            )
        return rounds

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Yield what the base is asked first during synthesis; by default nothing."""
        return iter(())

    def follow_ups(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> Iterator[Request]:
        """Yield what is asked next, given what the base answered; ids differ from those of `requests`.

        It is asked of the engine that `translator` names, by default of the graft that the stage before has trained.
        """
        return iter(())

    def objective(self) -> Sequence[Mapping[str, Any]]:
        """Return what its loss has beside the losses of its spans: entries as in `stages[].objective` of a recipe, such
        as `{"kind": "kl_base", "weight": 0.1, "on": "replay"}`. The recipe adds to them, and may replace them."""
        return ()

    @property
    def needs_prompts(self) -> bool:
        """Whether it cannot do without the recipe's general prompts."""
        return self.consumes == "prompts"

    @property
    def own_prompts(self) -> int:
        """How many prompts it lets the base write, in place of the recipe's; 0: none."""
        return 0

    @property
    def asks_chain(self) -> bool:
        """Whether it asks the graft of the stage before through the translation chain of thought, which a stage before
        must have taught."""
        return False

    @property
    def selects_by(self) -> Sequence[str | Mapping[str, Any]]:
        """The metrics by which it selects what it trains on, as `MethodInputs.score` takes them.

        They are checked when a recipe is read, and a report that measures translations by one of them says so.
        """
        return ()

    @property
    def answer_tokens(self) -> int:
        """The most tokens that the base may answer a general prompt with; 0: it is asked none."""
        return 0

    def shortfall(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> str:
        """Return why what the base answered is too little to train on, and what to do; "" if it is not.

        It is asked after each round that is answered before anything is trained, so that nothing more is asked in vain.

        Args:
            inputs: what the run has for the method.
            generations: the answers of the rounds so far, by request id; by default the first are those to `requests`.
        """
        return ""

    def likeness(self, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Likeness | None:
        """Return what it teaches, and what the base itself has written, to tell how alike they are before anything is
        trained; None: nothing is told.

        Args:
            inputs: what the run has for the method.
            answers: those of the rounds that are answered before anything is trained, by request id.
        """
        return None

    def least_tokens(self, prompt: Prompt, count: Callable[[str], int]) -> int:
        """Return how many tokens the example of a general prompt has at least behind the prompt, as far as that is
        known before anything is answered.

        Args:
            prompt: a general prompt.
            count: tokens of a text.
        """
        return 0

    def known_examples(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> Iterator[Example]:
        """Yield the examples of general prompts as far as they are known before anything is trained, with as little as
        possible in place of what is asked then: those that are too long already are told in time.
        """
        return iter(())

    @property
    def translator(self) -> Mapping[str, Any] | None:
        """The engine that answers follow-ups, as `engine:` of a recipe has it; None: the graft of the stage before."""
        return None

    @property
    def asks_before(self) -> bool:
        """Whether its follow-ups are asked of the graft of the stage before, so that it cannot be the first."""
        return False

    @abstractmethod
    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield the training examples, given the answers of all rounds by request id.

        Args:
            inputs: what the run has for the method.
            generations: request id -> answer.
            tally: counts what is kept and what is left out, by reason.
        """

    def stop(self, inputs: MethodInputs) -> tuple[str, ...]:
        """Return the strings at which a translation ends, for decoding."""
        return ()


METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "vanilla": "lingraft.methods.vanilla:Vanilla",
        "radis": "lingraft.methods.radis:RaDis",
        "language_aware": "lingraft.methods.language_aware:LanguageAware",
        "mix": "lingraft.methods.mix:Mix",
        "seqkd": "lingraft.methods.seqkd:SeqKD",
        "self_critique": "lingraft.methods.self_critique:SelfCritique",
        "self_critique_chat": "lingraft.methods.self_critique:SelfCritiqueChat",
        "cft": "lingraft.methods.cft:CFT",
        "sdft": "lingraft.methods.sdft:SDFT",
        "recovery": "lingraft.methods.recovery:Recovery",
        "pretraining": "lingraft.methods.pretraining:Pretraining",
        "translation_pretraining": "lingraft.methods.translation_pretraining:TranslationPretraining",
        "chain_distillation": "lingraft.methods.chain_distillation:ChainDistillation",
        "tcot": "lingraft.methods.tcot:TCoT",
        "native_sft": "lingraft.methods.native_sft:NativeSFT",
        "relevance": "lingraft.methods.relevance:Relevance",
        "preferences": "lingraft.methods.preferences:Preferences",
    },
)
