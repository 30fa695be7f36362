"""Each kind of loss against plain float64 arithmetic on the whole distribution, its gradient by finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lingraft.models.output_head import OutputHead
from lingraft.training.losses import Targets, span_loss
from lingraft.training.terms import LOSSES, Chunk

K = 5
WIDTH = 6
KINDS = list(LOSSES)


def normal(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, shape))


def best(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k most probable tokens and their log-probabilities to 4 decimals, as engines record them."""
    values, ids = logits.double().log_softmax(-1).topk(k)
    return ids, values.mul(1e4).round().div(1e4).float()


def make(
    kinds: dict[str, int], vocabulary: int, *, rows: int = 3, length: int = 7, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, OutputHead, Targets]:
    """Return hidden states of student and base, a head, and targets at random positions, in float64."""
    rng = np.random.default_rng(seed)
    n = sum(kinds.values())
    head = torch.nn.Linear(WIDTH, vocabulary, bias=False, dtype=torch.float64)
    head.weight.data = normal(vocabulary, WIDTH, seed=seed + 1)
    head.weight.requires_grad_(False)
    hidden = normal(rows, length, WIDTH, seed=seed + 2)
    base = hidden + normal(rows, length, WIDTH, seed=seed + 3, scale=0.5)
    positions = torch.from_numpy(rng.permutation(rows * length)[:n])
    ids, logprobs = best(head(base).detach().reshape(-1, vocabulary)[positions], min(K, vocabulary - 1))
    ends = np.cumsum(list(kinds.values())).tolist()
    targets = Targets(
        positions=positions,
        labels=torch.from_numpy(rng.integers(0, vocabulary, n)),
        weights=torch.from_numpy(rng.uniform(0.1, 2, n)).float(),
        roles=torch.from_numpy(rng.integers(0, 2, n)),
        role_names=("translation", "rationale"),
        segments=tuple((kind, end - size, end) for (kind, size), end in zip(kinds.items(), ends, strict=True)),
        teacher_ids=ids,
        teacher_logprobs=logprobs,
    )
    return hidden, base, OutputHead(head), targets


def plain(kind: str, student: np.ndarray, label: int, ids: list[int], logprobs: list[float], base: np.ndarray) -> float:
    """The term of one position, from its definition."""
    q = np.exp(student - student.max())
    q = q / q.sum()
    if kind == "ce":
        return -math.log(q[label])
    if kind == "unlikelihood":
        return -math.log(sum(value for token, value in enumerate(q) if token != label))
    if kind == "kl_base":
        p = np.exp(base - base.max())
        p = p / p.sum()
        return float(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    p = np.exp(np.array(logprobs, dtype=np.float64))
    p = p / max(p.sum(), 1)
    pairs = [*zip(p, q[ids], strict=True), (1 - p.sum(), sum(v for t, v in enumerate(q) if t not in ids))]
    return float(sum(a * math.log(a / b) for a, b in pairs if a > 0))


def truth(hidden: torch.Tensor, base: torch.Tensor, head: OutputHead, targets: Targets) -> np.ndarray:
    """The weighted terms, (n,), position by position."""
    assert targets.teacher_ids is not None
    assert targets.teacher_logprobs is not None
    weight = head.module.weight.detach().double().numpy()
    terms = []
    for kind, begin, end in targets.segments:
        for i in range(begin, end):
            states = [t.detach().double().reshape(-1, WIDTH)[targets.positions[i]].numpy() for t in (hidden, base)]
            student, of_base = (weight @ state for state in states)
            ids, logprobs = targets.teacher_ids[i].tolist(), targets.teacher_logprobs[i].tolist()
            term = plain(kind, student, int(targets.labels[i]), ids, logprobs, of_base)
            terms.append(float(targets.weights[i]) * term)
    return np.array(terms)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 4, None])
@pytest.mark.parametrize("vocabulary", [2, 7, 61])
@pytest.mark.parametrize("kind", KINDS)
def test_sum_equals_the_definition(kind: str, vocabulary: int, chunk: int | None, dtype: torch.dtype) -> None:
    hidden, base, head, targets = make({kind: 11}, vocabulary, seed=vocabulary)
    hidden, base = hidden.to(dtype), base.to(dtype)
    head.module.to(dtype)
    found = span_loss(hidden, targets, head, chunk, base)
    expected = truth(hidden, base, head, targets)  # of the states as rounded to the type
    assert found.total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # bfloat16 logits carry a relative error of 2^-9 each; sums of them stay within a few times that.
    tolerance = {torch.float64: 1e-7, torch.float32: 2e-5, torch.bfloat16: 4e-2}[dtype]
    assert found.total.item() == pytest.approx(expected.sum(), rel=tolerance, abs=tolerance)
    for role, value in enumerate(found.by_role.tolist()):
        chosen = expected[(targets.roles == role).numpy()]
        assert value == pytest.approx(chosen.sum(), rel=tolerance, abs=tolerance)


def test_kinds_in_one_batch_add_up() -> None:
    hidden, base, head, targets = make({"ce": 3, "kl": 5, "kl_base": 4, "unlikelihood": 6}, 13)
    expected = truth(hidden, base, head, targets).sum()
    for chunk in (1, 3, 100):
        assert span_loss(hidden, targets, head, chunk, base).total.item() == pytest.approx(expected, rel=1e-7)


# With a head that learns the base's logits would move along: the trainer refuses to combine it with kl_base.
@pytest.mark.parametrize(
    ("kind", "train_head"), [*((kind, False) for kind in KINDS), *((k, True) for k in KINDS if not LOSSES[k].base)]
)
@pytest.mark.parametrize("chunk", [2, None])
def test_gradient_equals_finite_differences(kind: str, chunk: int | None, train_head: bool) -> None:
    hidden, base, head, targets = make({kind: 5}, 9, rows=2, length=4)
    weight = head.module.weight.requires_grad_(train_head)
    inputs = (hidden.requires_grad_(), *([weight] if train_head else []))

    def total(states: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return span_loss(states, targets, head, chunk, base).total

    assert torch.autograd.gradcheck(total, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_value_without_gradient_is_the_same(kind: str) -> None:
    hidden, base, head, targets = make({kind: 8}, 17)
    with torch.no_grad():
        plainly = span_loss(hidden, targets, head, 3, base)
    tracked = span_loss(hidden.requires_grad_(), targets, head, 3, base)
    assert plainly.total.item() == tracked.total.item()
    assert torch.equal(plainly.by_role, tracked.by_role)


def kl(logits: torch.Tensor, ids: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    return LOSSES["kl"].term(
        Chunk(
            logits=logits, labels=torch.zeros(len(logits), dtype=torch.long), teacher_ids=ids, teacher_logprobs=logprobs
        )
    )


def test_kl_is_zero_for_the_teacher_itself_and_a_lower_bound_otherwise() -> None:
    teacher, student = normal(20, 50, seed=1, scale=2.0), normal(20, 50, seed=2, scale=2.0)
    log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
    full = (log_p.exp() * (log_p - log_q)).sum(-1)
    last = None
    for k in (1, 5, 20, 49):
        values, ids = log_p.topk(k)
        assert kl(teacher, ids, values).abs().max() < 1e-12
        bound = kl(student, ids, values)
        assert (bound <= full + 1e-12).all()
        if last is not None:
            assert (bound >= last - 1e-12).all()  # recording more tokens only sharpens it
        last = bound
    torch.testing.assert_close(last, full)  # one token in the tail: nothing is lost


def test_kl_without_tail_mass() -> None:
    student = normal(1, 8, seed=3).float().requires_grad_()
    ids = torch.tensor([[2, 5]])
    certain = kl(student, ids, torch.tensor([[0.0, -50.0]]))
    assert certain.item() == pytest.approx(-student.log_softmax(-1)[0, 2].item(), rel=1e-6)
    too_much = torch.log(torch.tensor([[0.7, 0.3001]]))  # rounding: sums to more than 1
    value = kl(student, ids, too_much)
    q = student.detach().double().softmax(-1)[0]
    p = np.array([0.7, 0.3001]) / 1.0001
    assert value.item() == pytest.approx(sum(a * math.log(a / q[i].item()) for a, i in zip(p, (2, 5), strict=True)))
    (value + certain).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_kl_keeps_a_tiny_student_tail_exact() -> None:
    # The tail has a probability of about 1e-9, which 1 - sum(q) loses in float32.
    student = torch.tensor([[20.0, 19.0, -1.0, -2.0]])
    logprobs = torch.log(torch.tensor([[0.6, 0.39]]))
    p, q = np.array([0.6, 0.39, 0.01]), student[0].double().softmax(-1).numpy()
    q = np.array([q[0], q[1], q[2] + q[3]])
    assert kl(student, torch.tensor([[0, 1]]), logprobs).item() == pytest.approx((p * np.log(p / q)).sum(), rel=1e-5)


def test_kl_ignores_absent_entries() -> None:
    student = normal(3, 9, seed=4)
    ids, logprobs = best(normal(3, 9, seed=5), 3)
    wider = torch.cat([ids, ids[:, :1].expand(-1, 2)], dim=1)
    padded = torch.cat([logprobs, torch.full((3, 2), -math.inf)], dim=1)
    student.requires_grad_()
    torch.testing.assert_close(kl(student, wider, padded), kl(student, ids, logprobs))
    kl(student, wider, padded).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("gap", [0.0, 10.0, 40.0, 200.0])
def test_unlikelihood_of_a_nearly_certain_token(gap: float) -> None:
    logits = torch.tensor([[gap, 0.0, 0.0, 0.0]], requires_grad=True)
    value = LOSSES["unlikelihood"].term(Chunk(logits=logits, labels=torch.tensor([0])))
    # -log(3 / (e^gap + 3)) = log(e^gap + 3) - log 3
    assert value.item() == pytest.approx(gap + math.log1p(3 * math.exp(-gap)) - math.log(3), rel=1e-6)
    value.sum().backward()
    p = 1 / (1 + 3 * math.exp(-gap))
    assert logits.grad is not None
    # d/dz of log Z - log(rest): p at the label, p_j - 1/3 = -p / 3 elsewhere
    assert logits.grad[0].tolist() == pytest.approx([p, -p / 3, -p / 3, -p / 3], rel=1e-5)


def test_base_kl_is_zero_for_the_base_itself() -> None:
    hidden, _, head, targets = make({"kl_base": 6}, 13)
    states = hidden.float().requires_grad_()
    head.module.float()
    found = span_loss(states, targets, head, 4, hidden.float())
    assert found.total.item() == 0.0
    found.total.backward()
    assert states.grad is not None
    assert states.grad.abs().max() < 1e-6  # a minimum


@pytest.mark.parametrize(("kind", "missing"), [("kl", "a teacher"), ("kl_base", "the base")])
def test_what_a_kind_needs_must_be_there(kind: str, missing: str) -> None:
    hidden, _, head, targets = make({kind: 4}, 13)
    bare = replace(targets, teacher_ids=None, teacher_logprobs=None)
    assert bare.need_base() == (kind == "kl_base")
    with pytest.raises(ValueError, match=f"{kind} needs .* of {missing}"):
        span_loss(hidden, bare, head)
