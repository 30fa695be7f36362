"""The package's exceptions. Each message is one sentence for the user: what, where, remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class LingraftError(Exception):
    """The work failed. `exit_code` is what the command line exits with.

    An error reaches the driver from a worker process as it was raised, whatever its class is made from.
    """

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


class UsageError(LingraftError):
    """Wrong usage or a bad recipe: nothing was started. `key`: the dotted key of a recipe that is at fault, if any."""

    exit_code = 2
    key: str = ""

    @classmethod
    def at(cls, key: str, said: str) -> UsageError:
        """Return the error of a key; `said`: the whole sentence."""
        error = cls(said)
        error.key = key
        return error


class DataError(LingraftError):
    """The user's data cannot be used as it is."""


class ModelError(LingraftError):
    """A model, tokenizer or graft cannot be used as it is."""


class NotFiniteError(ModelError):
    """A model computes numbers that are none."""


class TrainingError(LingraftError):
    """A training was spoilt by its settings, such as a learning rate; with others it may succeed."""


class EngineError(LingraftError):
    """A text generation back end failed."""


class TooLongError(EngineError):
    """A request leaves no room for its answer; carries the request's id and the reason."""

    def __init__(self, request_id: str, reason: str, message: str = "") -> None:
        own = f"request {request_id!r}: {reason}; shorten the text or lower the limit of new tokens"
        super().__init__(message or own)
        self.request_id = request_id
        self.reason = reason


class StoreError(LingraftError):
    """An artefact cannot be read or written."""


class LockedError(LingraftError):
    """Another process is working in the same folder."""


class ExampleError(LingraftError):
    """A training example cannot be rendered; carries the example's id and the reason."""

    def __init__(self, example_id: str, reason: str) -> None:
        super().__init__(f"example {example_id!r}: {reason}")
        self.example_id = example_id
        self.reason = reason


def first_line(error: BaseException, most: int = 500) -> str:
    """Return the first line of an exception's message, for a sentence of ours; the exception's name where it has none.

    Args:
        error: raised by a library.
        most: characters.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most].rstrip(".")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` with the nearest known name, or the list of known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""


@contextmanager
def placed(key: str) -> Iterator[None]:
    """Note the key of a recipe in the usage errors that come from what it holds, unless they name one themselves."""
    try:
        yield
    except UsageError as error:
        error.key = error.key or key
        raise


_OPTIONS: ContextVar[Mapping[str, str]] = ContextVar("options", default={})  # noqa: B039 (never written to)


@contextmanager
def options(names: Mapping[str, str]) -> Iterator[None]:
    """Have messages name settings as the options of a command, while it runs: {"fields": "--fields"}."""
    token = _OPTIONS.set(names)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def setting(key: str, value: str = "") -> str:
    """Return how the user writes a setting, for a message: as an option of the running command, else as a recipe's key.

    Args:
        key: key of a recipe, e.g. "fields", "prompts.fields".
        value: as YAML, e.g. "{source: src}".
    """
    option = _OPTIONS.get().get(key)
    if option is None:
        plain = key.rpartition(".")[2]
        return f"`{plain}: {value}`" if value else f"`{plain}:`"
    if option.endswith("="):
        return f"{option}'{value}'" if value else f"{option}..."
    return f"{option} {value.strip('{}').replace(': ', '=').replace(', ', ',')}".rstrip()


def in_command() -> bool:
    """Say whether settings are named as options: there is no recipe whose folder could matter."""
    return bool(_OPTIONS.get())


def _restored(kind: type[LingraftError], args: tuple[Any, ...], state: dict[str, Any]) -> LingraftError:
    """Return an error as it was before it was pickled; its `__init__` may want other arguments than the message."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error
