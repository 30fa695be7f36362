"""Rendered training examples of each stage of a recipe, with nothing written and nothing trained."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.text import Text

from lingraft.core.printable import printable
from lingraft.core.progress import Reporter
from lingraft.data.records import Generation
from lingraft.engines.finishing import prompt_of
from lingraft.methods.base import Method, MethodInputs, Tally
from lingraft.methods.rounds import own_name
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.rounds import MOST_ROUNDS, leading_answered
from lingraft.pipeline.scores import Scoring
from lingraft.pipeline.vocabulary import add_languages
from lingraft.recipe.asking import chat_of, methods_of
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stages import SystemPlan
from lingraft.rendering.preview import preview
from lingraft.rendering.renderer import Renderer

MOST_PAIRS = 200
"""Of each source: a preview need not read a million."""


@dataclass(frozen=True)
class PreviewedExample:
    """A training example as the model sees it.

    Attributes:
        stage: the system, or the stage of it, and its methods.
        id: of the example.
        tokens: of the row.
        supervised: those of them that are trained on.
        text: the row, supervised text in colour; `text.plain` without.
        note: in place of an example: what a round of a method asks, of whom, of which `text` holds a request as the
            model sees it; or why there is no example of a method.
    """

    stage: str
    id: str = ""
    tokens: int = 0
    supervised: int = 0
    text: Text = field(default_factory=Text)
    note: str = ""


def preview_examples(recipe: Recipe, rows: int) -> Iterator[PreviewedExample]:
    """Yield rendered examples of each stage of each system; the base writes the few answers they need.

    Args:
        recipe: whose stages are looked at; it stays as it is.
        rows: examples of each method.

    Raises:
        LingraftError: data or model cannot be used.
    """
    few = [one.model_copy(update={"limit": min(one.limit or MOST_PAIRS, MOST_PAIRS)}) for one in recipe.pairs.train]
    recipe = recipe.model_copy(update={"pairs": recipe.pairs.model_copy(update={"train": few})})
    with (
        tempfile.TemporaryDirectory() as folder,
        Context(recipe, Path(folder), Reporter(quiet=True), lasting=False) as context,
    ):
        data = add_languages(context, prepare(context))
        shown: set[tuple[str, str]] = set()
        for system in recipe.systems():
            for number, stage in enumerate(system.stages):
                last = number == len(system.stages) - 1
                title = f"{system.name if last else stage.label} ({stage.methods})"
                made_by = title, f"{stage.params} {stage.beside}"
                if made_by in shown:  # systems that begin alike share their first stages
                    continue
                shown.add(made_by)
                for method in methods_of(stage):
                    yield from _examples(title, context, data, system, number, method, rows)


def _examples(
    title: str,
    context: Context,
    data: Data,
    system: SystemPlan,
    number: int,
    method: Method,
    rows: int,
) -> Iterator[PreviewedExample]:
    renderer, vocabulary = data.renderer_of(context, system), data.vocabulary_of(system)
    markers = vocabulary.markers if vocabulary else None
    whole = MethodInputs(
        data.train,
        data.replay,
        context.recipe.seed,
        texts=data.texts,
        markers=markers,
        english_opening=chat_of(system.stages[: number + 1]) == "tcot",
        user_turn=context.renderer.user_turn,
        numbers=context.renderer.numbers(10),
        most_prompts=4 * rows,
        score=Scoring(context, data.languages),
    )
    part = replace(whole, pairs=data.train[:rows], prompts=data.replay[:rows], prepared=method.prepare(whole))
    answers = leading_answered(context, method, part, renderer).answers
    yield from _rounds(title, context, renderer, method, part, answers)
    before = next((asked for asked in method.expected_rounds() if asked.of == "before"), None)
    if before is not None:
        does = "its texts are translated by" if before.kind == "translation" else "it asks"
        note = f"{does} the graft of the stage before, which a preview does not train"
        yield PreviewedExample(title, note=f"{method.name}: {note}")
        return
    left = rows
    for example in method.examples(part, answers, Tally()):
        for row in [renderer.render(example)] if example.messages else renderer.render_text(example):
            text = preview(renderer, row)
            yield PreviewedExample(title, row.id, len(row.input_ids), row.supervised, text)
            left -= 1
            if not left:
                return


def _rounds(
    title: str,
    context: Context,
    renderer: Renderer,
    method: Method,
    inputs: MethodInputs,
    answers: Mapping[str, Generation],
) -> Iterator[PreviewedExample]:
    """Yield the first request of each round, up to the first that the graft of a stage before answers."""
    for number in range(MOST_ROUNDS):
        this = method.round(number, inputs, answers)
        request = next(this.requests(), None) if this else None
        if this is None:
            return
        if request is None:
            continue
        of = this.of if isinstance(this.of, str) else f"the engine {this.of['kind']}"
        who = {"base": "the base", "before": "the graft of the stage before"}.get(of, of)
        name = f"{this.kind}-{this.name or own_name(method.name, number, this.kind)}"
        reader = renderer if this.of == "before" else context.renderer
        asked = reader.decode_all(prompt_of(reader, request).ids)
        note = f"{method.name} asks {who} ({name}), for instance {request.id}:"
        yield PreviewedExample(title, text=Text(printable(asked, None, lines=True), style="dim"), note=note)
        if this.of == "before":
            return
