"""One small typed registry: lazy targets, near-name suggestions, entry points.

A new method, engine, suite, ... is one file that is named here by `"package.module:attribute"`, or an entry point
of an installed distribution in the group `lingraft.<kind>s`. Heavy imports wait until the entry is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from lingraft.core.errors import UsageError, suggestion

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of thing (`kind`, e.g. "method") and where each is found.

    Args:
        kind: singular noun, used in messages and for the entry-point group `lingraft.<kind>s`.
        targets: name -> `"package.module:attribute"`.
    """

    def __init__(self, kind: str, targets: dict[str, str]) -> None:
        self.kind = kind
        self._targets = dict(targets)
        self._plugins_read = False

    def register(self, name: str, target: str) -> None:
        """Add `name`; raises ValueError when it is taken."""
        if name in self._targets:
            raise ValueError(f"{self.kind} {name!r} is already registered as {self._targets[name]}")
        self._targets[name] = target

    def _all(self) -> dict[str, str]:
        if not self._plugins_read:
            for entry in entry_points(group=f"lingraft.{self.kind}s"):
                if entry.name in self._targets:
                    raise UsageError(
                        f"an installed package names its {self.kind} ({entry.value}) {entry.name!r}, which is already "
                        f"{self._targets[entry.name]}; uninstall that package or rename its entry point"
                    )
                self._targets[entry.name] = entry.value
            self._plugins_read = True
        return self._targets

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def get(self, name: str) -> T:
        """Return the object registered as `name`, importing it now.

        Raises:
            UsageError: unknown name (with the nearest known one), or an optional dependency is missing.
        """
        targets = self._all()
        if name not in targets:
            raise UsageError(f"unknown {self.kind} {name!r}{suggestion(name, targets)}")
        module_name, _, attribute = targets[name].partition(":")
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            if error.name and error.name.startswith("lingraft"):
                raise
            raise UsageError(
                f"{self.kind} {name!r} needs the package {error.name!r}, which is not installed; "
                f"`lingraft doctor` shows how to get it"
            ) from error
        return cast(T, getattr(module, attribute))
