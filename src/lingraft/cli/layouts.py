"""How files of pairs that a command names are laid out: options that say what a recipe says under `pairs:`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from lingraft.core.errors import UsageError, suggestion

LANGUAGES = {"source": "--from", "target": "--to"}
RUN_CODE = {"run_code": "--param run_code="}
CHECK_OPTIONS = {
    **LANGUAGES,
    "fields": "--fields",
    "format": "--format",
    "target_path": "--target",
    "inline_codes": "--inline-codes",
    "max_rejected_share": "--max-rejected-share",
    "rejected": "--rejected",
}
"""Settings of a recipe as options of `check` (see `lingraft.core.errors.options`)."""

_LIMITS = {"max_rejected_share": "--set checks.max_rejected_share="}
TUNE_OPTIONS = {
    **LANGUAGES,
    **_LIMITS,
    "fields": "--fields/--test-fields",
    "format": "--format/--test-format",
    "target_path": "--target/--test-target",
    "inline_codes": "--set pairs.train.0.inline_codes=",
    "prompts.fields": "--set prompts.fields=",
    "prompts.format": "--set prompts.format=",
}
EVALUATE_OPTIONS = {
    **LANGUAGES,
    **_LIMITS,
    "fields": "--fields",
    "format": "--format",
    "target_path": "--target",
    "inline_codes": "--set pairs.test.0.inline_codes=",
    "prompts.fields": "--set prompts.fields=",
    "prompts.format": "--set prompts.format=",
}


def of_prompts(names: Mapping[str, str], files: Sequence[str] | None) -> Mapping[str, str]:
    """Return settings as options where so many files of prompts are given: of several each has a number."""
    if len(files or ()) < 2:
        return names
    return {key: name.replace("prompts.", "prompts.N.") for key, name in names.items()}


@dataclass(frozen=True)
class FileLayout:
    """How files are laid out, as options say it.

    Attributes:
        fields: which column holds what, each "source=src", or several with commas between.
        format: of the files.
        aligned: the second file of each, for text files.
        inline_codes: of TMX files.
        prefix: of the options' names, for messages ("--test-" for those of test sets).
    """

    fields: Sequence[str] = ()
    format: str = "auto"
    aligned: Sequence[str] = ()
    inline_codes: str = "drop"
    prefix: str = "--"

    def entries(self, paths: Sequence[str], source: str, target: str) -> list[dict[str, Any]]:
        """Return what a recipe would say of files.

        Args:
            paths: of the files.
            source: language code of the source sides.
            target: language code of the target sides.

        Raises:
            UsageError: an option that says nothing known, or another number of aligned files than of files.
        """
        from lingraft.data.inline_codes import Codes
        from lingraft.data.readers import PairSource

        formats: tuple[str, ...] = get_args(PairSource.model_fields["format"].annotation)
        if self.format not in formats:
            raise UsageError(f"{self.prefix}format: unknown format {self.format!r}{suggestion(self.format, formats)}")
        if self.inline_codes not in (codes := get_args(Codes)):
            raise UsageError(f"{self.prefix}inline-codes: {self.inline_codes!r} is none of {', '.join(codes)}")
        if not paths:
            self.refuse_alone()
        if self.aligned and len(self.aligned) != len(paths):
            times, files = len(self.aligned), len(paths)
            raise UsageError(
                f"{self.prefix}target is given {'once' if times == 1 else f'{times} times'} for {files} "
                f"file{'' if files == 1 else 's'}; give the other file of each, in the same order"
            )
        shared: dict[str, Any] = {"source": source, "target": target}
        if fields := self._fields():
            shared["fields"] = fields
        if self.format != "auto":
            shared["format"] = self.format
        if self.inline_codes != "drop":
            shared["inline_codes"] = self.inline_codes
        others = [{"target_path": path} for path in self.aligned] or [{}] * len(paths)
        return [{"path": path, **shared, **other} for path, other in zip(paths, others, strict=True)]

    def refuse_alone(self) -> None:
        """Refuse options that say how test files are laid out where there are none.

        Raises:
            UsageError: one is given.
        """
        given = {"fields": bool(self.fields), "format": self.format != "auto", "target": bool(self.aligned)}
        if alone := [f"{self.prefix}{name}" for name, found in given.items() if found]:
            raise UsageError(f"{alone[0]} says how the files of --test are laid out, but there is no --test; give it")

    def _fields(self) -> dict[str, str]:
        from lingraft.data.readers import PAIR_FIELDS

        found: dict[str, str] = {}
        names = "|".join(sorted(PAIR_FIELDS))
        for text in self.fields:
            for part in re.split(rf",(?=(?:{names})=)", text):
                name, given, column = part.partition("=")
                if not given or not column or name not in PAIR_FIELDS:
                    raise UsageError(
                        f"{self.prefix}fields: {part!r} is not FIELD=COLUMN, such as source=src,target=tgt or, by "
                        f"number, source=2,target=4; fields are {', '.join(sorted(PAIR_FIELDS))}"
                    )
                found[name] = column
        return found
