"""Lay the pages of the documentation site: `python docs/site/pages.py FOLDER`, which `make docs` calls.

The guides are the Markdown files of this repository, with links that lead into the repository turned into links of the
site; commands and the public names are written from the program itself.
"""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""File of the repository -> page of the site; those in docs/ keep their names."""
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^ *(```|~~~)")


def main(folder: Path) -> None:
    """Write mkdocs.yml and pages/ into a folder, which is made anew.

    Raises:
        SystemExit: a page links to a file that is not there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pages = folder / "pages"
    pages.mkdir(parents=True)
    shutil.copyfile(HERE / "mkdocs.yml", folder / "mkdocs.yml")
    for name in ("images", "first-job"):
        shutil.copytree(ROOT / "docs" / name, pages / name)
    for name in ("recipe.schema.json", "lingraft.ipynb"):
        shutil.copyfile(ROOT / "docs" / name, pages / name)
    for file in (*sorted((ROOT / "docs").glob("*.md")), *(ROOT / name for name in MOVED)):
        (pages / _page(file)).write_text(site_links(file), "utf-8")
    (pages / "commands.md").write_text(commands(), "utf-8")
    functions, classes = public_names()
    (pages / "functions.md").write_text(_reference("Functions", "What commands call.", functions), "utf-8")
    (pages / "classes.md").write_text(_reference("Classes", "Values, and what to extend.", classes), "utf-8")


def site_links(file: Path) -> str:
    """Return the text of a page with the links of the site; files that are no pages are named, not linked.

    Args:
        file: a Markdown file of the repository.

    Raises:
        SystemExit: a link leads to a file that is not there.
    """

    def moved(link: re.Match[str]) -> str:
        target = (file.parent / link[2]).resolve()
        if not target.exists():
            raise SystemExit(f"{file.relative_to(ROOT)}: there is no {link[2]}")
        return f"{link[1]}{_page(target)}{link[3] or ''})"

    lines, fenced = [], False
    for line in file.read_text("utf-8").splitlines():
        fenced ^= bool(_FENCE.match(line))
        lines.append(line if fenced else _LINK.sub(moved, line))
    return "\n".join(lines) + "\n"


def _page(file: Path) -> str:
    """Return where a file of the repository is on the site: the address of the repository for what is no page."""
    name = file.relative_to(ROOT).as_posix()
    if name in MOVED:
        return MOVED[name]
    return name.removeprefix("docs/") if name.startswith("docs/") else f"{_repository()}/blob/main/{name}"


def _repository() -> str:
    import tomllib

    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"])


def commands() -> str:
    """Return the page of all commands, with the words of their `--help`."""
    import typer
    from typer.core import TyperGroup

    from lingraft.cli.main import app

    def described(command: Any, path: str) -> list[str]:
        inner = command.commands if isinstance(command, TyperGroup) else {}
        lines = [f"## {path}", "", inspect.cleandoc(command.help or ""), ""]
        if command.params:
            lines += ["| argument | what it is |", "|---|---|"]
        for one in command.params:
            shown = (one.name or "").upper() if one.param_type_name == "argument" else ", ".join(one.opts)
            said = re.sub(r"\s+", " ", getattr(one, "help", "") or "").replace("|", "\\|")
            lines.append(f"| `{shown}` | {said} |")
        parts = (described(one, f"{path} {name}") for name, one in inner.items())
        return [*lines, "", *(line for part in parts for line in part)]

    group = typer.main.get_command(app)
    return "\n".join(["# Commands", "", "Each says the same with `--help`.", "", *described(group, "lingraft")]) + "\n"


def public_names() -> tuple[list[str], list[str]]:
    """Return where the public functions and classes of the package are defined, as dotted names."""
    import lingraft

    functions, classes = [], []
    for name in lingraft.__all__:
        value = getattr(lingraft, name)
        if inspect.isclass(value):
            classes.append(f"{value.__module__}.{value.__qualname__}")
        elif inspect.isfunction(value):
            functions.append(f"{value.__module__}.{value.__qualname__}")
    return functions, classes


def _reference(title: str, words: str, names: list[str]) -> str:
    return "\n".join([f"# {title}", "", f"{words} All are names of `lingraft`.", "", *(f"::: {one}\n" for one in names)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
