"""A tokenizer's chat template as it is applied here: with which variables, with contents in which form, and which turns
it shows. All of it is found out by probing: marks stand for the messages, and what is rendered is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import product
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from lingraft.core.errors import ModelError, UsageError
from lingraft.data.records import Message
from lingraft.language.characters import is_blank
from lingraft.language.thinking import ends_open
from lingraft.rendering.bounded import render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")
MARK = "\ue000{}\ue001"  # private-use characters: stand for a message's content while a template is examined

SWITCHES: tuple[tuple[str, Any], ...] = (
    *((name, False) for name in ("enable_thinking", "thinking", "enable_reasoning", "reasoning", "use_thinking")),
    ("thinking_budget", 0),
    ("reasoning_effort", "none"),
)
"""Variables with which published templates switch thinking off, where setting them changes what is rendered."""
_WORDS = ("reasoning_effort",)  # of any value: "none" counts only where the template knows the word

_RESERVED = frozenset(
    {"conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize", "padding"}
    | {"continue_final_message", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"}
    | {"return_assistant_tokens_mask", "strftime_now"}
)


def _fixed_day(form: str) -> str:
    """Stand in for the `strftime_now` of templates (Llama-3.2): with today's date, prompts would differ by the day."""
    return date(2024, 7, 26).strftime(form)


class ChatTemplate:
    """The chat template of one tokenizer.

    Args:
        tokenizer: with a chat template.
        variables: given to the template.
        exact: these alone; else thinking is switched off besides, where the template has a variable for it that is not
            among these.

    Attributes:
        variables: those that are given to the template.

    Raises:
        ModelError: the template renders no message of a user, or leaves out its text.
        UsageError: a variable that the template does not name, or that is not its own to have.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, variables: Mapping[str, Any] | None = None, *, exact: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self.name = tokenizer.name_or_path or "the model"
        self.variables: dict[str, Any] = dict(variables or {})
        self._forms: dict[str, bool] = {}  # of each role: whether contents are lists of parts
        self._shown: dict[tuple[str, ...], frozenset[int] | str] = {}
        self._source = str(tokenizer.chat_template)
        self._check_variables()
        self._choose_forms()
        if not exact:
            self._switch_off()

    def apply(self, messages: Sequence[Message], *, add_generation_prompt: bool, **variables: Any) -> str:
        """Return what transformers renders, with the variables and forms of this template; in bounded work.

        Args:
            messages: of the conversation, the first one first.
            add_generation_prompt: whether the beginning of the assistant's next turn follows.
            variables: further ones.

        Raises:
            Exception: whatever the template raises.
        """
        given: dict[str, Any] = {
            **self._tokenizer.special_tokens_map,
            "messages": [self.given(message) for message in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "strftime_now": _fixed_day,
            **self.variables,
            **variables,
        }
        return render(str(self._tokenizer.get_chat_template()), given)

    def render(self, messages: Sequence[Message], *, opened: bool) -> str:
        """Return a conversation as text.

        Args:
            messages: of the conversation, the first one first.
            opened: with the generation prompt behind it.

        Raises:
            UsageError: the template refuses the turns, or leaves out the text of one of them.
        """
        try:
            text = self.apply(messages, add_generation_prompt=opened)
        except Exception as error:  # a template is a program of its own: it can fail in any way
            raise UsageError(self._refusal(tuple(message.role for message in messages), error)) from error
        self._refuse_lost(messages)
        return text

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse a conversation whose turns the template does not take, or of which it would leave out a text.

        Raises:
            UsageError: it does.
        """
        shown = self._shows(tuple(message.role for message in messages))
        if isinstance(shown, str):
            raise UsageError(shown)
        self._refuse_lost(messages)

    def _refuse_lost(self, messages: Sequence[Message]) -> None:
        roles = tuple(message.role for message in messages)
        lost = [number for number in self.leaves_out(roles) if not is_blank(messages[number].content)]
        if not lost:
            return
        what = "the system message" if roles[lost[0]] == "system" else f"the text of turn {lost[0] + 1}"
        raise UsageError(
            f"the chat template of {self.name} leaves out {what} of the turns [{' '.join(roles)}], so that the model "
            f"would never see it; put what matters into the last user message, or use a chat template that shows all "
            f"turns"
        )

    def leaves_out(self, roles: Sequence[str]) -> list[int]:
        """Return the numbers of the turns whose text the template does not show; none where it refuses the turns."""
        shown = self._shows(tuple(roles))
        return [] if isinstance(shown, str) else [number for number in range(len(roles)) if number not in shown]

    def given(self, message: Message) -> dict[str, Any]:
        """Return a message as the template takes it: its content as a text, or as a list of one part."""
        if self._forms.get(message.role):
            return {"role": message.role, "content": [{"type": "text", "text": message.content}]}
        return message.to_dict()

    def _shows(self, roles: tuple[str, ...]) -> frozenset[int] | str:
        """Return the turns whose text is shown, or why such turns are refused; probed once for each row of roles."""
        if roles not in self._shown:
            if len(self._shown) >= 1024:
                self._shown.clear()
            text = self.tried(*roles)
            self._shown[roles] = (
                self._refusal(roles, text)
                if isinstance(text, Exception)
                else frozenset(number for number in range(len(roles)) if _shown(number, text))
            )
        return self._shown[roles]

    def _refusal(self, roles: Sequence[str], error: Exception) -> str:
        turns = f"the turns [{' '.join(roles)}]"
        if type(error) in (TemplateError, ValueError):  # what `raise_exception` of a template raises
            return (
                f"the chat template of {self.name} refuses {turns}: {' '.join(str(error).split())}; most templates "
                f"want user and assistant in turn, and some know no system message"
            )
        return (
            f"the chat template of {self.name} fails on {turns} ({_told(error)}); if it wants tools or variables of "
            f"its own, use the model's plain chat template, or give them as `template:` of the recipe"
        )

    def _check_variables(self) -> None:
        for name in self.variables:
            if name in _RESERVED:
                raise UsageError(f"template: {name!r} is set here itself; give other variables of the chat template")
            if not self._names(name):
                raise UsageError(
                    f"template: the chat template of {self.name} has no variable {name!r}; leave it out, or use the "
                    f"name that the template has"
                )

    def _names(self, variable: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(variable)}(?!\w)", self._source) is not None

    def _choose_forms(self) -> None:
        """Find out whether contents are to be texts or lists of parts: for each role, the first that is shown."""
        failure: Exception | None = None  # of contents as texts, as most templates want them
        forms: dict[str, bool] | None = None
        for user, assistant in product((False, True), repeat=2):
            self._forms = {"user": user, "assistant": assistant}
            opened, whole = self.tried("user"), self.tried("user", "assistant")
            if isinstance(opened, Exception) or isinstance(whole, Exception):
                if not user and not assistant:
                    failure = (
                        opened if isinstance(opened, Exception) else whole if isinstance(whole, Exception) else None
                    )
            elif _shown(0, opened):
                forms = forms or self._forms
                if _shown(1, whole):
                    break
        else:
            raise self._unusable("the user's messages" if forms is None else "answers", failure)
        self._forms["system"] = False
        if not self._shows_system():
            self._forms["system"] = True
            self._forms["system"] = self._shows_system()

    def _shows_system(self) -> bool:
        text = self.tried("system", "user")
        return isinstance(text, str) and _shown(0, text)

    def _unusable(self, left_out: str, failure: Exception | None) -> ModelError:
        if failure is not None:
            return ModelError(
                f"the chat template of {self.name} cannot render a message of a user and the answer to it "
                f"({_told(failure)}); if it wants tools or variables of its own, use the model's plain chat "
                f"template, or give them as `template:` of the recipe"
            )
        return ModelError(
            f"the chat template of {self.name} leaves out the text of {left_out}, given as text and as a list of "
            f"parts; use a chat template that shows it"
        )

    def _switch_off(self) -> None:
        """Switch thinking off where that changes the prompt."""
        for name, value in SWITCHES:
            if name in self.variables or not self._names(name):
                continue
            before, after = self.tried("user"), self.tried("user", **{name: value})
            if isinstance(after, Exception) or after == before or not _shown(0, after):
                continue
            if ends_open(_behind(0, after)) and not (isinstance(before, str) and ends_open(_behind(0, before))):
                continue  # the model itself is to say that it does not think (Seed-OSS)
            if name in _WORDS:
                word = MARK.format("word")
                other = self.tried("user", **{name: word})
                if isinstance(other, str) and other.replace(word, str(value)) == after:
                    continue  # any word would do: the model was hardly taught this one
            self.variables = {**self.variables, name: value}

    def tried(self, *roles: str, **variables: Any) -> str | Exception:
        """Return marked turns, opened behind the user's, with further variables; or what the template raises."""
        try:
            return self.apply(marked(roles), add_generation_prompt=roles[-1] == "user", **variables)
        except Exception as error:
            return error


def marked(roles: Sequence[str]) -> list[Message]:
    """Return a conversation with marks in place of contents: `MARK` with the number of the turn."""
    return [Message(role, MARK.format(number)) for number, role in enumerate(roles)]


def _shown(number: int, text: str) -> bool:
    """Whether the mark of a turn stands in a text, and not as part of a list that was printed as it is."""
    mark = MARK.format(number)
    return mark in text and not any(f"{quote}text{quote}: {quote}{mark}" in text for quote in "'\"")


def _behind(number: int, text: str) -> str:
    """Return what stands behind the mark of a turn."""
    return text.rpartition(MARK.format(number))[2]


def _told(error: Exception) -> str:
    """Return an exception of a template in a few words."""
    words = " ".join(str(error).split())[:200]
    kind = type(error).__name__
    return words if isinstance(error, TemplateError) and words else f"{kind}: {words}" if words else kind
