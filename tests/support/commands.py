"""The command line in this process, with a random model and a graft on it; fixtures are imported by name."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.cli import main as cli
from tiny_runs import QUIET, values


class Result:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def lingraft(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line in this process."""

    def call(*arguments: object, stdin: str | bytes = "") -> Result:
        data = stdin.encode("utf-8") if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "argv", ["lingraft", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return Result(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random chat model on disk."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def graft(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A graft trained for a few steps on the random model."""
    from lingraft.pipeline.run import run
    from lingraft.recipe.load import parse_recipe

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    small = values(model, compare=[])
    small["evaluate"]["retention"]["suites"] = ["refusal"]
    small["evaluate"]["retention"]["suites"] = [{"kind": "refusal", "max_prompts": 2, "max_new_tokens": 4}]
    run(parse_recipe(small, "test", Path("/")), folder, QUIET)
    return folder / "graft"


def one_sentence(result: Result, code: int, *words: str) -> None:
    """The mistake was told in one line, without a traceback."""
    assert result.code == code, result.err
    lines = result.err.splitlines()
    assert [line for line in lines if line.startswith("lingraft: ")] == lines[-1:]  # said once, at the end
    assert "Traceback" not in result.err
    for word in words:
        assert word in lines[-1]
