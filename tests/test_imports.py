"""Imports look down, in the order that CONTRIBUTING.md has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lingraft

ROOT = Path(lingraft.__file__).parent
ENTRANCES = {"__init__", "__main__"}


def groups() -> dict[str, int]:
    """Return the number of each module's group, the lowest first."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
    order = re.search(r"Imports go one way.*?: (`errors`.*?`cli`)\.", text, re.DOTALL)
    assert order
    return {name: at for at, group in enumerate(order[1].split("←")) for name in re.findall(r"`(\w+)`", group)}


def listed(name: str, known: dict[str, int]) -> str:
    """Return what a module is called in the order: one of several files by what these begin with."""
    return name if name in known else name.partition("_")[0]


def imported(node: ast.AST) -> Iterator[str]:
    """Yield what a file imports of the package, wherever it does, but for the checker of types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom) and child.module == "lingraft":
            yield from (alias.name for alias in child.names if alias.name != "__version__")
        elif isinstance(child, ast.ImportFrom) and str(child.module).startswith("lingraft."):
            yield str(child.module).split(".")[1]
        yield from imported(child)


@pytest.mark.parametrize("path", sorted(ROOT.iterdir()), ids=lambda path: path.name)
def test_imports_look_down(path: Path) -> None:
    known, own = groups(), listed(path.stem, groups())
    files = [path] if path.suffix == ".py" else list(path.rglob("*.py"))
    if not files or path.stem in ENTRANCES:
        return
    assert own in known, f"name {own} in CONTRIBUTING.md's order of imports"
    for file in files:
        upwards = [
            name for name in imported(ast.parse(file.read_text("utf-8"))) if known[listed(name, known)] > known[own]
        ]
        assert not upwards, f"{file.relative_to(ROOT)} imports {upwards}"
