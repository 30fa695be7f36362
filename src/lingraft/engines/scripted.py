"""A test double: answers, delays and failures by rule, without a model."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from lingraft.core.errors import EngineError, UsageError
from lingraft.core.validation import Settings
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine, EngineModel, EngineParams


class Rule(Settings):
    """One rule: the first whose `pattern` is found in the last message (or prefill, or turn) decides."""

    pattern: str = Field("", description="regular expression; empty matches everything")
    answer: str = Field("ok", description="text to answer; \\1 refers to the pattern's groups")
    finish_reason: Literal["stop", "stop_string", "length"] = Field("stop", description="why the answer ends")
    delay: float = Field(0.0, ge=0, description="seconds to wait before answering")
    fail: bool = Field(False, description="raise an error instead of answering")


class ScriptedEngine(Engine):
    """Answers by rule, in reverse order of arrival (an engine may answer in any order)."""

    name: ClassVar[str] = "scripted"
    summary: ClassVar[str] = "test double: answers, delays and failures by rule"
    listed: ClassVar[bool] = False
    local: ClassVar[bool] = False
    loads_base: ClassVar[bool] = False

    class Params(EngineParams):
        """Parameters of the scripted engine."""

        rules: list[Rule] = Field(default_factory=lambda: [Rule()], description="rules, first match wins")

    def __init__(self, rules: Sequence[Rule]) -> None:
        try:
            self._rules = [(re.compile(rule.pattern), rule) for rule in rules]
        except re.error as error:
            raise UsageError(f"engine scripted: {error.pattern!r} is not a regular expression: {error}") from error
        self.asked: list[str] = []

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> ScriptedEngine:
        """Make the engine; the model is not used."""
        return cls(params.rules)

    @classmethod
    def without_logprobs(cls, params: Any) -> str:
        """Return that rules have no distributions."""
        return "it answers by rule; take another engine"

    @classmethod
    def longest(cls, params: Any, model: int | None) -> int | None:
        """Return None: the rules read and write as much as is given."""
        return None

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield the scripted generations; see `Engine.generate`.

        Raises:
            EngineError: no rule matches a request, or the rule says to fail.
            UsageError: an answer names a group that its pattern does not have.
        """
        for request in reversed(list(requests)):
            given = [message.content for message in request.messages[-1:]]
            text = "".join([*given, request.prefill, *(span.text for span in request.turn)])
            for pattern, rule in self._rules:
                match = pattern.search(text)
                if match is None:
                    continue
                time.sleep(rule.delay)
                if rule.fail:
                    raise EngineError(f"request {request.id!r}: the script says to fail")
                self.asked.append(request.id)
                try:
                    answer = match.expand(rule.answer)
                except (re.error, IndexError) as error:
                    raise UsageError(
                        f"engine scripted: answer {rule.answer!r} does not fit its pattern: {error}"
                    ) from error
                tokens = tuple(answer.encode("utf-8"))
                yield Generation(request.id, answer, tokens, rule.finish_reason)
                break
            else:
                raise EngineError(f"request {request.id!r}: no rule matches {text[:80]!r}")
