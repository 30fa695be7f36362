"""How far two engines agree: against differences that are put there on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from lingraft.cli.main import app
from lingraft.core.errors import EngineError, LingraftError, UsageError
from lingraft.data.records import Generation, Request
from lingraft.engines.agreement import agreement
from lingraft.engines.scripted import Rule, ScriptedEngine
from lingraft.engines.transformers import TransformersEngine
from models_support import request, tiny_loaded

TIE, SURE = ((5, -0.70), (6, -0.71)), ((5, -0.01), (6, -5.0))


class Dictated(ScriptedEngine):
    """Answers with given tokens; every token has the same two candidates."""

    def __init__(self, answers: dict[str, Sequence[int]], candidates: tuple[tuple[int, float], ...] = SURE) -> None:
        super().__init__([Rule()])
        self.answers, self.candidates, self.closed = answers, candidates, False

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield what was dictated, in reverse."""
        for asked in reversed(list(requests)):
            if asked.id in self.answers:
                tokens = tuple(self.answers[asked.id])
                assert (asked.sampling.temperature, asked.top_logprobs) == (0.0, 2)
                yield Generation(asked.id, "", tokens, "stop", (self.candidates,) * len(tokens))

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


ASKED = [request(name, name, temperature=0.7) for name in ("a", "b", "c", "d")]


def test_share_positions_and_near_ties() -> None:
    one = Dictated({"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 2, 3], "d": [1]}, TIE)
    two = Dictated({"a": [1, 2, 3], "b": [1, 9, 3], "c": [1, 2], "d": [1, 2, 3, 4]}, SURE)
    found = agreement(one, two, ASKED, dtype="bfloat16")
    assert [(d.id, d.position, d.tokens) for d in found.differences] == [
        ("b", 1, (2, 9)),
        ("c", 2, (3, None)),
        ("d", 1, (None, 2)),  # the first engine ended: the gap is the second's
    ]
    assert [d.id for d in found.near_ties()] == ["b", "c"]
    assert [d.gap for d in found.differences] == pytest.approx([0.01, 0.01, 4.99])
    figures = json.loads(json.dumps(found.to_dict()))
    assert (figures["requests"], figures["equal_share"], figures["near_ties"]) == (4, 0.25, 2)
    assert figures["first_difference"] == {"min": 1, "median": 1, "max": 2}
    assert figures["gap_nats"] == {"min": 0.01, "median": 0.01, "max": 4.99}
    assert figures["other"] == ["d"]
    assert "1 of 4" in str(found)
    assert "not explained by that: d" in str(found)
    assert one.closed
    assert two.closed


def test_full_agreement_says_nothing_of_differences() -> None:
    same = {name: [1, 2] for name in "abcd"}
    found = agreement(Dictated(same), Dictated(same), ASKED, dtype="bfloat16")
    assert found.equal_share == 1.0
    assert found.to_dict()["first_difference"] is None
    assert str(found) == "4 of 4 answers are equal (100.0 %)"


def test_another_end_after_the_same_tokens_is_a_difference() -> None:
    class Cut(Dictated):
        def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
            for answer in super().generate(requests, graft):
                yield Generation(answer.id, answer.text, answer.token_ids, "length", answer.logprobs)

    (difference,) = agreement(Dictated({"a": [1, 2]}), Cut({"a": [1, 2]}), ASKED[:1], dtype="bfloat16").differences
    assert (difference.position, difference.tokens, difference.gap) == (2, (None, None), None)


def test_a_missing_answer_is_an_error_and_engines_are_closed() -> None:
    one = Dictated({"a": [1]})
    with pytest.raises(EngineError, match=r"left out 3 requests, such as 'b'"):
        agreement(one, Dictated({}), ASKED, dtype="bfloat16")
    assert one.closed
    with pytest.raises(EngineError, match="at least one request"):
        agreement(one, one, [], dtype="bfloat16")


def test_the_transformers_engine_agrees_with_itself_and_not_with_another_model() -> None:
    asked = [request(f"r{i}", text) for i, text in enumerate(["Guten Tag!", "x", "Das Wetter ist schön."])]

    def engine(seed: int) -> TransformersEngine:
        return TransformersEngine(tiny_loaded(seed=seed, scale=3.0))

    assert agreement(engine(0), engine(0), asked, dtype="float32").equal_share == 1.0
    other = agreement(engine(0), engine(1), asked, dtype="float32")
    assert other.equal_share < 1.0
    assert all(difference.gap is not None for difference in other.differences)


@pytest.mark.parametrize(
    ("names", "precision", "message"),
    [
        (["transformers"], "auto", "two engines"),
        (["transformers", "scripted"], "fp8", "fp8"),
        (["transformers", "nonesuch"], "auto", "nonesuch"),
    ],
)
def test_the_command_refuses_what_it_cannot_compare(names: list[str], precision: str, message: str) -> None:
    command = ["doctor", "--agree", *names] if len(names) == 1 else ["agree", *names, "--precision", precision]
    with pytest.raises(UsageError, match=message) as refused:
        app(command, standalone_mode=False)
    assert isinstance(refused.value, LingraftError)


@pytest.mark.model
def test_the_command_prints_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    app(["agree", "scripted", "scripted", "--limit", "2", "--precision", "fp32", "--json"], standalone_mode=False)
    figures = json.loads(capsys.readouterr().out)
    assert figures["engines"] == ["scripted", "scripted"]
    assert (figures["requests"], figures["equal_share"], figures["dtype"]) == (2, 1.0, "float32")
