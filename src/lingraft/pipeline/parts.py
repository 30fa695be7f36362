"""The parts of a run, in order, and about how long each takes: reckoned from the rows that the run has read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from lingraft.core.errors import LingraftError, first_line
from lingraft.data.records import Pair
from lingraft.evaluation.scoring import BASE
from lingraft.language.codes import base_language
from lingraft.pipeline.context import Context
from lingraft.pipeline.dry_run import Counts, Estimate, estimate
from lingraft.pipeline.dry_run_prompts import COUNTED, Documents, Prompts, Ruler, TextEstimate
from lingraft.pipeline.dry_run_stages import BY_BEFORE
from lingraft.pipeline.prepare import Data
from lingraft.recipe.asking import wording_of_run
from lingraft.recipe.decoders import decoded_systems
from lingraft.recipe.schema import Recipe
from lingraft.store.progress_file import PartNote


def parts_of(recipe: Recipe) -> list[PartNote]:
    """Return the parts of a run: the data, what is trained on, each training, each system's answers, the evaluation."""
    return list(_parts(recipe))


def _parts(recipe: Recipe) -> Iterator[PartNote]:
    yield PartNote(kind="data")
    if recipe.stages:
        yield PartNote(kind="examples")
    systems = recipe.systems()
    for system in systems:
        for number, stage in enumerate(system.stages, 1):
            last = number == len(system.stages)
            seed = f"#{system.seed}" if system.group else ""
            yield PartNote(kind="train", of=system.name if last else f"{stage.label}{seed}")
    own = recipe.headliners
    answering = [BASE]
    for system in (one for one in systems if not one.group):
        if recipe.evaluate.stages and system.name in own:
            answering += [f"{system.name}@{number}" for number in range(1, len(system.stages))]
        answering.append(system.name)
    answering += [graft.label for graft in recipe.grafts]
    answering += [system.name for system in systems if system.group]
    answering += [f"{name}*{scale:g}" for scale in recipe.evaluate.scales for name in own]
    answering += [plan.name for plan in recipe.merges()]
    yield from (PartNote(kind="answer", of=name) for name in answering)
    if recipe.evaluate.translate_test:
        yield PartNote(kind="decode", of="translate-test")
    routed = {one.name for one in recipe.routed_systems()}  # whose answers are of the last part
    yield from (PartNote(kind="decode", of=one.name) for one in decoded_systems(recipe) if one.weights not in routed)
    yield PartNote(kind="evaluate")


def reckoned(context: Context, data: Data, parts: Sequence[PartNote]) -> list[PartNote]:
    """Return the parts with about how long each takes, by arithmetic on what was read.

    Raises:
        LingraftError: that cannot be told, and why.
    """
    try:
        found = estimate(context.recipe, counts=counts_of(context, data))
    except LingraftError:
        raise
    except Exception as error:  # it is for people alone: no run ends for want of it, and they are told
        raise LingraftError(f"{type(error).__name__}: {first_line(error)}") from error
    return spread(found, parts)


def counts_of(context: Context, data: Data) -> Counts:
    """Return what a dry run would count in the files, of the rows that were read; texts are measured by samples."""
    recipe = context.recipe
    ruler = Ruler() if recipe.vocabulary is not None else Ruler(context.renderer)
    sample: Sequence[Pair] = list(islice(data.train, 2000)) or [pair for test in data.tests for pair in test.pairs]
    request, answer = ruler.pairs(sample, wording_of_run(recipe))
    asked = list(islice(data.replay, COUNTED)) or data.retention[:COUNTED]
    references = [prompt.reference for prompt in asked if prompt.reference]
    prompts = Prompts(
        count=len(data.replay),
        held=len(data.retention),
        dev=len(data.dev_prompts),
        questions=TextEstimate.of([prompt.messages[-1].content for prompt in asked], ruler),
        references=TextEstimate.of(references, ruler) if references else None,
        request=ruler.prompts(asked),
    )
    texts = [text.text for text in islice(data.texts, COUNTED)]
    held = Counter(base_language(text.lang) for text in data.heldout)
    characters = Counter[str]()
    for text in data.heldout:
        characters[base_language(text.lang)] += len(text.text)
    return Counts(
        pairs=len(data.train),
        dev=len(data.dev),
        segments=sum(len(test.pairs) for test in data.tests),
        request=request,
        answer=answer,
        prompts=prompts,
        documents=Documents(
            ruler.tokens(texts) * len(data.texts), [(count, characters[lang] / count) for lang, count in held.items()]
        ),
        measured=True,
        ruler=ruler,
    )


def spread(found: Estimate, parts: Sequence[PartNote]) -> list[PartNote]:
    """Return the parts with their seconds, of an estimate of the whole run; what is of no part is of the last."""
    hours, later = [0.0] * len(parts), 0.0
    places = {(part.kind, part.of): number for number, part in reversed(list(enumerate(parts)))}
    last = len(parts) - 1
    examples = places.get(("examples", ""), last)
    answering = [number for number, part in enumerate(parts) if part.kind == "answer"]
    training = True
    for line in found.lines:
        kind, _, name = line.stage.partition("-")
        if line.stage == "decode, all systems":
            training = False
            for number in answering:
                hours[number] += line.hours / len(answering)
        elif training and kind in ("train", "dev"):
            place = places.get(("train", name), places.get(("train", name.partition(", ")[0]), examples))
            hours[place] += line.hours + later
            later = 0.0
        elif training and line.note.endswith(BY_BEFORE):  # asked when the graft is there, just before the next training
            later += line.hours
        elif training:
            hours[examples] += line.hours
        else:
            hours[places.get(("decode", line.stage.removeprefix("decode ")), last)] += line.hours
    beside = found.hours_beside / len(parts)
    return [replace(part, estimate=3600 * (own + beside)) for part, own in zip(parts, hours, strict=True)]
