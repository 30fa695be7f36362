"""How a system was made, in few words: by its method, or of which others it was merged."""

from __future__ import annotations

from typing import Any

from lingraft.evaluation.scorecard import System


def made(system: System) -> str:
    """Return by what a system was made, with its tuner, seed and scale; "" for the base."""
    parts = [system.parts or made_by(system), system.tuner]
    parts += [f"seed {system.seed}"] if system.seed is not None else []
    parts += [f"scale {system.scale:g}"] if system.scale is not None else []
    parts += [f"decoder {system.decoder}"] if system.decoder else []
    return ", ".join(part for part in parts if part)


def made_by(system: System) -> str | None:
    """Return the method of a system; of a merged one its merger, what it was made of, and what its sweep gave it."""
    if not system.merged:
        return system.method
    swept = "".join(f", {key} {in_words(value)}" for key, value in system.swept.items())
    return f"{system.method} of {', '.join(system.merged)}{swept}"


def in_words(value: Any) -> str:
    """Return a value of a recipe in few words."""
    if isinstance(value, list | tuple):
        return "/".join(map(in_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
