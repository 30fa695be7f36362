"""Options: none is ignored in silence, all that is missing is named at once, help texts are as wide as a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from lingraft.cli import main as cli

COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def options_of(command: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each option of a command, and how it may be given."""
    for one in COMMANDS[command].params:
        if one.param_type_name == "option" and one.name != "help":
            option = max(one.opts, key=len)
            yield option, [option] if one.is_flag else [option, "1"]


OF_AGREE = ("--prompts", "--limit", "--precision")
ONLY: list[tuple[str, list[str], set[str]]] = [
    ("evaluate", ["--run", "no-such-run"], {"--run", "--gate", "--quiet"}),
    ("doctor", ["--install", "no-such-part"], {"--install"}),
    (
        "doctor",
        ["--agree", "a,b"],
        {"--agree", "--prompts", "--limit", "--precision", "--model", "--json", "--install"},
    ),
    ("doctor", ["--verify"], {"--verify", "--json", "--install", "--agree"}),
    ("doctor", ["--try-engines"], {"--try-engines", "--model", "--json", "--install", "--agree", "--verify"}),
    ("doctor", [], {"--json", "--install", "--agree", "--verify", "--try-engines"}),
]
"""What a command looks at in one of its ways, or what makes it another way."""


@pytest.mark.parametrize(
    ("command", "way", "option", "words"),
    [
        (command, way, option, words)
        for command, way, used in ONLY
        for option, words in options_of(command)
        if option not in used
    ],
)
def test_what_a_way_of_a_command_does_not_look_at_is_refused(
    lingraft: Any, command: str, way: list[str], option: str, words: list[str]
) -> None:
    one_sentence(lingraft(command, *way, *words), 2, f"{option} has no effect", "leave it out")


BESIDE: list[tuple[list[str], str]] = [
    (["run", "demo", "--gpu", "h100"], "--gpu is about estimates, and goes with --dry-run"),
    (["evaluate", "--graft", "g", "--out", "o", "--from", "de"], "--test, --from and --to belong together"),
    (
        ["evaluate", "--graft", "g", "--out", "o", "--test", "t", "--to", "de"],
        "--test, --from and --to belong together",
    ),
    (["evaluate", "--graft", "g", "--out", "o", "--recipe", "demo", "--fields", "source=a"], "there is no --test"),
    (["check", "a.jsonl", "--from", "de", "--to", "en", "--test-format", "tsv"], "there is no --test"),
    (["chat", "--seed", "3"], "--seed has no effect without --temperature"),
    (["chat", "--max-query-tokens", "3"], "--max-query-tokens has no effect without a graft"),
    (["serve", "--max-english-tokens", "3"], "--max-english-tokens has no effect without a graft"),
    (["doctor", "--limit", "3"], "see `lingraft agree`"),
]


@pytest.mark.parametrize(("arguments", "words"), BESIDE)
def test_an_option_that_needs_another_is_refused_alone(lingraft: Any, arguments: list[str], words: str) -> None:
    one_sentence(lingraft(*arguments), 2, words)


def test_a_system_message_may_have_line_breaks(lingraft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("lingraft.cli.chat.chat_command", lambda graft, model, options, *rest: seen.append(options))
    assert lingraft("chat", "--system", r"Be brief.\n\tAnswer in \\English.").code == 0
    assert seen[0].system == "Be brief.\n\tAnswer in \\English."


POSITIONAL = [
    (name, one) for name, command in COMMANDS.items() for one in command.params if one.param_type_name == "argument"
]


@pytest.mark.parametrize(("command", "argument"), POSITIONAL, ids=[f"{name} {one.name}" for name, one in POSITIONAL])
def test_an_empty_argument_is_not_the_current_folder(
    lingraft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, argument: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words, reached = list[str](), False
    for one in COMMANDS[command].params:
        if one.param_type_name == "argument":
            if one.required or not reached:
                words.append("" if one is argument else "x")
            reached = reached or one is argument
        elif one.required:
            words += [one.opts[0], "x"]
    remedy = "give a name or a path (the current folder is .)" if argument.required else "write it or leave it out"
    result = lingraft(command, *words)
    one_sentence(result, 2, f"{str(argument.name).upper()} is empty; {remedy}")
    assert len(result.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--model", "--base", "--recipe", "--test", "--pairs", "--prompts", "--requests"])
def test_an_empty_option_is_not_the_current_folder_nor_a_default(lingraft: Any, option: str) -> None:
    command = next(name for name, one in COMMANDS.items() if any(option in each.opts for each in one.params))
    one_sentence(lingraft(command, option, ""), 2, f"{option} is empty; give a path")


def test_json_has_the_chain_in_any_case(lingraft: Any, tmp_path: Path) -> None:
    (tmp_path / "lingraft.json").write_text("{}", "utf-8")
    result = lingraft("chat", "--json", "--show-chain")
    assert result.code == 2
    assert "--show-chain" in result.err


def test_options_of_tune_change_the_recipe_once(lingraft: Any, tmp_path: Path) -> None:
    pairs = ["--pairs", "starter:train.de-en.jsonl", "--test", "starter:test.de-en.jsonl", "--from", "de", "--to", "en"]
    common = ["tune", *pairs, "--out", tmp_path / "run", "--dry-run"]
    one_sentence(lingraft(*common, "--seed", "2", "--set", "seed=3"), 2, "--seed and --set seed=... say the same")
    wrong = lingraft(*common, "--epochs", "0")
    one_sentence(wrong, 2, "stages.0.train.epochs", "greater than 0")
    one_sentence(lingraft(*common, "--limit", "0"), 2, "pairs.train.0.limit")
    one_sentence(lingraft(*common, "--seed", "-1"), 2, "seed")


def test_tune_says_what_it_compares_with(lingraft: Any) -> None:
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", lingraft("tune", "--help").out).split())
    assert "Plain fine-tuning (vanilla) is trained as well" in shown
    assert "--compare <list[str]> Also train this method; repeatable. By default vanilla." in shown


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["tune"], "--pairs, --test, --from, --to, --out"),
        (["tune", "--pairs", "a", "--out", "o"], "--test, --from, --to"),
        (["check"], "FILES, --from, --to"),
        (["export"], "--graft, --out"),
        (["agree"], "FIRST, SECOND"),
        (["sheet", "export", "--n", "3"], "RUN, --systems, --out"),
    ],
)
def test_all_that_is_missing_is_named_at_once(lingraft: Any, arguments: list[str], missing: str) -> None:
    result = lingraft(*arguments)
    assert result.code == 2
    assert f"Missing: {missing}." in result.err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_breaks_lines_only_where_the_terminal_ends(
    lingraft: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """A line is broken where its next word would not fit, else at the end of a paragraph."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    lines = lingraft(command, "--help").out.split("╭")[0].splitlines()
    for line, following in pairwise(lines):
        if line.strip() and following.strip() and "Usage:" not in line:
            assert len(line.rstrip()) + 1 + len(following.split()[0]) > 79, line


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_shows_brackets_as_they_are_written(lingraft: Any, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """What stands in brackets looks like markup: org/name[@revision]."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    shown = lingraft(command, "--help").out
    assert "\\[" not in shown
    for one in COMMANDS[command].params:
        for part in re.findall(r"\[[^\]]*\]", (getattr(one, "help", "") or "").replace("\\[", "[")):
            assert part in shown, (one.name, part)
