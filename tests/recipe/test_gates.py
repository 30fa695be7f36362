"""Gates name systems that the recipe measures, or it is refused when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from recipes_support import MINIMAL


def recipe(*gates: str, **changes: Any) -> Recipe:
    evaluate = {**MINIMAL.get("evaluate", {}), **changes.pop("evaluate", {}), "gate": list(gates)}
    return parse_recipe({**MINIMAL, **changes, "evaluate": evaluate}, "test", Path("/"))


def test_systems_that_are_measured_may_be_named() -> None:
    own = recipe().headliners[0]
    gates = [
        "gain_vs_slow>=-0.5@one-sided",
        "slow:forgotten<=2",
        f"slow:gain_vs_{own}>=-1",
        f"gain_vs_{own}*0.5>=0",
        "sacrebleu:wmt22.chrf++>=30",
        "own:retention_min.score>=0",
    ]
    changes = {"compare": [{"name": "slow", "method": "vanilla"}], "evaluate": {"scales": [0.5]}}
    assert recipe(*gates, **changes).evaluate.gate == gates


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("gain_vs_slwo>=-0.5", "nothing that is measured is called 'slwo'; did you mean 'slow'?; there are base, slow"),
        ("slwo:retention_min>=99", "nothing that is measured is called 'slwo'"),
        ("slwo:gain_vs_slow>=0", "nothing that is measured is called 'slwo'"),
        ("slow:gain_vs_slow>=0", "sets 'slow' against itself; name another system"),
        ("gain_vs_base>=0", "the gain is over the base; write `gain` alone"),
        ("gain>=0@two-sided", "there is no @two-sided; write @one-sided"),
    ],
)
def test_others_are_refused_in_a_sentence(gate: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe("retention_min>=90", gate, compare=[{"name": "slow", "method": "vanilla"}])
    assert words in str(caught.value)
    assert "evaluate.gate" in str(caught.value)
