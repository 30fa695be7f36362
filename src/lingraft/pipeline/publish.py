"""Stage `publish`: scorecard, report, and a graft folder with its model card that can be used and shared as it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.evaluation.gate import Verdict, check_gates, parse_gate
from lingraft.evaluation.margins import margin_sentences
from lingraft.evaluation.published import RUN, VERDICTS
from lingraft.evaluation.routing import routing_sentence
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.verdict import verdict
from lingraft.models.architectures import Loading
from lingraft.models.bases import base_license, graft_base_id, public_id, without_folders
from lingraft.models.files import ALIASES, local_path
from lingraft.models.graft import name_base, read_info, write_info
from lingraft.models.graft_seal import adapter_hash, check_seal
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.differences import Subject, difference_notes
from lingraft.pipeline.judged_metrics import Verdicts, verdict_rows
from lingraft.pipeline.measured_system import MeasuredSystem, own_system
from lingraft.pipeline.outputs import OUTPUTS, breakdowns, outcomes, write_outputs
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.route import deciders_of
from lingraft.pipeline.stage_training import TrainedSystem
from lingraft.pipeline.suites import OpenSuite
from lingraft.recipe.files import chosen_words, reported_choices, reported_selections, selected_words
from lingraft.recipe.load import dump_recipe
from lingraft.recipe.objectives import objectives_of
from lingraft.reporting.card import CardContents, render_card
from lingraft.reporting.contents import CoursePoint, LossPoint, ReportContents, TrainedStage, Work
from lingraft.reporting.report import render_report
from lingraft.statistics.items import Items, item_lines
from lingraft.store.artefacts import facts
from lingraft.store.durability import remove_tree, sync_folder, sync_tree, usual_modes
from lingraft.store.files import read_lines, read_sealed, write_atomic, write_lines
from lingraft.translation.wording import ask


def _differences(systems: Sequence[MeasuredSystem], main: MeasuredSystem) -> list[str]:
    """Say what the systems differ in; further seeds, scales and earlier stages are those of a system."""
    others = [one for one in systems if _made_here(one) and one.name != main.name]
    return difference_notes(_subject(main), [_subject(one) for one in others])


def _made_here(one: MeasuredSystem) -> bool:
    elsewhere = one.translated or one.elsewhere
    return one.group is None and not (elsewhere or one.weights or one.routed)


def _subject(one: MeasuredSystem) -> Subject:
    lineage = one.trained.lineage if one.trained else []
    return Subject(
        name=one.name,
        translating=one.translating,
        chat=one.chat,
        stages=one.trained.synthesised.system.stages if one.trained else (),
        vocabulary=one.markers is not None,
        tokens=sum(int(facts(item.folder)["tokens"]) for item in lineage),
        steps=sum(int(facts(item.folder)["steps"]) for item in lineage),
        given=one.given,
    )


def _trained_stages(system: TrainedSystem) -> list[TrainedStage]:
    several = len(system.lineage) > 1
    found = []
    for item in system.lineage:
        stage, made = item.synthesised.stage, facts(item.folder)
        found.append(
            TrainedStage(
                system=system.name,
                stage=stage.label if several else "",
                tuner=stage.tuner.model_dump(mode="json"),
                learning_rate=stage.train.learning_rate,
                schedule=stage.train.schedule,
                epochs=stage.train.epochs,
                steps=int(made["steps"]),
                tokens=int(made["tokens"]),
                objectives={str(one): one.cite for one in objectives_of(stage)},
                upon=(adapter_hash(item.start.upon) or "") if item.start.upon else "",
            )
        )
    return found


def _amounts(data: Data) -> list[str]:
    """Say how much each direction has of the training pairs, where there are several."""
    if len(data.amounts) < 2:
        return []
    shown = (
        f"{source}-{target} {pairs:,} pairs with {tokens:,} tokens of targets"
        for (source, target), (pairs, tokens) in zip(data.directions, data.amounts, strict=True)
    )
    return [f"Training pairs by direction: {'; '.join(shown)}."]


def _prompt_counts(data: Data) -> list[str]:
    """Say how many prompts each source has given, where there are several."""
    shown = (f"{name} {replay:,} and {held:,}" for name, (replay, held) in data.prompt_counts.items())
    return [f"General prompts for replay and held out, by source: {'; '.join(shown)}."] if data.prompt_counts else []


def _limits(context: Context) -> list[str]:
    if context.recipe.model not in ALIASES:
        return []
    return [
        "The base is an English model of 135 million parameters: "
        "this run shows the mechanism, not good translation. Its weights are the package's 4-bit ones, restored to "
        "full size; on the hub's original weights the graft behaves slightly differently."
    ]


def _selections(context: Context, only: str = "") -> list[str]:
    """Say where a metric that has chosen the training texts is reported.

    Args:
        context: of the run.
        only: the system that is spoken of; "": all.
    """
    found = reported_selections(context.recipe).items()
    return [f"Selection: {selected_words(name, metrics)}." for name, metrics in found if only in ("", name)]


def _choices(context: Context) -> list[str]:
    """Say where a metric by which a decoder has chosen translations is reported."""
    return [f"Selection: {chosen_words(*found)}." for found in reported_choices(context.recipe).items()]


def _base_notes(context: Context) -> list[str]:
    """Say where the card has the base's name from, if nobody gave it."""
    recipe, named = context.recipe, public_id(context.files, context.recipe.base_id)
    if recipe.base_id or local_path(recipe.model) is None or recipe.model in ALIASES:
        return []
    if not named:
        return ["The base was a local folder without a known hub id: it is known by the sha256 below alone."]
    return [
        f"The base was a local folder whose files name {named}. If it was changed after that, the graft does not fit "
        f"the hub's weights; the sha256 below is that of the base it was trained on."
    ]


def _work(context: Context) -> Work:
    """Add up what every stage took; several systems may use one."""
    made = [(path.name.partition("-")[0], facts(path)) for path in dict.fromkeys(context.used)]

    def tokens(*kinds: str) -> int:
        return sum(int(values.get("tokens") or 0) for kind, values in made if kind in kinds)

    return Work(sum(float(values["seconds"]) for _, values in made), tokens("train"), tokens("synthesis", "decode"))


def _gates(context: Context, scorecard: Scorecard) -> tuple[list[Verdict], list[str]]:
    """Return how the recipe's gates stand, and a sentence for each that cannot be read off the scorecard.

    The run ends with the error of such a gate, once what it measured is published.
    """
    recipe, verdicts, notes = context.recipe, [], []
    for text in recipe.evaluate.gate:
        try:
            verdicts += check_gates([parse_gate(text)], scorecard, recipe.headliners)
        except UsageError as error:
            notes.append(str(error))
    return verdicts, notes


def publish(
    context: Context,
    data: Data,
    suites: Sequence[OpenSuite],
    decoded: Sequence[SystemAnswers],
    scorecard: Scorecard,
    items: Sequence[Items],
    verdicts: Verdicts,
) -> None:
    """Write `scorecard.json`, `items.jsonl`, `outputs.jsonl`, `report.html`, `rejected.jsonl` and the judges' verdicts
    into the run's folder; and where something was trained `graft/` and `README.md`.

    Args:
        context: of the run.
        data: that was trained and measured on.
        suites: of the run.
        decoded: what all systems have answered, the base first.
        scorecard: of the run.
        items: the per-item statistics behind it.
        verdicts: of the judges of metrics.

    Raises:
        ModelError: the graft that was trained is damaged.
    """
    systems = [one.system for one in decoded]
    main = own_system(context, systems)
    trained = [one.trained for one in systems if one.trained]
    derived = {system.name for system in scorecard.systems if system.group}
    primary = [row for row in scorecard.summary if row.system not in derived or row.system == main.name]
    examples, cut = write_outputs(context.root / OUTPUTS, data, suites, decoded)
    gates, unreadable = _gates(context, scorecard)
    contents = ReportContents(
        scorecard=scorecard,
        recipe_yaml=dump_recipe(context.recipe),
        losses={name: _losses(step) for name, step in _named_stages(trained)},
        courses={name: course for name, step in _named_stages(trained) if (course := _course(step))},
        filters={item.name: filters for item in trained if (filters := item.rendered.filters)},
        stages=[stage for item in trained for stage in _trained_stages(item)],
        training_pairs=len(data.train),
        rejected_counts=data.counts,
        rejected_examples=data.rejected[:20],
        rows_read=data.rows_read,
        examples=examples,
        outcomes=outcomes(decoded),
        breakdowns=breakdowns(data, decoded),
        rendered_example={item.name: item.rendered_example for item in trained},
        work=_work(context),
        gates=gates,
        notes=[
            *_selections(context),
            *_choices(context),
            *unreadable,
            *_amounts(data),
            *_prompt_counts(data),
            *_differences(systems, main),
            *(
                routing_sentence(one.name, *one.routed, scorecard.general)
                for one in systems
                if one.routed and one.decoder is None
            ),
            *_limits(context),
            *cut,
        ],
        verdict=" ".join(
            [verdict(main.name, primary, scorecard.translation, scorecard.general), *margin_sentences(gates)]
        ),
        headline_system=main.name,
    )
    write_atomic(context.root / "scorecard.json", scorecard.to_json())
    write_lines(context.root / "items.jsonl", item_lines(items, scorecard.base.sha256))
    write_atomic(context.root / "report.html", render_report(contents))
    write_lines(context.root / "rejected.jsonl", read_lines(data.folder / "rejected.jsonl"))
    _write_verdicts(context, suites, decoded, verdict_rows(context, data, decoded, verdicts))
    if main.trained:
        card = render_card(_card(context, data, main.trained, scorecard))
        write_atomic(context.root / "README.md", card)
        _copy_graft(context, main.trained, card, deciders_of(main.name, decoded))
    elif "graft" in (read_sealed(context.root / RUN) or {}).get("published", {}):
        (context.root / "README.md").unlink(missing_ok=True)  # of another recipe, which is replaced
        _remove(context, context.root / "graft")


def _named_stages(trained: Sequence[TrainedSystem]) -> Iterator[tuple[str, TrainedSystem]]:
    """Yield each trained system after each of its stages, with its name in the report."""
    for item in trained:
        for number, step in enumerate(item.lineage, start=1):
            yield (item.name if step is item else f"{item.name}@{number}"), step


def _losses(step: TrainedSystem) -> list[LossPoint]:
    return [
        LossPoint(
            point["step"],
            point["loss"],
            point["tokens"],
            point.get("by_role", {}),
            point.get("learning_rate", 0.0),
            point.get("gradient_norm", 0.0),
            point.get("objectives", {}),
        )
        for point in step.losses
    ]


def _course(step: TrainedSystem) -> list[CoursePoint]:
    kept = step.kept_step
    return [CoursePoint(one.step, one.loss, one.chrf, one.kl, one.step == kept) for one in step.measured]


def _write_verdicts(
    context: Context,
    suites: Sequence[OpenSuite],
    decoded: Sequence[SystemAnswers],
    of_metrics: Iterator[dict[str, Any]],
) -> None:
    """Write what the judges of suites and of metrics said beside the scorecard: one verdict a line."""
    base, path = decoded[0].answers, context.root / VERDICTS
    asked = [item for item in decoded if not item.system.elsewhere and not item.system.weights]
    judged = [suite for suite in suites if suite.suite.judge is not None]
    of_suites = (row for suite in judged for item in asked for row in suite.verdict_rows(base, item.name, item.answers))
    rows = list(chain(of_suites, of_metrics))
    if not rows:
        path.unlink(missing_ok=True)
        return
    write_lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))


def _copy_graft(context: Context, main: TrainedSystem, card: str, deciders: Sequence[Path]) -> None:
    """Put the main graft with its card and its deciders under the fixed name `graft`, replacing an older one whole."""
    fresh, final, old = _vacant(context, ".graft.new"), context.root / "graft", _vacant(context, ".graft.old")
    shutil.copytree(main.graft, fresh)
    check_seal(fresh)  # before it gets a new one
    # The recipe may have got another `base_id` since the graft was trained.
    name_base(fresh, public_id(context.files, context.recipe.base_id))
    base_id = graft_base_id(context.files, context.recipe.base_id)
    write_info(fresh, read_info(fresh).model_copy(update={"base_id": base_id}))
    write_atomic(fresh / "README.md", card)
    for path in deciders:
        shutil.copyfile(path, fresh / path.name)
    usual_modes(fresh)  # others may read a graft where they may read what else lies there
    sync_tree(fresh)
    if final.exists():
        os.replace(final, old)
    os.replace(fresh, final)
    sync_folder(context.root)
    if old.exists():
        _remove(context, old)


def _vacant(context: Context, name: str) -> Path:
    """Return a path for a folder of this name in the run's folder, or of one like it where an older one stays."""
    for number in count(1):
        path = context.root / (name if number == 1 else f"{name}-{number}")
        if not os.path.lexists(path) or _remove(context, path):
            return path
    raise AssertionError("there are more names than folders")


def _remove(context: Context, folder: Path) -> bool:
    """Remove a folder that the run has no use for; where that cannot be done, it is said, and nothing is lost."""
    reason = remove_tree(folder)
    if reason:
        context.reporter.say(f"Warning: {folder} of an earlier run cannot be removed: {reason}; remove it", always=True)
    return not reason


def _card(context: Context, data: Data, main: TrainedSystem, scorecard: Scorecard) -> CardContents:
    recipe, stage, info = context.recipe, main.synthesised.system.stage, read_info(main.graft)
    # Nothing of the data: cards are shared, and texts may be private.
    directions = data.directions or data.tested
    messages = ask(info.instruction, "...", *directions[0])
    renderer = data.renderer_of(context, main.synthesised.system)
    vocabulary = Vocabulary.in_folder(main.graft)
    licence = base_license(context.files.name, context.files.folder)
    counts = {"training pairs": len(data.train), **{f"test {test.name}": len(test.pairs) for test in data.tests}}
    return CardContents(
        name=recipe.name,
        system=main.name,
        base_model=public_id(context.files, recipe.base_id),
        graft=recipe.repo_id or "",
        license=licence.pop("license", ""),
        license_more=licence,
        directions=directions,
        translates=bool(data.directions),
        scorecard=scorecard,
        method=" > ".join(one.methods for one in main.synthesised.system.stages),
        paper="; ".join(dict.fromkeys(part.method.paper for part in main.synthesised.components)),
        messages=messages,
        given=[renderer.template.given(message) for message in messages],
        template=renderer.template.variables,
        opening=renderer.opening,
        loading=Loading.of(context.files.folder),
        upon=info.upon_sha256 or "",
        prompt=renderer.decode_all(renderer.prompt_ids(messages).ids),
        delimiter=info.delimiter or "",
        stop=tuple(info.stop),
        params=without_folders(
            stage.params
            | ({"beside": [other.model_dump(mode="json") for other in stage.beside]} if stage.beside else {})
        ),
        tuner=stage.tuner.model_dump(mode="json"),
        training=stage.train.model_dump(mode="json"),
        data_counts=counts,
        limits=[*_selections(context, main.name), *_limits(context), *_base_notes(context)],
        rows=vocabulary.info.rows if vocabulary else 0,
        chains=vocabulary.markers.languages if vocabulary and info.chat == "tcot" else (),
    )
