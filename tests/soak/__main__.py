"""Soak: a whole run, disturbed in every way that a machine disturbs it, must end like an undisturbed one.

    python tests/soak [--kills 50] [--each 2] [--seed 1] [--only kills ...] [--bench-kills 12] [--work FOLDER]

Kills (SIGKILL) at random moments of every stage with the same command given again; flipped bits and cut files between
two starts; SIGINT and SIGTERM; two runs at once; a full and a read-only disk; jumps of the clock; a bench in two
processes, killed with its workers or without. Ends with a table and exit code 0, or at the first deviation with its
place.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "support")]

from essence import VOLATILE, essence
from soak import benches, trials
from soak.subject import BETWEEN, finish, make_recipe

TRIALS = ("kills", "signals", "twins", "disk", "clock", "bench")


def main() -> None:
    """Parse the arguments and run the trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills in all, at least")
    parser.add_argument("--each", type=int, default=2, help="kills in each stage, at least")
    parser.add_argument("--bench-kills", type=int, default=12, help="kills of a bench in two processes, at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=TRIALS)
    parser.add_argument("--work", type=Path, help="keep everything in this folder; by default a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak(arguments.work or Path(folder), arguments)


def soak(work: Path, arguments: argparse.Namespace) -> None:
    """Run the chosen trials in a folder."""
    start = time.monotonic()
    # A shell starts jobs in the background with this signal ignored, which the runs would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def say(text: str) -> None:
        print(f"[{time.monotonic() - start:5.0f} s] {text}", flush=True)

    work.mkdir(parents=True, exist_ok=True)
    recipe = make_recipe(work)
    folder = work / "undisturbed"
    first = finish(recipe, folder)
    assert first.code == 0, first.err
    moments = [(stage, when) for stage, when in first.seen.items() if stage != BETWEEN]
    seconds = {stage: until - when for (stage, when), (_, until) in pairwise(moments)}
    common = trials.Soak(recipe, work, essence(folder), seconds, random.Random(arguments.seed), say)
    say(f"undisturbed run: {len(common.reference)} files; not compared: {', '.join(VOLATILE)}, dates, cost table")
    if "kills" in arguments.only:
        hits, damages = trials.kills(common, arguments.kills, arguments.each)
        print(f"\n{'stage':32}{'seconds':>8}{'kills':>7}")
        for stage in [BETWEEN, *seconds]:
            print(f"{stage:32}{seconds.get(stage, float('nan')):8.2f}{hits[stage]:7}")
        print(f"{'in all':40}{hits.total():7}\n\n{'damage between two starts':60}{'times':>7}")
        for kind, count in sorted(damages.items()):
            print(f"{kind:60}{count:7}")
        print()
    if "signals" in arguments.only:
        say(f"signals: {', '.join(trials.signals(common))}")
    if "twins" in arguments.only:
        say(f"two at once: {trials.two_at_once(common)}")
    if "disk" in arguments.only:
        say(f"disk: {trials.full_disk(common)}")
    if "clock" in arguments.only:
        say(f"clock: {trials.clock_jumps(common)}")
    if "bench" in arguments.only:
        hits = benches.bench_kills(common, arguments.bench_kills)
        say(f"bench: {', '.join(f'{count} while {rows}' for rows, count in sorted(hits.items()))}")
    say("all runs ended like the undisturbed one")


if __name__ == "__main__":
    main()
