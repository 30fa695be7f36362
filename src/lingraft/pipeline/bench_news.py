"""What is heard of the rows of a bench while they are run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class News:
    """What is heard of a row.

    Attributes:
        name: of the row.
        kind: "said": a line; "done": it is finished; "failed"; "lost": its process ended, by whatever cause.
        value: the arguments of `Board.told`; what was chosen for the row; the error; what the process last said.
    """

    name: str
    kind: Literal["said", "done", "failed", "lost"]
    value: Any = None
