"""From recorded log-probabilities to the loss, with the real model: the base itself is at distance 0 from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lingraft.data.records import Pair
from lingraft.engines.transformers import TransformersEngine
from lingraft.methods.base import MethodInputs, Tally
from lingraft.methods.radis import RaDis, RaDisParams
from lingraft.models.files import find_model
from lingraft.models.loading import load_model
from lingraft.models.output_head import find_head
from lingraft.training.collate import collate
from lingraft.training.terms import LOSSES, Chunk

PAIRS = (
    Pair("a", "Das Wetter ist heute schön.", "The weather is nice today.", "de", "en"),
    Pair("b", "Der Zug kommt um 12 Uhr an.", "The train arrives at 12 o'clock.", "de", "en"),
    Pair("c", "Wir gehen zum alten Hafen.", "We walk to the old harbour.", "de", "en"),
)


@pytest.mark.model
def test_the_base_has_no_distance_to_what_it_recorded() -> None:
    loaded = load_model(find_model("smollm2-135m-instruct"), "fp32", torch.device("cpu"))
    method = RaDis(RaDisParams(max_rationale_tokens=16, filters=[], targets="soft", top_k=8))
    inputs = MethodInputs(PAIRS, seed=1)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    written = {g.id: g for g in TransformersEngine(loaded).generate(list(method.requests(inputs)))}
    rows = [loaded.renderer.render(example) for example in method.examples(inputs, written, Tally())]
    aligned = sum(len(row.teacher.positions) for row in rows if row.teacher is not None)
    assert aligned >= 0.9 * sum(len(g.token_ids) for g in written.values())
    batch = collate(rows, loaded.renderer.pad_id)
    targets = batch.targets
    ((begin, end),) = [(begin, end) for kind, begin, end in targets.segments if kind == "kl"]
    assert end - begin == aligned
    assert targets.teacher_ids is not None
    assert targets.teacher_logprobs is not None
    with torch.no_grad():
        output = loaded.model(**batch.model_inputs(), use_cache=False, output_hidden_states=True, logits_to_keep=1)
        states = output.hidden_states[-1].flatten(0, 1)[targets.positions[begin:end]]
        logits = find_head(loaded.model, rows[0].input_ids[:16])(states)
        chunk = Chunk(
            logits=logits,
            labels=targets.labels[begin:end],
            teacher_ids=targets.teacher_ids[begin:end],
            teacher_logprobs=targets.teacher_logprobs[begin:end],
        )
        distance = LOSSES["kl"].term(chunk)
    # Recorded to 4 decimals; after a boundary that is tokenised otherwise than it was written, a few may differ.
    assert (distance < 1e-4).float().mean() > 0.9
