"""Training with each kind of loss follows a plain loop over whole distributions, in either layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError, ModelError, UsageError
from lingraft.data.records import Example, Message, Span
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered, RenderedTeacher
from lingraft.training.settings import TrainSettings
from lingraft.training.survey import survey_rows
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows, with_teacher

PLAIN = random_rows(6, longest=16, weight=0.7)
STEPS = 3


def rows_with(kind: str) -> list[Rendered]:
    """Half of the rows with this loss on the rationale, so that a step mixes kinds."""
    if kind == "kl":
        return [with_teacher(row, seed=i) if i % 2 else row for i, row in enumerate(PLAIN)]
    return [replace(row, losses=("ce", kind)) if i % 2 else row for i, row in enumerate(PLAIN)]


def run(
    work: Path, rows: list[Rendered], *, targets: object = "all-linear", tied: bool = True, **changes: object
) -> TrainResult:
    settings = TrainSettings.model_validate(
        {
            "learning_rate": 1e-2,
            "schedule": "constant",
            "warmup_share": 0,
            "tokens_per_step": 10_000,
            "micro_tokens": 60,
            "precision": "fp32",
            "epochs": STEPS,
        }
        | changes
    )
    tuner = LoraTuner(LoraTuner.Params.model_validate({"rank": 4, "dropout": 0.0, "targets": targets}))
    return train(tiny_llama(128, tied=tied), rows, settings, tuner, pad_id=0, work_dir=work, seed=3)


def term(row: Rendered, t: int, log_q: torch.Tensor, log_base: torch.Tensor) -> torch.Tensor:
    """The loss of token t from the log-probabilities, (vocabulary,), of student and base."""
    kind, label = row.losses[row.span_of[t]], row.input_ids[t]
    if kind == "kl_base":
        return (log_base.exp() * (log_base - log_q)).sum()
    if kind == "unlikelihood":
        return -torch.log(1 - log_q[label].exp())
    at = [] if row.teacher is None else np.flatnonzero(row.teacher.positions == t)
    if kind == "kl" and row.teacher is not None and len(at):
        log_p = torch.from_numpy(row.teacher.logprobs[at[0]]).double()
        q = log_q[torch.from_numpy(row.teacher.ids[at[0]])].double().exp()
        tail, of_student = 1 - log_p.exp().sum(), 1 - q.sum()
        return (log_p.exp() * (log_p - q.log())).sum() + tail * (tail / of_student).log()
    return -log_q[label]


@pytest.mark.parametrize("batching", ["padded", "packed"])
@pytest.mark.parametrize("kind", ["kl", "kl_base", "unlikelihood"])
def test_plain_loop_gives_the_same_trajectory(tmp_path: Path, kind: str, batching: str) -> None:
    rows = rows_with(kind)
    result = run(tmp_path, rows, batching=batching)
    base = tiny_llama(128)
    model = LoraTuner(LoraTuner.Params(rank=4, dropout=0.0)).apply(tiny_llama(128), TunerInputs(seed=3))
    learning = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.0)
    expected = []
    for _ in range(STEPS):
        total = torch.zeros((), dtype=torch.float64)
        for row in rows:
            ids = torch.tensor([row.input_ids])
            log_q = model(input_ids=ids).logits[0].log_softmax(-1)
            with torch.no_grad():
                log_base = base(input_ids=ids).logits[0].log_softmax(-1)
            for t in range(1, len(row.input_ids)):
                if row.weights[t]:
                    total = total + row.weights[t] * term(row, t, log_q[t - 1], log_base[t - 1])
        loss = total / sum(sum(row.weights[1:]) for row in rows)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        expected.append(loss.item())
    assert [point.loss for point in result.log] == pytest.approx(expected, abs=2e-5)
    assert result.packed == (batching == "packed")


def test_the_end_of_a_turn_counts_in_full_behind_a_rationale_that_counts_little(tmp_path: Path) -> None:
    """By hand: the weights are 1 for each token of the translation, 0.1 for each of the rationale, 1 for the end."""
    renderer = Renderer(tiny_tokenizer("smollm2"))
    answer, rationale = "The weather is nice.", " It is a noun."
    spans = (Span(answer, "translation"), Span(rationale, "rationale", weight=0.1))
    row = renderer.render(Example("e", (Message("user", "Das Wetter ist gut."),), spans))
    counts = [row.span_of.count(-1), row.span_of.count(0), row.span_of.count(1) - 1]
    weights = [0.0] * counts[0] + [1.0] * counts[1] + [0.1] * counts[2] + [1.0]
    assert row.input_ids[-1] == renderer.end_of_turn_id
    size = len(renderer.tokenizer)
    with torch.inference_mode():
        log_q = tiny_llama(size)(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
    terms = [weights[t] * -float(log_q[t - 1, row.input_ids[t]]) for t in range(1, len(weights))]
    settings = TrainSettings(precision="fp32", tokens_per_step=10_000)
    tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0.0))
    result = train(tiny_llama(size), [row], settings, tuner, pad_id=0, work_dir=tmp_path, seed=3)
    assert result.log[0].loss == pytest.approx(sum(terms) / sum(weights), abs=2e-5)


def test_the_base_is_run_without_dropout_and_only_where_it_is_needed(tmp_path: Path) -> None:
    model, passes = tiny_llama(128), []
    model.model.register_forward_hook(
        lambda module, inputs, out: passes.append((module.training, torch.is_grad_enabled()))
    )
    rows = [replace(row, losses=("ce", "kl_base")) if i < 2 else row for i, row in enumerate(PLAIN)]
    settings = TrainSettings(precision="fp32", tokens_per_step=10_000, micro_tokens=1)
    tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0.5))
    result = train(model, rows, settings, tuner, pad_id=0, work_dir=tmp_path, seed=3)
    assert result.log[0].by_role["rationale"] > 0  # the other rows' cross-entropy
    training = passes[-len(PLAIN) - 2 :]  # what comes before are trials of attention and head
    assert training.count((True, True)) == len(PLAIN)
    assert training.count((False, False)) == 2


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")
def test_kl_base_is_refused_where_the_head_learns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'kl_base' needs an output head that does not learn"):
        run(tmp_path, rows_with("kl_base"), targets=["q_proj", "lm_head"], tied=False)


def test_teachers_are_checked_before_training() -> None:
    model, row = tiny_llama(128), with_teacher(PLAIN[0])
    teacher = row.teacher
    assert teacher is not None
    m = len(teacher.positions)
    with pytest.raises(DataError, match="loss 'kl' needs the recorded log-probabilities"):
        survey_rows(model, [replace(row, teacher=None)])
    for broken in (
        replace(teacher, ids=teacher.ids[:, :2]),
        replace(teacher, positions=teacher.positions[: m - 1]),
    ):
        with pytest.raises(DataError, match="'row-0': the arrays of its teacher differ"):
            survey_rows(model, [replace(row, teacher=broken)])
    with pytest.raises(DataError, match="'row-0': its teacher has positions outside"):
        survey_rows(model, [replace(row, teacher=replace(teacher, positions=teacher.positions + 100))])
    with pytest.raises(ModelError, match="'row-0' holds token 128, but the model knows only 128"):
        survey_rows(model, [replace(row, teacher=replace(teacher, ids=np.full_like(teacher.ids, 128)))])


def test_a_teacher_of_no_token_leaves_cross_entropy(tmp_path: Path) -> None:
    empty = RenderedTeacher(np.zeros(0, np.int64), np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32))
    rows = [replace(row, losses=("ce", "kl"), teacher=empty) for row in PLAIN]
    assert [p.loss for p in run(tmp_path / "a", rows).log] == [p.loss for p in run(tmp_path / "b", PLAIN).log]


def test_survey_counts_and_tells_rows_apart() -> None:
    model, rows = tiny_llama(128), rows_with("kl")
    survey = survey_rows(model, rows)
    assert survey.lengths.tolist() == [len(row.input_ids) for row in rows]
    assert survey.supervised.tolist() == [row.supervised for row in rows]
    assert (survey.roles, survey.losses) == (("rationale", "translation"), ("ce", "kl"))
    assert not survey.need_base
    assert survey_rows(model, rows_with("kl")).digest == survey.digest
    teacher = rows[1].teacher
    assert teacher is not None
    changed = [replace(rows[0], id="other"), replace(rows[1], teacher=replace(teacher, logprobs=teacher.logprobs - 1))]
    digests = {survey_rows(model, [*rows[:i], row, *rows[i + 1 :]]).digest for i, row in enumerate(changed)}
    assert len(digests | {survey.digest}) == 3
