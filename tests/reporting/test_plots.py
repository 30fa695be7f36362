"""Plots are checked by reading the SVG back: ticks give the scale, marks must lie where the data says."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from lingraft.reporting.drawing import label_text, style_of
from lingraft.reporting.plots import MAX_POINTS, FrontierPoint, LossCurve, frontier_svg, loss_svg, thinned

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [
    FrontierPoint("vanilla", 4.6, 53.0, (3.8, 5.4), (47.6, 58.2), 1),
    FrontierPoint("radis", 4.2, 88.0, (3.1, 5.3), (83.0, 93.5), 2),
]


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]


def scale(root: ElementTree.Element, axis: str) -> np.poly1d:
    """Return the map from drawing units to data, fitted to the labels of the ticks."""
    units, values = [], []
    for group in root.iter(f"{SVG}g"):
        if f"{axis}tick_" not in group.get("id", ""):
            continue
        line = next(iter(group.iter(f"{SVG}path"))).get("d", "")
        start = [float(number) for number in re.findall(r"-?[\d.]+", line)[:2]]
        units.append(start[0 if axis == "x" else 1])
        label = texts(group)[0].replace("−", "-")
        values.append(float(label.replace("k", "")) * (1000 if "k" in label else 1))
    assert len(units) >= 3
    return np.poly1d(np.polyfit(units, values, 1))


def marks(root: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(use.get("x", "")), float(use.get("y", ""))) for use in root.iter(f"{SVG}use")]


def lines(root: ElementTree.Element, colour: str) -> list[np.ndarray]:
    """Return the vertices of every unfilled path drawn in a colour variable."""
    found = []
    for path in root.iter(f"{SVG}path"):
        style = path.get("style", "")
        if f"stroke: var({colour}" in style and "fill: none" in style:
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d", ""))]
            found.append(np.array(numbers).reshape(-1, 2))
    return found


def test_frontier_marks_lie_at_their_data() -> None:
    root = ElementTree.fromstring(frontier_svg(POINTS, "chrF++"))
    x, y = scale(root, "x"), scale(root, "y")
    found = [(x(a), y(b)) for a, b in marks(root)]
    expected = [(4.6, 53.0), (4.2, 88.0), (0.0, 100.0)]
    assert np.allclose(sorted(found), sorted(expected), atol=0.02)


def test_frontier_bars_span_their_intervals() -> None:
    root = ElementTree.fromstring(frontier_svg(POINTS, "chrF++"))
    x, y = scale(root, "x"), scale(root, "y")
    for point in POINTS:
        ends = [[(x(a), y(b)) for a, b in line] for line in lines(root, f"--series-{point.series}")]
        horizontal = [(point.gain_ci95[0], point.retention), (point.gain_ci95[1], point.retention)]  # type: ignore[index]
        vertical = [(point.gain, bound) for bound in point.retention_ci95 or ()]
        for expected in (horizontal, vertical):
            assert any(np.allclose(sorted(line), sorted(expected), atol=0.05) for line in ends)


@pytest.mark.parametrize("points", [[], [FrontierPoint("x", float("nan"), 50.0)]])
def test_frontier_without_data_shows_the_base_alone(points: list[FrontierPoint]) -> None:
    root = ElementTree.fromstring(frontier_svg(points))
    assert len(marks(root)) == 1
    assert "base" in texts(root)
    assert "No trained system" in "".join(root.find(f"{SVG}desc").itertext())  # type: ignore[union-attr]


def test_frontier_labels_do_not_overlap_when_points_coincide() -> None:
    points = [FrontierPoint(f"system-{n}", 3.0, 80.0, (2.0, 4.0), (70.0, 90.0), n) for n in range(1, 5)]
    root = ElementTree.fromstring(frontier_svg(points))
    labels = [node for node in root.iter(f"{SVG}text") if "".join(node.itertext()).startswith("system-")]
    places = {(node.get("x"), node.get("y")) for node in labels}
    assert len(places) == 4


def test_in_a_crowd_the_labels_of_the_best_are_written_and_none_lies_on_another() -> None:
    crowd = [FrontierPoint(f"row-{n:02}", 3.0 + n / 100, 80.0 - n / 10, series=n, dominated=True) for n in range(1, 20)]
    best = FrontierPoint("winner", 3.5, 82.0, series=20)
    root = ElementTree.fromstring(frontier_svg([*crowd, best]))
    found = [text for text in texts(root) if text.startswith(("row-", "winner"))]
    assert "winner" in found
    assert 1 < len(found) < 12
    assert len(marks(root)) == 21
    assert all(one.system in "".join(root.find(f"{SVG}desc").itertext()) for one in crowd)  # type: ignore[union-attr]
    few = ElementTree.fromstring(frontier_svg(crowd[:8]))
    assert len([text for text in texts(few) if text.startswith("row-")]) == 8


def test_scales_and_seeds_are_joined_and_dominated_systems_are_pale() -> None:
    points = [
        FrontierPoint("a", 4.0, 80.0, series=1),
        FrontierPoint("a*0.25", 1.0, 98.0, series=1, group="a", scale=0.25),
        FrontierPoint("a*0.5", 2.0, 92.0, series=1, group="a", scale=0.5),
        FrontierPoint("a#2", 3.0, 75.0, series=1, group="a", dominated=True),
        FrontierPoint("b", 5.0, 60.0, series=2),
    ]
    root = ElementTree.fromstring(frontier_svg(points))
    x, y = scale(root, "x"), scale(root, "y")
    paths = sorted(([(x(a), y(b)) for a, b in line] for line in lines(root, "--series-1")), key=len)
    assert [len(path) for path in paths] == [2, 4]
    assert np.allclose(paths[0], [(4, 80), (3, 75)], atol=0.1)
    assert np.allclose(paths[1], [(0, 100), (1, 98), (2, 92), (4, 80)], atol=0.1)
    assert not lines(root, "--series-2")
    pale = [use for use in root.iter(f"{SVG}use") if "opacity: 0.35" in use.get("style", "")]
    assert [(round(x(float(use.get("x", ""))), 1)) for use in pale] == [3.0]


def test_the_systems_of_a_sweep_are_joined_in_their_order() -> None:
    points = [
        FrontierPoint("a", 4.0, 80.0, series=1),
        FrontierPoint("soup-0.9", 3.0, 85.0, series=2, group="soup", swept=True),
        FrontierPoint("soup-0.2", 1.0, 97.0, series=2, group="soup", swept=True),
        FrontierPoint("soup-0.5", 2.0, 90.0, series=2, group="soup", swept=True),
        FrontierPoint("alone-1", 3.5, 70.0, series=3, group="alone", swept=True),
    ]
    root = ElementTree.fromstring(frontier_svg(points))
    x, y = scale(root, "x"), scale(root, "y")
    (path,) = ([(x(a), y(b)) for a, b in line] for line in lines(root, "--series-2"))
    assert np.allclose(path, [(3, 85), (1, 97), (2, 90)], atol=0.1)
    assert not lines(root, "--series-1")
    assert not lines(root, "--series-3")  # the others of its sweep have no retention


def test_loss_curve_passes_through_the_points() -> None:
    tokens = [1000 * step for step in range(1, 61)]
    losses = [2.0 / step for step in range(1, 61)]
    root = ElementTree.fromstring(loss_svg([LossCurve("radis", tokens, losses, 2)]))
    x, y = scale(root, "x"), scale(root, "y")
    curve = max(lines(root, "--series-2"), key=len)
    drawn = np.stack([x(curve[:, 0]), y(curve[:, 1])], axis=1)
    assert np.allclose(drawn[[0, -1]], [(1000, 2.0), (60000, 2.0 / 60)], rtol=1e-3, atol=1e-2)
    assert np.allclose(np.interp(drawn[:, 0], tokens, losses), drawn[:, 1], atol=0.02)
    assert "radis" in texts(root)


def test_loss_gap_and_empty_input() -> None:
    assert "no finite losses" in texts(ElementTree.fromstring(loss_svg([])))
    assert "no finite losses" in texts(ElementTree.fromstring(loss_svg([LossCurve("x", [1, 2], [float("nan")] * 2)])))
    broken = loss_svg([LossCurve("x", [1, 2, 3, 4, 5], [3.0, 2.0, float("nan"), 1.5, 1.0], 1)])
    path = [
        p.get("d", "") for p in ElementTree.fromstring(broken).iter(f"{SVG}path") if "series-1" in p.get("style", "")
    ]
    assert max(d.count("M") for d in path) == 2


def test_thinned_keeps_means() -> None:
    rng = np.random.default_rng(3)
    losses = rng.normal(size=MAX_POINTS * 8)
    tokens = np.arange(len(losses)) * 10
    x, y = thinned(list(tokens), list(losses))
    assert len(x) == len(y) == MAX_POINTS
    assert y.mean() == pytest.approx(losses.mean())
    assert x.mean() == pytest.approx(tokens.mean())
    with pytest.raises(ValueError, match="3 token counts but 2 losses"):
        thinned([1, 2, 3], [1.0, 2.0])


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a & b $x^2$ _y_", "\x00\x1b[31m\ud800 red", "_hidden", "译 ไทย"]
)
def test_any_system_name_is_drawn_as_text(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frontier = ElementTree.fromstring(frontier_svg([FrontierPoint(name, 2.0, 90.0)]))
        loss = ElementTree.fromstring(loss_svg([LossCurve(name, [1, 2], [2.0, 1.0])]))
    for root in (frontier, loss):
        assert label_text(name) in texts(root)
        assert not list(root.iter(f"{SVG}script"))


def test_drawing_is_deterministic_themed_and_self_contained() -> None:
    svg = frontier_svg(POINTS, "chrF++")
    assert svg == frontier_svg(POINTS, "chrF++")
    # Every colour is a variable of the page with a fallback; the name spaces are the only addresses.
    assert not re.search(r"(?<!, )#[0-9a-f]{6}", svg)
    assert set(re.findall(r"https?://[^\"' ]+", svg)) == {"http://www.w3.org/2000/svg"}
    assert "<style" not in svg
    assert "DejaVu" not in svg


def test_two_drawings_share_no_ids() -> None:
    ids = [set(re.findall(r' id="([^"]+)"', frontier_svg(POINTS, name=name))) for name in ("wide", "narrow")]
    assert ids[0]
    assert not ids[0] & ids[1]
    references = re.findall(r'(?:url\(#|href="#)([^")]+)', frontier_svg(POINTS, name="wide"))
    assert references
    assert set(references) <= ids[0]


def test_styles_belong_to_positions_and_only_the_base_is_grey() -> None:
    assert style_of(0) == 0
    assert [style_of(n) for n in range(1, 12)] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1]


@pytest.mark.parametrize("names", [["radis", "vanilla"], ["a system with a long name " + str(n) for n in range(6)]])
def test_the_legend_of_losses_stands_above_all_lines(names: list[str]) -> None:
    """Losses that stay high to the right, where a legend within the axes would lie on them."""
    svg = ElementTree.fromstring(loss_svg([LossCurve(name, [0, 500, 1000], [1.0, 4.0, 4.0]) for name in names]))
    labels = [text for text in svg.iter() if text.tag.endswith("text") and (text.text or "") in names]
    assert len(labels) == len(names)
    lowest = max(float(re.findall(r"[-\d.]+", text.get("transform", ""))[-1]) for text in labels)
    assert lowest > 0
    lines = [
        path.get("d", "")
        for path in svg.iter()
        if path.tag.endswith("path") and "stroke-width: 1.7" in path.get("style", "")
    ]
    assert len(lines) >= len(names)
    drawn = [[float(y) for _, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", line)] for line in lines]
    assert min(y for ys in drawn for y in ys if len(ys) == 3) > lowest


def test_a_curve_of_something_else_says_so() -> None:
    curve = LossCurve("radis", [10, 20, 30], [1e-5, 2e-5, 1e-5])
    drawn = loss_svg([curve], "Learning rate", label="Rate")
    assert "Rate over tokens seen: radis." in drawn
    assert ">2e-05<" in drawn
    assert "nats" not in drawn
