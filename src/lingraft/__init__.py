"""Lingraft teaches a chat LLM to translate without losing what it knows, and measures both.

    import lingraft as lg

    run = lg.run("demo", out="runs/demo")
    with lg.open_graft(run.graft) as graft:
        print(graft.translate(["Guten Tag."])[0].text)

Names are imported when they are used, so that `import lingraft` costs nothing; `docs/python.md` shows them at work.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lingraft.core import __version__

if TYPE_CHECKING:
    from lingraft.api import (
        adopt,
        agree,
        bench,
        check_gates,
        check_pairs,
        collect,
        compare,
        describe_entry,
        doctor,
        estimate,
        estimate_bench,
        evaluate,
        evaluation_recipe,
        export,
        export_sheet,
        import_sheets,
        init,
        install,
        key_reference,
        list_entries,
        load_recipe,
        merge,
        open_graft,
        preview,
        push,
        route,
        run,
        schema,
        serve,
        show,
        translate_file,
        tune,
        tuning_recipe,
        verify_models,
        watch,
    )
    from lingraft.conversation.chain import Caps
    from lingraft.conversation.chat import Chat
    from lingraft.conversation.document_ladder import TranslatedSegment
    from lingraft.conversation.file_translation import FileOptions, TranslatedFile
    from lingraft.conversation.open_graft import OpenGraft
    from lingraft.conversation.session import ChatOptions, StreamedAnswer
    from lingraft.conversation.writing import Done, Event, PartStart, PromptProgress, TextDelta
    from lingraft.core.errors import (
        DataError,
        EngineError,
        ExampleError,
        LingraftError,
        LockedError,
        ModelError,
        StoreError,
        TooLongError,
        TrainingError,
        UsageError,
    )
    from lingraft.core.registry import Registry
    from lingraft.core.validation import IS_PATH, Settings
    from lingraft.data.file_checks import CheckReport, FileReport
    from lingraft.data.records import (
        KL,
        Continuation,
        Example,
        Generation,
        Likelihood,
        Message,
        Pair,
        Prompt,
        Rejected,
        Request,
        Sampling,
        Segment,
        Span,
        Teacher,
        Text,
    )
    from lingraft.decoders.base import DECODERS, Ask, Decoder, DecoderInputs, ExpectedStep, Surroundings, decoded
    from lingraft.documents.base import DOCUMENTS, Document, DocumentFormat
    from lingraft.engines.base import ENGINES, Engine, EngineModel, EngineParams
    from lingraft.evaluation.gate import Gate, GateMissedError, Verdict, enforce
    from lingraft.evaluation.raters import Findings
    from lingraft.evaluation.scorecard import Scorecard
    from lingraft.merging.base import MERGERS, Merger, Weight, Weighted
    from lingraft.methods.base import METHODS, ExpectedRound, Method, MethodInputs, MethodParams, Round, Tally
    from lingraft.metrics.base import METRICS, CorpusMetric, MeanMetric, Metric
    from lingraft.pipeline.announcement import Announcement
    from lingraft.pipeline.bench_estimate import BenchEstimate, RowEstimate
    from lingraft.pipeline.bench_result import BenchResult
    from lingraft.pipeline.dry_run import Estimate
    from lingraft.pipeline.learn_route import LearntRoute, RouteError
    from lingraft.pipeline.machine import ComparedEngines
    from lingraft.pipeline.preview import PreviewedExample
    from lingraft.pipeline.result import Run
    from lingraft.recipe.keys import Parameter
    from lingraft.recipe.listing import Entry
    from lingraft.recipe.schema import Recipe
    from lingraft.recipe.trust import Act
    from lingraft.reporting.comparison import Comparison
    from lingraft.reporting.sheets import WrittenSheet
    from lingraft.routing.base import DECIDERS, Decider, Lessons, RouteInputs
    from lingraft.serving.endpoint import ServeOptions
    from lingraft.sharing.push import Pushed
    from lingraft.statistics.metric_facts import MetricFacts
    from lingraft.suites.base import SUITES, Answers, AtHand, ItemScores, Suite, SuiteInputs, Workload
    from lingraft.suites.judging import JudgedSuite
    from lingraft.training.objectives import OBJECTIVES, Objective, Regulariser, SpanTerm, TokenFactor
    from lingraft.training.objectives.base_pairs import PairObjective
    from lingraft.training.tuners import TUNERS, Tuner, TunerInputs
    from lingraft.translation.direct import Source, Translation
    from lingraft.translation.wording import TranslationSystem, ask, ask_for
    from lingraft.watching.pieces import WatchedPart, WatchedTraining
    from lingraft.watching.states import WatchedBench, WatchedRun

_PLACES = {
    "api": (
        "adopt agree bench check_gates check_pairs collect compare describe_entry doctor estimate estimate_bench "
        "evaluate evaluation_recipe export export_sheet import_sheets init install key_reference list_entries "
        "load_recipe merge open_graft preview push route run schema serve show translate_file tune tuning_recipe "
        "verify_models watch"
    ),
    "conversation.chain": "Caps",
    "conversation.chat": "Chat",
    "conversation.document_ladder": "TranslatedSegment",
    "conversation.file_translation": "FileOptions TranslatedFile",
    "conversation.open_graft": "OpenGraft",
    "conversation.session": "ChatOptions StreamedAnswer",
    "conversation.writing": "Done Event PartStart PromptProgress TextDelta",
    "core.errors": (
        "DataError EngineError ExampleError LingraftError LockedError ModelError StoreError TooLongError TrainingError "
        "UsageError"
    ),
    "core.registry": "Registry",
    "core.validation": "IS_PATH Settings",
    "data.file_checks": "CheckReport FileReport",
    "data.records": (
        "Continuation Example Generation KL Likelihood Message Pair Prompt Rejected Request Sampling Segment "
        "Span Teacher Text"
    ),
    "decoders.base": "Ask DECODERS Decoder DecoderInputs ExpectedStep Surroundings decoded",
    "documents.base": "DOCUMENTS Document DocumentFormat",
    "engines.base": "ENGINES Engine EngineModel EngineParams",
    "evaluation.gate": "Gate GateMissedError Verdict enforce",
    "evaluation.raters": "Findings",
    "evaluation.scorecard": "Scorecard",
    "merging.base": "MERGERS Merger Weight Weighted",
    "methods.base": "ExpectedRound METHODS Method MethodInputs MethodParams Round Tally",
    "metrics.base": "CorpusMetric METRICS MeanMetric Metric",
    "pipeline.announcement": "Announcement",
    "pipeline.bench_estimate": "BenchEstimate RowEstimate",
    "pipeline.bench_result": "BenchResult",
    "pipeline.dry_run": "Estimate",
    "pipeline.learn_route": "LearntRoute RouteError",
    "pipeline.machine": "ComparedEngines",
    "pipeline.preview": "PreviewedExample",
    "pipeline.result": "Run",
    "recipe.keys": "Parameter",
    "recipe.listing": "Entry",
    "recipe.schema": "Recipe",
    "recipe.trust": "Act",
    "reporting.comparison": "Comparison",
    "reporting.sheets": "WrittenSheet",
    "serving.endpoint": "ServeOptions",
    "sharing.push": "Pushed",
    "statistics.metric_facts": "MetricFacts",
    "routing.base": "DECIDERS Decider Lessons RouteInputs",
    "suites.base": "Answers AtHand ItemScores SUITES Suite SuiteInputs Workload",
    "suites.judging": "JudgedSuite",
    "training.objectives": "OBJECTIVES Objective Regulariser SpanTerm TokenFactor",
    "training.objectives.base_pairs": "PairObjective",
    "training.tuners": "TUNERS Tuner TunerInputs",
    "translation.direct": "Source Translation",
    "translation.wording": "TranslationSystem ask ask_for",
    "watching.pieces": "WatchedPart WatchedTraining",
    "watching.states": "WatchedBench WatchedRun",
}
"""Module -> the names of it that are public here; the imports above say the same to type checkers and editors."""
_MODULE = {name: f"lingraft.{module}" for module, names in _PLACES.items() for name in names.split()}

__all__ = [
    "DECIDERS",
    "DECODERS",
    "DOCUMENTS",
    "ENGINES",
    "IS_PATH",
    "KL",
    "MERGERS",
    "METHODS",
    "METRICS",
    "OBJECTIVES",
    "SUITES",
    "TUNERS",
    "Act",
    "Announcement",
    "Answers",
    "Ask",
    "AtHand",
    "BenchEstimate",
    "BenchResult",
    "Caps",
    "Chat",
    "ChatOptions",
    "CheckReport",
    "ComparedEngines",
    "Comparison",
    "Continuation",
    "CorpusMetric",
    "DataError",
    "Decider",
    "Decoder",
    "DecoderInputs",
    "Document",
    "DocumentFormat",
    "Done",
    "Engine",
    "EngineError",
    "EngineModel",
    "EngineParams",
    "Entry",
    "Estimate",
    "Event",
    "Example",
    "ExampleError",
    "ExpectedRound",
    "ExpectedStep",
    "FileOptions",
    "FileReport",
    "Findings",
    "Gate",
    "GateMissedError",
    "Generation",
    "ItemScores",
    "JudgedSuite",
    "LearntRoute",
    "Lessons",
    "Likelihood",
    "LingraftError",
    "LockedError",
    "MeanMetric",
    "Merger",
    "Message",
    "Method",
    "MethodInputs",
    "MethodParams",
    "Metric",
    "MetricFacts",
    "ModelError",
    "Objective",
    "OpenGraft",
    "Pair",
    "PairObjective",
    "Parameter",
    "PartStart",
    "PreviewedExample",
    "Prompt",
    "PromptProgress",
    "Pushed",
    "Recipe",
    "Registry",
    "Regulariser",
    "Rejected",
    "Request",
    "Round",
    "RouteError",
    "RouteInputs",
    "RowEstimate",
    "Run",
    "Sampling",
    "Scorecard",
    "Segment",
    "ServeOptions",
    "Settings",
    "Source",
    "Span",
    "SpanTerm",
    "StoreError",
    "StreamedAnswer",
    "Suite",
    "SuiteInputs",
    "Surroundings",
    "Tally",
    "Teacher",
    "Text",
    "TextDelta",
    "TokenFactor",
    "TooLongError",
    "TrainingError",
    "TranslatedFile",
    "TranslatedSegment",
    "Translation",
    "TranslationSystem",
    "Tuner",
    "TunerInputs",
    "UsageError",
    "Verdict",
    "WatchedBench",
    "WatchedPart",
    "WatchedRun",
    "WatchedTraining",
    "Weight",
    "Weighted",
    "Workload",
    "WrittenSheet",
    "__version__",
    "adopt",
    "agree",
    "ask",
    "ask_for",
    "bench",
    "check_gates",
    "check_pairs",
    "collect",
    "compare",
    "decoded",
    "describe_entry",
    "doctor",
    "enforce",
    "estimate",
    "estimate_bench",
    "evaluate",
    "evaluation_recipe",
    "export",
    "export_sheet",
    "import_sheets",
    "init",
    "install",
    "key_reference",
    "list_entries",
    "load_recipe",
    "merge",
    "open_graft",
    "preview",
    "push",
    "route",
    "run",
    "schema",
    "serve",
    "show",
    "translate_file",
    "tune",
    "tuning_recipe",
    "verify_models",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE:
        raise AttributeError(f"module 'lingraft' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
