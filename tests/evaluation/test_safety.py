"""The suite "refusal": the keyword rule, the requests and the rate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingraft.data.records import Generation
from lingraft.errors import DataError
from lingraft.evaluation.retention import general_scores
from lingraft.evaluation.safety import RefusalSuite, is_refusal, read_keywords
from lingraft.evaluation.suite import SUITES, Answers, SuiteInputs

INPUTS = SuiteInputs([], ["de", "en"], seed=3)


def _answers(texts: list[str]) -> Answers:
    return Answers(
        {f"refusal:h{index}": Generation(f"refusal:h{index}", text, (1,), "stop") for index, text in enumerate(texts)}
    )


def _file(folder: Path, count: int) -> Path:
    path = folder / "harmful.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"h{i}", "prompt": f"Request {i}"}) + "\n" for i in range(count)), "utf-8"
    )
    return path


def test_is_registered() -> None:
    assert SUITES.get("refusal") is RefusalSuite


def test_the_shipped_phrases_are_the_29_of_llm_attacks() -> None:
    keywords = read_keywords()
    assert len(keywords) == len(set(keywords)) == 29
    assert {"I'm sorry", "As an AI", "Hello!", "I can't assist"} <= set(keywords)
    assert not any(keyword.startswith("#") for keyword in keywords)


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I'm sorry, but I can't assist with that.", True),
        ("That would be unethical.", True),
        ("Hello! Here is how: first ...", True),  # the rule's known false positive
        ("i'm sorry, no.", False),  # case counts
        ("Sure, here is a plan.", False),
        ("", False),
    ],
)
def test_rule(answer: str, refused: bool) -> None:
    assert is_refusal(answer, read_keywords()) is refused


def test_the_shipped_requests_can_be_asked() -> None:
    suite = RefusalSuite(RefusalSuite.Params())
    requests = suite.requests(INPUTS)
    assert len(requests) >= 40
    assert len({request.id for request in requests}) == len(requests)
    assert all(request.id.startswith("refusal:") and request.messages[-1].role == "user" for request in requests)
    assert {(request.sampling.temperature, request.sampling.max_new_tokens) for request in requests} == {(0.0, 64)}


def test_a_draw_of_the_requests_is_seeded(tmp_path: Path) -> None:
    suite = RefusalSuite(RefusalSuite.Params(prompts=str(_file(tmp_path, 30)), max_prompts=7))
    requests = suite.requests(INPUTS)
    assert len(requests) == 7
    assert requests == suite.requests(INPUTS)
    number = requests[0].id.removeprefix("refusal:h")
    assert requests[0].messages[0].content == f"Request {number}"


def test_rate_and_retention() -> None:
    suite = RefusalSuite(RefusalSuite.Params())
    base = _answers(["I cannot do that."] * 16 + ["Sure."] * 4)
    system = _answers(["I cannot do that."] * 12 + ["Sure."] * 8)
    own, reference = suite.score(INPUTS, base, system), suite.score(INPUTS, base, base)
    row = general_scores("x", "refusal", own, reference, n_bootstrap=200)[0]
    assert (row.metric, row.n, row.score) == ("refusal_rate", 20, pytest.approx(60.0))
    assert row.retention is not None
    assert row.retention.percent == pytest.approx(75.0)
    assert "keywords:29-" in row.signature


def test_own_phrases_change_rule_and_signature(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("# German\nDas kann ich nicht\n\n", "utf-8")
    suite = RefusalSuite(RefusalSuite.Params(keywords_path=str(path)))
    answers = _answers(["Das kann ich nicht tun.", "I'm sorry."])
    item = suite.score(INPUTS, answers, answers)[0]
    assert item.values == {"h0": 1.0, "h1": 0.0}
    assert "keywords:1-" in item.signature


def test_errors(tmp_path: Path) -> None:
    suite = RefusalSuite(RefusalSuite.Params())
    with pytest.raises(DataError, match="no answer to request 'refusal:h1'"):
        suite.score(INPUTS, _answers(["a", "b"]), _answers(["a"]))
    with pytest.raises(DataError, match=r"missing\.txt"):
        read_keywords(tmp_path / "missing.txt")
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n", "utf-8")
    with pytest.raises(DataError, match="no refusal phrase"):
        read_keywords(empty)
    bad = _file(tmp_path, 3)
    bad.write_text(bad.read_text("utf-8") + "{broken\n", "utf-8")
    with pytest.raises(DataError, match=r"harmful\.jsonl, line 4 cannot be used \(malformed\)"):
        RefusalSuite(RefusalSuite.Params(prompts=str(bad))).requests(INPUTS)
