"""Checking values against a pydantic model with one sentence for the first problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from lingraft.errors import LingraftError, UsageError, suggestion

HUB_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*"
"""A repository of the hub: who owns it, and its name."""
LARGEST, SMALLEST = 1e15, 1e-15
"""What numbers of settings lie between: further out, estimates overflow, and nothing is trained or measured so."""


class Settings(BaseModel):
    """Base of all that a user sets: no unknown key, and every number is one, finite and within reason."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `true` for 1, which it is to Python: `limit: yes` would quietly use one row."""
        given = value if isinstance(value, list | tuple) else [value]
        kinds = _kinds_in(cls.model_fields[str(info.field_name)].annotation)
        if any(isinstance(item, bool) for item in given) and kinds & {int, float} and not kinds & {bool, Any}:
            raise ValueError("true and false (yes, no, on and off) are no numbers; give a number, or drop the key")
        return value

    @field_validator("*")
    @classmethod
    def _within_reason(cls, value: Any) -> Any:
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, int | float) and not isinstance(item, bool) and item:
                if abs(item) > LARGEST:
                    raise ValueError(f"a number of this size is out of reach; give one up to {LARGEST:g}")
                if abs(item) < SMALLEST:
                    raise ValueError(f"a number this close to zero is out of reach; give 0, or {SMALLEST:g} and more")
        return value


def validated(model: type[BaseModel], values: Mapping[str, Any], where: str, beside: Iterable[str] = ()) -> Any:
    """Validate; the first problem becomes one sentence with its key and, for an unknown key, the nearest known one.

    Args:
        beside: further keys that may stand where `values` do, which another model knows.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors()[0]
        location = [*([where] if where else []), *map(str, problem["loc"])]
        place = ".".join(part for part in location if not part.startswith("function-"))
        if problem["type"] == "extra_forbidden":
            known = [*_known_keys(model, problem["loc"][:-1]), *(beside if len(problem["loc"]) == 1 else ())]
            raise UsageError(f"unknown key {place!r}{suggestion(str(problem['loc'][-1]), known)}") from error
        if problem["type"] == "missing":
            raise UsageError(f"the key {place!r} is missing") from error
        cause = (problem.get("ctx") or {}).get("error")
        message = str(cause) if isinstance(cause, LingraftError | ValueError) else problem["msg"]
        value = problem.get("input")
        number = isinstance(value, int) and value.bit_length() < 200  # Python refuses to write very long ones out
        given = f" (given: {value!r:.80})" if cause is None and (number or isinstance(value, str | float)) else ""
        raise UsageError(" ".join(f"{place + ': ' if place else ''}{message}{given}".split())) from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}" if where else str(error)) from error


IS_PATH = "a path: relative ones count from the folder of the recipe"
"""Marks a parameter: `prompts: Annotated[str | None, IS_PATH] = Field(...)`; a list of paths may be marked as well."""


def with_paths(model: type[BaseModel], values: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return the values with every path among them changed."""

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return [changed(item) for item in value]
        return change(value) if isinstance(value, str) else value

    marked = _marked(model)
    return {key: changed(value) if key in marked else value for key, value in values.items()}


def paths_in(model: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """Return every path among the values."""
    found = [values[name] for name in _marked(model) if values.get(name)]
    return [path for value in found for path in (value if isinstance(value, list | tuple) else [value])]


def _marked(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if IS_PATH in field.metadata]


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys of the section at a location by walking the models' annotations."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            continue
        current = _section_in(field.annotation) or current
    return sorted(current.model_fields)


def _kinds_in(annotation: Any) -> set[Any]:
    """Return the types that an annotation names, those in its unions and lists as well, but not those of mappings."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType, list, tuple, Annotated):
        return set().union(*(_kinds_in(argument) for argument in get_args(annotation)))
    return {annotation if origin is None else origin}


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _section_in(argument))), None)
