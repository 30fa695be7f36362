"""A chat template as Ollama writes it: in Go's template language, with contents put between fixed texts.

Those are found out by probing, as everything about a template is; then conversations are rendered both ways. What a
template makes of a turn by its place or its text cannot be said in fixed texts, and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lingraft.core.errors import UsageError
from lingraft.data.records import Message
from lingraft.rendering.template import MARK, marked

_MARKED = re.compile(MARK.format(r"(\d+)"))
_CONTENTS = (
    "Good day to you.",
    "Zwei Zeilen,\n\ndie zweite mit Ziffern: 12, 3.5",
    "วันนี้อากาศดี {{ braces }} {% and %} \"quotes\" 'too'",
    "今天天气很好。",
    "def f(x):\n    return {x: '<b>'}",
    "Last one",
    "!",
)

Prompt = Callable[[Sequence[Message]], str]
"""Makes the prompt of a conversation as the model was trained, or raises UsageError."""


@dataclass(frozen=True)
class TurnForm:
    """The fixed texts of a chat template.

    Attributes:
        start: before the first turn of a conversation without a system message.
        system: around a system message; None: the template takes none, or not in a fixed place.
        answer: between a user's text and the answer to it.
        question: between an answer and the user's next text.
        opening: behind the last user's text.
    """

    start: str
    system: tuple[str, str] | None
    answer: str
    question: str
    opening: str

    @classmethod
    def of(cls, prompt: Prompt, name: str) -> TurnForm:
        """Return the form of a chat template.

        Args:
            prompt: see above.
            name: of the model, for messages.

        Raises:
            UsageError: fixed texts do not say what the template does.
        """
        start, answer, question, opening = _literals(prompt, ("user", "assistant", "user"), name)
        form = cls(start, None, answer, question, opening)
        form._check(prompt, name)
        try:
            before, behind, *_ = _literals(prompt, ("system", "user"), name)
            with_system = replace(form, system=(before, behind))
            with_system._check(prompt, name)
        except UsageError:
            return form
        return with_system

    def _check(self, prompt: Prompt, name: str) -> None:
        for turns in range(1, len(_CONTENTS), 2):
            roles = ["user" if number % 2 == 0 else "assistant" for number in range(turns)]
            for first in ([], ["system"]) if self.system else ([],):
                messages = [Message(role, text) for role, text in zip([*first, *roles], _CONTENTS, strict=False)]
                if self.render(messages) != prompt(messages):
                    raise UsageError(
                        f"the chat template of {name} cannot be written for Ollama: in a conversation of {turns} turns "
                        f"it is no row of fixed texts and contents; export without --gguf, for transformers or vLLM"
                    )

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt of a conversation, as Ollama makes it."""
        system = "\n\n".join(message.content for message in messages if message.role == "system")
        turns = [message for message in messages if message.role != "system"]
        before, behind = self.system or ("", "")
        parts = [before + system + behind if system and self.system else self.start]
        for number, message in enumerate(turns):
            last = number == len(turns) - 1
            if message.role == "user":
                parts += [message.content, self.opening if last else ""]
            else:
                parts += [self.answer, message.content, "" if last else self.question]
        return "".join(parts)

    def without_start(self, token: str) -> TurnForm:
        """Return the form of a program that puts a token before each prompt by itself.

        Args:
            token: text of it.
        """
        system = (self.system[0].removeprefix(token), self.system[1]) if self.system else None
        return replace(self, start=self.start.removeprefix(token), system=system)

    def go(self) -> str:
        """Return the template in Go's language, with the variables that Ollama gives."""
        start = _text(self.start)
        if self.system:
            before, behind = map(_text, self.system)
            start = f"{{{{ if .System }}}}{before}{{{{ .System }}}}{behind}{{{{ else }}}}{start}{{{{ end }}}}"
        return (
            start
            + "{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            + '{{ if eq $m.Role "user" }}{{ $m.Content }}'
            + f'{{{{ else if eq $m.Role "assistant" }}}}{_text(self.answer)}{{{{ $m.Content }}}}'
            + f"{{{{ if not $last }}}}{_text(self.question)}{{{{ end }}}}{{{{ end }}}}"
            + f'{{{{ if and $last (ne $m.Role "assistant") }}}}{_text(self.opening)}{{{{ end }}}}{{{{ end }}}}'
        )


def _literals(prompt: Prompt, roles: Sequence[str], name: str) -> list[str]:
    """Return what stands around and between the marks of a conversation."""
    first, *rest = _MARKED.split(prompt(marked(roles)))
    if rest[::2] != [str(number) for number in range(len(roles))]:
        raise UsageError(
            f"the chat template of {name} cannot be written for Ollama: it does not show each of the turns "
            f"[{' '.join(roles)}] once and in order; export without --gguf, for transformers or vLLM"
        )
    return [first, *rest[1::2]]


def _text(text: str) -> str:
    """Return a fixed text of a template: as it is, where neither Go nor Ollama reads anything else in it."""
    plain = all(character.isprintable() or character == "\n" for character in text)
    if plain and "{{" not in text and '"""' not in text and not text.endswith(("{", '"')):
        return text
    return f"{{{{ {go_string(text)} }}}}"


def go_string(text: str) -> str:
    """Return a text as a string constant of Go, in ASCII."""
    escaped = {"\n": "\\n", '"': '\\"', "\\": "\\\\", "{": "\\u007b", "}": "\\u007d"}
    characters = (
        escaped.get(one)
        or (one if " " <= one <= "~" else f"\\u{ord(one):04x}" if one <= "\uffff" else f"\\U{ord(one):08x}")
        for one in text
    )
    return f'"{"".join(characters)}"'
