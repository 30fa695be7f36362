"""Programs that run together for as long as somebody waits, and no longer than they may in all."""

from __future__ import annotations

import pytest

from lingraft.core import sandbox
from lingraft.core.allowance import Allowance, OutOfTimeError, allowing, current_allowance
from lingraft.core.sandbox import Ending, Step, python, python_world

HERE = sandbox.refusal()
shut_in = pytest.mark.skipif(bool(HERE), reason=HERE)
ENDLESS = "import time\nwhile True: time.sleep(1)"


class Gone(Exception):
    """Nobody waits."""


def ran(code: str) -> list[Ending]:
    return sandbox.run({"x.py": code}, [Step((python(), "-I", "-S", "-B", "x.py"))], python_world())


@shut_in
def test_a_program_ends_when_nobody_waits_any_more() -> None:
    looks = 0

    def asked() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise Gone

    with allowing(Allowance(seconds=60, asked=asked)), pytest.raises(Gone):
        ran(ENDLESS)
    assert looks == 3


@shut_in
def test_all_programs_together_have_so_many_seconds() -> None:
    allowance = Allowance(seconds=0.5, asked=lambda: None)
    with allowing(allowance):
        with pytest.raises(OutOfTimeError, match=r"have run for 0\.5 s together"):
            ran(ENDLESS)
        assert allowance.spent > 0.5
        with pytest.raises(OutOfTimeError):
            ran("print(1)")
    assert current_allowance() is None
    assert ran("print(2)")[0].stdout == "2\n"
