"""What the systems of a contamination probe are called."""

from __future__ import annotations

PROBES = ("probe-right", "probe-wrong")
"""Behind the slash: shown right translations, and those of other texts."""


def is_probe(system: str) -> bool:
    """Whether a system is one of a contamination probe."""
    _, slash, name = system.rpartition("/")
    return bool(slash) and name in PROBES
