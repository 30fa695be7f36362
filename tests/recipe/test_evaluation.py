"""The section of a recipe that says what is measured."""

from __future__ import annotations

from typing import Any

import pytest

from recipes_support import FULL, changed, parsed, refusal


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("evaluate.translation.metrics", ["blue"], "bleu"),
        ("evaluate.translation.metrics", [], "evaluate.translation.metrics: "),
        ("evaluate.retention.suites", ["selv"], "unknown suite 'selv'; did you mean 'self'?"),
        ("evaluate.bootstrap", 3, "evaluate.bootstrap: "),
        ("evaluate.scales", [0.5, 1], "1 is no further scale"),
        ("evaluate.scales", [0.5, 0.5], "0.5 is no further scale"),
        ("evaluate.scales", [-0.5], "-0.5 is no further scale"),
        ("evaluate.gate", ["gain"], "gate 'gain' is not of the form NAME>=NUMBER"),
        ("evaluate.gate", ["gain>=low"], "is not of the form NAME>=NUMBER"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_place(place: str, value: Any, complaint: str) -> None:
    assert complaint in refusal(changed(FULL, place, value))


@pytest.mark.parametrize("tuner", ["lora", "full", {"embeddings": "all"}, {"dora": True}, "sparse"])
def test_what_any_tuner_trains_has_other_scales(tuner: Any) -> None:
    assert parsed(changed(changed(FULL, "evaluate.scales", [0.5]), "stages.0.tuner", tuner)).evaluate.scales == [0.5]


def test_suites_retain_unless_they_say_otherwise() -> None:
    suites = ["refusal", {"kind": "refusal", "name": "other", "retains": False, "max_prompts": 3}]
    loaded = parsed(changed(FULL, "evaluate.retention.suites", suites)).evaluate.retention.suites
    assert [(suite.label, suite.retains) for suite in loaded] == [("refusal", True), ("other", False)]
    assert loaded[1].params == {**loaded[0].params, "max_prompts": 3}
    wrong = [{"kind": "refusal", "retains": "perhaps"}]
    assert "evaluate.retention.suites.0.retains: " in refusal(changed(FULL, "evaluate.retention.suites", wrong))


@pytest.mark.parametrize(
    ("gate", "refused"),
    [
        ("shown.refusal_rate.retention>=90", True),
        ("radis:shown.refusal_rate.retention >= 90", True),
        ("shown.refusal_rate>=90", False),
        ("shown.refusal_rate.delta>=-3", False),
        ("shown.more.refusal_rate.retention>=90", False),  # of the suite `shown.more`
        ("refusal.refusal_rate.retention>=90", False),
        ("refusal_rate.retention>=90", False),
        ("retention_min>=90", False),
    ],
)
def test_the_retention_of_a_suite_that_does_not_retain_cannot_be_gated(gate: str, refused: bool) -> None:
    suites = ["refusal", {"kind": "refusal", "name": "shown", "retains": False}]
    suites.append({"kind": "refusal", "name": "shown.more"})
    values = changed(changed(FULL, "evaluate.retention.suites", suites), "evaluate.gate", [gate])
    if refused:
        assert "is about the suite 'shown', which has `retains: false`" in refusal(values)
    else:
        assert parsed(values).evaluate.gate == [gate]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([{"name": "base", "path": "a"}], "evaluate.given: another system is called 'base'"),
        ([{"name": "plain", "path": "a"}], "evaluate.given: another system is called 'plain'"),
        ([{"name": "deepl", "path": "a", "test": "dev"}], "'deepl': there is no test set 'dev'; set `test:` to one of"),
        ([{"name": "deepl", "path": "a"}, {"name": "deepl", "path": "b"}], "'deepl' has two files for the test set"),
        ([{"name": "deepl"}], "evaluate.given.0.path"),
    ],
)
def test_translations_of_others_that_belong_to_nothing_are_refused(given: list[dict[str, str]], complaint: str) -> None:
    assert complaint in refusal(changed(FULL, "evaluate.given", given))


def test_translations_of_others_are_given_for_every_test_set() -> None:
    tests = [{"path": "test.jsonl", "source": source, "target": "en"} for source in ("de", "fr")]
    several = changed(FULL, "pairs.test", [*tests, {**tests[0], "name": "more"}])
    files = [{"name": "deepl", "path": f"{i}", "test": test} for i, test in enumerate(("more", "test (fr-en)"))]
    message = refusal(changed(several, "evaluate.given", files))
    assert "'deepl' has no file for the test set 'test (de-en)'; add one" in message
    files.append({"name": "deepl", "path": "2", "test": "test (de-en)"})
    found = parsed(changed(several, "evaluate.given", files)).given_systems()
    assert {name: [one.path for one in listed] for name, listed in found.items()} == {
        "deepl": ["/data/2", "/data/1", "/data/0"]
    }
    unnamed = [{"name": "deepl", "path": "0"}]
    assert "there are several test sets; set `test:`" in refusal(changed(several, "evaluate.given", unnamed))
