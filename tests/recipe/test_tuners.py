"""What tuners do not go with is refused when a recipe is read."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from recipes_support import MINIMAL, parsed

DORA = {"kind": "lora", "dora": True}
STAGE = {"method": "vanilla"}


@pytest.mark.parametrize(
    ("stages", "more", "complaint"),
    [
        ([{"tuner": {**DORA, "orthogonal": 4}}], {}, "stages.0.tuner: dora changes the lengths of all rows"),
        ([{"tuner": {"layers": "-4:"}}], {}, "stages.0.tuner.layers: '-4:' names no layers; write all, first N"),
        ([{"tuner": {"layers": []}}], {}, "stages.0.tuner.layers: names no layers"),
        ([{"tuner": {"orthogonal": -1}}], {}, "stages.0.tuner.orthogonal: "),
        ([{"tuner": {"kind": "full", "layers": "some"}}], {}, "stages.0.tuner.layers: 'some' names no layers"),
        ([{"tuner": DORA, "train": {"precision": "nf4"}}], {}, "train.precision: dora learns the lengths"),
        ([{"tuner": DORA, "train": {"sharding": "full"}}], {}, "train.sharding: dora needs whole weights"),
        ([{"tuner": {"orthogonal": 4}, "train": {"sharding": "full"}}], {}, "train.sharding: orthogonal needs whole"),
        ([{"tuner": "full", "train": {"precision": "nf4"}}], {}, "train.precision: weights in 4 bits cannot learn"),
        ([{"tuner": "full", "train": {"sharding": "full"}}], {}, "train.sharding: `full` gives each process a part"),
        ([{"tuner": "osf", "train": {"precision": "nf4"}}], {}, "train.precision: osf decomposes whole weights"),
        ([{"tuner": "osf", "train": {"sharding": "full"}}], {}, "train.sharding: osf decomposes whole weights"),
        ([{"tuner": {"kind": "osf", "keep": 1}}], {}, "stages.0.tuner.keep: "),
        ([{"tuner": DORA}, {"fresh": True}], {}, "what the tuner of 'one' trains is no sum (`dora`)"),
        ([{"tuner": {"rank": 4}}, {"fresh": True, "tuner": DORA}], {}, "what the tuner of 'two' trains is no sum"),
        ([{"tuner": DORA}, {}], {"compare": [{"merge": True}]}, "'one' trains is no sum"),
        ([{"tuner": {"layers": "first 1"}}, {"tuner": {"layers": "last 1"}}], {}, "begin a new adapter with `fresh:"),
        (
            [{"tuner": "osf"}],
            {"vocabulary": {"size": 100}, "texts": [{"path": "de.jsonl", "lang": "de"}]},
            "the tuner does not train the new rows of the vocabulary",
        ),
        (
            [{"tuner": {"kind": "full", "layers": "first 1"}}],
            {"vocabulary": {"size": 100}, "texts": [{"path": "de.jsonl", "lang": "de"}]},
            "the tuner does not train the new rows of the vocabulary",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    stages: list[dict[str, Any]], more: dict[str, Any], complaint: str
) -> None:
    named = [{**STAGE, "name": name, **stage} for name, stage in zip(("one", "two"), stages, strict=False)]
    with pytest.raises(UsageError) as caught:
        parsed({**copy.deepcopy(MINIMAL), "stages": named, **more})
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "stages",
    [
        [{"tuner": DORA}, {}],
        [{"tuner": "osf"}, {}],
        [{"tuner": "osf"}, {"fresh": True, "tuner": {"layers": "last 1"}}],
        [{"tuner": {"orthogonal": 4}, "train": {"precision": "nf4"}}],
        [{"tuner": {"layers": "first 1"}}, {"fresh": True, "tuner": {"layers": "last 1"}}],
        [{"tuner": {"kind": "full", "layers": ["first 1"]}}, {"fresh": True, "tuner": {"kind": "full", "layers": 2}}],
    ],
)
def test_what_works_is_read(stages: list[dict[str, Any]]) -> None:
    named = [{**STAGE, "name": name, **stage} for name, stage in zip(("one", "two"), stages, strict=False)]
    assert len(parsed({**copy.deepcopy(MINIMAL), "stages": named}).stages) == len(stages)
