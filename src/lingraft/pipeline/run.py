"""Plans and executes a run: stages in order, each an artefact; a killed run continues, a finished one does nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lingraft.core.environment import refuse_platform, versions
from lingraft.core.errors import StoreError
from lingraft.core.figures import interval, number
from lingraft.core.hashing import content_hash
from lingraft.core.progress import Reporter
from lingraft.decoders.pivot import Pivot
from lingraft.evaluation.gate import Verdict, check_gates, enforce, parse_gate
from lingraft.evaluation.published import RUN, published_hashes
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.scoring import BASE
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.pipeline import processes
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import decode
from lingraft.pipeline.decoders import decode_by
from lingraft.pipeline.evaluate import make_scorecard
from lingraft.pipeline.experiment import Experiment
from lingraft.pipeline.given_grafts import pinned_recipe
from lingraft.pipeline.judged_metrics import judge_translations
from lingraft.pipeline.judges import judge
from lingraft.pipeline.measure import measure
from lingraft.pipeline.parts import parts_of
from lingraft.pipeline.pivot import pivot, translate_test
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.publish import publish
from lingraft.pipeline.render import render_system
from lingraft.pipeline.route import routed_systems
from lingraft.pipeline.routed_decoders import decode_routed
from lingraft.pipeline.systems import measured_systems
from lingraft.pipeline.train import train_system
from lingraft.pipeline.trainings import begun, synthesised, train_systems
from lingraft.pipeline.vocabulary import add_languages
from lingraft.recipe.decoders import decoded_systems
from lingraft.recipe.files import check_files, check_parts, check_sources
from lingraft.recipe.load import dump_recipe
from lingraft.recipe.schema import Recipe
from lingraft.recipe.trust import require_consent
from lingraft.reporting.run_tables import unchecked_words
from lingraft.store.artefacts import facts, package_hash
from lingraft.store.disk import explain_os_errors
from lingraft.store.files import read_sealed, write_sealed


def run(
    recipe: Recipe,
    root: Path,
    reporter: Reporter,
    *,
    replace: bool = False,
    trust: bool = False,
    earlier: tuple[Path, ...] = (),
    trained: tuple[Path, ...] = (),
) -> Path:
    """Execute a recipe in a folder and return the path of the report.

    Args:
        recipe: whole and valid.
        root: the folder, which need not exist.
        reporter: is told what happens.
        replace: whether what another recipe published in the folder may be replaced. What it finished is kept, and used
            where it does not depend on what differs.
        trust: whether the recipe may run and send what `lingraft.recipe.trust.acts` lists; not needed for what the user
            has allowed before, in a terminal.
        earlier: folders of other runs, whose answers to the same questions are taken over.
        trained: folders of other runs, whose trainings are taken over where they are the same.

    Raises:
        UsageError: the folder holds another experiment, and `replace` is not set; or the recipe runs or sends what was
            not allowed.
        LingraftError: with one sentence for the user; what was finished is kept.
    """
    refuse_platform()
    require_consent(recipe, trust)
    recipe = pinned_recipe(recipe)
    Experiment(recipe).refuse_other(root, replace)
    check_files(recipe)
    check_parts(recipe)
    if not (root / RUN).exists():  # else what is finished needs none of them
        check_sources(recipe)
    processes.set_device()
    if not processes.is_main_process():
        return _follow(recipe, root)
    with begun(recipe, root, reporter, replace=replace, earlier=earlier, trained=trained) as context:
        context.plan_parts(parts_of(recipe))
        made = train_systems(context)
        data, suites, check = made.data, made.suites, made.check
        systems = measured_systems(context, made.systems)
        wordings = list(dict.fromkeys(one.translating.instruction for one in systems))
        answered = []
        for system in systems:
            context.next_part()
            answered.append(decode(context, data, suites, system, wordings))
        if recipe.evaluate.translate_test:
            context.next_part()
        if through := translate_test(context, data, systems, answered[0]):
            answered.append(through)
        further = []
        own = {one.name: one for one in answered}
        routed = {one.name for one in recipe.routed_systems()}
        decoding = decoded_systems(recipe)
        for one in (one for one in decoding if one.weights not in routed):
            context.next_part()
            decoder = one.decoder
            if isinstance(decoder, Pivot):
                answered.append(pivot(context, data, decoder, one.name, own[one.weights].system, own[BASE]))
            else:
                further.append(decode_by(context, data, one, own[one.weights], systems[0]))
        context.next_part()
        # Apart from decoding: an engine with its own copy of the model gives its memory back before.
        measured = [measure(context, answered[0], item) for item in answered]
        measured += routed_systems(context, data, measured)
        further += [decode_routed(context, data, one, measured) for one in decoding if one.weights in routed]
        judged = [judge(context, suites, measured[0], item) for item in measured]
        everything = [*judged, *(one.beside(judged) for one in further), *made.given]
        scored = judge_translations(context, data, everything)
        decoded = scored.decoded
        key = content_hash([[path.name for path in context.used], dump_recipe(recipe), versions(), package_hash()])
        if not context.built and _finished(recipe, root, key):
            reporter.say(f"Nothing to do: {root} is finished")
            scorecard = Scorecard.read(root / "scorecard.json")
        else:
            reporter.say(f"Evaluating{context.part}")
            with reporter.working("evaluating"), explain_os_errors(root):
                scorecard, items = make_scorecard(context, data, suites, decoded, check.rows(), scored.verdicts)
                publish(context, data, suites, decoded, scorecard, items, scored.verdicts)
                _write_record(context, key)
        if scorecard.unchecked:
            reporter.say(unchecked_words(scorecard.unchecked), always=True)
        for line in _closing(recipe, root, scorecard):
            reporter.say(line, always=True)
    enforce_gates(recipe, scorecard, reporter)
    return root / "report.html"


def enforce_gates(recipe: Recipe, scorecard: Scorecard, reporter: Reporter) -> list[Verdict]:
    """Check the recipe's gates on a finished run and say how each stands.

    Raises:
        GateMissedError: one does not hold.
    """
    gates = [parse_gate(text) for text in recipe.evaluate.gate]
    verdicts = check_gates(gates, scorecard, recipe.headliners)
    for verdict in verdicts:
        reporter.say(verdict.line(), always=True)
    enforce(verdicts)
    return verdicts


def _follow(recipe: Recipe, root: Path) -> Path:
    """Take part in the run that the first process leads: join each training and wait for what comes before it."""
    with Context(recipe, root, Reporter(quiet=True)) as context:
        data = add_languages(context, prepare(context))
        made = synthesised(context, data)
        for item in made:
            render_system(context, data, item)
        for item in made:
            train_system(context, data, item)
    return root / "report.html"


def _finished(recipe: Recipe, root: Path, key: str) -> bool:
    record = read_sealed(root / RUN)
    try:
        if record is None or record["key"] != key:
            return False
        return bool(record["published"] == published_hashes(root, trained=bool(recipe.stages)))
    except (OSError, StoreError):
        return False


def _write_record(context: Context, key: str) -> None:
    stages: list[dict[str, Any]] = [{"stage": path.name, **facts(path)} for path in context.used]
    record = {
        "name": context.recipe.name,
        "key": key,
        "model": {"id": context.recipe.model, "sha256": context.files.sha256},
        "seed": context.recipe.seed,
        "device": context.device,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "stages": stages,
        "published": published_hashes(context.root, trained=bool(context.recipe.stages)),
    }
    write_sealed(context.root / RUN, record)


def _closing(recipe: Recipe, root: Path, scorecard: Scorecard) -> list[str]:
    lines = [""]
    for row in scorecard.summary:
        if row.gain is None:
            continue
        kept = (
            f"{number(row.retention_mean, 0)} % kept on average"
            if row.retention_mean is not None
            else "retention not measured"
        )
        facts = gain_facts(row.gain.metric, scorecard.translation)
        places = 1 if facts.decimals is None else facts.decimals
        gain = f"{number(row.gain.value, places, signed=True)} {facts.title} {interval(row.gain.ci95, places)}"
        lines.append(f"{row.system}: {gain}, {kept}")
    lines.append(f"Report: {root / 'report.html'}")
    if recipe.stages:
        lines.append(f"Graft:  {root / 'graft'}")
    return lines
