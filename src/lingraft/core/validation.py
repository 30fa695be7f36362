"""Checking values against a pydantic model with one sentence for the first problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from lingraft.core.errors import LingraftError, UsageError, suggestion

HUB_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*"
"""A repository of the hub: who owns it, and its name."""
LARGEST, SMALLEST = 1e15, 1e-15
"""What numbers of settings lie between: further out, estimates overflow, and nothing is trained or measured so."""


Needs = Mapping[str, tuple[str, Callable[[Any], bool]]]
"""Key -> what it is of, in words ("`targets: soft`"), and whether some settings have that."""


class Settings(BaseModel):
    """Base of all that a user sets: no unknown key, none that would do nothing, and every number is one, finite and
    within reason.

    It is a value: what changes it makes another, by `model_copy`.

    Attributes:
        needs: keys that do something only beside others: with another value than their default they are refused where
            these are not so. Those of all base classes hold.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)
    needs: ClassVar[Needs] = {}

    @model_validator(mode="after")
    def _none_idle(self) -> Self:
        for kind in type(self).__mro__:
            for key, (words, has) in kind.__dict__.get("needs", {}).items():
                default = type(self).model_fields[key].get_default(call_default_factory=True)
                if getattr(self, key) != default and not has(self):
                    raise ValueError(f"`{key}` does nothing without {words}; add that, or leave `{key}` out")
        return self

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `true` for 1, which it is to Python: `limit: yes` would quietly use one row."""
        kinds = _kinds_in(cls.model_fields[str(info.field_name)].annotation)
        if any(isinstance(item, bool) for item in _items(value)) and kinds & {int, float} and not kinds & {bool, Any}:
            raise ValueError("true and false (yes, no, on and off) are no numbers; give a number, or drop the key")
        return value

    @field_validator("*")
    @classmethod
    def _within_reason(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Mapping) and Any in _kinds_in(cls.model_fields[str(info.field_name)].annotation):
            return value  # its own settings are checked when what they are of is known
        for item in _items(value):
            if isinstance(item, int | float) and not isinstance(item, bool) and item:
                if abs(item) > LARGEST:
                    raise ValueError(f"a number of this size is out of reach; give one up to {LARGEST:g}")
                if abs(item) < SMALLEST:
                    raise ValueError(f"a number this close to zero is out of reach; give 0, or {SMALLEST:g} and more")
        return value


def _items(value: Any) -> Iterable[Any]:
    """Return what a value holds, or itself."""
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else [value]


def validated(model: type[BaseModel], values: Mapping[str, Any], where: str, beside: Iterable[str] = ()) -> Any:
    """Validate; the first problem becomes one sentence with its key and, for an unknown key, the nearest known one.

    Args:
        model: what the values must fit.
        values: of YAML or JSON.
        where: dotted key of the values, put before those in messages; "" for none.
        beside: further keys that may stand where `values` do, which another model knows.

    Raises:
        UsageError: the values do not fit; its `key` is the dotted key.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problem, allowed = _first_problem(model, error.errors())
        keys, _ = _keys(model, problem["loc"])
        place = ".".join([*([where] if where else []), *map(str, keys)])
        if problem["type"] == "extra_forbidden":
            known = [*_known_keys(model, problem["loc"][:-1]), *(beside if len(problem["loc"]) == 1 else ())]
            unknown = suggestion(str(problem["loc"][-1]), known)
            raise UsageError.at(place, f"unknown key {place!r}{unknown}") from error
        if problem["type"] == "missing":
            raise UsageError.at(place, f"the key {place!r} is missing") from error
        cause = (problem.get("ctx") or {}).get("error")
        message = str(cause) if isinstance(cause, LingraftError | ValueError) else allowed
        given = _given(problem.get("input")) if cause is None else ""
        said = " ".join(f"{place + ': ' if place else ''}{message}{given}".split())
        raise UsageError.at(place or getattr(cause, "key", ""), said) from error
    except UsageError as error:
        key = ".".join(part for part in (where, error.key) if part)
        raise UsageError.at(key, f"{where}: {error}" if where else str(error)) from error


_INPUT = "Input should be "
_WORDS = {"model_type": "a valid mapping", "dict_type": "a valid mapping", "tuple_type": "a valid list"}
"""What pydantic says in the words of Python, in those of YAML."""


def _first_problem(model: type[BaseModel], problems: Sequence[Any]) -> tuple[Any, str]:
    """Return the first problem and what is said of it.

    Of a value that may be of several types, it is the one within the type that the value has, if it has one; else all
    that is allowed is said.
    """
    first = problems[0]
    _, union = _keys(model, first["loc"])
    if union is None:
        return first, _message(first)
    of_value = [one for one in problems if one["loc"][:union] == first["loc"][:union]]
    within = next((one for one in of_value if len(one["loc"]) > union + 1 or one["type"] == "value_error"), None)
    if within is not None:
        return within, _message(within)
    allowed = dict.fromkeys(_message(one).removeprefix(_INPUT).partition(", unable to parse")[0] for one in of_value)
    return first, _INPUT + ", or ".join(allowed)


def _message(problem: Any) -> str:
    words = _WORDS.get(problem["type"])
    return f"{_INPUT}{words}" if words else str(problem["msg"])


def _given(value: Any) -> str:
    """Return a plain value as it may be shown behind a message, as YAML writes it."""
    if isinstance(value, bool):
        words = "yes and on" if value else "no and off"
        return f" (given: {str(value).lower()}, as YAML also reads {words} without quotes)"
    if value is None:
        return " (given: null)"
    number = isinstance(value, int) and value.bit_length() < 200  # Python refuses to write very long ones out
    return f" (given: {value!r:.80})" if number or isinstance(value, str | float) else ""


def _keys(model: type[BaseModel], location: Sequence[int | str]) -> tuple[list[int | str], int | None]:
    """Return the keys of a pydantic location, which also names the branches of unions, and where its first branch is.

    Keys and branches cannot be told apart by themselves: a key may be called anything. The annotations tell.
    """
    node: Any = model
    keys: list[int | str] = []
    union = None
    for index, part in enumerate(location):
        branches = _branches(node)
        if len(branches) > 1 and isinstance(part, str):
            union = index if union is None else union
            node = next((one for one in branches if _kind_name(one) in part), Any)
        else:
            keys.append(part)
            node = _inside(branches[0], part)
    return keys, union


def _branches(annotation: Any) -> list[Any]:
    """Return the types that a value may have, null left out."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _branches(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [one for one in get_args(annotation) if one is not type(None)]
    return [annotation]


def _kind_name(annotation: Any) -> str:
    """Return what pydantic's name of a branch holds: `EngineChoice`, `literal['graft']`, `list[int]`."""
    bare = _branches(annotation)[0]
    kind = get_origin(bare) or bare
    return "literal" if kind is Literal else str(getattr(kind, "__name__", kind))


def _inside(annotation: Any, part: int | str) -> Any:
    """Return the type of what stands under a key or index of a value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        field = fields.get(str(part)) or next((one for one in fields.values() if one.alias == part), None)
        return field.annotation if field else Any
    arguments = get_args(annotation)
    if get_origin(annotation) in (list, tuple):
        return arguments[0] if arguments else Any
    return arguments[-1] if arguments else Any


def also(*forms: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return what adds forms to a field's JSON Schema that a validator takes beside those of its annotation.

    Given as the `json_schema_extra` of the field.
    """

    def extend(schema: dict[str, Any]) -> None:
        own = {key: schema.pop(key) for key in list(schema) if key not in ("title", "description", "default")}
        schema["anyOf"] = [own, *forms]

    return extend


HOLDS_ENGINE: dict[str, Any] = {"holds": "engine"}
"""`json_schema_extra` of a parameter that is an engine, as under `engine:` of a recipe."""

HOLDS_METRIC: dict[str, Any] = {"holds": "metric"}
"""`json_schema_extra` of a parameter that is a translation metric: its name, or its `kind` with parameters."""


@contextmanager
def as_value_error() -> Iterator[None]:
    """Within a validator, have pydantic add the place to what a check refuses: it lets other errors through."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error


IS_PATH = "a path: relative ones count from the folder of the recipe"
"""Marks a parameter: `prompts: Annotated[str | None, IS_PATH] = Field(...)`; a list of paths may be marked as well."""


def with_paths(model: type[BaseModel], values: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return the values with every path among them changed.

    Args:
        model: whose fields say which values are paths.
        values: of such a model.
        change: from a path to another.
    """

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


def holding(model: type[BaseModel], what: Mapping[str, Any]) -> list[str]:
    """Return the parameters of a model that hold an engine (`HOLDS_ENGINE`) or a metric (`HOLDS_METRIC`)."""

    def says(extra: Any) -> bool:
        return isinstance(extra, Mapping) and what.items() <= extra.items()

    return [name for name, field in model.model_fields.items() if says(field.json_schema_extra)]


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
    """Return the types that an annotation names, those in its unions and lists and of values in mappings as well."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return _kinds_in(arguments[-1])
    if origin in (Union, UnionType, list, tuple, Annotated):
        return set().union(*(_kinds_in(argument) for argument in arguments))
    return {annotation if origin is None else origin}


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for argument in get_args(annotation) if (found := _section_in(argument))), None)


Positive = Annotated[int, Field(gt=0)]
