"""Commands in README and docs exist with the options they are shown with; links in the repository lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from distribution import ROOT
from lingraft.cli.main import app

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]
HISTORY = "CHANGELOG.md"  # says what was, also commands that have changed since


def shown_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every `lingraft` command in a page: lines after a prompt, and whole commands in backticks."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(r"^\$ (.*)$", joined, re.MULTILINE) + re.findall(r"`(lingraft [a-z][^`\n]*)`", joined)
    for line in lines:
        for part in re.split(r"\s[|&]+\s|\s<\s|\s>\s", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # a quotation mark that the end of a line cut
                continue
            while words and re.match(r"[A-Z_]+=", words[0]):  # variables of the environment
                words = words[1:]
            if words and Path(words[0]).name == "lingraft":
                yield words[1:]


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that words name, and what follows."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command lingraft {' '.join(words)}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != HISTORY], ids=lambda page: page.name)
def test_commands_that_are_shown_exist(page: Path) -> None:
    for words in shown_commands(page.read_text("utf-8")):
        if not words or words[0].isupper() or "|" in words[0]:
            continue  # `lingraft COMMAND --help`, `lingraft run|tune --dry-run`
        command, rest = resolve(words)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            if word.startswith("--") and word not in ("--help", "--install-completion"):
                assert word.partition("=")[0] in known, f"lingraft {' '.join(words)}: there is no {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for name in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", text):
        path, _, place = name.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {name}"
        if place and target.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert place in {anchor(title) for title in titles}, f"{page.name}: {name}"


def anchor(title: str) -> str:
    """Return the anchor that a heading gets where Markdown is shown."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
