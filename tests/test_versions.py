"""What a run keeps is named with the version of what made it: code that changes asks for a new one."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

import pytest

import lingraft
from lingraft.conversation.chain import CHAIN
from lingraft.engines.divergence import DIVERGENCE
from lingraft.engines.likelihood import LIKELIHOOD
from lingraft.methods.base import METHODS
from lingraft.rendering.rows import RENDERING

SOURCES = Path(lingraft.__file__).parent
TABLE = Path(__file__).with_name("versions.json")
SHARED = ("methods/base_distillation.py", "methods/carried_text.py", "translation/by_sentence.py")
"""Beside a method's own file: what several methods are made of."""
MADE_BY: dict[str, tuple[str, ...]] = {
    RENDERING: (
        "rendering/renderer.py",
        "rendering/encoder.py",
        "rendering/documents.py",
        "rendering/rows.py",
        "rendering/teacher.py",
        "rendering/turn.py",
    ),
    CHAIN: (
        "conversation/chain_engine.py",
        "conversation/history.py",
        "conversation/answer_language.py",
        "conversation/chain.py",
        "language/identification.py",
        "language/codes.py",
        "language/measures.py",
    ),
    DIVERGENCE: ("engines/divergence.py",),
    LIKELIHOOD: ("engines/likelihood.py",),
}
for name in METHODS:
    kind = METHODS.get(name)
    MADE_BY[f"{name}:{kind.version}"] = (f"methods/{kind.__module__.rpartition('.')[2]}.py", *SHARED)


def code_of(path: Path) -> str:
    """Return what a file does, as text: without comments, docstrings and imports."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        for inner in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(inner, list):
                inner[:] = [one for one in inner if not _says_nothing(one)] or [ast.Pass()]
    return ast.unparse(tree)


def _says_nothing(node: ast.stmt) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return text or types or isinstance(node, ast.Import | ast.ImportFrom)


def current() -> dict[str, str]:
    return {
        name: hashlib.sha256("".join(code_of(SOURCES / file) for file in files).encode()).hexdigest()
        for name, files in MADE_BY.items()
    }


def test_comments_docstrings_and_imports_are_no_code(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text('"""A."""\nimport a\n\ndef f(x):\n    """Do."""\n    return x + 1  # why\n')
    other.write_text('"""B."""\nfrom c import d\nif TYPE_CHECKING:\n    import e\ndef f(x):\n    return (x + 1)\n')
    assert code_of(one) == code_of(other)
    other.write_text("def f(x):\n    return x + 2\n")
    assert code_of(one) != code_of(other)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python write the same code otherwise")
def test_code_that_changed_has_another_version() -> None:
    """Raise the version if the same inputs give other results, then write the table: python tests/test_versions.py"""
    assert current() == json.loads(TABLE.read_text("utf-8"))


if __name__ == "__main__":
    TABLE.write_text(json.dumps(current(), indent=2) + "\n", "utf-8")
