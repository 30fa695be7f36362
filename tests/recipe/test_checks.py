"""Recipes that are refused: with the key, what is wrong, and the nearest known one."""

from __future__ import annotations

import copy
import difflib
import re
from typing import Any

import pytest

from recipes_support import FULL, MINIMAL, changed, parsed, refusal

SECTIONS = [
    ("nam", "name"),
    ("pairs.trian", "train"),
    ("pairs.train.sorce", "source"),
    ("pairs.test.targt", "target"),
    ("prompts.lmit", "limit"),
    ("engine.max_bach", "max_batch"),
    ("checks.max_lenght_ratio", "max_length_ratio"),
    ("stages.0.metod", "method"),
    ("stages.0.params.rationale_shar", "rationale_share"),
    ("stages.0.tuner.rnk", "rank"),
    ("stages.0.train.epoch", "epochs"),
    ("compare.0.parms", "params"),
    ("compare.0.params.instruction", "instructions"),
    ("compare.0.tuner.rnk", "rank"),
    ("compare.0.train.learning_rat", "learning_rate"),
    ("evaluate.translatoin", "translation"),
    ("evaluate.translation.metric", "metrics"),
    ("evaluate.retention.suite", "suites"),
    ("evaluate.retention.suites.0.max_promps", "max_prompts"),
    ("evaluate.retention.suites.0.retain", "retains"),
    ("expected.pair", "pairs"),
]


@pytest.mark.parametrize(("place", "nearest"), SECTIONS)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one(place: str, nearest: str) -> None:
    message = refusal(changed(FULL, place, 1))
    found = re.fullmatch(r"unknown key '([^']+)'; did you mean '([^']+)'\?", message)
    assert found, message
    assert found[2] == nearest
    parts = place.split(".")
    # A single entry written without a list is entry 0.
    assert [part for part in found[1].split(".") if part != "0"] == [part for part in parts if part != "0"]
    assert difflib.SequenceMatcher(None, parts[-1], nearest).ratio() > 0.5


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("name", "../up", "name: "),
        ("name", "a" * 81, "name: "),
        ("name", None, "name: "),
        ("model", "", "model: "),
        ("seed", -1, "seed: "),
        ("seed", 2**32, "seed: "),
        ("seed", "many", "(given: 'many')"),
        ("seed", int("9" * 4000), "seed: "),
        ("pairs.train.source", "xx-not-a-language", "unknown language code 'xx-not-a-language'"),
        ("pairs.train.source", "en", "source and target are both 'en'"),
        ("pairs.train", [], "the key 'pairs.train', on which method 'vanilla' trains, is missing"),
        ("pairs.train", "train.jsonl", "pairs.train: "),
        ("engine.kind", "vlm", "unknown engine 'vlm'"),
        ("engine.max_batch", 0, "engine.max_batch: "),
        ("stages", [], "there is neither a stage to train nor a graft to measure"),
        ("stages", [{"method": "radis", "tuner": {"rank": 8}}, {"tuner": {"kind": "lora"}}], "stages: all stages"),
        ("stages.0.method", "raddis", "unknown method 'raddis'; did you mean 'radis'?"),
        ("stages.0.params.rationale_share", 1.5, "stages.0.params.rationale_share: "),
        ("stages.0.params.rationale_weight", float("inf"), "stages.0.params.rationale_weight: "),
        ("stages.0.params.delimiter", "\n", "stages.0.params.delimiter: a delimiter of white space"),
        (
            "stages.0.params.instructions",
            ["Translate {x}"],
            "stages.0.params.instructions: instruction 'Translate {x}'",
        ),
        ("stages.0.tuner.kind", "lorra", "unknown tuner 'lorra'; did you mean 'lora'?"),
        ("stages.0.train.epochs", 0, "stages.0.train.epochs: "),
        ("stages.0.train.epochs", [1], "stages.0.train.epochs: "),
        ("compare.0.train.epochs", -1, "compare.0.train.epochs: "),
        ("compare.0.name", "radis", "two systems are called 'radis'"),
        ("compare.0.name", "base", "two systems are called 'base'"),
        ("compare.0.name", "../../etc", "compare.0.name: "),
        ("compare.0.method", "vanila", "unknown method 'vanila'; did you mean 'vanilla'?"),
        ("seeds", 0, "0 trainings of each system are not possible"),
        ("seeds", [2, 2], "give at most 100 different seeds"),
        ("seeds", [-1], "give at most 100 different seeds"),
        ("grafts", [{"path": "a/radis"}], "two systems are called 'radis'"),
        ("expected.utilisation", 2, "expected.utilisation: "),
        ("pairs.train.path", "a\0b", "is not a usable path"),
        ("pairs.test.path", "~nobody-of-this-name/x", "is not a usable path"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(place: str, value: Any, complaint: str) -> None:
    assert complaint in refusal(changed(FULL, place, value))


@pytest.mark.parametrize(
    "place", ["name", "pairs", "pairs.train", "pairs.test", "pairs.train.path", "pairs.test.target"]
)
def test_a_missing_key_is_named(place: str) -> None:
    values: Any = copy.deepcopy(MINIMAL)
    node = values
    *path, last = place.split(".")
    for part in path:
        node = node[part]
    del node[last]
    message = refusal(values)
    assert message.startswith("the key '")
    assert last in message
    assert message.endswith("is missing")


def test_combinations_are_checked() -> None:
    for suite, wanted in (("self", "general prompts; add `prompts:"), ("perplexity", "texts; add `texts:")):
        message = refusal(changed(MINIMAL, "evaluate.retention.suites", ["refusal", suite]))
        assert message.startswith(f"evaluate.retention.suites.1: the suite '{suite}' needs {wanted}")
    test = MINIMAL["pairs"]["test"]
    assert "two test sets are called test (de-en)" in refusal(changed(MINIMAL, "pairs.test", [test, test]))
    other = {**test, "target": "fr"}
    assert len(parsed(changed(MINIMAL, "pairs.test", [test, other, {**test, "name": "b"}])).pairs.test) == 3


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"en-de": 0.5}, "direction_weights: no training pairs are 'en-de'.*there are de-en"),
        ({"de-en": 1.5}, "direction_weights.de-en: 1.5 is no share; give one from 0 to 1"),
        ({"de-en": 0}, "all are 0, so that no pair is left"),
        ({"de-en": "much"}, "pairs.direction_weights.de-en: .*number"),
    ],
)
def test_weights_of_directions_that_cannot_be_are_refused(weights: dict[str, Any], complaint: str) -> None:
    assert re.search(complaint, refusal(changed(MINIMAL, "pairs.direction_weights", weights)))
    assert parsed(changed(MINIMAL, "pairs.direction_weights", {"de-en": 0.5})).pairs.direction_weights == {"de-en": 0.5}
