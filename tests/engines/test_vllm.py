"""vLLM for real: against the transformers engine in float32, and what happens around it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from peft import LoraConfig, get_peft_model

from lingraft.core.environment import cache_folder
from lingraft.core.errors import EngineError, ModelError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import EngineModel
from lingraft.engines.transformers import TransformersEngine
from lingraft.engines.vllm import WINDOW, VllmEngine
from lingraft.engines.vllm_requests import sampling_params
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel, load_model
from models_support import request, tiny_on_disk, with_adapter
from vocabulary_support import load_base, make_graft

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(bool(VllmEngine.missing()), reason=VllmEngine.missing() or "installed"),
]
TEXTS = (
    "Guten Tag!",
    "Das Wetter ist heute schön, deshalb gehen wir zum alten Hafen und essen Fisch.",
    "x",
    "今天天气很好",
    "Sie wissen nicht alles. " * 4,
)
MANY = 4  # requests that the engine under test decodes at once


PROCESSES = "VLLM_ENABLE_V1_MULTIPROCESSING"


@pytest.fixture(autouse=True, scope="module")
def in_this_process() -> Iterator[None]:
    """Run vLLM without processes of its own where a test does not ask for them: they take 20 seconds each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROCESSES, "0")
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return tiny_on_disk(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def engine(base: LoadedModel) -> Iterator[VllmEngine]:
    with closing(started(base)) as made:
        yield made


def started(base: LoadedModel) -> VllmEngine:
    return VllmEngine.create(EngineModel.of(base), VllmEngine.Params(max_num_seqs=MANY, kv_cache_gib=0.25))


def asked(top: int = 0, new_tokens: int = 24) -> list[Request]:
    return [
        *(request(f"plain{i}", text, top=top, max_new_tokens=new_tokens) for i, text in enumerate(TEXTS)),
        *(
            request(f"prefill{i}", text, prefill="Hello.\n\nNote: ", max_new_tokens=new_tokens)
            for i, text in enumerate(TEXTS)
        ),
        *(request(f"stop{i}", text, stop=("e", "\nNote"), max_new_tokens=new_tokens) for i, text in enumerate(TEXTS)),
    ]


def by_id(answers: Iterator[Generation]) -> dict[str, Generation]:
    return {answer.id: answer for answer in answers}


def same(found: dict[str, Generation], wanted: dict[str, Generation]) -> None:
    """Check that answers are equal, log-probabilities to two decimals."""
    assert {id_: replace(answer, logprobs=None) for id_, answer in found.items()} == {
        id_: replace(answer, logprobs=None) for id_, answer in wanted.items()
    }
    for id_, answer in wanted.items():
        assert (answer.logprobs is None) == (found[id_].logprobs is None)
        for mine, theirs in zip(found[id_].logprobs or (), answer.logprobs or (), strict=True):
            assert len(mine) == len(theirs)
            assert [value for _, value in mine] == pytest.approx([value for _, value in theirs], abs=0.01)


def adapter(base: LoadedModel, folder: Path, **settings: object) -> Path:
    """Save a random adapter that changes the outputs; `settings` go to PEFT."""
    if settings:
        fresh = load_model(base.files, "fp32").model
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **settings)  # type: ignore[arg-type]
        model = get_peft_model(fresh, config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.data.add_(0.3 * parameter.data.new_tensor(range(parameter.numel())).view_as(parameter).sin())
    else:
        model = with_adapter(load_model(base.files, "fp32").model)
    model.save_pretrained(str(folder))
    return folder


def test_greedy_answers_and_log_probabilities_are_those_of_transformers(engine: VllmEngine, base: LoadedModel) -> None:
    wanted = by_id(TransformersEngine(base).generate(asked(top=5)))
    found = by_id(engine.generate(asked(top=5)))
    same(found, wanted)
    assert {answer.finish_reason for answer in found.values()} >= {"stop_string", "length"}
    assert any(answer.logprobs for answer in found.values())


def test_requests_are_drawn_as_they_are_needed(engine: VllmEngine) -> None:
    drawn = 0

    def many() -> Iterator[Request]:
        nonlocal drawn
        for i in range(60):
            drawn += 1
            yield request(str(i), TEXTS[i % len(TEXTS)], max_new_tokens=2 + i % 7)

    answered = []
    for answer in engine.generate(many()):
        answered.append(answer.id)
        assert drawn - len(answered) < WINDOW * MANY
    assert sorted(answered, key=int) == [str(i) for i in range(60)]


def test_a_sampled_answer_depends_on_seed_and_id_alone(engine: VllmEngine) -> None:
    sampled = [request(f"s{i}", TEXTS[0], temperature=1.0, top_p=0.95, seed=5, max_new_tokens=16) for i in range(6)]
    together = by_id(engine.generate([*asked(), *sampled]))
    alone = by_id(engine.generate(sampled[3:4]))
    assert alone["s3"] == together["s3"]
    assert len({together[each.id].text for each in sampled}) > 3
    other = [replace(each, sampling=replace(each.sampling, seed=6)) for each in sampled]
    assert {each.text for each in engine.generate(other)} != {together[each.id].text for each in sampled}


def test_what_is_not_wanted_any_more_is_given_up(engine: VllmEngine) -> None:
    long = [request(str(i), TEXTS[1], max_new_tokens=1500) for i in range(MANY - 1)]
    running = engine.generate([*long, request("short", "x", max_new_tokens=1)])
    assert next(running).id == "short"
    running.close()
    assert not engine.llm().llm_engine.has_unfinished_requests()
    assert [answer.id for answer in engine.generate([request("next", "x", max_new_tokens=3)])] == ["next"]


def test_a_request_that_does_not_fit_is_named_and_the_engine_goes_on(engine: VllmEngine) -> None:
    with pytest.raises(EngineError, match=r"request 'long': \d+ prompt tokens leave no room for 4000 more"):
        list(engine.generate([request("long", "x", max_new_tokens=4000)]))
    assert len(list(engine.generate([request("next", "x", max_new_tokens=3)]))) == 1


def test_grafts_beside_the_base_and_merged(
    base: LoadedModel,
    engine: VllmEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    plain = by_id(TransformersEngine(base).generate(asked()))
    beside = adapter(base, tmp_path / "beside")
    wanted = by_id(TransformersEngine(load_model(base.files, "fp32")).generate(asked(top=5), beside))
    assert wanted.keys() == plain.keys()
    assert sum(wanted[id_].token_ids != plain[id_].token_ids for id_ in plain) > len(plain) // 2
    same(by_id(engine.generate(asked(top=5), beside)), wanted)
    assert not (cache_folder() / "merged").exists()
    merged = adapter(base, tmp_path / "merged", use_dora=True)
    wanted = by_id(TransformersEngine(load_model(base.files, "fp32")).generate(asked(top=5), merged))
    with caplog.at_level(logging.WARNING):
        same(by_id(engine.generate(asked(top=5), merged)), wanted)
    (said,) = caplog.messages
    assert "DoRA" in said
    assert "GiB in" in said
    assert len(list((cache_folder() / "merged").iterdir())) == 1


def test_a_graft_of_another_model_is_refused(
    engine: VllmEngine, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from builders import tiny_llama, tiny_tokenizer

    other = with_adapter(tiny_llama(tiny_tokenizer(), hidden=64))
    other.save_pretrained(str(tmp_path / "other"))
    with pytest.raises(ModelError, match="does not fit the base"):
        list(engine.generate(asked(), tmp_path / "other"))


def test_a_dead_engine_is_one_sentence_and_its_processes_are_gone(
    base: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm import envs

    envs.disable_envs_cache()
    monkeypatch.setenv(PROCESSES, "1")
    before = set(psutil.Process().children(recursive=True))
    with closing(started(base)) as engine:
        running = engine.generate([request(str(i), TEXTS[1], max_new_tokens=1500) for i in range(8)])
        engine.llm()
        started_now = [child for child in psutil.Process().children(recursive=True) if child not in before]
        workers = [child for child in started_now if "VLLM::EngineCore" in " ".join(child.cmdline())]
        assert workers, [child.cmdline() for child in started_now]
        os.kill(workers[0].pid, signal.SIGKILL)
        with pytest.raises(
            EngineError, match=r"^vLLM failed: .*; its log is .*\.log, and VLLM_LOGGING_LEVEL"
        ) as failed:
            list(running)
        assert "\n" not in str(failed.value)
        assert len(list(engine.generate([request("again", "x", max_new_tokens=2)]))) == 1
    left = [child for child in workers if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not left


@pytest.mark.long
@pytest.mark.model
def test_the_embedded_model_answers_as_with_transformers(tmp_path: Path) -> None:
    base = load_model(find_model("smollm2-135m-instruct"), "fp32")
    texts: Sequence[str] = ("Name three colours.", "Translate to English: Das Wetter ist heute schön.", "What is 2+2?")
    requests = [
        *(request(f"p{i}", text, top=4, max_new_tokens=24) for i, text in enumerate(texts)),
        *(request(f"n{i}", text, prefill="Yes.\n\nNote:", max_new_tokens=24) for i, text in enumerate(texts)),
        *(request(f"s{i}", text, stop=("\n", " a"), max_new_tokens=24) for i, text in enumerate(texts)),
    ]
    wanted = by_id(TransformersEngine(base).generate(requests))
    with closing(started(base)) as engine:
        same(by_id(engine.generate(requests)), wanted)


def test_a_graft_with_its_own_vocabulary_is_served_merged_with_its_own_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    files, graft = make_graft(tmp_path, "all", hidden=128)
    loaded = load_base(files)
    requests = [request(f"r{i}", text) for i, text in enumerate(("วันนี้อากาศดี เศรษฐกิจ", "Hello"))]
    with closing(started(loaded)) as engine:
        found = {one.id: one.token_ids for one in engine.generate(requests, graft)}
    assert found == {one.id: one.token_ids for one in TransformersEngine(loaded).generate(requests, graft)}


def test_a_request_ends_at_the_ends_of_the_base_and_at_no_other_token() -> None:
    sampling = sampling_params(request("a", "Hi"), (3, 7))
    sampling.update_from_generation_config({"eos_token_id": [9, 3]}, 1)  # as vLLM does with what it loads itself
    assert (sampling.stop_token_ids, sampling.ignore_eos) == ([3, 7], True)
