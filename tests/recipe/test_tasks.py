"""The task of a test set: its metrics, and what is refused when the recipe is read."""

from __future__ import annotations

from typing import Any

import pytest

from lingraft.core.tasks import TASKS
from lingraft.metrics.base import METRICS, metrics_for
from lingraft.recipe.tasks import reported_metrics
from recipes_support import FULL, changed, parsed, refusal

DOCUMENTS = {"path": "documents.jsonl", "source": "en", "target": "de", "task": "summary"}
BOTH = changed(FULL, "pairs.test", [FULL["pairs"]["test"], DOCUMENTS])


def listed(values: Any) -> list[tuple[str, str, str]]:
    return [(place, task, one.label) for place, task, one in reported_metrics(parsed(values))]


def test_a_test_set_is_of_translations_unless_it_says_otherwise() -> None:
    assert [source.task for source in parsed(FULL).pairs.test] == ["translation"]
    assert parsed(FULL).evaluate.summary is None
    assert parsed(BOTH).pairs.tasks == ["translation", "summary"]
    assert "pairs.train.0.task" in refusal(changed(FULL, "pairs.train.task", "summary"))
    assert "pairs.test.0.task: " in refusal(changed(FULL, "pairs.test.task", "poem"))


def test_metrics_are_those_of_the_tasks_that_have_test_sets() -> None:
    assert listed(FULL) == [("evaluate.translation.metrics.0", "translation", "bleu")]
    chosen = changed(BOTH, "evaluate.summary", {"metrics": [{"kind": "off_target", "name": "off"}]})
    assert listed(chosen)[1:] == [("evaluate.summary.metrics.0", "summary", "off")]
    assert listed(changed(chosen, "pairs.test", [DOCUMENTS])) == listed(chosen)[1:]
    defaults = [name for _, task, name in listed(BOTH) if task == "summary"]
    assert defaults
    assert set(defaults) <= set(metrics_for("summary"))


def test_a_metric_of_another_task_is_refused_with_those_that_are_for_it() -> None:
    message = refusal(changed(BOTH, "evaluate.summary", {"metrics": ["off_target", "chrf++"]}))
    assert message.startswith(
        "evaluate.summary.metrics.1: the metric 'chrf++' is for translations, and not for summaries in "
        "another language (task summary); take one of "
    )
    assert "off_target" in message
    assert "did you mean 'off_target'?" in refusal(changed(BOTH, "evaluate.summary", {"metrics": ["of_target"]}))


def test_what_would_be_ignored_is_refused() -> None:
    message = refusal(changed(FULL, "evaluate.summary", {"max_new_tokens": 7}))
    assert message.startswith("evaluate.summary: no test set has `task: summary`")
    programs = {"path": "programs.jsonl", "source": "python", "target": "javascript", "task": "code"}
    message = refusal(changed(FULL, "pairs.test", programs))
    assert "`task: code`, and no metric for it; add `evaluate: {code: {metrics: [...]}}`" in message


BASE = {key: value for key, value in FULL.items() if key not in ("stages", "compare", "expected")} | {"stages": []}


def test_decoders_of_the_base_alone_need_no_training() -> None:
    alone = changed(changed(BASE, "pairs", {"test": [DOCUMENTS]}), "evaluate.decoders", ["direct", "sitr"])
    assert parsed(alone).headliners == ["base/direct", "base/sitr"]
    message = refusal(changed(alone, "evaluate.decoders", []))
    assert "neither a stage to train nor a graft to measure" in message
    assert "`evaluate.decoders`" in message
    assert "need one, and there is none" in refusal(changed(alone, "evaluate.scales", [0.5]))
    through = {"translator": "graft", "languages": ["th"]}
    assert "need one, and there is none" in refusal(changed(alone, "evaluate.translate_test", through))


def test_a_decoder_without_a_test_set_of_its_task_is_refused() -> None:
    message = refusal(changed(FULL, "evaluate.decoders", ["sitr"]))
    assert message.startswith(
        "evaluate.decoders.0: the decoder 'sitr' is for summaries in another language, and not for translations (task "
        "translation); take one of direct"
    )
    assert parsed(changed(BOTH, "evaluate.decoders", ["sitr"])).evaluate.decoders[0].params["mode"] == "sitr"


@pytest.mark.parametrize(
    ("value", "complaint"), [("no text", "has no {source}"), ("{source} {x}", "unknown field 'x'")]
)
def test_wordings_of_summaries_are_checked(value: str, complaint: str) -> None:
    assert complaint in refusal(changed(BOTH, "evaluate.summary", {"instruction": value}))


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is_for(name: str) -> None:
    tasks = METRICS.get(name).tasks
    assert tasks
    assert tasks <= set(TASKS)
