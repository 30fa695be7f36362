"""What whoever writes a recipe has to allow in it by a parameter, beside what whoever starts it is asked."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from lingraft.core.errors import setting
from lingraft.core.validation import Settings


class RunsPrograms(Settings):
    """Parameters of what runs programs that models write: `run_code` has to be set to true."""

    run_code: bool = Field(
        default=False,
        description="must be true: programs that the systems write are run, in a sandbox (docs/sandbox.md)",
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        if not self.run_code:
            allowed = setting("run_code", "true").strip("`")
            raise ValueError(f"it runs programs that the systems write; allow that with {allowed}")
        return self
