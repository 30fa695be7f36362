"""Training is tried before anything is synthesised, and in a dry run: what cannot work fails at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders import tiny_tokenizer
from families import build
from lingraft.cli.run import execute
from lingraft.core.errors import ModelError, UsageError
from lingraft.core.progress import Reporter
from lingraft.models.files import local_folder
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.run import run
from lingraft.pipeline.trial import rehearse, try_stages
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.progress_file import PartNote
from models_support import save_tiny_model

QUIET = Reporter(quiet=True)


def recipe(model: Path, tuner: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    pairs = {"source": "de", "target": "en", "limit": 24}
    values = {
        "name": "tiny",
        "model": str(model),
        "engine": {"kind": "transformers"},
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", **pairs},
            "test": {"path": "starter:test.de-en.jsonl", **pairs},
        },
        "prompts": {"path": "starter:prompts.jsonl", "limit": 24},
        "stages": [
            {"method": "radis", "tuner": {"kind": "lora", **(tuner or {})}, "train": {"precision": "fp32"}},
        ],
        "compare": ["vanilla"],
        "evaluate": {"retention": {"suites": ["refusal"]}},
        **changes,
    }
    return parse_recipe(values, "test", Path("/"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    ("tuner", "message"),
    [
        ({"targets": ["q_prj"]}, r"no layer named 'q_prj'; did you mean 'q_proj'"),
        ({"targets": ["q_proj", "norm"]}, "'norm' of LlamaForCausalLM is a LlamaRMSNorm"),
        ({"targets": ["lm_head"]}, "shares its weight with the embeddings"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_synthesis_and_in_a_dry_run(
    tiny: Path, tmp_path: Path, tuner: dict[str, Any], message: str
) -> None:
    asked = recipe(tiny, tuner)
    with pytest.raises(UsageError, match=message):
        execute(asked, tmp_path / "dry", dry_run=True, replace=False, quiet=True)
    assert not (tmp_path / "dry").exists()
    with pytest.raises(UsageError, match=message):
        run(asked, tmp_path / "run", QUIET)
    names = {path.name.split("-")[0] for path in (tmp_path / "run").iterdir()}
    assert "data" in names
    assert not names & {"synthesis", "rows", "train"}


def test_names_are_checked_where_there_are_no_weights(tmp_path: Path) -> None:
    save_tiny_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="no layer named 'q_prj'"):
        rehearse(recipe(tmp_path, {"targets": ["q_prj"]}))
    (line,) = rehearse(recipe(tmp_path))
    # rank x (in + out) of the seven layers of each of two blocks
    assert line == "tuner lora: 16,384 numbers learn beside 100% of the language model's matrix weights"


@pytest.mark.parametrize(("family", "rows"), [("falcon_h1", "padded"), ("qwen3_5", "padded"), ("gemma3", "packed")])
def test_a_dry_run_says_what_learns(family: str, rows: str, tmp_path: Path) -> None:
    build(family).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (line,) = rehearse(recipe(tmp_path))
    assert line.startswith("tuner lora: ")
    assert line.endswith(f"rows are {rows}")


def test_experts_in_one_tensor_want_no_dropout_in_a_dry_run(tmp_path: Path) -> None:
    build("mixtral").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"set tuner\.dropout to 0"):
        rehearse(recipe(tmp_path))
    assert len(rehearse(recipe(tmp_path, {"dropout": 0}))) == 1


def test_a_model_of_no_known_kind_is_refused_in_a_dry_run(tiny: Path, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text("utf-8").replace('"llama"', '"vit"'), "utf-8")
    with pytest.raises(ModelError, match=r"no causal language model of the kind 'vit'.*save its language model alone"):
        execute(recipe(tmp_path / "model"), tmp_path / "out", dry_run=True, replace=False, quiet=True)


def test_a_way_of_training_is_tried_once(tiny: Path, tmp_path: Path) -> None:
    asked = recipe(
        tiny, compare=["vanilla", {"method": "vanilla", "name": "other", "tuner": {"kind": "lora", "rank": 2}}]
    )
    for built in (["data", "trial", "trial"], []):
        with Context(asked, tmp_path, QUIET) as context:
            try_stages(context, prepare(context))
            assert context.built == built
            assert len({path.name for path in context.used}) == 3


def test_trials_are_told_by_system_and_stage_and_their_part_of_the_run_once(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, plain = {"tuner": {"kind": "lora", "rank": 2}}, {"method": "vanilla"}
    asked = recipe(tiny, compare=["vanilla", {**plain, **small, "name": "other"}])
    staged = recipe(tiny, stages=[plain, {**plain, "name": "again", "train": {"batching": "padded"}}], compare=[])
    for read, names in (
        (asked, ["vanilla", "other"]),
        (staged, ["again, stage 1 (vanilla)", "again, stage 2 (again)"]),
    ):
        with Context(read, tmp_path / names[0], Reporter()) as context:
            context.plan_parts([PartNote(kind="train")] * 9)
            data = prepare(context)
            context.next_part()
            context.next_part()
            capsys.readouterr()
            try_stages(context, data)
        said = capsys.readouterr().err.splitlines()
        first, second = names
        assert [line for line in said if line.startswith("Trying")] == [
            f"Trying {first} (part 2 of 9)",
            f"Trying {second}",
        ]
        assert [line.partition(", tuner lora: ")[0] for line in said if "numbers learn" in line] == names
        assert not any("trial" in line for line in said)


def test_a_folder_without_configuration_is_not_at_hand(tmp_path: Path) -> None:
    assert local_folder(str(tmp_path)) is None
    assert local_folder("an-owner/that-nobody-fetched") is None
    assert rehearse(recipe(tmp_path)) == []
