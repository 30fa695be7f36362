"""Rendering: messages and spans to token ids with per-token weights. The one function used by synthesis, training,
decoding and evaluation, so that prompt ids are byte-identical in all four.

The prompt is the model's own chat template with its generation prompt. The assistant turn (spans and the end-of-turn
token found in the template) is tokenised once, together with the prompt; a token belongs to the span that holds
its first character. Text of users and models is never read as control tokens: a `<|im_end|>` inside a sentence stays
plain text. The one thing that tokens cannot keep apart is a marker that is itself plain text in a template, such as
Llama-2's `[INST]`. Spans of role "marker" are the exception: see `turn.py`. Text without messages is rendered in
`documents.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import DataError, ExampleError, ModelError
from lingraft.data.records import Example, Message, Span, UserTurn
from lingraft.language import thinking
from lingraft.rendering.answer_form import answer_form
from lingraft.rendering.documents import PlainText
from lingraft.rendering.encoder import Encoder, Piece
from lingraft.rendering.rows import Placed, Rendered
from lingraft.rendering.teacher import place, recorded
from lingraft.rendering.template import MARK, ROLES, ChatTemplate, marked
from lingraft.rendering.turn import Turn, assign, open_turn
from lingraft.rendering.user_turn import open_user_turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKED = re.compile(MARK.format(r"(\d+)"))
_BLANKS_AT_END = re.compile(r"[^\S\r\n]+\Z")


@dataclass(frozen=True)
class PromptIds:
    """Token ids of a prompt; `dropped` is white space before the model's text that the model will write itself,
    because in running text it belongs to the next token: remove it from the front of what `Renderer.decode` returns."""

    ids: tuple[int, ...]
    dropped: str = ""


@dataclass(frozen=True)
class _Opened:
    """An example before it is tokenised: pieces of prompt and turn, and the turn itself."""

    prompt: list[Piece]
    pieces: list[Piece]
    turn: Turn


class Renderer:
    """Renders conversations for one tokenizer and its chat template.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        ends: ids that end a text by the model's own files, beside those of template and tokenizer.
        variables: of the chat template, see `ChatTemplate`.
        exact: see `ChatTemplate`.

    Attributes:
        template: the chat template.

    Raises:
        ModelError: no chat template, a slow tokenizer, or a template whose generation prompt does not begin
            its rendering of an answer, opens a block of thoughts, or that leaves out texts.
        UsageError: a variable that the template does not have.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        ends: Sequence[int] = (),
        variables: Mapping[str, Any] | None = None,
        exact: bool = False,
    ) -> None:
        name = tokenizer.name_or_path or "the model"
        if not tokenizer.chat_template:
            raise ModelError(
                f"the tokenizer of {name} has no chat template; use the chat (instruct) version of the model, or save "
                f"a `chat_template.jinja` beside its tokenizer.json"
            )
        if not tokenizer.is_fast:
            raise ModelError(f"the tokenizer of {name} has no tokenizer.json; convert it to a fast tokenizer first")
        self.tokenizer = tokenizer
        self._ends = tuple(ends)
        self.template = ChatTemplate(tokenizer, variables, exact=exact)
        self._encoder = Encoder(tokenizer, self.template.apply([Message("user", "x")], add_generation_prompt=False))
        self._anchor = self._encoder.plain_ids("a")
        self._anchor_text = str(tokenizer.decode(self._anchor))
        special = {i: str(token.content) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._tags = {i: token for i, token in special.items() if thinking.is_tag(token)}
        self._form = answer_form(self.template, tokenizer, self._encoder, self._ends, strict=not exact)
        self._lead = self._form.lead
        self.end_of_turn_id = self._encoder.ids([Piece(self._form.end, True)])[-1]
        # Between a marker and its text: nothing, unless the tokenizer then opens it otherwise than a text.
        after_control = self._encoder.ids([Piece(self._form.end, True), Piece("a", False)])
        self._gap = "" if after_control[-len(self._anchor) :] == self._anchor else self._lead
        self._plain = PlainText(self.tokenizer, self._encoder, self._gap, self.end_of_turn_id)
        self._others: dict[str, Renderer] = {}

    def asking(self, variables: Mapping[str, Any]) -> Renderer:
        """Return the renderer of the same tokenizer that gives the template these variables and no others, such as
        those that a graft was trained with; itself where it does so."""
        if dict(variables) == self.template.variables:
            return self
        key = repr(sorted(variables.items()))
        if key not in self._others:
            self._others[key] = Renderer(self.tokenizer, ends=self._ends, variables=variables, exact=True)
        return self._others[key]

    @property
    def opening(self) -> str:
        """What stands between the template's generation prompt and an answer, and belongs to the prompt."""
        return self._form.opening

    @property
    def identity(self) -> dict[str, Any]:
        """What, beside the tokenizer, decides how a model is asked and where its answers end; empty for most."""
        further = sorted({*self.end_ids} - {self.end_of_turn_id, self.tokenizer.eos_token_id})
        found = {"template": self.template.variables, "ends": further}
        return {name: value for name, value in found.items() if value}

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end an assistant turn: the template's own end-of-turn token, the tokenizer's EOS, and those of the
        model's own files (see `lingraft.rendering.ends`)."""
        eos = self.tokenizer.eos_token_id
        ends = [self.end_of_turn_id, *([eos] if isinstance(eos, int) else []), *self._ends]
        return tuple(dict.fromkeys(ends))

    @property
    def text_start_id(self) -> int:
        """Id after which a plain text begins: the tokenizer's BOS token where it puts one, else its EOS token."""
        eos = self.tokenizer.eos_token_id
        return (*self._plain.bos, eos if isinstance(eos, int) else self.end_of_turn_id)[0]

    @property
    def pad_id(self) -> int:
        """Id to pad with; padding is always masked, so the end-of-turn id serves where there is none."""
        pad = self.tokenizer.pad_token_id
        return pad if isinstance(pad, int) else self.end_of_turn_id

    def _prompt_pieces(self, messages: Sequence[Message]) -> list[Piece]:
        roles = [message.role for message in messages]
        unknown = [role for role in roles if role not in ROLES]
        if unknown:
            raise DataError(f"unknown role {unknown[0]!r} of a message; known: {', '.join(ROLES)}")
        if roles[-1:] == ["assistant"]:
            raise DataError(
                "a prompt ends with an assistant message; end it with the user's, the answer is not part of it"
            )
        rendered = self.prompt_text(messages)
        contents = [message.content for message in messages]
        if not any(self._encoder.control.search(content) for content in contents):
            return [Piece(rendered, True)]
        examined = self._form.prompt(self.template.apply(marked(roles), add_generation_prompt=True))
        first, *rest = _MARKED.split(examined)  # literal, number, literal, number, ..., literal
        pieces, position = [Piece(first, True)], len(first)
        for number, literal in zip(rest[::2], rest[1::2], strict=True):
            content = contents[int(number)]
            for variant in (content, content.strip(), content.rstrip(), content.lstrip()):
                if rendered.startswith(variant + literal, position):
                    pieces += [Piece(variant, False), Piece(literal, True)]
                    position += len(variant + literal)
                    break
        if "".join(piece.text for piece in pieces) != rendered:
            raise DataError(
                "a message holds a control token of the model and its chat template rewrites messages, so that the two "
                f"cannot be told apart; remove the token from "
                f"{next(content for content in contents if self._encoder.control.search(content))[:80]!r}"
            )
        return pieces

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Return a prompt as one text, control tokens included; errors are those of `ChatTemplate.render`."""
        return self._form.prompt(self.template.render(messages, opened=True))

    def prompt_ids(self, messages: Sequence[Message], prefill: str = "", turn: Sequence[Span] = ()) -> PromptIds:
        """Return the ids of a conversation with an open assistant turn that already holds `prefill`.

        The prefill is tokenised as it would be in running text, so that the ids begin the ids of a training example
        whose turn begins with the same text: blanks at its end, which belong to the next word, are left to the model
        (`PromptIds.dropped`). This holds where a new word or line begins after the prefill; within a word, or where
        punctuation or newlines meet their like, some tokenizers merge across the end.

        Args:
            messages: without them the prefill is plain text outside of the chat template, as in pre-training.
            prefill: text with which the assistant turn begins.
            turn: the same as spans, in place of `prefill`, where it holds markers.

        Raises:
            UsageError: the chat template refuses the roles, such as a system message.
            DataError: unknown role, assistant message at the end, text that cannot be told from control tokens, a
                marker that the tokenizer does not have, or nothing at all to continue.
        """
        prompt, front = (self._prompt_pieces(messages), ()) if messages else ([], self._plain.bos)
        lead = self._lead if messages else ""
        spans = turn or (Span(prefill, "text"),)
        begun = open_turn(spans, self._encoder, lead, self._gap, end=False).beginning
        if not begun:
            if not messages:
                raise DataError("there is nothing to continue: neither messages nor a text; give one of them")
            return PromptIds(tuple(self._encoder.ids(prompt)), lead)
        *before, last = begun
        if last.literal:
            return PromptIds((*front, *self._continue(prompt, begun).ids), self._gap)
        blanks = _BLANKS_AT_END.search(last.text)
        body, dropped = (last.text[: blanks.start()], blanks.group()) if blanks else (last.text, "")
        begun = [*before, Piece(body, False)]
        # A word after it shows which tokens are final: in running text, newlines may split differently than at the end.
        length = sum(len(piece.text) for piece in [*prompt, *begun])
        word = dropped + "A" if dropped or body[-1].isspace() else " A"
        probed = self._continue(prompt, [*begun, Piece(word, False)])
        keep = sum(start < length for start in probed.starts)
        if probed.starts[keep : keep + 1] != [length]:  # a token straddles the end of the prefill
            return PromptIds((*front, *self._continue(prompt, begun).ids), dropped)
        return PromptIds((*front, *probed.ids[:keep]), dropped)

    def user_turn(self, system: str | None = None) -> UserTurn:
        """Return a conversation that ends where the user's text begins; see `open_user_turn`."""
        return open_user_turn(self.template, self._encoder, self.end_ids, system)

    def _continue(self, prompt: Sequence[Piece], turn: Sequence[Piece]) -> Placed:
        (found,) = self._encoder.continue_many([(prompt, turn)])
        if isinstance(found, DataError):
            raise found
        return found[0]

    def render(self, example: Example, max_length: int | None = None) -> Rendered:
        """Return the example as token ids with weights.

        White space at the very beginning and end of the turn is removed, as most templates do.

        Args:
            example: with messages; else see `render_text`.
            max_length: longest allowed number of tokens.

        Raises:
            ExampleError: no supervised text, longer than `max_length` (text is never cut silently), or text that cannot
                be told from control tokens.
            UsageError: the chat template refuses the roles, such as a system message.
        """
        (row,) = self.render_many([example], max_length)
        if isinstance(row, ExampleError):
            raise row
        return row

    def render_many(self, examples: Sequence[Example], max_length: int | None = None) -> list[Rendered | ExampleError]:
        """Return, for each example, what `render` returns or the ExampleError it raises; they are tokenised together.

        Raises:
            UsageError: the chat template refuses the roles, such as a system message.
        """
        opened: list[_Opened | ExampleError] = [self._open(example) for example in examples]
        parts = [(item.prompt, item.pieces) for item in opened if isinstance(item, _Opened)]
        encoded = iter(self._encoder.continue_many(parts))
        out: list[Rendered | ExampleError] = []
        for example, item in zip(examples, opened, strict=True):
            try:
                if isinstance(item, ExampleError):
                    raise item
                found = next(encoded)
                if isinstance(found, DataError):
                    raise ExampleError(example.id, str(found)) from found
                out.append(self._finish(example, item, *found, max_length))
            except ExampleError as error:
                out.append(error)
        return out

    def render_text(self, example: Example, max_length: int | None = None) -> list[Rendered]:
        """Return the rows of an example without messages: see `documents.py`.

        White space at the very beginning and end of the text is removed, and beside markers.

        Args:
            example: without messages.
            max_length: longest allowed number of tokens of a row.

        Raises:
            ExampleError: no supervised text, one row of more than `max_length` tokens where `block` is 0, a marker
                that the tokenizer does not have, or text that cannot be told from control tokens.
        """
        rows: list[Rendered] = []
        for row in self.render_texts([example], max_length):
            if isinstance(row, ExampleError):
                raise row
            rows.append(row)
        return rows

    def render_texts(
        self, examples: Sequence[Example], max_length: int | None = None
    ) -> Iterator[Rendered | ExampleError]:
        """Yield, for each example in turn, the rows that `render_text` returns or the ExampleError it raises."""
        return self._plain.render(examples, max_length)

    def _open(self, example: Example) -> _Opened | ExampleError:
        """Return the texts of an example."""
        if not example.messages:
            return ExampleError(example.id, "it has no messages: plain text takes any number of rows (render_text)")
        try:
            turn = open_turn(example.spans, self._encoder, self._lead, self._gap, end=example.end_turn)
            if not turn.supervised:
                return ExampleError(example.id, "no supervised token: every span is empty or has weight 0")
            end = [Piece(self._form.end, True)] if example.end_turn else []
            return _Opened(self._prompt_pieces(example.messages), [*turn.pieces, *end], turn)
        except DataError as error:
            return ExampleError(example.id, str(error))

    def _finish(self, example: Example, item: _Opened, encoded: Placed, first: int, max_length: int | None) -> Rendered:
        """Return the example whose first `first` tokens are the prompt's.

        Raises:
            ExampleError: as `render` does.
        """
        spans, begin = example.spans, sum(len(piece.text) for piece in item.prompt)
        weights, span_of = assign(item.turn, encoded.starts[first:], begin)
        if not any(weights):  # its characters all begin inside tokens of other spans
            raise ExampleError(example.id, "no supervised token: the weighted text shares its tokens with other spans")
        if max_length is not None and len(encoded.ids) > max_length:
            raise ExampleError(example.id, f"{len(encoded.ids)} tokens, more than the {max_length} allowed")
        span_of = [-1] * first + span_of
        bounds = list(accumulate(map(len, item.turn.texts), initial=begin + len(item.turn.lead)))
        return Rendered(
            example.id,
            tuple(encoded.ids),
            tuple([0.0] * first + weights),
            tuple(span_of),
            tuple(span.loss for span in spans),
            tuple(span.role for span in spans),
            recorded(example, encoded, span_of, bounds, self._written, self.end_ids),
            example.group,
            example.sign,
        )

    def _written(self, ids: Sequence[int]) -> Placed:
        return place(self.tokenizer.backend_tokenizer, self._anchor, ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids without control tokens, spaces untouched: also the one that some tokenizers
        hide at the beginning of a text (see `PromptIds.dropped`). Tags of thoughts stay, also where they are control
        tokens (`[THINK]` of Mistral), so that thoughts are never taken for the answer."""
        tags = [number for number, token in enumerate(ids) if token in self._tags]
        parts: list[str] = []
        for begin, end in pairwise([-1, *tags, len(ids)]):
            parts.append(self._decode(ids[begin + 1 : end], skip_special_tokens=True) if end > begin + 1 else "")
            parts.append(self._tags[ids[end]] if end < len(ids) else "")
        return "".join(parts)

    def _decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        # SentencePiece-like decoders strip a space at the beginning of a text; put a letter there.
        text = self.tokenizer.decode(
            [*self._anchor, *ids], skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
        return str(text).removeprefix(self._anchor_text)

    def decode_all(self, ids: Sequence[int]) -> str:
        """Return the text of ids with their control tokens."""
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def count(self, text: str) -> int:
        """Return the number of tokens of plain text."""
        return len(self.plain_ids(text))

    def plain_ids(self, text: str) -> list[int]:
        """Return the ids of plain text, by itself: a control token in it is read as its characters."""
        return self._encoder.plain_ids(text)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """Return the numbers of tokens of plain texts."""
        return self._encoder.count_many(texts)

    def numbers(self, most: int) -> dict[int, int]:
        """Return the tokens that by themselves are a whole number up to `most`, with or without a space, as such."""
        found: dict[int, int] = {}
        for number in range(most + 1):
            for text in (str(number), f" {number}"):
                last = self.plain_ids(text)[-1]
                if self.decode([last]).strip() == str(number):
                    found[last] = number
        return found

    def pieces(self, rendered: Rendered) -> Iterator[tuple[str, str, float]]:
        """Yield runs of equal treatment as (text, role or "prompt", weight), control tokens included."""
        start = 0
        keys = list(zip(rendered.span_of, rendered.weights, strict=True))
        for end in range(1, len(keys) + 1):
            if end == len(keys) or keys[end] != keys[start]:
                span, weight = keys[start]
                text = self._decode(rendered.input_ids[start:end], skip_special_tokens=False)
                yield text, "prompt" if span < 0 else rendered.roles[span], weight
                start = end
