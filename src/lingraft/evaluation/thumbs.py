"""Ratings that the page of `lingraft serve --page` saved: comparisons of answers that stood side by side.

Unlike the sheet of a run each file says itself what was compared; raters share those items of which they saw the same
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lingraft.core.errors import DataError
from lingraft.core.hashing import content_hash
from lingraft.data.files import open_file
from lingraft.evaluation.sheet import RATINGS, Filled, Key

MAX_BYTES = 50_000_000
_BASE = "base"


class Comparison(BaseModel):
    """Two answers, and which of them is better. `blind`: the rater was not told who wrote which."""

    model_config = ConfigDict(extra="forbid", strict=True)
    task: str = Field(max_length=1000)
    source: str
    left: str = Field(min_length=1, max_length=1000)
    right: str = Field(min_length=1, max_length=1000)
    a: str
    b: str
    blind: bool = False
    rating: Literal["AA", "A", "tie", "B", "BB"]

    @property
    def alike(self) -> bool:
        """Whether both wrote the same, which needs no rating."""
        return self.a.split() == self.b.split()

    def turned(self) -> tuple[str, tuple[str, str], int]:
        """Return the item's name, its systems in the order of their names, and the place on the scale between them."""
        sides = sorted([(self.left, self.a), (self.right, self.b)])
        value = RATINGS[self.rating.upper()]
        name = content_hash([self.task, self.source, sides])[:16]
        return name, (sides[0][0], sides[1][0]), value if sides[0] == (self.left, self.a) else -value


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    schema_: Literal["lingraft.ratings/1"] = Field(alias="schema")
    rater: str = Field(max_length=1000)
    ratings: list[Comparison] = Field(min_length=1)


def read_thumbs(paths: Sequence[Path]) -> tuple[Key, list[Filled]]:
    """Return the files of several raters as one sheet and its fillings.

    Args:
        paths: one a rater; a rater whose name is empty has the file's.

    Raises:
        DataError: a file cannot be read or used; the sentence names the rating.
    """
    sides: dict[str, tuple[str, str]] = {}
    alike: dict[str, tuple[str, str]] = {}
    systems: dict[str, None] = {}
    filled = []
    for path in paths:
        read = _read(path)
        ratings: dict[str, int] = {}
        first: dict[str, int] = {}
        for number, one in enumerate(read.ratings, start=1):
            if one.left == one.right:
                raise DataError(f"{path}, rating {number}: both answers are by {one.left!r}; a comparison is of two")
            systems |= dict.fromkeys((one.left, one.right))
            name, pair, value = one.turned()
            if name in first:
                raise DataError(
                    f"{path}, rating {number}: these two answers were rated before, as rating {first[name]}; keep one"
                )
            first[name] = number
            if one.alike:
                alike[name] = pair
            else:
                sides[name], ratings[name] = pair, value
        filled.append(Filled(read.rater.strip() or path.stem, str(path), ratings))
    order = sorted(systems, key=lambda name: name != _BASE)  # it is what the others are compared with
    same = {
        (one, other): sum({*pair} == {one, other} for pair in alike.values()) for one, other in combinations(order, 2)
    }
    return Key(content_hash(sorted([*sides, *alike]))[:6], tuple(order), sides, same), filled


def _read(path: Path) -> _File:
    remedy = "save the ratings from the page again"
    try:
        with open_file(path, str(path)) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {remedy}") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES // 1_000_000} MB; is it what the page saved?")
    try:
        return _File.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part + 1 if isinstance(part, int) else part) for part in problem["loc"])
        raise DataError(
            f"{path} is not what the page of `lingraft serve --page` saves ({place or 'JSON'}: {problem['msg']}); "
            f"{remedy}"
        ) from error
