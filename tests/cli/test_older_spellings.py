"""Commands that do one thing, and the older spellings of what they do, which go on with one line of advice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import lingraft, model, one_sentence  # noqa: F401  (fixtures)
from lingraft.core.own_environments import OwnEnvironment
from lingraft.engines import auto


def test_engines_are_compared(lingraft: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "PREFERRED", ("transformers",))  # whatever else is installed, and slow to start
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        json.dumps({"prompt": "Name three fruits."}) + "\n" + json.dumps({"prompt": "Why?"}) + "\n", "utf-8"
    )
    asked = ("--prompts", prompts, "--limit", "1", "--model", model, "--precision", "fp32", "--json")
    new = lingraft("agree", "transformers", "auto", *asked)
    assert new.code == 0, new.err
    assert json.loads(new.out)["engines"] == ["transformers", "auto"]
    assert (json.loads(new.out)["requests"], json.loads(new.out)["equal_share"]) == (1, 1.0)
    old = lingraft("doctor", "--agree", "transformers,auto", *asked)
    assert (old.code, old.out) == (0, new.out)
    assert [line for line in old.err.splitlines() if "lingraft" in line] == [
        "Note: this is `lingraft agree transformers auto` now"
    ]


def test_mistakes_about_engines(lingraft: Any) -> None:
    one_sentence(lingraft("agree", "transformers", "vlm"), 2, "unknown engine 'vlm'", "did you mean 'vllm'")
    one_sentence(lingraft("agree", "transformers", "auto", "--precision", "fp8"), 2, "auto, bf16 or fp32, not 'fp8'")
    one_sentence(lingraft("doctor", "--agree", "transformers"), 2, "--agree takes two engines")


def test_what_has_an_environment_of_its_own_is_installed(
    lingraft: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def install(self: OwnEnvironment, say: Any) -> Path:
        say(f"installing {self.name}")
        return tmp_path

    monkeypatch.setattr(OwnEnvironment, "install", install)
    new = lingraft("install", "comet")
    assert (new.code, new.out) == (0, "")
    assert "The environment of comet is ready" in new.err
    old = lingraft("doctor", "--install", "comet")
    assert old.code == 0
    assert old.err == "Note: this is `lingraft install comet` now\n" + new.err
    one_sentence(lingraft("install", "comt"), 2, "'comt'; did you mean 'comet'?")
