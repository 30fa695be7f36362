"""Grafts that a server cannot answer with are refused before hours of training, whatever makes them so."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.engines.served_grafts import SERVED_RANK, AskedGraft, configs_beyond_updates, unserved
from lingraft.recipe.engine_checks import check_served
from lingraft.recipe.files import check_grafts
from lingraft.recipe.schema import Recipe
from recipes_support import MINIMAL, parsed

SERVER: dict[str, Any] = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}
ANY: dict[str, Any] = {**SERVER, "grafts": {"*": "tuned"}}
LOADS: dict[str, Any] = {**SERVER, "load_grafts": True}
VANILLA = {"method": "vanilla", "name": "one"}
AFTER = [{"method": "radis", "name": "one"}, {"method": "radis", "name": "two", "params": {"rationales": "before"}}]


def recipe(engine: dict[str, Any], evaluate: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    made = {**copy.deepcopy(MINIMAL), "stages": [VANILLA], "engine": engine, **changes}
    made["evaluate"] = {**made["evaluate"], **(evaluate or {})}
    return parsed(made)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"compare": ["radis"]}, "radis, one"),
        ({"seeds": 2}, "one, one#2"),
        ({"evaluate": {"scales": [0.5]}}, "one, one*0.5"),
        ({"stages": [VANILLA, {**VANILLA, "name": "two"}], "evaluate": {"stages": True}}, "two, two@1"),
        ({"stages": AFTER}, "two, two after 'one'"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_one_name_for_any_graft_is_refused_where_several_are_asked(
    changes: dict[str, Any], asked: str, wrapped: bool
) -> None:
    engine = {"kind": "ray", "inner": ANY} if wrapped else ANY
    with pytest.raises(UsageError) as caught:
        recipe(engine, **changes)
    said = str(caught.value)
    assert (
        "cannot answer with all grafts that are asked: `grafts: {'*': NAME}` is the name of one graft, and 2 are "
        in said
    )
    assert f"asked ({asked}); set load_grafts" in said
    assert caught.value.key == "engine"
    assert recipe(LOADS, **changes)


def test_one_name_is_enough_where_one_graft_is_asked_of_each_engine() -> None:
    assert recipe(ANY)
    assert recipe(ANY, stages=AFTER, evaluate={"engine": "transformers"})
    assert recipe(ANY, stages=AFTER, evaluate={"engine": {**ANY, "concurrency": 2}})


def test_names_of_folders_that_the_run_does_not_make_are_refused() -> None:
    with pytest.raises(UsageError, match="`grafts` has no folder of one, and load_grafts is not set"):
        recipe({**SERVER, "grafts": {"runs/other/graft": "other"}})
    made = {f"runs/a/train-{name}-0a1b2c3d/graft": name for name in ("one", "radis")}
    assert recipe({**SERVER, "grafts": made}, compare=["radis"])
    with pytest.raises(UsageError, match="has no folder of one, and"):
        recipe({**SERVER, "grafts": {"runs/a/train-radis-0a1b2c3d/graft": "a"}}, compare=["radis"])


@pytest.mark.parametrize(
    ("stages", "rank"),
    [
        ([{**VANILLA, "tuner": {"rank": 513}}], 513),
        ([{**VANILLA, "tuner": {"rank": 256}}, {**VANILLA, "name": "two", "fresh": True, "tuner": {"rank": 257}}], 513),
        ([{**VANILLA, "tuner": {"rank": 512}}, {**VANILLA, "name": "two"}], 0),
        ([{**VANILLA, "tuner": {"rank": 256}}, {**VANILLA, "name": "two", "fresh": True}], 0),
    ],
)
def test_ranks_above_those_that_servers_load_are_refused(stages: list[dict[str, Any]], rank: int) -> None:
    assert recipe({"kind": "vllm"}, stages=stages)  # which merges what it cannot load
    assert recipe(ANY, stages=stages)  # which may be an export
    if not rank:
        assert recipe(LOADS, stages=stages)
        return
    with pytest.raises(UsageError, match=rf"no graft of rank {rank} \(vLLM's highest is 512\); set .*, lower the rank"):
        recipe(LOADS, stages=stages)


def test_a_rank_that_goes_by_the_base_is_refused_once_the_base_is_at_hand() -> None:
    made = recipe(LOADS, stages=[{**VANILLA, "tuner": {"kind": "osf", "keep": 0.5}}])
    for width in (None, 1024):
        check_served(made, width)
    with pytest.raises(UsageError, match="a server loads no graft of rank 513"):
        check_served(made, 1026)
    asks = recipe(LOADS, stages=[{**one, "tuner": {"kind": "osf"}} for one in AFTER], evaluate={"engine": "vllm"})
    check_served(asks, 1024)
    with pytest.raises(UsageError, match=r"asks the graft of the stage before, .* loads no graft of rank 513"):
        check_served(asks, 1026)


def test_ranks_that_no_graft_holds_together_are_refused() -> None:
    stages = [{**VANILLA, "tuner": {"rank": 4096}}, {**VANILLA, "name": "two", "fresh": True, "tuner": {"rank": 1}}]
    with pytest.raises(UsageError, match=r"add up the ranks .* holds 4,096 at most \(here 4,097\)"):
        recipe({"kind": "transformers"}, stages=stages)


LORA = {"peft_type": "LORA", "r": 4}
GRAFTS = [
    ({"peft_type": "SHIRA"}, "that changes single numbers of the base"),
    ({"peft_type": "LOHA"}, "of type LOHA"),
    ({**LORA, "modules_to_save": ["lm_head"]}, "of whole layers"),
    ({**LORA, "trainable_token_indices": [1]}, "that holds embeddings"),
    ({**LORA, "use_dora": True}, "with lengths of rows (DoRA)"),
    ({**LORA, "rank_pattern": {"q_proj": 513}}, "of rank 513"),
    (LORA, ""),
    ({**LORA, "r": SERVED_RANK}, ""),
]


def graft(folder: Path, config: dict[str, Any]) -> Path:
    """Write what is read of a graft before its weights are."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    info = {"schema": "lingraft.graft/1", "method": "vanilla", "instruction": "{source}", "directions": []}
    (folder / "lingraft.json").write_text(json.dumps({**info, "base_sha256": "0" * 64}), "utf-8")
    return folder


@pytest.mark.parametrize(("config", "odd"), GRAFTS)
def test_given_grafts_that_a_server_cannot_load_are_refused_before_anything_starts(
    config: dict[str, Any], odd: str, tmp_path: Path
) -> None:
    given = {"stages": [], "grafts": [str(graft(tmp_path / "old", config))]}
    named = {**SERVER, "grafts": {str(tmp_path / "old"): "old"}}
    for engine in ({"kind": "transformers"}, {"kind": "vllm"}, named, ANY):
        check_grafts(recipe(engine, **given))
    served = recipe(LOADS, **given)
    if not odd:
        check_grafts(served)
        return
    with pytest.raises(UsageError, match="a server loads no graft ") as caught:
        check_grafts(served)
    assert f"loads no graft {odd}" in str(caught.value)
    assert "as 'old' is; take transformers or vllm" in str(caught.value)


def test_given_grafts_count_beside_what_is_trained(tmp_path: Path) -> None:
    folder = graft(tmp_path / "old", LORA)
    with pytest.raises(UsageError, match=r"is the name of one graft, and 2 are asked \(one, old\)"):
        check_grafts(recipe(ANY, grafts=[str(folder)]))
    check_grafts(recipe({**SERVER, "grafts": {"*": "tuned", str(folder): "old"}}, grafts=[str(folder)]))


def test_ranks_of_a_sum_of_given_grafts_are_added() -> None:
    assert configs_beyond_updates([{**LORA, "r": 256}, {**LORA, "r": 256}]) == ""
    assert configs_beyond_updates([{**LORA, "r": 256}, {**LORA, "r": 257}]) == "of rank 513 (vLLM's highest is 512)"


def test_a_graft_with_a_vocabulary_of_its_own_is_not_asked_of_a_server() -> None:
    asked = [AskedGraft("thai", Path("/g"), grown=True)]
    assert "the vocabulary of 'thai' is not that of the prompts" in unserved({"/g": "thai"}, False, asked)


def test_a_server_may_answer_for_the_base_alone() -> None:
    assert recipe(SERVER, stages=[], evaluate={"decoders": ["rerank"]})
