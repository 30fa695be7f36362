"""`lingraft gate`: conditions on a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.options import Quiet


def gate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    gates: Annotated[
        list[str] | None,
        typer.Option("--gate", help="E.g. retention_min>=97; repeatable. Default: those of the run's recipe."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Check gates on a finished run; exit 1 when one does not hold. Nothing is computed.

    A gate goes by the end of the two-sided 95 % interval: NAME>=NUMBER by the lower, NAME<=NUMBER by the upper one;
    with @one-sided behind it by the one-sided 95 % bound. NAME is gain, gain_vs_SYSTEM, retention_mean, retention_min,
    forgotten, METRIC, SUITE.METRIC.retention, SUITE.forgotten, TEST_SET.METRIC.gain and the like.
    """
    check_gates(run, gates or [], quiet)


def check_gates(folder: Path, gates: Sequence[str], quiet: bool) -> None:
    """Say on standard error how each gate stands on a finished run; by default those of its recipe.

    Raises:
        UsageError: no gates, or no such names.
        StoreError: no finished run, or not as it was published.
        GateMissedError: one does not hold.
    """
    from lingraft.core.progress import Reporter
    from lingraft.evaluation.gate import enforce

    verdicts, reporter = api.check_gates(folder, gates), Reporter(quiet)
    for verdict in verdicts:
        reporter.say(verdict.line(), always=True)
    enforce(verdicts)
