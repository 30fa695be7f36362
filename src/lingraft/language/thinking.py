"""Blocks of thoughts that models write before an answer, and that some chat templates open for them: in which tags they
stand, whether a prompt ends within one, and what is said apart from them. No model, no tokenizer.

The tags are those of published models: `<think>` (Qwen, DeepSeek, GLM and many others), `<seed:think>` (Seed-OSS),
`<|channel>thought` (Gemma 4), `<|channel|>analysis` (gpt-oss), `<|START_THINKING|>` (Command), `[THINK]` (Mistral),
`<|begin_of_thought|>` (Sky-T1), `<|inner_prefix|>` (Apertus), `<unused94>thought` (MedGemma), and their like.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lingraft.language.characters import is_blank

_WORD = r"(?:think(?:ing)?|thoughts?|reasoning)"
_NAMED = rf"(?!end_)(?:\w+[:_])?{_WORD}"
_OPENING = (
    rf"<{_NAMED}>|<\|{_NAMED}\|>|(?-i:\[THINK\])|<\|(?:start|begin)_(?:of_)?{_WORD}\|>|◁think▷"
    r"|<\|channel>\s*(?:thought|analysis)|<\|channel\|>analysis<\|message\|>|<unused94>thought|<\|inner_prefix\|>"
)
_CLOSING = (
    rf"</{_NAMED}>|<\|/{_NAMED}\|>|(?-i:\[/THINK\])|<\|end_(?:of_)?{_WORD}\|>|◁/think▷"
    r"|<channel\|>|(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|<unused95>|<\|inner_suffix\|>"
)
_TAG = re.compile(rf"(?P<opening>{_OPENING})|(?P<closing>{_CLOSING})", re.IGNORECASE)
_BEGINS, _LONGEST = "<[◁", 64
"""First characters of tags, and more characters than any has."""
_TOKEN = re.compile(rf"{_OPENING}|{_CLOSING}|<\|channel>|<unused94>", re.IGNORECASE)


def is_tag(token: str) -> bool:
    """Say whether a control token opens or closes a block of thoughts, or is a part of what does."""
    return _TOKEN.fullmatch(token) is not None


def ends_open(text: str) -> bool:
    """Say whether a text ends within a block of thoughts: the last tag in it opens one."""
    *_, last = [None, *_TAG.finditer(text)]
    return last is not None and last.lastgroup == "opening"


def ends_closed(text: str) -> bool:
    """Say whether a text ends with the end of a block of thoughts, white space aside."""
    *_, last = [None, *_TAG.finditer(text)]
    return last is not None and last.lastgroup == "closing" and is_blank(text[last.end() :])


def without_blocks(text: str) -> str:
    """Return a text without its closed blocks of thoughts, wherever they stand, and without ends of such blocks."""
    parts: list[str] = []
    at, depth = 0, 0
    for tag in _TAG.finditer(text):
        if not depth:
            parts.append(text[at : tag.start()])
        depth = 1 if tag.lastgroup == "opening" else 0
        at = tag.end()
    return "".join(parts) + ("" if depth else text[at:])


@dataclass(frozen=True)
class Said:
    """What a model has written, apart from its thoughts.

    Attributes:
        text: behind the thoughts; all of it where there are none.
        thought: whether anything was thought: an empty block is no thought.
        unfinished: the thoughts have no end, so that nothing was said.
    """

    text: str
    thought: bool = False
    unfinished: bool = False


def said(text: str, given: str = "") -> Said:
    """Take the thoughts off the beginning of a text that a model has written.

    They begin with a tag, or where the prompt had opened them already with the text itself, and go up to the end tag.
    What stands further inside is text, and so are tags of which the text that was given speaks itself.

    Args:
        text: as the model wrote it.
        given: what it was to translate, for instance; of a request, all that it holds (`Request.given`).
    """
    tags = [tag for tag in _TAG.finditer(text) if tag.group() not in given]
    begin, thought = 0, False
    if tags and tags[0].lastgroup == "closing":
        begin, thought = tags[0].end(), not is_blank(text[: tags[0].start()])
    for tag in tags:
        if tag.lastgroup != "opening" or tag.start() < begin:
            continue
        if not is_blank(text[begin : tag.start()]):
            break
        end = next((other for other in tags if other.lastgroup == "closing" and other.start() >= tag.end()), None)
        if end is None:
            return Said("", True, True)
        thought = thought or not is_blank(text[tag.end() : end.start()])
        begin = end.end()
    return Said(text[begin:].lstrip() if begin else text, thought)


def thinks(text: str, given: str = "") -> bool:
    """Say whether a text that a model has written holds thoughts anywhere: it is then not fit to be learnt.

    Args:
        text: as the model wrote it.
        given: what it was asked; tags in it are text.
    """
    if said(text, given).thought:
        return True
    return any(tag.group() not in given for tag in _TAG.finditer(said(text, given).text))


def block(thoughts: str, given: str = "", *, ended: bool = True) -> str:
    """Return thoughts that came apart from what is said as the block that a model would have written before it, so
    that they are taken off and counted like those of any other.

    Args:
        thoughts: as they came, without tags around them.
        given: what was asked, in whose words the tags may not stand, as they would be text.
        ended: whether the thoughts are whole; if not, something is lacking behind them, and the block has no end.
    """
    names = ("think", "thinking", "thought", "reasoning", "hidden:think")
    word = next((name for name in names if f"<{name}>" not in given and f"</{name}>" not in given), names[-1])
    return f"<{word}>\n{_TAG.sub('', thoughts).strip()}" + (f"\n</{word}>\n\n" if ended else "")


class Thoughts:
    """Tells the thoughts at the beginning of a text from what is said, while the text comes in pieces.

    Args:
        given: what was asked; tags in it are text.

    Attributes:
        thinking: whether what comes next is thoughts.
        decided: whether it is known which of the two it is.
    """

    def __init__(self, given: str = "") -> None:
        self._given = given
        self._state: Literal["open", "thinking", "said"] = "open"
        self._waiting = ""

    @property
    def thinking(self) -> bool:
        """Whether what comes next is thoughts."""
        return self._state == "thinking"

    @property
    def decided(self) -> bool:
        """Whether it is known which of the two it is."""
        return self._state != "open"

    def step(self, text: str, *, last: bool = False) -> list[tuple[bool, str]]:
        """Return what is known to be one or the other after one more piece, as (thought, text); tags are left out.

        What may be a part of a tag waits; all of it is given after the `last` piece.
        """
        self._waiting += text
        found: list[tuple[bool, str]] = []
        while self._waiting:
            if self._state == "said":
                found.append((False, self._waiting))
                self._waiting = ""
            elif self._state == "thinking":
                tag = next(filter(self._closes, _TAG.finditer(self._waiting)), None)
                end = tag.start() if tag else len(self._waiting) if last else _whole(self._waiting)
                found.append((True, self._waiting[:end]))
                self._waiting = self._waiting[tag.end() if tag else end :]
                if tag is None:
                    break
                self._state = "open"
            else:
                head = self._waiting.lstrip()
                tag = _TAG.match(head)
                if tag is not None and tag.group() in self._given:
                    self._state, self._waiting = "said", head
                elif tag is not None and tag.lastgroup == "opening":
                    self._state, self._waiting = "thinking", head[tag.end() :]
                    found.append((True, ""))
                elif tag is not None:  # an end alone, of a block that was opened elsewhere
                    self._waiting = head[tag.end() :]
                elif not last and (not head or (head[0] in _BEGINS and len(head) < _LONGEST)):
                    break
                else:
                    self._state, self._waiting = "said", head
        return found

    def _closes(self, tag: re.Match[str]) -> bool:
        return tag.lastgroup == "closing" and tag.group() not in self._given


def _whole(text: str) -> int:
    """Return the length of a text without an end that may be the beginning of a tag."""
    return next((at for at in range(max(0, len(text) - _LONGEST), len(text)) if text[at] in _BEGINS), len(text))
