"""Which systems of a run are trainings of one, with other seeds."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.evaluation.scorecard import System


def trainings_of(systems: Sequence[System]) -> list[list[System]]:
    """Return systems grouped by what they are trainings of: further seeds stand with the first."""
    groups: dict[str, list[System]] = {}
    for system in systems:
        plain = not (system.scale is not None or system.stage or system.weights or system.decoder or system.swept)
        again = plain and system.group in groups and system.seed is not None
        groups.setdefault(str(system.group) if again else system.name, []).append(system)
    return list(groups.values())
