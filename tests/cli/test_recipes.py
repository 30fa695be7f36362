"""Commands about recipes: list, init, show, schema, and what a shell is offered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from lingraft.recipe.load import load_recipe
from lingraft.recipe.reference import reference
from lingraft.recipe.schema_json import recipe_schema
from lingraft.recipe.shipped import shipped_names


def test_all_lists_by_default(lingraft: Any) -> None:
    found = lingraft("list").out
    headings = [line for line in found.splitlines() if line and line[0].isupper()]
    assert headings == [
        "Methods",
        "Tuners",
        "Objectives",
        "Decoders",
        "Engines",
        "Suites",
        "Metrics",
        "Deciders",
        "Mergers",
        "Documents",
        "Recipes",
    ]
    for name in ("radis", "lora", "transformers", "refusal", "chrf++", "radis-wmt22"):
        assert f"\n{name} " in found


def test_a_test_double_is_shown_by_name_alone(lingraft: Any) -> None:
    assert "scripted" not in lingraft("list", "engines").out
    assert "test double" in lingraft("list", "engines", "scripted").out


def test_one_entry_with_its_parameters(lingraft: Any) -> None:
    found = lingraft("list", "methods", "radis").out
    assert found.startswith("radis: reference + a rationale written by the base itself\nPaper: arXiv 2410.13944\n")
    assert "\nrationale_weight (number >= 0; default 1.0)\n" in found
    assert "has no parameters" in lingraft("list", "metrics", "ter").out
    one_sentence(lingraft("list", "methods", "radiss"), 2, "unknown method 'radiss'", "did you mean 'radis'")
    one_sentence(lingraft("list", "recipes", "demo"), 2, "`lingraft show demo`")


def test_init_copies_a_shipped_recipe(lingraft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = lingraft("init", "demo")
    assert (done.code, done.out) == (0, "demo.yaml\n")
    assert "# trained on the same pairs" in (tmp_path / "demo.yaml").read_text("utf-8")
    one_sentence(lingraft("init", "demo"), 2, "demo.yaml is there already")
    assert lingraft("init", "demo", "mine.yaml").out == "mine.yaml\n"
    one_sentence(lingraft("init"), 2, *shipped_names())
    one_sentence(lingraft("init", "dmo"), 2, *shipped_names())
    one_sentence(lingraft("init", "demo", "no/such/folder.yaml"), 1, "no/such/folder.yaml")


@pytest.mark.parametrize("name", shipped_names())
def test_what_is_shown_feeds_back_unchanged(lingraft: Any, tmp_path: Path, name: str) -> None:
    shown = lingraft("show", name).out
    (tmp_path / "shown.yaml").write_text(shown, "utf-8")
    assert load_recipe(str(tmp_path / "shown.yaml")) == load_recipe(name)
    assert lingraft("show", tmp_path / "shown.yaml").out == shown


def test_overrides_are_shown(lingraft: Any) -> None:
    assert "\nseed: 7\n" in lingraft("show", "demo", "seed=7").out
    one_sentence(lingraft("show", "demo", "sed=7"), 2, "did you mean 'seed'")


def test_the_schema_and_the_reference_are_printed(lingraft: Any) -> None:
    assert json.loads(lingraft("schema").out) == recipe_schema()
    assert lingraft("schema", "--markdown").out == reference()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("run rad", ["radis-de-en", "radis-wmt22"]),
        ("show d", ["demo"]),
        ("init t", ["transllm-th", "transllm-th-7b"]),
        ("list m", ["methods", "metrics", "mergers"]),
        ("list tuners s", ["sparse", "ssu"]),
        ("list engines s", []),
        ("list recipes d", ["demo"]),
        ("tune --method rad", ["radis"]),
        ("translate --engine v", ["vllm"]),
        ("evaluate --suite ref", ["refusal"]),
    ],
)
def test_shells_are_offered_names(
    lingraft: Any, monkeypatch: pytest.MonkeyPatch, words: str, offered: list[str]
) -> None:
    monkeypatch.setenv("_LINGRAFT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"lingraft {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" "))))
    assert lingraft().out.split() == offered
