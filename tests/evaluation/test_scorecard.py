"""The published JSON Schema is the model's, accepts a full scorecard and refuses bad ones."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from lingraft.evaluation.scorecard import Scorecard, schema_json

FULL: dict[str, Any] = {
    "schema": "lingraft.scorecard/1",
    "run": "de-en-radis",
    "created": "2026-01-31T12:00:00Z",
    "base": {"id": "smollm2-135m-instruct", "sha256": "ab" * 32},
    "seed": 1,
    "versions": {"lingraft": "0.1.0"},
    "systems": [
        {
            "name": "base",
            "method": None,
            "tuner": None,
            "cite_method": [],
            "cite_tuner": [],
            "graft": None,
            "group": None,
            "seed": None,
            "scale": None,
            "stage": None,
            "merged": [],
            "swept": {},
            "weights": None,
            "decoder": None,
            "cite_decoder": [],
            "parts": None,
            "how": None,
        },
        {
            "name": "radis",
            "method": "radis",
            "tuner": "lora",
            "cite_method": ["wu-2025-radis"],
            "cite_tuner": ["hu-2022-lora"],
            "graft": "train-0a1b2c3d/graft",
            "group": "radis",
            "seed": 2,
            "scale": 0.5,
            "stage": 1,
            "merged": ["vanilla", "radis"],
            "swept": {"weights": [0.5, 1.5]},
            "weights": "base",
            "decoder": "tear",
            "cite_decoder": ["feng-2025-tear"],
            "parts": "chain",
            "how": "it answers twice",
        },
    ],
    "translation": [
        {
            "system": "radis",
            "test_set": "test.de-en",
            "direction": "de-en",
            "task": "translation",
            "metric": "chrf++",
            "label": "chrF++",
            "better": "higher",
            "unit": "",
            "decimals": 1,
            "cite": ["popovic-2017-chrfpp"],
            "role": "headline",
            "signature": "nrefs:1|case:mixed",
            "n": 90,
            "score": 41.2,
            "ci95": [39.0, 43.1],
            "ci90": [39.4, 42.8],
            "delta": {
                "value": 5.9,
                "ci95": [4.1, 7.7],
                "ci90": [4.4, 7.4],
                "p": 0.001,
                "p_holm": 0.002,
                "test": "paired bootstrap",
            },
            "versus": {
                "vanilla": {"value": -0.7, "ci95": [-1.8, 0.4], "ci90": None, "p": 0.2, "p_holm": None, "test": "x"}
            },
        }
    ],
    "general": [
        {
            "system": "radis",
            "suite": "self",
            "metric": "agreement",
            "label": "Agreement with base",
            "better": "higher",
            "unit": "chrF",
            "decimals": 1,
            "cite": [],
            "role": "",
            "n": 60,
            "score": 41.0,
            "ci95": [38.0, 44.0],
            "ci90": None,
            "retention": {"percent": 41.0, "ci95": [38.0, 44.0], "ci90": [38.5, 43.5]},
            "changed": {
                "base_right": 50,
                "right_to_wrong": 5,
                "wrong_to_right": 2,
                "by_chance": 0.5,
                "forgotten": {"percent": 9.0, "ci95": [3.0, 20.0], "ci90": [4.0, 18.0]},
                "learnt_percent": 3.0,
                "lost_ids": ["q1"],
                "gained_ids": ["q2"],
            },
            "signature": "chrF2",
            "delta": {
                "value": -59.0,
                "ci95": [-62.0, -56.0],
                "ci90": None,
                "p": 0.001,
                "p_holm": None,
                "test": "paired bootstrap",
            },
            "versus": {},
        }
    ],
    "summary": [
        {
            "system": "radis",
            "gain": {"metric": "chrf++", "value": 5.9, "ci95": [4.1, 7.7], "ci90": [4.4, 7.4]},
            "retention_mean": 41.0,
            "retention_mean_ci95": [38.0, 44.0],
            "retention_mean_ci90": [38.5, 43.5],
            "retention_min": 41.0,
            "retention_min_ci95": None,
            "retention_min_ci90": None,
            "kl_from_base": 0.3,
            "off_target_percent": 2.0,
            "extraction_failure_percent": 0.0,
            "output_tokens_per_translation": 30.5,
            "calls_per_translation": 3.0,
            "seconds_per_translation": 0.25,
        }
    ],
    "cost": [
        {
            "system": "radis",
            "stage": "train",
            "seconds": 61.5,
            "tokens": 90000,
            "supervised_tokens": 40000,
            "peak_memory_mb": 1500.0,
            "device": "cpu",
        }
    ],
    "seeds": [
        {
            "system": "radis",
            "where": "test.de-en de-en",
            "metric": "chrf++",
            "scores": {"1": 41.2, "2": 40.2},
            "sd": 0.7,
        }
    ],
    "averages": [
        {
            "system": "radis",
            "task": "translation",
            "metric": "chrf++",
            "label": "chrF++",
            "better": "higher",
            "unit": "",
            "decimals": 1,
            "cite": ["popovic-2017-chrfpp"],
            "role": "headline",
            "rows": 2,
            "score": 41.2,
            "ci95": [39.0, 43.1],
            "delta": None,
        }
    ],
    "contamination": [
        {
            "where": "test.de-en",
            "kind": "ngram",
            "n": 90,
            "shared": 1,
            "ids": ["7"],
            "rows": ["train:5"],
            "signature": "n:13",
        }
    ],
}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(files("lingraft.evaluation").joinpath("scorecard.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_published_schema_is_the_models() -> None:
    published = files("lingraft.evaluation").joinpath("scorecard.schema.json").read_text("utf-8")
    assert published == schema_json(), "regenerate scorecard.schema.json from schema_json()"


def test_full_scorecard_is_valid_and_survives_a_round_trip(validator: Draft202012Validator, tmp_path: Path) -> None:
    assert list(validator.iter_errors(FULL)) == []
    path = tmp_path / "scorecard.json"
    path.write_text(Scorecard.model_validate(FULL).to_json(), "utf-8")
    written = json.loads(path.read_text("utf-8"))
    assert written == FULL
    assert list(validator.iter_errors(written)) == []
    assert Scorecard.read(path).to_json() == path.read_text("utf-8")


def _changed(path: list[Any], value: Any) -> dict[str, Any]:
    card = copy.deepcopy(FULL)
    place = card
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return card


BAD = {
    "unknown key": _changed(["colour"], "red"),
    "unknown key inside": _changed(["translation", 0, "ci99"], [1, 2]),
    "other schema": _changed(["schema"], "lingraft.scorecard/0"),
    "p above 1": _changed(["translation", 0, "delta", "p"], 1.5),
    "no segments": _changed(["translation", 0, "n"], 0),
    "text for a number": _changed(["general", 0, "score"], "high"),
    "interval of one number": _changed(["general", 0, "ci95"], [1.0]),
    "interval of three numbers": _changed(["general", 0, "ci95"], [1.0, 2.0, 3.0]),
    "missing base": {key: value for key, value in FULL.items() if key != "base"},
    "missing seed": {key: value for key, value in FULL.items() if key != "seed"},
}


@pytest.mark.parametrize("card", BAD.values(), ids=BAD.keys())
def test_bad_scorecards_are_refused_by_schema_and_model(card: dict[str, Any], validator: Draft202012Validator) -> None:
    assert not validator.is_valid(card)
    with pytest.raises(ValidationError):
        Scorecard.model_validate_json(json.dumps(card))


def test_base_comes_first_and_numbers_are_finite() -> None:
    with pytest.raises(ValidationError, match='first system must be "base"'):
        Scorecard.model_validate(_changed(["systems"], FULL["systems"][::-1]))
    with pytest.raises(ValidationError, match="finite"):
        Scorecard.model_validate(_changed(["general", 0, "score"], float("nan")))
