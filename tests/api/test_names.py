"""The public names of the package: lazy, complete, typed; and who may print."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import lingraft as lg
from lingraft import api

SOURCE = Path(lg.__file__).parent
APART = ("metrics/workers", "data/workers", "shipped/gateway", "core/canary.py", "core/enclosure.py")
"""Programs of their own: workers, the gateway that is copied into exports, and what runs within the sandbox."""


def modules(*left_out: str) -> list[Path]:
    """Modules of the package, without some and without programs of their own."""
    apart = [SOURCE / place for place in (*left_out, *APART)]
    assert all(place.exists() for place in apart)
    return [path for path in SOURCE.rglob("*.py") if not any(path.is_relative_to(place) for place in apart)]


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, lingraft as lg; dir(lg); lg.Pair, lg.LingraftError, lg.run;"
        "print(*{'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", [name for name in lg.__all__ if name != "__version__"])
def test_every_public_name_is_what_it_says_and_is_explained(name: str) -> None:
    value = getattr(lg, name)
    assert getattr(value, "__name__", name) == name or name == "Event"
    assert name not in [module.name for module in pkgutil.iter_modules(lg.__path__)]  # else it would be hidden
    assert name.isupper() or name == "Event" or value.__doc__


def test_the_functions_of_the_api_are_all_exported() -> None:
    own = {name for name, value in vars(api).items() if inspect.isfunction(value)}
    assert own == set(api.__all__)
    assert own <= set(lg.__all__)


def test_type_checkers_see_what_is_imported_lazily() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == lg._MODULE
    assert set(lg.__all__) == {*seen, "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'lingraft' has no attribute 'Pear'"):
        lg.Pear  # noqa: B018


def printing(path: Path) -> list[int]:
    """Lines of a module that call `print`."""
    tree = ast.parse(path.read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_nothing_prints_but_the_command_line() -> None:
    assert len(modules("cli")) > 200
    assert [f"{path}:{line}" for path in modules("cli") for line in printing(path)] == []
    assert any(printing(path) for path in (SOURCE / "cli").glob("*.py"))


def test_nothing_ends_the_process_or_takes_signals_but_commands_the_server_and_workers_of_a_bench() -> None:
    found = {
        f"{path.relative_to(SOURCE)}: {node.value.id}.{node.attr}"
        for path in modules("cli")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("sys", "exit"), ("os", "_exit"), ("signal", "signal")}
    }
    # The server in the main thread alone; workers are programs of processes of their own.
    assert found == {
        "serving/server.py: signal.signal",
        "pipeline/bench_worker.py: signal.signal",
        "models/workers/gguf_worker.py: os._exit",
    }


def test_methods_are_imported_from_the_package_alone() -> None:
    """What a plugin needs to be written, as `docs/extending.md` says."""
    for base, registry in (
        ("Method", "METHODS"),
        ("Engine", "ENGINES"),
        ("Tuner", "TUNERS"),
        ("Objective", "OBJECTIVES"),
        ("Decoder", "DECODERS"),
        ("Decider", "DECIDERS"),
        ("Suite", "SUITES"),
        ("Metric", "METRICS"),
    ):
        module = importlib.import_module("lingraft")
        names = getattr(module, registry)
        assert all(issubclass(names.get(name), getattr(module, base)) for name in list(names)[:2])
