"""What every declared source has: path, columns, split, name; and how its languages and columns are checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, field_validator, model_validator

from lingraft.core.code_languages import NAMES
from lingraft.core.validation import Settings, as_value_error
from lingraft.data.files import stem
from lingraft.language.codes import language


def known_language(code: str) -> str:
    """Return a language code in its usual form; a `ValueError` says that it is none."""
    with as_value_error():
        return language(code)


def human_or_not(code: str) -> str:
    """Return the code of a language, or of a programming language."""
    return code if code in NAMES else known_language(code)


def numbers_as_names(fields: Any) -> Any:
    """Return what a user wrote under `fields`, in which a column may be a number, with the numbers as texts."""
    if not isinstance(fields, Mapping):
        return fields
    return {key: str(column) if type(column) is int else column for key, column in fields.items()}


class DeclaredSource(Settings):
    """Where rows come from: what each kind of source has; languages and the names of fields are its own.

    Attributes:
        fields_key: how messages know the key that names columns (see `errors.setting`); empty where whoever named the
            file has no such key, so that none is advised.
        format_key: the same of the file's format.
    """

    model_config = ConfigDict(frozen=True)

    fields_key: ClassVar[str] = "fields"
    format_key: ClassVar[str] = "format"

    path: str = Field(
        min_length=1,
        description="File, folder of `datasets.save_to_disk`, `starter:file` (shipped), `hub:org/name`, "
        "`opus:TED2020` or `mtdata:ID` for a corpus of pairs, or `sacrebleu:wmt22` for a test set of sacreBLEU; "
        "relative to the recipe.",
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        description="Which column holds what, e.g. {source: src, target: tgt, id: key}; in tables without a header by "
        "number, e.g. {source: 2, target: 4}.",
        json_schema_extra={"additionalProperties": {"type": ["string", "integer"]}},
    )
    limit: int | None = Field(default=None, ge=1, description="Use the first N accepted rows; all by default.")
    split: str = Field(default="train", description="Split of a data set folder or a hub data set.")
    subset: str | None = Field(default=None, description="Subset (configuration) of a hub data set.")
    revision: str | None = Field(default=None, description="Revision of a hub data set.")
    name: str = Field(default="", description="Name in ids and reports; by default the file's name without suffix.")

    @field_validator("source", "target", "lang", mode="before", check_fields=False)
    @classmethod
    def _quoted(cls, code: Any) -> Any:
        if isinstance(code, bool):
            word = "no" if code is False else "yes"
            raise ValueError(f"YAML reads {word} without quotes as {str(code).lower()}; write '{word}' in quotes")
        return code

    @field_validator("fields", mode="before")
    @classmethod
    def _numbers(cls, fields: Any) -> Any:
        return numbers_as_names(fields)

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("path"), str) and values.get("name", "") == "":
            return {**values, "name": stem(values["path"])}
        return values


def check_fields(fields: Mapping[str, str], known: set[str]) -> None:
    """Refuse columns of fields that are not known, or one column for both sides, with a `ValueError`."""
    unknown = sorted(set(fields) - known)
    if unknown:
        raise ValueError(f"fields: unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if "source" in fields and fields["source"] == fields.get("target"):
        raise ValueError(f"fields: source and target are both column {fields['source']!r}; a pair has two")
