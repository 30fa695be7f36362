"""`lingraft install`: what lives in an environment of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from lingraft import api


def install(
    name: Annotated[str, typer.Argument(help="What to install: comet.", autocompletion=lambda: ["comet"])],
) -> None:
    """Make an environment of its own, in the cache folder, for what cannot share Lingraft's."""
    api.install(name)
