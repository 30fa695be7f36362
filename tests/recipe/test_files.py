"""Files that methods and suites name are looked for before anything starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lingraft.cli import main as cli
from lingraft.core.errors import DataError, UsageError
from lingraft.core.progress import Reporter
from lingraft.engines.base import ENGINES
from lingraft.pipeline.dry_run import describe
from lingraft.pipeline.run import run
from lingraft.recipe.files import check_files, missing_parts
from lingraft.recipe.load import load_recipe, parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.recipe.shipped import shipped_recipes

UNREADABLE = [
    (None, "there is no such file"),
    (b"", "the file is empty"),
    (b"\xff\xfe{\x00", "the file is UTF-16"),
    (b'{"source": "Good morning.", "uebersetzung": "x"}\n', "no row has a text as"),
    (b"not JSON\n", "no row has a text as"),
]


def written(folder: Path, data: bytes | None) -> Path:
    path = folder / "given.jsonl"
    if data is not None:
        path.write_bytes(data)
    return path


def changed(*overrides: str) -> Recipe:
    return load_recipe("transllm-th", ["compare=[]", *overrides])


def complaint(recipe: Recipe, folder: Path) -> str:
    """What a run and its dry run say, before anything is written; both say the same."""
    said = []
    for start in (
        lambda: run(recipe, folder / "run", Reporter(quiet=True)),
        lambda: describe(recipe, folder / "run"),
    ):
        with pytest.raises((DataError, UsageError)) as caught:
            start()
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert not (folder / "run").exists()
    return said[0]


@pytest.mark.parametrize("method", ["tcot", "native_sft"])
@pytest.mark.parametrize(("data", "words"), UNREADABLE)
def test_translations_that_cannot_be_used_are_told_first(
    method: str, data: bytes | None, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, data)
    recipe = changed(f"stages.2.method={method}", f"stages.2.params={{answers: reference, translations: '{path}'}}")
    said = complaint(recipe, tmp_path)
    assert said.startswith(f"system 'transllm', method '{method}': {path}: ")
    assert words in said


def test_translations_of_a_method_beside_and_of_a_compared_system_are_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    beside = f"[{{method: native_sft, share: 0.2, params: {{translations: '{path}'}}}}]"
    assert f"method 'native_sft': {path}: there is no such file" in complaint(
        changed(f"stages.2.beside={beside}"), tmp_path
    )
    compared = f"[{{name: other, in_stages: {{transllm: {{params: {{translations: '{path}'}}}}}}}}]"
    said = complaint(load_recipe("transllm-th", [f"compare={compared}"]), tmp_path)
    assert said.startswith(f"system 'other', method 'tcot': {path}: there is no such file")


@pytest.mark.parametrize("key", ["prompts", "pairs"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        *UNREADABLE[:3],
        (b"not JSON\n", "line 1 cannot be used"),
        (b'{"en": "Hello."}\n', "line 1 lacks the text in English or Thai"),
    ],
)
def test_files_of_the_suite_tcot_are_read_first(key: str, data: bytes | None, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, data)
    said = complaint(changed(f"evaluate.retention.suites.2.{key}={path}"), tmp_path)
    assert said.startswith("suite 'tcot': ")
    assert str(path) in said
    assert words in said


@pytest.mark.parametrize(
    ("suite", "key"),
    [
        ("kind: mt_bench, judge: {kind: transformers}", "references"),
        ("kind: alpaca_eval, judge: {kind: transformers}", "references"),
        ("kind: refusal", "keywords_path"),
        ("kind: harness, tasks: ['local:piqa'], path: 'starter:harmful.jsonl'", "fewshot_path"),
    ],
)
def test_files_that_other_suites_name_are_looked_for(suite: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    said = complaint(changed(f"evaluate.retention.suites=[{{name: mine, {suite}, {key}: '{path}'}}]"), tmp_path)
    assert said == f"suite 'mine': {path}: there is no such file; paths are relative to the recipe's folder"


def test_a_language_that_cannot_be_carried_to_is_told_first(tmp_path: Path) -> None:
    given = "translations: 'starter:chats.en-th.jsonl'"
    without = "[pretraining, translation_pretraining]"
    plain = f"{{method: native_sft, vocabulary: false, without: {without}, params: {{{given}}}}}"
    said = complaint(changed(f"compare=[{plain}]"), tmp_path)
    assert said == "method native_sft: no language to carry to; name some as the parameter `languages`"
    said = complaint(changed(f"stages.2.params={{languages: [lo], {given}}}"), tmp_path)
    assert "the language 'lo' has no marker" in said


@pytest.mark.parametrize("name", shipped_recipes())
def test_the_shipped_recipes_lack_no_file(name: str) -> None:
    check_files(load_recipe(name))


def test_a_file_that_is_there_is_no_complaint(tmp_path: Path) -> None:
    row = {"source": "Good morning.", "target": "สวัสดีตอนเช้า"}
    path = written(tmp_path, json.dumps(row, ensure_ascii=False).encode())
    check_files(changed(f"stages.2.params={{answers: reference, translations: '{path}'}}"))


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_the_command_line_says_one_sentence_and_starts_nothing(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out = tmp_path / "run"
    change = f"stages.2.params.translations={tmp_path / 'none.jsonl'}"
    monkeypatch.setattr(sys, "argv", ["lingraft", "run", "transllm-th", change, "--out", str(out), *options])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    assert stop.value.code == 1
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert "none.jsonl: there is no such file" in printed.err
    assert not out.exists()


def test_a_base_in_4_bits_may_learn_from_a_teacher_at_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has weights of its own; an engine that loads the base would load it whole."""

    def said(teacher: str | dict[str, Any], engine: str = "transformers") -> list[str]:
        source = {"path": "starter:train.de-en.jsonl", "source": "de", "target": "en"}
        stage = {"method": "seqkd", "params": {"teacher": teacher}, "train": {"precision": "nf4"}}
        recipe = {"name": "small", "pairs": {"train": source, "test": source}, "stages": [stage], "engine": engine}
        made = parse_recipe({**recipe, "evaluate": {"retention": {"suites": []}}}, "test", Path("/"))
        return [reason for reason in missing_parts(made) if "4 bits" in reason and "bitsandbytes" not in reason]

    monkeypatch.setattr(ENGINES.get("vllm"), "missing", classmethod(lambda cls: ""))
    assert said({"kind": "openai", "model": "big"}) == []
    refused = "answers with whole weights, not in 4 bits; with precision nf4 take the engine transformers"
    assert said({"kind": "vllm"}) == [f"teacher of method 'seqkd': engine 'vllm' {refused}"]
    assert said("base", "vllm") == [f"engine: engine 'vllm' {refused}"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pairs.train.0.path=none.jsonl", "none.jsonl: there is no such file"),
        ("pairs.train.0.path=starter:none.jsonl", "starter:none.jsonl: there is no such starter file"),
        ("pairs.test.0.path=none.jsonl", "none.jsonl: there is no such file"),
        ("pairs.train.0.path=opus:TED2020", "opus:TED2020 needs an environment of its own"),
        ("prompts.0.path=none.jsonl", "none.jsonl: there is no such file"),
        ("texts.0.path=none.txt", "none.txt: there is no such file"),
    ],
)
def test_data_that_is_not_there_leaves_no_folder(
    override: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    with pytest.raises((DataError, UsageError), match=words):
        run(changed(override), tmp_path / "run", Reporter(quiet=True))
    assert not (tmp_path / "run").exists()
