"""What a terminal shows: within its width and height, what matters most first, curves and the way on the frontier."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from rich.cells import cell_len

import lingraft as lg
from lingraft.training.checkpoints import TrainPoint
from lingraft.training.development import DevPoint
from lingraft.watching.drawings import frontier, spark
from lingraft.watching.pieces import Filtered, WatchedPart, WatchedText, WatchedTraining
from lingraft.watching.states import WatchedRun
from lingraft.watching.terminal import fitting, text_of


def points(*losses: float) -> tuple[TrainPoint, ...]:
    return tuple(
        TrainPoint(step=n, loss=loss, tokens=100 * n, by_role={"translation": loss}, learning_rate=1e-4 * n)
        for n, loss in enumerate(losses, 1)
    )


DEV = (
    DevPoint(step=0, tokens=0, loss=3.0, chrf=20.0, kl=0.0),
    DevPoint(step=5, tokens=500, loss=2.0, chrf=24.0, kl=0.1),
    DevPoint(step=10, tokens=1000, loss=1.8, chrf=26.0, kl=0.4),
)
RUN = WatchedRun(
    folder=Path("/runs/long"),
    name="long",
    status="running",
    said="Process 7 works since 12:00:00",
    parts=(
        *(WatchedPart(title=f"train number-{n}", state="done", seconds=60.0) for n in range(9)),
        WatchedPart(
            title="train a-system-with-a-very-long-name-indeed",
            state="running",
            seconds=9.0,
            left=99.0,
            detail="词" * 60,
            share=0.5,
        ),
        *(WatchedPart(title=f"ask number-{n}", state="to come", left=3600.0) for n in range(20)),
    ),
    seconds=4000.0,
    left=7200.0,
    trainings=(WatchedTraining(name="radis", points=points(*(3 / n for n in range(1, 300))), dev=DEV, running=True),),
    rationale=WatchedText(title="rationale", of="synthesis-radis", id="train-1", pieces=(("", "The word " * 99),)),
    chain=WatchedText(
        title="chain", of="decode-th", id="x", pieces=(("asked, in English", "Why?"), ("answer", "เพราะ" * 50))
    ),
    filtered=tuple(Filtered(f"/data/{n}/" + "deep/" * 30, f"reason {n}", n) for n in range(1, 7)),
)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = text_of(RUN.blocks(width), width).splitlines()
    assert max(cell_len(line) for line in lines) <= width


def test_parts_far_from_what_goes_on_are_counted() -> None:
    text = str(RUN)
    assert "✓ 5 more done in 5 min" in text
    assert "· 12 more to come, about 12.0 h" in text
    assert "▶ train a-system-with-a-very-l" in text
    assert "1.1 h so far, about 2.0 h to go." in text
    assert "Rows filtered so far: 21" in text
    assert "Last rationale (synthesis-radis, train-1)" in text
    assert "asked, in English: Why?" in text


def test_a_low_terminal_shows_what_matters_most() -> None:
    blocks = RUN.blocks(80)
    shown = fitting(blocks, 80, 24)
    text = text_of([shown])
    assert len(text.splitlines()) <= 24
    assert text.startswith("long  /runs/long")
    assert "▶ train a-system" in text
    assert fitting(blocks, 80, 3)[: len(blocks[0])] == blocks[0]


def test_curves_are_bars_from_the_lowest_to_the_highest() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], 80) == "▁▂▃▄▅▆▇█"
    assert spark([1.0, 1.0], 80) == "▁▁"
    assert spark([math.nan, 1.0, math.inf, 2.0], 80) == " ▁ █"
    assert spark([math.nan], 80) == " "
    assert spark([], 80) == ""
    assert spark(list(range(1000)), 4) == "▁▃▆█"


def test_the_point_moves_on_the_frontier() -> None:
    before = WatchedTraining(name="radis", points=points(3.0), dev=DEV[:2], running=True)
    lines = [line.plain for line in frontier([before], 60, 5)]
    assert lines[4].rstrip().endswith("●")  # most gained, most diverged so far
    assert lines[0].startswith("0.000 │·")
    assert "● radis now at step 5, chrF +4.0, KL 0.100 nats/token" in lines[-1]
    after = WatchedTraining(name="radis", points=points(3.0), dev=DEV, kept=5)
    lines = [line.plain for line in frontier([after], 60, 5)]
    assert "◆" in lines[1]
    assert lines[4].rstrip().endswith("·")
    assert "◆ radis kept: step 5, chrF +4.0, KL 0.100 nats/token" in lines[-1]
    assert frontier([WatchedTraining(name="radis", points=points(3.0), dev=DEV[:1])], 60, 5) == []


def test_strangers_words_are_only_words() -> None:
    bad = "\x1b[31m\x07\u202e[bold]"
    part = WatchedPart(title=bad, state="running", detail=bad)
    run = WatchedRun(
        folder=Path("/runs") / bad,
        name=bad,
        status="failed",
        said=bad,
        parts=(part,),
        trainings=(WatchedTraining(name=bad, points=points(1.0, math.nan), dev=DEV),),
        rationale=WatchedText(title="rationale", of=bad, id=bad, pieces=(("", bad),)),
        filtered=(Filtered(bad, bad, 1),),
        notes=(bad,),
        results=(bad,),
    )
    text = str(run)
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert text.count("[bold]") >= 9  # no markup


def test_a_real_run_fits_eighty_columns(shots: Path) -> None:
    for name in ("train-radis", "finished"):
        lines = str(lg.watch(shots / name)).splitlines()
        folder = str(shots / name)
        assert max(cell_len(line) for line in lines if folder not in line) <= 80
