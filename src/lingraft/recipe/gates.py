"""Checks of a recipe's gates: what no scorecard of it will have is told when the recipe is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError, suggestion
from lingraft.evaluation.gate import GAIN_OVER, SUMMARY_NAMES, parse_gate
from lingraft.recipe.decoders import all_weights, decoded_systems
from lingraft.recipe.evaluation import TRANSLATE_TEST

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe


def check_gate_systems(recipe: Recipe) -> None:
    """Refuse gates on the summary of a system, or on the gain over one, that the recipe does not measure.

    Other names may hold colons of their own, and are looked up in the scorecard.

    Raises:
        UsageError: there is no such system, or a system is compared with itself.
    """
    known = [
        *all_weights(recipe),
        *(one.name for one in decoded_systems(recipe)),
        *(one.name for one in recipe.routed_systems()),
        *recipe.given_systems(),
        *([TRANSLATE_TEST] if recipe.evaluate.translate_test else []),
    ]
    for number, text in enumerate(recipe.evaluate.gate):
        where = f"evaluate.gate.{number}"
        before, over, other = parse_gate(text).subject.partition(GAIN_OVER)
        over = over if not before or before.rstrip().endswith(":") else ""
        system, colon, name = before.rpartition(":") if over else (before + other).rpartition(":")
        if not over and name.strip() not in SUMMARY_NAMES:
            continue
        for wanted in ([system.strip()] if colon else []) + ([other.strip()] if over else []):
            if wanted not in known:
                raise UsageError.at(
                    where,
                    f"{where}: gate {text!r}: nothing that is measured is called {wanted!r}"
                    f"{suggestion(wanted, known)}; there are {', '.join(known)}",
                )
        about = [system.strip()] if colon else recipe.headliners
        if over and other.strip() in about:
            raise UsageError.at(
                where, f"{where}: gate {text!r} sets {other.strip()!r} against itself; name another system behind vs_"
            )
        if over and other.strip() == "base":
            raise UsageError.at(where, f"{where}: gate {text!r}: the gain is over the base; write `gain` alone")
