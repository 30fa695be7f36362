"""What tuners do not go with is refused when a recipe is read."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.engines.base import ENGINES
from lingraft.training.tuners import TUNERS
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


SERVER = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}
LOADING: list[dict[str, Any]] = [
    {**SERVER, "load_grafts": True},
    {**SERVER, "grafts": {"runs/a/train-radis-0a1b2c3d/graft": "a"}},
]
BY_SERVER = {
    "openai": LOADING,
    "ray": [{"kind": "ray", "inner": engine} for engine in LOADING],
}
"""Engines that answer with plain low-rank updates alone; each other entry of the registry answers with any graft."""
WITHIN = {"lora": [{}, {"dora": True}, {"embeddings": "all"}]}
"""Settings of a tuner that decide what its adapters hold; beside them, its defaults."""
SERVED = {("lora", "{}"), ("osf", "{}")}
"""Tuners and settings whose adapters are plain low-rank updates."""


@pytest.mark.parametrize("kind", [*ENGINES])
def test_a_recipe_whose_engine_cannot_load_what_it_trains_is_refused_when_it_is_read(kind: str) -> None:
    for engine in BY_SERVER.get(kind, [{"kind": kind}]):
        for tuner in TUNERS:
            for settings in WITHIN.get(tuner, [{}]):
                values = {**copy.deepcopy(MINIMAL), "prompts": {"path": "starter:prompts.jsonl"}}
                values["stages"] = [{**STAGE, "tuner": {"kind": tuner, **settings}}]
                values["evaluate"]["engine"] = engine
                if kind not in BY_SERVER or (tuner, str(settings)) in SERVED:
                    assert parsed(values)
                    continue
                with pytest.raises(UsageError) as caught:
                    parsed(values)
                said = str(caught.value)
                assert f"engine {kind!r} cannot answer with what is trained: a server loads no graft" in said
                assert said.endswith("take another tuner, or serve an export and name it (`grafts: {'*': NAME}`)")
                assert "\n" not in said


def test_an_export_that_a_server_has_under_a_name_is_asked() -> None:
    values = {**copy.deepcopy(MINIMAL), "stages": [{**STAGE, "tuner": "full"}]}
    assert parsed({**values, "engine": {**SERVER, "grafts": {"*": "tuned"}}})
    assert parsed({**values, "engine": {"kind": "ray", "inner": {**SERVER, "grafts": {"*": "tuned"}}}})
    texts = {"vocabulary": {"size": 100}, "texts": [{"path": "de.jsonl", "lang": "de"}]}
    with pytest.raises(UsageError, match=r"engine 'openai' cannot answer .* or vllm, take another tuner$"):
        parsed({**values, **texts, "engine": {**SERVER, "grafts": {"*": "tuned"}}})


def test_ray_answers_with_the_base_alone_where_its_inner_engine_does() -> None:
    with pytest.raises(UsageError, match="engine 'ray' cannot answer with what is trained: neither load_grafts"):
        parsed({**copy.deepcopy(MINIMAL), "engine": {"kind": "ray", "inner": SERVER}})


@pytest.mark.parametrize(
    ("engine", "complaint"),
    [
        (SERVER, "engine 'openai' cannot answer with it: neither load_grafts"),
        (
            {**SERVER, "load_grafts": True},
            r"with it: a server loads no graft of whole layers \(tuner full\)",
        ),
        ("transformers", ""),
    ],
)
def test_a_stage_asks_the_graft_before_only_where_the_engine_can(engine: Any, complaint: str) -> None:
    values = copy.deepcopy(MINIMAL)
    values["stages"] = [
        {**STAGE, "name": "one", "tuner": "full"},
        {"method": "radis", "name": "two", "params": {"rationales": "before"}},
    ]
    values["evaluate"]["engine"] = "transformers"
    if not complaint:
        assert parsed({**values, "engine": engine})
        return
    with pytest.raises(UsageError, match=rf"method 'radis' asks the graft of the stage before, .*{complaint}"):
        parsed({**values, "engine": engine})
