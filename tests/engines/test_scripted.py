"""The test double answers by rule."""

from __future__ import annotations

import time

import pytest
from pydantic import ValidationError

from lingraft.core.errors import EngineError, UsageError
from lingraft.engines.scripted import Rule, ScriptedEngine
from models_support import request


def test_the_first_rule_that_matches_message_or_prefill_decides() -> None:
    engine = ScriptedEngine(
        [
            Rule(pattern=r"Note:$", answer=" because."),
            Rule(pattern=r"say (\w+) (\w+)", answer=r"\2 \1", finish_reason="length"),
            Rule(answer="ok"),
        ]
    )
    asked = [request("a", "say one two"), request("b", "say x", prefill="Hello.\n\nNote:"), request("c", "else")]
    answers = {answer.id: answer for answer in engine.generate(asked)}
    assert [answers[id_].text for id_ in "abc"] == ["two one", " because.", "ok"]
    assert [answers[id_].finish_reason for id_ in "abc"] == ["length", "stop", "stop"]
    assert answers["a"].token_ids == tuple(b"two one")
    assert engine.asked == ["c", "b", "a"]  # any order is allowed, so this is the least convenient one


def test_rules_fail_and_delay() -> None:
    engine = ScriptedEngine([Rule(pattern="bad", fail=True), Rule(pattern="slow", delay=0.05), Rule(pattern="x")])
    with pytest.raises(EngineError, match="request 'r1': the script says to fail"):
        list(engine.generate([request("r1", "bad"), request("r2", "x")]))
    assert engine.asked == ["r2"]
    start = time.monotonic()
    list(engine.generate([request("r3", "slow")]))
    assert time.monotonic() - start >= 0.05
    with pytest.raises(EngineError, match="request 'r4': no rule matches 'y'"):
        list(engine.generate([request("r4", "y")]))


def test_wrong_scripts_are_refused() -> None:
    with pytest.raises(UsageError, match="'\\(' is not a regular expression"):
        ScriptedEngine([Rule(pattern="(")])
    with pytest.raises(UsageError, match="does not fit its pattern"):
        list(ScriptedEngine([Rule(pattern="x", answer=r"\1")]).generate([request("a", "x")]))
    with pytest.raises(ValidationError):
        Rule(finish_reason="bored")  # type: ignore[arg-type]


def test_the_rules_are_part_of_what_decides_the_output() -> None:
    one, same, other = ([Rule(answer=text)] for text in "aab")
    identities = [ScriptedEngine.identity(ScriptedEngine.Params(rules=rules)) for rules in (one, same, other)]
    assert identities[0] == identities[1] != identities[2]
