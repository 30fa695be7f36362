"""One small typed registry: lazy targets, near-name suggestions, entry points.

A new method, engine, suite, ... is one file that is named here by `"package.module:attribute"`, or an entry point
of an installed distribution in the group `lingraft.<kind>s`; a notebook registers its own class. Heavy imports wait
until the entry is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, Protocol, TypeVar, cast

from lingraft.core.errors import UsageError, suggestion

T = TypeVar("T")
E = TypeVar("E")


class Chosen(Protocol):
    """What a recipe names from a registry."""

    @property
    def kind(self) -> str:
        """Its registered name."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters; those left out have their defaults."""


class Registry(Generic[T]):
    """Names of one kind of thing (`kind`, e.g. "method") and where each is found.

    Args:
        kind: singular noun, used in messages and for the entry-point group `lingraft.<kind>s`.
        targets: name -> `"package.module:attribute"`.
    """

    def __init__(self, kind: str, targets: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets: dict[str, str | T] = dict(targets)
        self._plugins_read = False

    def register(self, name: str, target: str | T) -> None:
        """Add an entry.

        Args:
            name: by which a recipe names it.
            target: `"package.module:attribute"`, or the class itself, as in a notebook: its cell may run again, and
                what it defines anew takes the place of what it defined before.

        Raises:
            ValueError: the name is taken, or the class has another one.
        """
        own = getattr(target, "name", name)
        if own != name:
            raise ValueError(f"the {self.kind} {_place(target)} calls itself {own!r}, not {name!r}; give it one name")
        known = self._targets.get(name)
        if known is not None and (isinstance(target, str) or _place(known) != _place(target)):
            raise ValueError(f"{self.kind} {name!r} is already registered as {_place(known)}")
        self._targets[name] = target

    def _all(self) -> dict[str, str | T]:
        if not self._plugins_read:
            for entry in entry_points(group=f"lingraft.{self.kind}s"):
                if entry.name in self._targets:
                    raise UsageError(
                        f"an installed package names its {self.kind} ({entry.value}) {entry.name!r}, which is already "
                        f"{_place(self._targets[entry.name])}; uninstall that package or rename its entry point"
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
        target = targets[name]
        if not isinstance(target, str):
            return target
        module_name, _, attribute = target.partition(":")
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

    def read(self: Registry[type[E]], choice: Chosen | Mapping[str, Any]) -> tuple[type[E], Any]:
        """Return the class that a choice names, and its parameters of type `Params`.

        Args:
            choice: a registered name and parameters: as `kind` and `params`, or as a mapping with the parameters beside
                its `kind`.

        Raises:
            UsageError: as `get`, or a parameter that there is not, or whose value is not right.
        """
        from lingraft.core.validation import validated  # pydantic: not while a shell completes names

        if isinstance(choice, Mapping):
            given = dict(choice)
            kind, params = str(given.pop("kind")), given
        else:
            kind, params = choice.kind, dict(choice.params)
        entry: Any = self.get(kind)
        return entry, validated(entry.Params, params, f"{self.kind} {kind}")

    def create(self: Registry[type[E]], choice: Chosen | Mapping[str, Any]) -> E:
        """Make what a choice names from its parameters.

        Args:
            choice: see `read`.

        Raises:
            UsageError: see `read`.
        """
        entry, params = self.read(choice)
        return cast(Any, entry)(params)


def _place(target: Any) -> str:
    """Return where a target is defined, as an entry point names it."""
    return target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
