"""Programming problems with tests, as HumanEval and HumanEval-X publish them: one row a problem of one language.

{"task_id", "prompt", "canonical_solution", "test", "entry_point"} (HumanEval, arXiv 2107.03374: the test is a function
`check(candidate)`) or the same with "declaration" and without "entry_point" (HumanEval-X, arXiv 2303.17568: the test
calls what it tests; "Python/0", "CPP/0", "Java/0" and "JavaScript/0" are one problem).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.code_languages import NAMES
from lingraft.core.errors import DataError, UsageError
from lingraft.core.record import Record
from lingraft.data.files import RawRows, locate
from lingraft.data.formats import json_rows, jsonl_rows
from lingraft.data.hub import hub_rows, parquet_rows
from lingraft.data.records import Pair, Rejected
from lingraft.language.programs import defined_last

_FORMATS = {"jsonl": jsonl_rows, "json": json_rows, "parquet": parquet_rows}
_PREFIXES = {"python": "python", "cpp": "cpp", "java": "java", "javascript": "javascript", "js": "javascript"}
_NEEDED = ("task_id", "prompt", "canonical_solution", "test")


@dataclass(frozen=True)
class CodeProblem(Record):
    """A problem in one programming language.

    Attributes:
        id: as published, such as "HumanEval/0" or "Java/0".
        language: `python`, `java`, `cpp` or `javascript`.
        prompt: beginning of the program, up to the function's body: imports, description, declaration.
        solution: the rest of it, as its authors wrote it.
        test: what is put behind the program; it fails where the program is wrong.
        entry_point: name of the function.
        declaration: imports and declaration, without the description.
    """

    id: str
    language: str
    prompt: str
    solution: str
    test: str
    entry_point: str
    declaration: str = ""

    @property
    def number(self) -> str:
        """What the same problem has in common in all languages."""
        return self.id.rpartition("/")[2]

    @property
    def program(self) -> str:
        """The program as its authors wrote it, without tests."""
        return (self.declaration or self.prompt) + self.solution


def read_code_problems(
    path: str, root: Path = Path(), split: str = "test", subset: str | None = None, revision: str | None = None
) -> dict[str, CodeProblem]:
    """Return the problems of a file by their ids.

    Args:
        path: JSON Lines, JSON, Parquet, or a data set of the hub, as `hub:org/name`.
        root: folder to which a relative path is relative.
        split: of a data set of the hub.
        subset: of a data set of the hub that has several.
        revision: of a data set of the hub; None for the newest.

    Raises:
        UsageError: the file is of another format.
        DataError: it is missing, empty or unreadable, or a row is no problem with tests.
    """
    place = locate(path, "auto", root)
    if place.format not in (*_FORMATS, "hub"):
        raise UsageError(
            f"{path}: problems with tests are read from {', '.join(_FORMATS)} and hub:org/name; save them as one of "
            f"these"
        )
    rows: RawRows = hub_rows(place, split, subset, revision) if place.format == "hub" else _FORMATS[place.format](place)
    found: dict[str, CodeProblem] = {}
    for row in rows:
        where = f"{place.shown}:{row.line}"
        if isinstance(row, Rejected):
            raise DataError(f"{where}: {row.reason} {row.detail}".rstrip() + "; mend or drop the row")
        problem = _problem(row.record, where)
        if problem.id in found:
            raise DataError(f"{where}: the problem {problem.id!r} is there twice; drop one of them")
        found[problem.id] = problem
    if not found:
        raise DataError(f"{place.shown} holds no problem; give a file with at least one")
    return found


def code_pairs(problems: Mapping[str, CodeProblem], source: str, target: str, shown: str) -> list[Pair]:
    """Return the problems that there are in two languages, as programs to translate with the tests of the target.

    Args:
        problems: of several languages; those with the same number are one problem.
        source: language of the program that is translated.
        target: language that it is translated into.
        shown: name of the file, for messages.

    Raises:
        DataError: no problem is there in both languages.
    """
    targets = {one.number: one for one in problems.values() if one.language == target}
    found = [
        Pair(
            one.number,
            one.program,
            targets[one.number].program,
            source,
            target,
            declaration=targets[one.number].declaration or targets[one.number].prompt,
            tests=targets[one.number].test,
        )
        for one in problems.values()
        if one.language == source and one.number in targets
    ]
    if not found:
        raise DataError(
            f"{shown} holds no problem both in {NAMES[source]} and in {NAMES[target]}; give the problems of both "
            f"languages in one file, as HumanEval-X numbers them"
        )
    return found


def _problem(values: Mapping[str, Any], where: str) -> CodeProblem:
    texts = {name: values.get(name) for name in (*_NEEDED, "declaration", "entry_point")}
    lacking = [name for name in _NEEDED if not isinstance(texts[name], str) or not str(texts[name]).strip()]
    if lacking:
        raise DataError(f"{where}: there is no text under {lacking[0]!r}; a problem has {', '.join(_NEEDED)}")
    id_, prompt = str(texts["task_id"]), str(texts["prompt"])
    prefix = re.split(r"[/_-]", id_)[0].lower()
    language = _PREFIXES.get(prefix, "python")
    declaration = str(texts["declaration"] or "")
    entry_point = str(texts["entry_point"] or "") or defined_last(declaration or prompt, language)
    if not re.fullmatch(r"[^\W\d][\w$]*", entry_point):
        raise DataError(f"{where}: {id_!r} declares no function of {NAMES[language]}; name it under 'entry_point'")
    solution, test = str(texts["canonical_solution"]), str(texts["test"])
    return CodeProblem(id_, language, prompt, solution, test, entry_point, declaration)
