"""`lingraft install`: what lives in an environment of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from lingraft import api
from lingraft.core.own_environments import OWN_ENVIRONMENTS

WHAT = "; ".join(f"{one.name} ({one.purpose})" for one in OWN_ENVIRONMENTS.values())


def install(
    name: Annotated[
        str, typer.Argument(help=f"What to install: {WHAT}.", autocompletion=lambda: list(OWN_ENVIRONMENTS))
    ],
) -> None:
    """Make an environment of its own, in the cache folder, for what cannot share Lingraft's."""
    api.install(name)
