"""The registry: lazy imports, suggestions, entry points of installed packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import Field

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.registry import Registry
from lingraft.core.validation import Settings
from lingraft.decoders.base import DECODERS
from lingraft.engines.base import ENGINES
from lingraft.methods.base import METHODS
from lingraft.suites.base import SUITES
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.tuners import TUNERS


def test_a_target_is_imported_when_it_is_used() -> None:
    registry: Registry[object] = Registry("thing", {"join": "os.path:join", "broken": "no_such_package_of_ours:x"})
    assert list(registry) == ["broken", "join"]  # sorted, and nothing imported
    assert "join" in registry
    assert "joint" not in registry
    import os.path

    assert registry.get("join") is os.path.join


def test_an_unknown_name_comes_with_the_nearest_or_with_all() -> None:
    registry: Registry[object] = Registry("method", {"vanilla": "os:sep", "radis": "os:sep"})
    with pytest.raises(UsageError, match=r"^unknown method 'vanila'; did you mean 'vanilla'\?$"):
        registry.get("vanila")
    with pytest.raises(UsageError, match=r"^unknown method 'xyz'; known: radis, vanilla$"):
        registry.get("xyz")
    assert suggestion("x", []) == ""


def test_a_missing_optional_package_is_named_but_errors_of_our_own_are_not_hidden() -> None:
    registry: Registry[object] = Registry("engine", {"ray": "no_such_package_of_ours:x", "own": "lingraft.no_such:x"})
    with pytest.raises(UsageError, match=r"engine 'ray' needs the package 'no_such_package_of_ours'.*doctor"):
        registry.get("ray")
    with pytest.raises(ModuleNotFoundError):
        registry.get("own")


def test_a_name_is_registered_once() -> None:
    registry: Registry[object] = Registry("thing", {"a": "os:sep"})
    registry.register("b", "os:linesep")
    with pytest.raises(ValueError, match="'a' is already registered as os:sep"):
        registry.register("a", "os:linesep")
    import os

    assert registry.get("b") == os.linesep


class Params(Settings):
    size: int = Field(1, ge=1)


class Thing:
    Params = Params

    def __init__(self, params: Params) -> None:
        self.params = params


def test_a_class_is_registered_itself_and_a_cell_that_runs_again_replaces_its_own() -> None:
    registry: Registry[type[Thing]] = Registry("thing", {"a": "os:sep"})
    registry.register("own", Thing)
    assert registry.get("own") is Thing
    assert list(registry) == ["a", "own"]
    again = type("Thing", (Thing,), {"__module__": Thing.__module__})
    registry.register("own", again)
    assert registry.get("own") is again
    other = type("Other", (Thing,), {"__module__": Thing.__module__})
    with pytest.raises(ValueError, match=rf"^thing 'own' is already registered as {__name__}:Thing$"):
        registry.register("own", other)
    with pytest.raises(ValueError, match=r"^thing 'a' is already registered as os:sep$"):
        registry.register("a", other)


def test_a_class_has_one_name() -> None:
    registry: Registry[type] = Registry("thing", {})
    with pytest.raises(ValueError, match="calls itself 'mine', not 'yours'; give it one name"):
        registry.register("yours", type("Own", (), {"name": "mine"}))
    assert "yours" not in registry


@dataclass(frozen=True)
class Named:
    kind: str
    params: Mapping[str, object]


def test_a_thing_is_made_of_a_choice_in_either_form() -> None:
    registry: Registry[type[Thing]] = Registry("thing", {})
    registry.register("own", Thing)
    for choice in (Named("own", {"size": 3}), {"kind": "own", "size": 3}):
        assert registry.create(choice).params == Params(size=3)
        assert registry.read(choice) == (Thing, Params(size=3))
    assert registry.create({"kind": "own"}).params.size == 1
    with pytest.raises(UsageError, match=r"^unknown key 'thing own.sise'; did you mean 'size'\?$"):
        registry.create({"kind": "own", "sise": 3})
    with pytest.raises(UsageError, match=r"^thing own.size: Input should be greater than or equal to 1"):
        registry.create(Named("own", {"size": 0}))
    with pytest.raises(UsageError, match=r"^unknown thing 'owm'"):
        registry.create(Named("owm", {}))


def install(folder: Path, entry_points: str) -> None:
    """Lay out a distribution as pip does."""
    info = folder / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    (folder / "plugin_module.py").write_text("class Thing:\n    name = 'plugged'\n")


def test_an_installed_package_adds_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "[lingraft.things]\nplugged = plugin_module:Thing\n[lingraft.others]\nelse = os:sep\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[type] = Registry("thing", {"own": "os:sep"})
    assert list(registry) == ["own", "plugged"]
    assert registry.get("plugged").__name__ == "Thing"


def test_a_package_that_takes_a_known_name_is_refused_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "[lingraft.things]\nown = plugin_module:Thing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[object] = Registry("thing", {"own": "os:sep"})
    for _ in range(2):
        with pytest.raises(UsageError, match="'own', which is already os:sep; uninstall"):
            registry.get("own")


@pytest.mark.parametrize(
    "registry", [METHODS, ENGINES, SUITES, TUNERS, OBJECTIVES, DECODERS], ids=lambda registry: str(registry.kind)
)
def test_every_entry_of_the_package_exists_under_its_own_name(registry: Registry[type]) -> None:
    names = list(registry)
    assert names
    for name in names:
        entry = registry.get(name)
        assert entry.name == name  # type: ignore[attr-defined]
        assert (entry.__doc__ or "").strip()
        for key, field in entry.Params.model_fields.items():  # type: ignore[attr-defined]
            assert field.description, f"{name}.{key} has no description"
            assert not field.is_required(), f"{name}.{key} has no default"


def test_listing_names_imports_no_torch() -> None:
    code = "import sys, lingraft.methods as m; list(m.METHODS); sys.exit('torch' in sys.modules)"
    paths = [path for path in sys.path if path.endswith("src")]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"])
    assert done.returncode == 0
