"""Log-likelihoods of continuations, for multiple choice and perplexity.

The continuations of one question repeat its context, and few-shot questions repeat their examples. Sequences that begin
alike are therefore laid into one row as a tree: what they share is there once, every token attends to its own ancestors
alone and has the position it would have by itself. The row gives the same values as the sequences one by one, with a
fraction of the tokens. Logits exist only where a continuation is predicted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from lingraft.core.errors import DataError, ModelError
from lingraft.core.hashing import content_hash, list_hash
from lingraft.data.records import Continuation, Likelihood
from lingraft.engines.slot_cache import layers_for_slots
from lingraft.models.architectures import context_length
from lingraft.models.loading import LoadedModel
from lingraft.models.output_head import LOGITS_PER_CHUNK, OutputHead, find_head
from lingraft.store.parts import PartStore

LIKELIHOOD = "likelihood:2"
"""Names how continuations are measured; the number grows when the same ones get other values."""
LONGEST_TREE = 1024
"""Tokens of a row of several sequences: attention costs the square of it."""
MIN_SHARED = 8
"""Shorter beginnings in common are not worth joining two sequences."""
PROBE_TOKENS = 24
KEPT_TOGETHER = 4
"""Batches whose values are kept together: what a killed call may have to compute again."""
WORTH_A_PASS = 512
"""Tokens from which a pass costs what its tokens cost, on a CPU; smaller ones pay for the layers' calls."""
LIKE_LENGTH = 0.85
"""Of the longest row of a batch: shorter rows wait for the next, so that little is padded."""


@dataclass(frozen=True)
class _Tree:
    """Sequences in one row.

    Attributes:
        tokens: of each node.
        positions: of each node.
        paths: per sequence, the nodes of its tokens from the first on.
        wanted: per sequence, its index among all continuations.
        plain: whether it is one sequence, in order.
    """

    tokens: list[int]
    positions: list[int]
    paths: list[list[int]]
    wanted: list[int]

    @property
    def plain(self) -> bool:
        return len(self.tokens) == len(self.paths[-1])


def log_likelihoods(
    loaded: LoadedModel,
    wanted: Sequence[Continuation],
    *,
    batch_tokens: int = 4096,
    share: bool | None = None,
    progress: Callable[[int], None] | None = None,
    folder: Path | None = None,
    identity: Any = None,
    kept: Callable[[], None] | None = None,
) -> list[Likelihood]:
    """Return the log-likelihood of each continuation after its context, in the order given.

    What does not fit into the model's context is cut off at the left, as in lm-eval. With a folder, a killed call goes
    on where it was and returns what an undisturbed one does: batches follow from the continuations alone.

    Args:
        loaded: the base, or a PEFT model on it.
        wanted: contexts and continuations as token ids.
        batch_tokens: padded tokens computed at once.
        share: whether sequences share what they begin with; None tries whether the model allows it.
        progress: is told how many are done.
        folder: in which values are kept, some batches together; None keeps nothing.
        identity: JSON-ready: all that decides the values beside the continuations, for what is kept.
        kept: is called when values were kept.

    Raises:
        DataError: a continuation or its context is empty, or a continuation is longer than the model's context.
    """
    if not wanted:
        return []
    longest = context_length(loaded.model.config) or 1 << 30
    sequences = []
    for one in wanted:
        if not one.context or not one.continuation:
            raise DataError(f"continuation {one.id!r} needs at least one token, and one before it; check the task")
        if len(one.continuation) > longest:
            raise DataError(
                f"continuation {one.id!r} has {len(one.continuation)} tokens, more than the model's context of "
                f"{longest}; shorten it"
            )
        # The last token is predicted, never read.
        sequences.append((*one.context, *one.continuation)[:-1][-longest:])
    model = _Scorer(loaded)
    if share is None:
        share = model.may_share(max(sequences, key=len))
    worth = WORTH_A_PASS if loaded.device.type == "cpu" else batch_tokens
    batches = _batches(_trees(sequences, share), batch_tokens, worth)
    parts = list(iter(lambda: list(islice(batches, KEPT_TOGETHER)), []))
    store, known, keys = None, set[int](), list[str]()
    out: dict[int, tuple[float, bool]] = {}
    if folder is not None:
        asked = list_hash(one.to_dict() for one in wanted)[0]
        keys = [content_hash([LIKELIHOOD, identity, asked, share, batch_tokens, index]) for index in range(len(parts))]
        store = PartStore(folder)
        known = store.known(keys)
        out = {i: (value, greedy) for i, value, greedy in map(json.loads, store.lines())}
    if progress and out:
        progress(len(out))
    continuations = [one.continuation for one in wanted]
    for index, part in enumerate(parts):
        if index in known:
            continue
        found = list[tuple[int, float, bool]]()
        for batch in part:
            found += model.score(batch, continuations)
            if progress:
                progress(len(out) + len(found))
        out |= {i: (value, greedy) for i, value, greedy in found}
        if store is not None:
            store.put(index, keys[index], map(json.dumps, found))
            if kept:
                kept()
    return [Likelihood(one.id, *out[i]) for i, one in enumerate(wanted)]


def _trees(sequences: Sequence[tuple[int, ...]], share: bool) -> list[_Tree]:
    """Lay the sequences into trees, those that begin alike together."""
    trees: list[_Tree] = []
    last: tuple[int, ...] = ()
    for i in sorted(range(len(sequences)), key=lambda i: sequences[i]):
        own = sequences[i]
        common = _common(last, own) if trees and share else 0
        joined = common >= MIN_SHARED and 4 * common >= len(own)
        if joined and len(trees[-1].tokens) + len(own) - common > LONGEST_TREE:
            joined = common == len(own)
        if not joined:
            trees.append(_Tree([], [], [], []))
            common = 0
        tree, last = trees[-1], own
        begin = len(tree.tokens)
        shared = tree.paths[-1][:common] if common else []
        tree.tokens.extend(own[common:])
        tree.positions.extend(range(common, len(own)))
        tree.paths.append([*shared, *range(begin, len(tree.tokens))])
        tree.wanted.append(i)
    return trees


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    return next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _batches(trees: list[_Tree], batch_tokens: int, worth: int) -> Iterator[list[_Tree]]:
    """Yield trees of like length together, longest first; a batch of `worth` tokens takes no much shorter ones."""
    trees.sort(key=lambda tree: -len(tree.tokens))
    start = 0
    while start < len(trees):
        width, end = len(trees[start].tokens), start + 1
        while end < len(trees) and (end + 1 - start) * width <= batch_tokens:
            if (end - start) * width >= worth and len(trees[end].tokens) < LIKE_LENGTH * width:
                break
            end += 1
        yield trees[start:end]
        start = end


class _Scorer:
    """A model that reads rows of trees.

    Args:
        loaded: model on its device, with or without adapter.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        model: Any = loaded.model
        self._model: Any = model
        self._pad, self._device = loaded.renderer.pad_id, loaded.device
        adapted = isinstance(model, PeftModel)
        # Adapters sit inside the layers; prompts learnt as vectors do not, and need the whole model.
        self._whole = adapted and model.active_peft_config.is_prompt_learning
        self._inner: Any = model.get_base_model() if adapted else model
        self._head: OutputHead | None = None

    def may_share(self, sample: Sequence[int]) -> bool:
        """Say whether the model keeps branches of a tree apart and gives them the values they have alone.

        Args:
            sample: the longest sequence.
        """
        if self._whole or not layers_for_slots(self._inner, len(sample)):
            return False
        try:
            self._head = find_head(self._inner, sample[:PROBE_TOKENS])
        except ModelError:
            return False
        ids, half, size = (tuple(sample) * PROBE_TOKENS)[:PROBE_TOKENS], PROBE_TOKENS // 2, self._head.vocabulary
        # Branches whose ids differ from their first token on; the probed one is the longest.
        first, other, probed = (
            ids[:half] + tuple((token + shift) % size for token in ids[half : half + length])
            for shift, length in ((1, half // 2), (2, half // 2), (3, half))
        )
        alone = self._hidden(_trees([probed], True))[0]
        beside = []
        for branch in (first, other):
            (tree,) = _trees([branch, probed], True)
            beside.append(self._hidden([tree])[0, tree.paths[tree.wanted.index(1)]])
        largest = alone.float().abs().max()
        rounding = 1e-3 if alone.dtype == torch.float32 else 0.1  # sums of other shapes are rounded otherwise
        apart, same = ((beside[0] - states).float().abs().max() for states in (beside[1], alone))
        return bool(apart <= 1e-5 * largest and same <= rounding * largest)

    @torch.inference_mode()
    def _hidden(self, trees: Sequence[_Tree]) -> torch.Tensor:
        """Return the final hidden states (rows, width, size)."""
        hidden: torch.Tensor = self._inner.get_decoder()(**self._inputs(trees), use_cache=False).last_hidden_state
        return hidden

    def _inputs(self, trees: Sequence[_Tree]) -> dict[str, torch.Tensor]:
        width = max(len(tree.tokens) for tree in trees)
        ids = torch.full((len(trees), width), self._pad)
        for i, tree in enumerate(trees):
            ids[i, : len(tree.tokens)] = torch.tensor(tree.tokens)
        if all(tree.plain for tree in trees):  # right padding: no token looks at what comes after it
            return {"input_ids": ids.to(self._device)}
        positions = torch.zeros_like(ids)
        seen = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)
        for i, tree in enumerate(trees):
            positions[i, : len(tree.tokens)] = torch.tensor(tree.positions)
            end = 0
            for path in tree.paths:
                begin, end = end, max(end, path[-1] + 1)
                if begin == end:
                    continue
                seen[i, begin:end, torch.tensor(path[: len(path) - (end - begin)], dtype=torch.long)] = True
                seen[i, begin:end, begin:end] = torch.ones(end - begin, end - begin, dtype=torch.bool).tril()
        dtype = self._model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        return {
            "input_ids": ids.to(self._device),
            "position_ids": positions.to(self._device),
            "attention_mask": mask[:, None].to(self._device),
        }

    @torch.inference_mode()
    def score(
        self, trees: Sequence[_Tree], continuations: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, float, bool]]:
        """Yield index, log-likelihood and whether greedy decoding would write it, for each sequence of the trees."""
        width = max(len(tree.tokens) for tree in trees)
        places: list[int] = []
        targets: list[int] = []
        spans: list[tuple[int, int]] = []
        for row, tree in enumerate(trees):
            for path, i in zip(tree.paths, tree.wanted, strict=True):
                own = continuations[i]
                places += [row * width + node for node in path[-len(own) :]]
                targets += own
                spans.append((i, len(own)))
        values, best = self._predicted(trees, torch.tensor(places), torch.tensor(targets))
        start = 0
        for i, length in spans:
            part = slice(start, start + length)
            yield i, float(values[part].sum()), bool(best[part].all())
            start += length

    def _predicted(
        self, trees: Sequence[_Tree], places: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probability (float64) of each target, and whether it is the most likely token.

        Args:
            trees: the rows of the batch.
            places: (n,) where in the flattened rows a token is predicted.
            targets: (n,) that token.
        """
        parts: Callable[[torch.Tensor], Iterable[tuple[int, torch.Tensor]]]
        unique, index = places.unique(return_inverse=True)
        if self._head is None:
            keep = unique % max(len(tree.tokens) for tree in trees)
            kept, column = keep.unique(return_inverse=True)
            logits = self._model(**self._inputs(trees), logits_to_keep=kept.to(self._device), use_cache=False).logits
            rows = unique // max(len(tree.tokens) for tree in trees)
            states, parts = logits[rows.to(self._device), column.to(self._device)], _whole
        else:
            hidden = self._hidden(trees)
            states, parts = hidden.reshape(-1, hidden.shape[-1])[unique.to(self._device)], self._head.float32
        order = index.argsort(stable=True)
        values = torch.empty(len(targets), dtype=torch.float64)
        best = torch.empty(len(targets), dtype=torch.bool)
        # Where weights are converted part by part, that is once for all places.
        by_parts = self._head is not None and self._head.rounds
        size = len(unique) if by_parts else LOGITS_PER_CHUNK // self._inner.get_output_embeddings().weight.shape[0]
        size = max(1, size)
        counts = torch.bincount(index, minlength=len(unique)).cumsum(0).tolist()
        for begin in range(0, len(unique), size):
            end = min(begin + size, len(unique))
            chosen = order[(counts[begin - 1] if begin else 0) : counts[end - 1]]
            at, token = (index[chosen] - begin).to(self._device), targets[chosen].to(self._device)
            own = torch.full(token.shape, -torch.inf, device=self._device)
            sums, most, first = [], list[torch.Tensor](), list[torch.Tensor]()
            for start, logits in parts(states[begin:end]):
                here = (token >= start) & (token < start + logits.shape[-1])
                own[here] = logits[at[here], token[here] - start]
                sums.append(logits.logsumexp(-1))
                highest, place = logits.max(-1)
                most.append(highest)
                first.append(place + start)
            part = torch.stack(most).argmax(0, keepdim=True)
            values[chosen] = (own - torch.stack(sums).logsumexp(0)[at]).double().cpu()
            best[chosen] = (torch.stack(first).gather(0, part)[0][at] == token).cpu()
        return values, best


def _whole(logits: torch.Tensor) -> Iterable[tuple[int, torch.Tensor]]:
    return [(0, logits.float())]
