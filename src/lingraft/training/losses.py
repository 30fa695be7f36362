"""Span losses: weighted sums over supervised positions, from hidden states, without keeping logits.

The loss of a step is sum(weight x term) / sum(weight) over everything in it. This module returns the sums of one
micro-batch; the trainer divides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from lingraft.models.output_head import LOGITS_PER_CHUNK, OutputHead
from lingraft.training.objectives import SpanTerm, TokenFactor, TokenObjective
from lingraft.training.terms import FACTORED, LOSSES, Chunk


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The n supervised positions of a micro-batch.

    Attributes:
        positions: (n,) index, into the flattened (rows x length), of the hidden state that predicts the token.
        labels: (n,) the token to predict.
        weights: (n,) float32.
        roles: (n,) index into `role_names`.
        segments: (loss kind, begin, end): the positions are grouped by kind.
        teacher_ids: (n, k) the teacher's most probable tokens, where a kind needs them; rows of other kinds are not
            read.
        teacher_logprobs: (n, k) their log-probabilities. One of -inf marks an entry as absent; its id must then be that
            of another entry of the row.
    """

    positions: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    roles: torch.Tensor
    role_names: tuple[str, ...]
    segments: tuple[tuple[str, int, int], ...]
    teacher_ids: torch.Tensor | None = None
    teacher_logprobs: torch.Tensor | None = None

    def need_base(self, objectives: Sequence[TokenObjective] = ()) -> bool:
        """Whether a kind among them, or an objective that applies to one of them, needs the base's hidden states."""
        if any(LOSSES[kind].base for kind, _, _ in self.segments):
            return True
        present = {self.role_names[role] for role in set(self.roles.tolist())} if objectives else set()
        return any(one.base and one.applies(role) for one in objectives for role in present)

    def taken(self, order: torch.Tensor) -> Targets:
        """Return the targets in another order, (n,) indices; their segments are as they were."""
        return self._changed(lambda values: values.index_select(0, order))

    def to(self, device: torch.device) -> Targets:
        """Return the targets on `device`."""
        return self._changed(lambda values: values.to(device))

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Targets:
        changed: dict[str, Any] = {
            field.name: change(value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **changed)


@dataclass(frozen=True)
class SpanLoss:
    """Sums over one micro-batch.

    Attributes:
        total: of weight x term, everything that objectives add included (differentiable).
        by_role: (roles,) the same per role.
        of_objectives: (objectives, 2) for each what it says, a factor or a term, times the weight of the token, and
            these weights, summed over the tokens that it applied to.
    """

    total: torch.Tensor
    by_role: torch.Tensor
    of_objectives: torch.Tensor


class _Piece(NamedTuple):
    """Positions of one loss kind to which the same objectives (by their numbers) apply."""

    kind: str
    objectives: tuple[int, ...]
    part: slice


def span_loss(
    hidden: torch.Tensor,
    targets: Targets,
    head: OutputHead,
    chunk: int | None = None,
    base_hidden: torch.Tensor | None = None,
    objectives: Sequence[TokenObjective] = (),
) -> SpanLoss:
    """Return the weighted loss sums of a micro-batch.

    Logits exist for supervised positions only and one chunk at a time. The gradient of a chunk is taken together with
    its value, so that no logits are kept or computed twice (the idea of Liger Kernel's fused linear
    cross-entropy, arXiv 2410.10989, here for any loss kind and head). Terms are computed and summed in float32, or in
    float64 if the hidden states are.

    Args:
        hidden: (rows, length, hidden) final hidden states.
        targets: what is supervised.
        head: gives the logits.
        chunk: positions per chunk; by default as many as give `LOGITS_PER_CHUNK` logits, those of the base counted.
        base_hidden: like `hidden`, of the base without its adapter; needed where `targets.need_base` says so.
        objectives: what else the loss is made of, see `lingraft.training.objectives`.
    """
    dtype = _accumulated(hidden.dtype)
    targets, runs = _arranged(targets, objectives)
    chosen = hidden.reshape(-1, hidden.shape[-1]).index_select(0, targets.positions)
    base = None
    if base_hidden is not None:
        base = base_hidden.detach().reshape(-1, hidden.shape[-1]).index_select(0, targets.positions)
    parameters = [parameter for parameter in head.module.parameters() if parameter.requires_grad]
    by_role = torch.zeros(len(targets.role_names), dtype=dtype, device=hidden.device)
    of_objectives = torch.zeros(len(objectives), 2, dtype=dtype, device=hidden.device)

    def seen(states: torch.Tensor, piece: _Piece) -> Chunk:
        loss, needed, part = LOSSES[piece.kind], {}, piece.part
        if loss.teacher:
            if targets.teacher_ids is None or targets.teacher_logprobs is None:
                raise ValueError(f"loss {piece.kind} needs the log-probabilities of a teacher")
            needed = {"teacher_ids": targets.teacher_ids[part], "teacher_logprobs": targets.teacher_logprobs[part]}
        asking = [objectives[i].name for i in piece.objectives if objectives[i].base]
        if loss.base or asking:
            if base is None:
                what = f"loss {piece.kind}" if loss.base else f"objective {asking[0]}"
                raise ValueError(f"{what} needs the hidden states of the base")
            with torch.no_grad():
                needed["base_logits"] = head(base[part]).to(dtype)
        return Chunk(logits=head(states).to(dtype), labels=targets.labels[part], **needed)

    def weighted_sum(states: torch.Tensor, piece: _Piece) -> torch.Tensor:
        found, weights = seen(states, piece), targets.weights[piece.part]
        terms = LOSSES[piece.kind].term(found)
        added = []
        for number in piece.objectives:
            objective = objectives[number]
            strength = objective.params.weight
            if isinstance(objective, TokenFactor):
                with torch.no_grad():
                    factor = objective.factor(replace(found, logits=found.logits.detach()))
                    said = factor if strength == 1 else 1 - strength + strength * factor
                terms = terms * said
            elif isinstance(objective, SpanTerm):
                said = objective.term(found)
                added.append(strength * said)
            of_objectives[number] += torch.stack([(said.detach() * weights).sum(), weights.sum().to(dtype)])
        values = sum(added, terms) * weights
        by_role.index_add_(0, targets.roles[piece.part], values.detach())
        return values.sum()

    pieces = []
    for run in runs:
        size = chunk or max(1, LOGITS_PER_CHUNK // (head.vocabulary * _held(run, objectives)))
        starts = range(run.part.start, run.part.stop, size)
        pieces += [run._replace(part=slice(start, min(start + size, run.part.stop))) for start in starts]
    if torch.is_grad_enabled() and (chosen.requires_grad or parameters):
        total = _ChunkedSum.apply(weighted_sum, pieces, chosen, *parameters)
    else:
        total = torch.zeros((), dtype=dtype, device=hidden.device)
        for piece in pieces:
            total += weighted_sum(chosen[piece.part], piece)
    return SpanLoss(total, by_role, of_objectives)


def _held(piece: _Piece, objectives: Sequence[TokenObjective]) -> int:
    """Return how many times as many logits as for plain cross-entropy are held of a token, for chunks that take about
    as much memory: the base's stand beside the model's, and a term over both keeps what its gradient needs."""
    own, kind = [objectives[number] for number in piece.objectives], LOSSES[piece.kind]
    of_base = kind.base or any(one.base for one in own)
    compared = kind.base or any(isinstance(one, SpanTerm) for one in own)
    return 1 + of_base + 2 * compared


def _arranged(targets: Targets, objectives: Sequence[TokenObjective]) -> tuple[Targets, list[_Piece]]:
    """Return the targets in an order in which those of a kind to which the same objectives apply stand together, and
    these runs: no logits are made for tokens that do not need them."""
    if not objectives:
        return targets, [_Piece(kind, (), slice(begin, end)) for kind, begin, end in targets.segments]
    roles = targets.roles.cpu().numpy()
    order: list[np.ndarray] = []
    runs: list[_Piece] = []
    for kind, begin, end in targets.segments:
        applied = {role: _applied(objectives, kind, name) for role, name in enumerate(targets.role_names)}
        for numbers in sorted({applied[role] for role in set(roles[begin:end].tolist())}):
            ours = [role for role, found in applied.items() if found == numbers]
            order.append(begin + np.flatnonzero(np.isin(roles[begin:end], ours)))
            at = runs[-1].part.stop if runs else 0
            runs.append(_Piece(kind, numbers, slice(at, at + len(order[-1]))))
    return targets.taken(torch.from_numpy(np.concatenate(order)).to(targets.positions.device)), runs


def _applied(objectives: Sequence[TokenObjective], kind: str, role: str) -> tuple[int, ...]:
    """Return the numbers of the objectives that apply to tokens of a loss kind and role."""
    return tuple(
        number
        for number, objective in enumerate(objectives)
        if objective.applies(role) and (kind == FACTORED or not isinstance(objective, TokenFactor))
    )


def _accumulated(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which values of `dtype` are summed."""
    return torch.promote_types(dtype, torch.float32)


class _ChunkedSum(torch.autograd.Function):
    """Sum of a scalar function over chunks of `states`; gradients are accumulated chunk by chunk in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[[torch.Tensor, _Piece], torch.Tensor],
        pieces: Sequence[_Piece],
        states: torch.Tensor,
        *parameters: torch.Tensor,
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=_accumulated(states.dtype), device=states.device)
        of_states = torch.zeros_like(states)
        of_parameters = [torch.zeros_like(p, dtype=_accumulated(p.dtype)) for p in parameters]
        for piece in pieces:
            with torch.enable_grad():
                leaf = states[piece.part].detach().requires_grad_()
                value = function(leaf, piece)
                gradients = torch.autograd.grad(value, [leaf, *parameters])
            total += value.detach()
            of_states[piece.part] = gradients[0]
            for accumulated, gradient in zip(of_parameters, gradients[1:], strict=True):
                accumulated += gradient
        ctx.save_for_backward(of_states, *of_parameters)
        ctx.dtypes = [parameter.dtype for parameter in parameters]
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_states, *of_parameters = ctx.saved_tensors
        factor = outer[0]
        scaled = [(g * factor).to(dtype) for g, dtype in zip(of_parameters, ctx.dtypes, strict=True)]
        return None, None, (of_states * factor).to(of_states.dtype), *scaled
