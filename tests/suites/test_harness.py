"""Suite `harness` against lm-eval's own `hf` back end on the same model and items."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from lm_eval import evaluate
from lm_eval.models.huggingface import HFLM

from harness_files import PUBLISHED, task_file, write_rows
from lingraft.core.errors import DataError, UsageError
from lingraft.core.validation import validated
from lingraft.data.records import Likelihood
from lingraft.engines.likelihood import log_likelihoods
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.loading import LoadedModel
from lingraft.suites.base import Answers, ItemScores, SuiteInputs
from lingraft.suites.harness import HarnessSuite
from lingraft.suites.harness_bridge import FEWSHOT_SEED, is_mean
from models_support import tiny_loaded


def opened(folder: Path, task: str, **params: Any) -> HarnessSuite:
    """The suite over the published rows of a task."""
    return HarnessSuite(HarnessSuite.Params(tasks=[f"local:{task}"], path=task_file(folder, task), **params))


def inputs_for(loaded: LoadedModel) -> SuiteInputs:
    return SuiteInputs((), (), 1, loaded.renderer, (), 2048)


def answered(suite: HarnessSuite, loaded: LoadedModel) -> list[ItemScores]:
    """Ask a model and score it, as a run does."""
    inputs = inputs_for(loaded)
    generations = {one.id: one for one in TransformersEngine(loaded).generate(suite.requests(inputs))}
    likelihoods = {one.id: one for one in log_likelihoods(loaded, suite.continuations(inputs))}
    answers = Answers(generations, {}, likelihoods)
    return suite.score(inputs, answers, answers)


def by_hf(suite: HarnessSuite, loaded: LoadedModel) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """What lm-eval's own back end finds on the same tasks: scalar values by metric and item, and its scores."""
    (entry,) = suite._harness(inputs_for(loaded)).entries
    for task in entry.tasks.values():
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    model = HFLM(pretrained=loaded.model, tokenizer=loaded.renderer.tokenizer, backend="causal", batch_size=3)
    results = evaluate(
        lm=model,
        task_dict={"tasks": entry.tasks, "groups": {}},
        limit=suite.params.limit,
        bootstrap_iters=0,
        apply_chat_template=entry.templated,
        fewshot_as_multiturn=entry.templated,
    )
    assert results is not None
    values: dict[str, dict[str, float]] = {}
    for name, samples in results["samples"].items():
        for sample in samples:
            for metric in sample["metrics"]:
                if is_mean(entry.tasks[name].aggregation()[metric]):
                    key = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
                    item = f"{name}/{sample['doc_id']}" if len(entry.tasks) > 1 else str(sample["doc_id"])
                    values.setdefault(key, {})[item] = float(sample[metric])
    (name, *others) = results["results"]
    scores = {key: value for key, value in results["results"][name].items() if isinstance(value, float)}
    return values, {} if others else scores


@pytest.mark.parametrize(
    ("task", "family"),
    [
        pytest.param(task, family, marks=[] if family == "smollm2" or task == "hellaswag" else pytest.mark.long)
        for task in ("hellaswag", "arc_easy", "winogrande", "truthfulqa_mc2", "mmlu", "xcopa_th")
        for family in ("smollm2", "llama3", "gemma2")
    ],
)
def test_multiple_choice_equals_lm_eval_item_by_item(tmp_path: Path, task: str, family: str) -> None:
    loaded = tiny_loaded(family, scale=2.0)
    suite = opened(tmp_path, task)
    rows = {row.metric: row.values for row in answered(suite, loaded)}
    expected, _ = by_hf(suite, loaded)
    assert rows.keys() == expected.keys()
    for metric, values in expected.items():
        assert rows[metric] == pytest.approx(values, abs=1e-4)


@pytest.mark.parametrize("templated", [True, False])
@pytest.mark.parametrize("shots", [0, 2])
def test_written_answers_equal_lm_eval(tmp_path: Path, templated: bool, shots: int) -> None:
    loaded = tiny_loaded(scale=3.0)
    more = {"fewshot_path": task_file(tmp_path, "gsm8k"), "num_fewshot": shots} if shots else {}
    suite = opened(tmp_path, "gsm8k", apply_chat_template=templated, max_new_tokens=12, limit=2, **more)
    requests = suite.requests(inputs_for(loaded))
    assert all(bool(request.prompt_ids) is not templated for request in requests)
    if shots and templated:  # few-shot examples are turns, as on lm-eval's command line
        assert [message.role for message in requests[0].messages] == ["user", "assistant", "user", "assistant", "user"]
    generations = {one.id: one for one in TransformersEngine(loaded).generate(requests)}
    harness = suite._harness(inputs_for(loaded))
    mine = harness.samples(harness.entries[0], generations, {})["samples"]["gsm8k"]
    harness.entries[0].tasks["gsm8k"].set_fewshot_seed(seed=FEWSHOT_SEED)
    model = HFLM(pretrained=loaded.model, tokenizer=loaded.renderer.tokenizer, backend="causal", batch_size=1)
    theirs = evaluate(
        lm=model,
        task_dict={"tasks": harness.entries[0].tasks, "groups": {}},
        limit=2,
        bootstrap_iters=0,
        apply_chat_template=templated,
        fewshot_as_multiturn=templated,
    )
    assert theirs is not None
    assert [sample["resps"] for sample in mine] == [sample["resps"] for sample in theirs["samples"]["gsm8k"]]
    assert any(sample["resps"][0][0].strip() for sample in mine)


def test_few_shot_questions_are_the_same_in_record_and_replay(tmp_path: Path) -> None:
    loaded = tiny_loaded(scale=2.0)
    shots = task_file(tmp_path, "hellaswag")
    suite = opened(tmp_path, "hellaswag", num_fewshot=2, fewshot_path=shots)
    rows = {row.metric: row.values for row in answered(suite, loaded)}
    expected, _ = by_hf(suite, loaded)
    assert rows == expected
    assert "shots:2" in answered(suite, loaded)[0].signature


def test_scores_are_those_lm_eval_aggregates(tmp_path: Path) -> None:
    loaded = tiny_loaded(scale=2.0)
    for task, metric in (("hellaswag", "acc_norm"), ("ifeval", "inst_level_loose_acc")):
        suite = opened(tmp_path, task, **({"max_new_tokens": 24} if task == "ifeval" else {}))
        row = next(row for row in answered(suite, loaded) if row.metric == metric)
        _, scores = by_hf(suite, loaded)
        weights = row.weights or dict.fromkeys(row.values, 1.0)
        score = sum(row.values[item] * weights[item] for item in row.values) / sum(weights.values())
        assert score == pytest.approx(scores[f"{metric},none"])


def test_chance_is_the_score_of_a_choice_at_random(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    expected = {"hellaswag": 1 / 4, "arc_easy": 1 / 3, "piqa": 1 / 2, "boolq": 1 / 2, "truthfulqa_mc2": 2 / 3}
    for task, chance in expected.items():
        rows = answered(opened(tmp_path, task), loaded)
        assert [row.chance for row in rows] == pytest.approx([chance] * len(rows), abs=1e-8), task
    assert {row.chance for row in answered(opened(tmp_path, "gsm8k", max_new_tokens=4), loaded)} == {0.0}


def test_one_metric_of_a_task_counts_for_retention(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    assert [(row.metric, row.retains, row.scale) for row in answered(opened(tmp_path, "hellaswag"), loaded)] == [
        ("acc", False, 100.0),
        ("acc_norm", True, 100.0),
    ]
    chosen = opened(tmp_path, "gsm8k", max_new_tokens=4, metrics=["exact_match,strict-match"])
    assert [row.metric for row in answered(chosen, loaded) if row.retains] == ["exact_match,strict-match"]
    with pytest.raises(DataError, match=r"'hellaswag' has no metric 'f1'; it has acc, acc_norm"):
        answered(opened(tmp_path, "hellaswag", metrics=["f1"]), loaded)


def test_tasks_cut_by_language_or_subject_are_pooled(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    rows = answered(opened(tmp_path, "mgsm", max_new_tokens=4), loaded)
    assert set(rows[0].values) == {"mgsm_direct_de/0", "mgsm_direct_de/1", "mgsm_direct_en/0"}
    path = task_file(tmp_path, "mgsm")
    german = HarnessSuite(HarnessSuite.Params(tasks=["local:mgsm_de"], path=path, max_new_tokens=4))
    assert all("Antwort" in request.messages[-1].content for request in german.requests(inputs_for(loaded)))
    assert len(answered(german, loaded)[0].values) == 2


def test_perplexity_is_measured_in_bits_per_byte(tmp_path: Path) -> None:
    loaded = tiny_loaded(scale=2.0)
    texts = ["The weather is nice today.", "Das Wetter ist schön. " * 12]
    path = write_rows(tmp_path / "texts.jsonl", [{"text": text} for text in texts])
    (tmp_path / "own.yaml").write_text(
        "task: own_texts\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {path}}}, cache_dir: {tmp_path / 'cache'}}}\n"
        "test_split: test\noutput_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list: [{metric: bits_per_byte}, {metric: word_perplexity}]\n",
        "utf-8",
    )
    suite = HarnessSuite(HarnessSuite.Params(tasks=["own_texts"], include=str(tmp_path)))
    inputs = SuiteInputs((), (), 1, loaded.renderer, (), 64)  # windows: the second text has more tokens
    likelihoods = {one.id: one for one in log_likelihoods(loaded, suite.continuations(inputs))}
    (row,) = suite.score(inputs, answers := Answers({}, {}, likelihoods), answers)
    loaded.model.config.max_position_embeddings = 64
    _, scores = by_hf(suite, loaded)
    assert (row.metric, row.better, row.retains, row.scale) == ("bits_per_byte", "lower", True, 1.0)
    assert row.weights == {str(k): float(len(text.encode())) for k, text in enumerate(texts)}
    total = sum(row.values[item] * row.weights[item] for item in row.values) / sum(row.weights.values())
    assert total == pytest.approx(scores["bits_per_byte,none"], rel=1e-5)
    assert row.values["0"] * row.weights["0"] * math.log(2) == pytest.approx(
        -sum(likelihoods[one.id].logprob for one in suite.continuations(inputs)[:1]), rel=1e-6
    )


def test_ifeval_runs_offline_and_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    loaded = tiny_loaded()
    suite = opened(tmp_path, "ifeval", max_new_tokens=8)
    rows = answered(suite, loaded)
    assert {row.metric: set(row.values) for row in rows}["prompt_level_strict_acc"] == {"0", "1"}
    assert next(row for row in rows if row.metric == "inst_level_strict_acc").weights == {"0": 2.0, "1": 1.0}
    assert all("|punkt:" in row.signature and row.signature.endswith("langdetect-seed:0") for row in rows)


def test_questions_are_the_same_each_time_and_answered_by_id(tmp_path: Path) -> None:
    loaded = tiny_loaded()
    first, second = (opened(tmp_path, "arc_easy", limit=3) for _ in range(2))
    assert first.continuations(inputs_for(loaded)) == second.continuations(inputs_for(loaded))
    assert len(first.continuations(inputs_for(loaded))) == 9
    inputs = inputs_for(loaded)
    partly = {one.id: Likelihood(one.id, 0.0, False) for one in first.continuations(inputs)[:-1]}
    with pytest.raises(DataError, match="asks what was not asked before"):
        first.score(inputs, Answers({}, {}, partly), Answers({}, {}, partly))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"tasks": ["local:helaswag"], "path": "x"}, "did you mean 'hellaswag'"),
        ({"tasks": ["local:piqa"]}, "local:piqa needs `path:`"),
        ({"tasks": ["piqa"], "path": "x"}, "path and fewshot_path belong to a task over a local file"),
        ({"tasks": ["local:piqa", "boolq"], "path": "x"}, "local:piqa reads one file and stands alone"),
        ({"tasks": ["local:piqa"], "path": "x", "num_fewshot": 2}, "needs `fewshot_path:`"),
        ({"tasks": []}, "tasks"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        validated(HarnessSuite.Params, params, "suite")


def test_a_task_that_decodes_in_another_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "task: own_beams\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {task_file(tmp_path, 'gsm8k')}}}, cache_dir: {tmp_path / 'cache'}}}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
        "generation_kwargs: {until: ['.'], num_beams: 4}\n",
        "utf-8",
    )
    suite = HarnessSuite(HarnessSuite.Params(tasks=["own_beams"], include=str(tmp_path)))
    with pytest.raises(DataError, match="'own_beams' decodes with num_beams"):
        suite.requests(inputs_for(tiny_loaded()))


def test_tasks_that_run_what_a_model_writes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "task: own_programs\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {task_file(tmp_path, 'gsm8k')}}}, cache_dir: {tmp_path / 'cache'}}}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: '{{question}}'\ndoc_to_target: '{{answer}}'\n"
        "unsafe_code: true\n",
        "utf-8",
    )
    suite = HarnessSuite(HarnessSuite.Params(tasks=["own_programs"], include=str(tmp_path)))
    with pytest.raises(UsageError, match="'own_programs' runs the programs that a model writes"):
        suite.requests(inputs_for(tiny_loaded()))


def test_unknown_tasks_and_data_that_cannot_be_had_are_refused() -> None:
    inputs = inputs_for(tiny_loaded())
    for task, words in (("arc_eazy", "knows no task 'arc_eazy'"), ("piqa", "'piqa' cannot be loaded .* local file")):
        with pytest.raises((UsageError, DataError), match=words):
            HarnessSuite(HarnessSuite.Params(tasks=[task])).requests(inputs)


def test_published_layouts_cover_all_local_tasks() -> None:
    from lingraft.suites.harness_layouts import LOCAL_TASKS

    families = {name.partition("_")[0] for name in LOCAL_TASKS}
    assert families == {name.partition("_")[0] for name in PUBLISHED}
