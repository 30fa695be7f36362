"""What `lingraft preview` does; `cli.py` declares it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from lingraft.cli.run import allow
from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.data.records import Generation
from lingraft.methods.base import METHODS, MethodInputs, Tally
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.vocabulary import add_languages
from lingraft.recipe.asking import chat_of
from lingraft.recipe.choices import EngineChoice
from lingraft.recipe.load import load_recipe
from lingraft.recipe.stages import SystemPlan
from lingraft.rendering.preview import preview

MOST_PAIRS = 200
"""Of each source: a preview need not read a million."""


def preview_command(name: str, overrides: Sequence[str], rows: int, trust: bool = False) -> None:
    """Print rendered examples of each stage of each system of a recipe.

    Raises:
        UsageError: the recipe runs or sends what was not allowed: its engines are asked.
    """
    recipe = load_recipe(name, overrides)
    allow(recipe, trust)
    for number, source in enumerate(recipe.pairs.train):
        if source.limit is None or source.limit > MOST_PAIRS:
            recipe.pairs.train[number] = source.model_copy(update={"limit": MOST_PAIRS})
    console = Console(soft_wrap=True, highlight=False)
    with (
        tempfile.TemporaryDirectory() as folder,
        Context(recipe, Path(folder), Reporter(quiet=True), lasting=False) as context,
    ):
        data = add_languages(context, prepare(context))
        shown: set[tuple[str, str]] = set()
        for system in recipe.systems():
            for number, stage in enumerate(system.stages, start=1):
                last = number == len(system.stages)
                title = f"{system.name if last else stage.label} ({stage.methods})"
                made_by = title, f"{stage.params} {stage.beside}"
                if made_by in shown:  # systems that begin alike share their first stages
                    continue
                shown.add(made_by)
                console.rule(Text(title), characters="─")
                for method in (stage.method, *(other.method for other in stage.beside)):
                    params = stage.params if method == stage.method else _beside(system, number - 1, method)
                    _show(console, context, data, system, number - 1, method, params, rows)


def _beside(system: SystemPlan, number: int, method: str) -> Mapping[str, object]:
    return next(other.params for other in system.stages[number].beside if other.method == method)


def _show(
    console: Console,
    context: Context,
    data: Data,
    system: SystemPlan,
    number: int,
    name: str,
    params: Mapping[str, object],
    rows: int,
) -> None:
    entry = METHODS.get(name)
    method = entry(entry.Params.model_validate(params))
    if method.asks_before:
        console.print(
            f"{name}: its texts are translated by the graft of the stage before, which a preview does not train"
        )
        return
    renderer, vocabulary = data.renderer_of(context, system), data.vocabulary_of(system)
    markers = vocabulary.markers if vocabulary else None
    whole = MethodInputs(
        data.train,
        data.replay,
        context.recipe.seed,
        texts=data.texts,
        markers=markers,
        english_opening=chat_of(system.stages[: number + 1]) == "tcot",
    )
    part = replace(whole, pairs=data.train[:rows], prompts=data.replay[:rows], prepared=method.prepare(whole))
    answers: dict[str, Generation] = {}
    if requests := list(method.requests(part)):
        answers = {answer.id: answer for answer in context.engine().generate(requests)}
    if method.translator is not None and (further := list(method.follow_ups(part, answers))):
        engine = context.engine(EngineChoice.model_validate(dict(method.translator)))
        answers |= {answer.id: answer for answer in engine.generate(further)}
    left = rows
    for example in method.examples(part, answers, Tally()):
        for rendered in [renderer.render(example)] if example.messages else renderer.render_text(example):
            counts = f"{len(rendered.input_ids)} tokens, {rendered.supervised} supervised"
            console.print(Text(f"{printable(rendered.id)}: {counts}", style="bold"))
            console.print(preview(renderer, rendered))
            console.print()
            left -= 1
            if not left:
                return
