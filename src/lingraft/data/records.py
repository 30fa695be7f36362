"""The records every stage exchanges: immutable, typed, JSON round trip, matched by `id`.

Design: an Example made of typed spans is the unit of training; every method is a way to produce spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lingraft.core.record import Record


@dataclass(frozen=True)
class Message(Record):
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Pair(Record):
    """One source text with its reference translation; language codes are BCP-47.

    `references` holds further references beyond `target` (test sets only). Of a program (task `code`): the declaration
    that its translation is to have, and the `tests` of that.
    """

    id: str
    source: str
    target: str
    source_lang: str
    target_lang: str
    document: str | None = None
    references: tuple[str, ...] = ()
    declaration: str = ""
    tests: str = ""

    def reversed(self) -> Pair:
        """Return the opposite direction, with its own id."""
        return Pair(reversed_id(self.id), self.target, self.source, self.target_lang, self.source_lang, self.document)


def reversed_id(pair_id: str) -> str:
    """Return the id of a pair's opposite direction."""
    return f"{pair_id}:rev"


@dataclass(frozen=True)
class Prompt(Record):
    """A general conversation, for replay and for measuring retention; `task`: "translation" where it asks for one."""

    id: str
    messages: tuple[Message, ...]
    lang: str = "en"
    reference: str | None = None
    task: str = ""


@dataclass(frozen=True)
class Text(Record):
    """A document in one language, for continued pre-training."""

    id: str
    text: str
    lang: str


@dataclass(frozen=True)
class Sampling(Record):
    """How to decode. `temperature` 0 is greedy. `stop` strings end the text and are not part of it."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


def asked_text(messages: Iterable[Message]) -> str:
    """Return all text that a conversation asks. Earlier answers are no part of it: tags in them may be of thoughts."""
    return "\n".join(message.content for message in messages if message.role != "assistant")


@dataclass(frozen=True)
class Request(Record):
    """What a model is asked. `prefill` opens the assistant turn and is continued, not repeated in the answer.

    `turn`: the same as spans, in place of `prefill`, where it holds markers (spans of role "marker"). Without
    `messages` prefill or turn are plain text, outside of the chat template, as in pre-training.
    `prompt_ids`: token ids to continue as they are; `messages` are then for the reader alone, and there is no prefill.
    `direct`: answered as it is, never through the translation chain of thought, as requests for a translation are.
    `ends`: token ids that end the text, beside those that end an assistant's turn.
    """

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling
    prefill: str = ""
    top_logprobs: int = 0
    prompt_ids: tuple[int, ...] = ()
    turn: tuple[Span, ...] = ()
    direct: bool = False
    ends: tuple[int, ...] = ()

    @property
    def given(self) -> str:
        """All text that the model is asked, and what is already begun of its own turn: tags of thoughts in it may be
        quoted in the answer."""
        return "\n".join([asked_text(self.messages), self.prefill, *(span.text for span in self.turn)])


@dataclass(frozen=True)
class UserTurn(Record):
    """A conversation in a model's chat template up to where the user's text begins, for the model to write that itself.

    Attributes:
        before: all text that stands there, such as the template's own system message.
        ids: the same as token ids.
        ends: ids of control tokens that end the user's turn, and do not end a turn of the model.
        stop: text that ends it, where that is plain text (`[/INST]`).
    """

    before: str
    ids: tuple[int, ...]
    ends: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment(Record):
    """A part of an answer in the translation chain of thought.

    `role`: english_query | english_reply | native_reply, or "text" for what stands outside of the chain.
    `tokens`: written for it. `forced`: whether its marker was put there because the model had left it out.
    """

    role: str
    text: str
    tokens: int
    forced: bool = False


@dataclass(frozen=True)
class Generation(Record):
    """What a model wrote. `finish_reason`: "stop" (end of turn), "stop_string" or "length".

    `logprobs`: per token, the `top_logprobs` best `(token_id, natural-log probability)` pairs, best first. Where the
    turn has ended ("stop"), engines that know it add the distribution from which the end token came: one step more
    than `token_ids` has.
    `segments`: of an answer that went through the translation chain of thought; `text` is then what the user sees.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    logprobs: tuple[tuple[tuple[int, float], ...], ...] | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class Teacher(Record):
    """What a teacher wrote, with its distributions, as `Generation` records them.

    `logprobs`: per token, the best `(token_id, natural-log probability)` pairs; one more at the end, if there, is the
    distribution from which the end of the turn was taken.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True)
class Span(Record):
    """A piece of an assistant turn.

    `role`: translation | separator | rationale | reply (the base's own) | given_reply (somebody else's) |
    english_query | english_reply | native_reply | text | marker | unwanted (a text that is unlearnt).
    A marker is a control token of an extended vocabulary, such as `<EN>`; all other text is read as plain text.
    `loss`: kind of loss on its tokens. `weight`: factor on each of its tokens; 0 leaves the text in the context
    without training on it. `teacher`: for losses that need one; its text begins with that of the span, white space
    at either end aside.
    """

    text: str
    role: str
    loss: str = "ce"
    weight: float = 1.0
    teacher: Teacher | None = None


@dataclass(frozen=True)
class Example(Record):
    """Prompt messages and the spans of the assistant turn: the unit of training.

    `end_turn` False: the text was cut off, so the stop token is not supervised. Else it weighs 1, whatever the weight
    of the last span.
    Without `messages` it is plain text outside of the chat template, ended by the tokenizer's end-of-text token, and
    becomes as many rows of at most `block` tokens as it takes (one row where `block` is 0).
    Examples that follow one another with the same `group` are trained together, in one micro-batch, or not at all.
    `sign`: in a group, 1 for the chosen and -1 for the rejected of two answers to the same question; a pair has one of
    each. 0: no preference.
    """

    id: str
    messages: tuple[Message, ...]
    spans: tuple[Span, ...]
    end_turn: bool = True
    block: int = 0
    group: str = ""
    sign: int = 0


@dataclass(frozen=True)
class Rejected(Record):
    """A row that was not used, its place (`line` is 1-based; 0: not known), and a short machine-readable `reason`."""

    file: str
    line: int
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class SideBySide(Record):
    """One item with what every system wrote about it: a line of `outputs.jsonl`, and an entry of the report's browser.

    Attributes:
        id: unique within the run.
        group: the direction ("de-en") of a translation, else the suite's name.
        source: the source text or the prompt, with earlier turns of the user.
        reference: empty for general prompts.
        outputs: system -> text; a system that was not asked is left out.
        steps: system -> step -> what it wrote, of systems that translate in several steps.
    """

    id: str
    group: str
    source: str
    reference: str
    outputs: Mapping[str, str]
    steps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class KL:
    """Kullback-Leibler divergence of a system from the base on one answer: sum in nats and number of tokens."""

    nats: float
    tokens: int


@dataclass(frozen=True)
class Continuation(Record):
    """Text whose log-likelihood after another is wanted, both as token ids of the system's tokenizer."""

    id: str
    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class Likelihood(Record):
    """Log-likelihood of a continuation in nats, summed over its tokens, and whether greedy decoding would write it."""

    id: str
    logprob: float
    greedy: bool


QUERY, REPLY, NATIVE, TEXT = "english_query", "english_reply", "native_reply", "text"
