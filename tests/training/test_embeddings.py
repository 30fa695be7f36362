"""Embeddings and output head that learn: right gradients, saved exactly, continued, and off the base afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from lingraft.core.errors import ModelError, StoreError, UsageError
from lingraft.models.adapter import take_off, whole_layers
from lingraft.models.graft import grafted
from lingraft.models.growth import extended
from lingraft.models.loading import LoadedModel
from lingraft.models.vocabulary import Vocabulary
from lingraft.training.settings import TrainSettings
from lingraft.training.span_trainer import save_adapter
from lingraft.training.step_callback import TrainProgress
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import ALL, TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows
from vocabulary_support import learn, load_base, save_base, untie

BASE = {"learning_rate": 1e-2, "tokens_per_step": 100, "micro_tokens": 1000, "precision": "fp32", "epochs": 2}
IDS = torch.arange(5, 60)[None]
CASES = [
    ("all", True),
    pytest.param("all", False, marks=pytest.mark.long),
    pytest.param("new", True, marks=pytest.mark.long),
    ("new", False),
]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    learn(save_base(tmp_path / "base"), tmp_path / "v")
    return tmp_path / "v"


def base_of(vocabulary: Path, tied: bool) -> LoadedModel:
    files = save_base(vocabulary.parent / "base")
    loaded = load_base(files)
    if not tied:
        untie(loaded.model)
    return loaded


def rows_for(grown: LoadedModel, count: int = 30) -> list[Any]:
    return random_rows(count, vocab=grown.new_ids.stop, weight=0.3)


def run(work: Path, grown: LoadedModel, embeddings: str, **options: Any) -> TrainResult:
    params = LoraTuner.Params(rank=4, dropout=0.0, embeddings=embeddings, **options.pop("params", {}))
    given = {key: options.pop(key) for key in ("initial", "progress", "seed") if key in options}
    return train(
        grown.model,
        rows_for(grown),
        TrainSettings.model_validate(BASE | options),
        LoraTuner(params),
        pad_id=0,
        work_dir=work,
        new_ids=grown.new_ids,
        **({"seed": 3} | given),
    )


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model(input_ids=IDS).logits)


@pytest.mark.parametrize(("embeddings", "tied"), CASES)
def test_gradients_are_those_of_plain_autograd(vocabulary: Path, tmp_path: Path, embeddings: str, tied: bool) -> None:
    loaded = base_of(vocabulary, tied)
    with extended(loaded, Vocabulary.of(vocabulary)) as grown:
        tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0.0, embeddings=embeddings))  # type: ignore[arg-type]
        plain = tuner.apply(grown.model, TunerInputs(seed=3, new_ids=grown.new_ids))
        rows, total, weight = rows_for(grown), torch.zeros((), dtype=torch.float64), 0.0
        for row in rows:
            log_p = plain(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
            for t in range(1, len(row.input_ids)):
                total = total - row.weights[t] * log_p[t - 1, row.input_ids[t]]
                weight += row.weights[t]
        (total / weight).backward()
        expected = {name: p.grad.clone() for name, p in plain.named_parameters() if p.requires_grad}
        assert any("lora" not in name for name in expected)
        take_off(plain)
        start = logits(grown.model)
        seen: dict[str, torch.Tensor] = {}

        class Spy(LoraTuner):
            def apply(self, model: Any, inputs: TunerInputs, selected: Any = ALL) -> PeftModel:
                adapted = super().apply(model, inputs, selected)
                for name, parameter in adapted.named_parameters():
                    if parameter.requires_grad:
                        parameter.register_post_accumulate_grad_hook(
                            lambda p, name=name: seen.__setitem__(name, p.grad.clone())
                        )
                torch.testing.assert_close(logits(adapted), start, rtol=0, atol=1e-5)
                return adapted

        settings = TrainSettings.model_validate(BASE | {"tokens_per_step": 10_000, "epochs": 1})
        result = train(
            grown.model,
            rows,
            settings,
            Spy(tuner.params),
            pad_id=0,
            work_dir=tmp_path / "w",
            seed=3,
            new_ids=grown.new_ids,
        )
        assert result.steps == 1
        assert seen.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(seen[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("embeddings", "tied"), CASES)
def test_what_is_saved_is_what_was_trained_and_the_base_is_restored(
    vocabulary: Path, tmp_path: Path, embeddings: str, tied: bool, precision: str
) -> None:
    loaded = base_of(vocabulary, tied)
    before, state = logits(loaded.model), dict(loaded.model.named_parameters())
    graft = tmp_path / "graft"
    with extended(loaded, Vocabulary.of(vocabulary)) as grown:
        start = grown.model.get_input_embeddings().weight.clone()
        result = run(tmp_path / "w", grown, embeddings, precision=precision)
        learnt = {name: p for name, p in result.model.named_parameters() if p.requires_grad}
        assert {p.dtype for p in learnt.values()} == {torch.float32}
        embedding = result.model.get_input_embeddings().weight
        changed = (embedding != start).any(1).nonzero().flatten().tolist()
        old = set(range(grown.new_ids.start))
        assert set(changed) & set(grown.new_ids)
        assert bool(set(changed) & old) == (embeddings == "all")
        if tied:
            assert torch.equal(embedding, result.model.get_output_embeddings().weight)
        trained = logits(result.model)
        save_adapter(result.model, graft)
        take_off(result.model)
    Vocabulary.of(vocabulary).copy_to(graft)
    assert {tensor.dtype for tensor in load_file(graft / "adapter_model.safetensors").values()} == {torch.float32}
    assert dict(loaded.model.named_parameters()).keys() == state.keys()
    assert all(parameter is state[name] for name, parameter in loaded.model.named_parameters())
    assert torch.equal(logits(loaded.model), before)
    for _ in range(2):
        with grafted(loaded, graft) as on:
            torch.testing.assert_close(logits(on.model), trained, rtol=0, atol=1e-6)
            assert not any(parameter.requires_grad for parameter in on.model.parameters())
        assert torch.equal(logits(loaded.model), before)
        assert all(parameter is state[name] for name, parameter in loaded.model.named_parameters())


def test_copies_begin_with_the_weights_of_the_base_not_with_rounded_ones(vocabulary: Path, tmp_path: Path) -> None:
    with extended(base_of(vocabulary, True), Vocabulary.of(vocabulary)) as grown:
        exact = grown.model.get_input_embeddings().weight.clone()
        result = run(tmp_path / "w", grown, "all", precision="bf16", learning_rate=1e-12)
        ((_, copy), _) = whole_layers(result.model)
        torch.testing.assert_close(copy.weight, exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("embeddings", "tied"), CASES)
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    vocabulary: Path, tmp_path: Path, embeddings: str, tied: bool
) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    found = []
    for work in ("whole", "cut"):
        loaded = base_of(vocabulary, tied)
        with extended(loaded, Vocabulary.of(vocabulary)) as grown:
            if work == "cut":
                with pytest.raises(KeyboardInterrupt):
                    run(tmp_path / work, grown, embeddings, save_every_steps=2, progress=stop)
                assert type(grown.model.get_input_embeddings()) is torch.nn.Embedding
            result = run(tmp_path / work, grown, embeddings, save_every_steps=2)
            found.append(([point.loss for point in result.log], logits(result.model)))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize(("embeddings", "tied"), [*CASES, ("none", True)])
def test_training_goes_on_from_a_saved_graft(vocabulary: Path, tmp_path: Path, embeddings: str, tied: bool) -> None:
    loaded = base_of(vocabulary, tied)
    graft = tmp_path / "graft"
    with extended(loaded, Vocabulary.of(vocabulary)) as grown:
        result = run(tmp_path / "one", grown, embeddings)
        trained = logits(result.model)
        save_adapter(result.model, graft)
        take_off(result.model)
        still = run(tmp_path / "two", grown, embeddings, initial=graft, learning_rate=1e-12, epochs=0.1, seed=9)
        torch.testing.assert_close(logits(still.model), trained, rtol=0, atol=1e-5)
        take_off(still.model)
        with pytest.raises(StoreError, match="other rows, settings or seed"):
            run(tmp_path / "one", grown, embeddings, initial=graft)
        assert type(grown.model.get_input_embeddings()) is torch.nn.Embedding


def test_a_graft_of_another_form_cannot_be_continued(vocabulary: Path, tmp_path: Path) -> None:
    with extended(base_of(vocabulary, True), Vocabulary.of(vocabulary)) as grown:
        result = run(tmp_path / "one", grown, "none")
        save_adapter(result.model, tmp_path / "graft")
        take_off(result.model)
        for name, params, complaint in (
            ("all", {}, "does not fit the base"),
            ("none", {"targets": ("q_proj",)}, "does not fit the base"),
            ("none", {"alpha": 8.0}, "lora_alpha 32.0, the tuner 8.0; continue with the tuner it was made with"),
        ):
            with pytest.raises(ModelError, match=complaint):
                run(tmp_path / "two", grown, name, initial=tmp_path / "graft", params=params)
            assert type(grown.model.get_input_embeddings()) is torch.nn.Embedding
        (tmp_path / "graft" / "adapter_model.safetensors").write_bytes(b"nothing")
        with pytest.raises(ModelError, match="is damaged"):
            run(tmp_path / "two", grown, "none", initial=tmp_path / "graft")


def test_what_cannot_be_trained_is_refused(vocabulary: Path) -> None:
    loaded = base_of(vocabulary, True)
    with pytest.raises(UsageError, match="trains the rows that a vocabulary has added, and there is none"):
        LoraTuner(LoraTuner.Params(embeddings="new")).apply(loaded.model, TunerInputs())
    model: Any = base_of(vocabulary, True).model
    untie(model, bias=True)
    with pytest.raises(UsageError, match="does not go with the bias of LlamaForCausalLM's output head; use all"):
        LoraTuner(LoraTuner.Params(embeddings="new")).apply(model, TunerInputs(new_ids=range(3)))
    adapted = LoraTuner(LoraTuner.Params(embeddings="all")).apply(model, TunerInputs())
    assert any("lm_head" in name and name.endswith("bias") for name, p in adapted.named_parameters() if p.requires_grad)
