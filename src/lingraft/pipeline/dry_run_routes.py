"""What the systems that route read, with the hours that takes: what they answer was answered before."""

from __future__ import annotations

from collections.abc import Iterator

from lingraft.data.labelled_requests import read_labelled
from lingraft.data.records import Prompt
from lingraft.pipeline.dry_run_device import Size
from lingraft.pipeline.dry_run_prompts import Ruler
from lingraft.pipeline.dry_run_stages import Line
from lingraft.recipe.schema import Recipe
from lingraft.routing.base import DECIDERS


def route_lines(
    recipe: Recipe, ruler: Ruler, segments: int, request: float, size: Size, flops: float
) -> Iterator[Line]:
    """Yield a line for each system that routes: the prompts that its decider reads to learn and to decide, in tokens.

    The questions of suites, few beside these, are not counted.

    Args:
        recipe: with its routes.
        ruler: measures texts.
        segments: of all test sets.
        request: tokens of a mean request for a translation.
        size: of the base.
        flops: floating-point operations a second.
    """
    for one in recipe.routed_systems():
        kind, params = DECIDERS.read(one.by)
        read = 0.0
        if kind.reads:
            labelled = [Prompt(each.id, each.messages) for each in read_labelled(one.requests)]
            lessons = 2 * getattr(params, "max_examples", 0) if kind.learns else 0
            read = (segments + lessons) * request + len(labelled) * ruler.prompts(labelled)
        note = f"the answers of {one.of} and of the base, by {kind.name}" + ("; tokens are read" if read else "")
        hours = 2 * size.parameters * read / flops / 3600
        yield Line(stage=f"route {one.name}", tokens=read, supervised=0, hours=hours, note=note)
