"""Rounds of synthesis: who is asked, in which order, and what an interrupted run goes on with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError, UsageError
from lingraft.core.progress import Reporter
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine
from lingraft.engines.scripted import ScriptedEngine
from lingraft.engines.transformers import TransformersEngine
from lingraft.methods.base import METHODS, MethodInputs, Round
from lingraft.pipeline.answers import read_answers
from lingraft.pipeline.context import Context
from lingraft.pipeline.dry_run import describe, estimate
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.preview import preview_examples
from lingraft.pipeline.render import render_system
from lingraft.pipeline.rounds import MOST_ROUNDS, all_answered
from lingraft.pipeline.synthesise import StageExamples, ask_ahead, synthesise
from lingraft.recipe.choices import EngineChoice
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from rounds_support import TEACHER, Reviewed

PAIRS = 10


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_targets", dict(METHODS._targets))
    METHODS.register("reviewed", Reviewed)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(model: Path, *stages: dict[str, Any], **changes: Any) -> Recipe:
    starter = {"source": "de", "target": "en"}
    values = {
        "name": "rounds",
        "model": str(model),
        "engine": "transformers",
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": PAIRS, **starter},
            "test": {"path": "starter:test.de-en.jsonl", **starter},
        },
        "stages": list(stages) or [{"method": "reviewed"}],
        "evaluate": {"retention": {"suites": []}},
        **changes,
    }
    return parse_recipe(values, "test", Path("/"))


def opened(recipe: Recipe, folder: Path) -> tuple[Context, Data]:
    context = Context(recipe, folder, Reporter(quiet=True))
    return context, prepare(context)


def synthesised(recipe: Recipe, folder: Path) -> tuple[Context, Data, StageExamples]:
    context, data = opened(recipe, folder)
    (system,) = recipe.systems()
    return context, data, synthesise(context, data, system)


def _names(folder: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in folder.glob("*-*") if path.suffix != ".partial")


def _bytes(folder: Path) -> dict[str, bytes]:
    """Return the files of a finished part of a run, without the manifests: they say how long it took."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_each_round_asks_by_what_was_answered_before(model: Path, tmp_path: Path) -> None:
    context, data, made = synthesised(recipe(model), tmp_path)
    (part,) = made.components
    assert [folder.name.rpartition("-")[0] for folder in part.artefacts] == [
        "synthesis-reviewed-explain",
        "synthesis-reviewed-shorten",
        "synthesis-reviewed-judge",
    ]
    explained, shortened, judged = (read_answers(folder) for folder in part.artefacts)
    for pair in data.train:
        begins = explained[f"explain:{pair.id}"].text[:1]
        assert shortened[f"shorten:{pair.id}"].text == f"Short {begins if begins.isalnum() else ''}."
        assert part.answers[f"judge:{pair.id}"] == judged[f"judge:{pair.id}"]
    assert len(part.answers) == 3 * PAIRS
    assert len(render_system(context, data, made).rows) == PAIRS


def test_what_is_trained_on_depends_on_the_answers_of_every_round(model: Path, tmp_path: Path) -> None:
    identities = [
        made.main.identity()["answers"]
        for made in (
            synthesised(recipe(model, {"method": "reviewed", "params": params}), tmp_path)[2]
            for params in ({}, {"teacher": {"kind": "scripted"}})
        )
    ]
    first, second = identities
    assert len(first) == len(second)
    assert first != second


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("step", "engine"),
    [
        pytest.param("explain", TransformersEngine, marks=pytest.mark.long),
        ("shorten", ScriptedEngine),
        pytest.param("judge", TransformersEngine, marks=pytest.mark.long),
    ],
)
def test_a_run_that_is_killed_within_a_round_goes_on_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, engine: type[Any]
) -> None:
    own = Context.engine

    def in_small_parts(self: Context, choice: EngineChoice | None = None) -> Engine:
        opened = own(self, choice)
        opened.part_size = 4
        return opened

    monkeypatch.setattr(Context, "engine", in_small_parts)
    context, data, made = synthesised(recipe(model), tmp_path / "whole")
    render_system(context, data, made)
    generate, asked = engine.generate, list[str]()

    def breaks(self: Any, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        some = list(requests)
        asked.extend(request.id for request in some)
        if some[0].id.startswith(step) and len([id_ for id_ in asked if id_.startswith(step)]) > 4:
            raise Interrupted
        yield from generate(self, some, graft)

    def counts(self: Any, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        some = list(requests)
        asked.extend(request.id for request in some)
        yield from generate(self, some, graft)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "generate", breaks)
        with pytest.raises(Interrupted):
            synthesised(recipe(model), tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed").glob("*.partial")]
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "generate", counts)
        context, data, made = synthesised(recipe(model), tmp_path / "killed")
    assert len([id_ for id_ in asked if id_.startswith(step)]) == PAIRS - 4
    render_system(context, data, made)
    assert _bytes(tmp_path / "killed") == _bytes(tmp_path / "whole")


def test_all_that_needs_no_training_is_asked_ahead_of_any(model: Path, tmp_path: Path) -> None:
    """The second stage's last round is of the graft that the first one trains."""
    chain = recipe(model, {"method": "vanilla"}, {"method": "reviewed", "params": {"judge": "before"}})
    context, data = opened(chain, tmp_path)
    ask_ahead(context, data)
    assert [name for name in _names(tmp_path) if name.startswith("synthesis")] == [
        "synthesis-reviewed-explain",
        "synthesis-reviewed-shorten",
    ]
    (system,) = chain.systems()
    with pytest.raises(UsageError, match="'reviewed' asks the graft of the stage before, and there is none"):
        synthesise(context, data, system, 1)


class _Fussy(Reviewed):
    """Finds the answers of its first round too few."""

    name = "fussy"
    seen: ClassVar[list[int]] = []

    def shortfall(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> str:
        self.seen.append(len(generations))
        return "" if len(generations) > PAIRS else "too few"


def test_nothing_more_is_asked_once_the_answers_fall_short(model: Path, tmp_path: Path) -> None:
    METHODS.register("fussy", _Fussy)
    fussy = recipe(model, {"method": "fussy"})
    context, data = opened(fussy, tmp_path)
    with pytest.raises(DataError, match="system 'fussy', stage 'fussy', method 'fussy': too few"):
        ask_ahead(context, data)
    assert _Fussy.seen == [PAIRS]
    assert "synthesis-reviewed-shorten" not in _names(tmp_path)


def _walked(model: Path, folder: Path, method: Reviewed) -> Any:
    context, data = opened(recipe(model), folder)
    return all_answered(context, method, MethodInputs(data.train[:2]), context.renderer)


def test_a_round_without_requests_is_passed_over(model: Path, tmp_path: Path) -> None:
    class Sparing(Reviewed):
        def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
            if number in (0, 2, 4):
                return Round(requests=lambda: iter(()), of="before")  # nobody is needed to answer nothing
            return super().round(number // 2, inputs, answers) if number < 5 else None

    answered = _walked(model, tmp_path, Sparing(Sparing.Params()))
    assert [path.name.rpartition("-")[0] for path in answered.artefacts] == [
        "synthesis-reviewed-explain",
        "synthesis-reviewed-shorten",
    ]


def test_a_method_that_asks_for_ever_is_stopped(model: Path, tmp_path: Path) -> None:
    class Endless(Reviewed):
        def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
            return Round(requests=lambda: iter(()))

    with pytest.raises(UsageError, match=f"'reviewed' has asked {MOST_ROUNDS} rounds and is not done"):
        _walked(model, tmp_path, Endless(Endless.Params()))


def test_two_rounds_with_an_id_in_common_are_refused(model: Path, tmp_path: Path) -> None:
    class Repeating(Reviewed):
        def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
            return super().round(0, inputs, answers) if number < 2 else None

    with pytest.raises(UsageError, match=r"the request 'explain:.*' of round 2 has the id of one before"):
        _walked(model, tmp_path, Repeating(Repeating.Params()))


def test_rounds_without_a_name_have_folders_of_their_own(model: Path, tmp_path: Path) -> None:
    class Nameless(Reviewed):
        def round(self, number: int, inputs: MethodInputs, answers: Mapping[str, Generation]) -> Round | None:
            this = super().round(number, inputs, answers)
            return this and Round(requests=this.requests, of=this.of)

    answered = _walked(model, tmp_path, Nameless(Nameless.Params()))
    assert [path.name.rpartition("-")[0] for path in answered.artefacts] == [
        "synthesis-reviewed",
        "synthesis-reviewed-2",
        "synthesis-reviewed-3",
    ]


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"judge": "before"},
        "system 'reviewed': method 'reviewed' asks the graft of the stage before, and there is none; put a stage "
        "before it, or change its parameter `judge`",
    ),
    (
        {"teacher": {"kind": "scriptd"}},
        "system 'reviewed': shorten of 'reviewed': unknown engine 'scriptd'; did you mean 'scripted'?",
    ),
    (
        {"teacher": {**TEACHER, "rule": []}},
        "unknown key \"system 'reviewed': shorten of 'reviewed'.rule\"; did you mean 'rules'?",
    ),
    (
        {"targets": "soft"},
        "system 'reviewed': method 'reviewed' needs the distributions of tokens, and shorten of 'reviewed' "
        "(scripted) gives none: it answers by rule; take another engine, or set `targets: hard`",
    ),
    (
        {"targets": "soft", "teacher": {"kind": "openai", "server": "other"}},
        "system 'reviewed': method 'reviewed' needs the distributions of tokens, and shorten of 'reviewed' "
        "(openai) gives none: a server of kind 'other' tells no token ids; take vllm or llama.cpp, or another engine, "
        "or set `targets: hard`",
    ),
]


@pytest.mark.parametrize(("params", "said"), REFUSED)
def test_who_cannot_answer_is_refused_when_the_recipe_is_read(model: Path, params: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        recipe(model, {"method": "reviewed", "params": params})
    assert str(refused.value).removeprefix("test: ") == said


def test_the_recipes_own_engine_has_to_give_distributions_as_well(model: Path) -> None:
    with pytest.raises(UsageError, match=r"and the engine \(scripted\) gives none"):
        recipe(model, {"method": "radis", "params": {"targets": "soft"}}, engine={"kind": "scripted"})


def test_a_preview_goes_through_the_rounds_and_says_where_it_cannot(model: Path) -> None:
    asked, shown = [], []
    for one in preview_examples(recipe(model), 2):
        (asked if one.note else shown).append(one)
    assert {one.stage for one in [*asked, *shown]} == {"reviewed (reviewed)"}
    assert len(shown) == 2
    assert all("\n" in one.text.plain for one in shown)
    rounds = {"explain": "the base", "shorten": "the engine scripted", "judge": "the base"}
    assert [one.note.partition(", for")[0] for one in asked] == [
        f"reviewed asks {who} (synthesis-reviewed-{name})" for name, who in rounds.items()
    ]
    assert all(f"for instance {name}:" in one.note for one, name in zip(asked, rounds, strict=True))
    assert all("<|im_start|>user\n" in one.text.plain for one in asked)
    chain = recipe(model, {"method": "vanilla"}, {"method": "reviewed", "params": {"judge": "before"}})
    (*_, last) = preview_examples(chain, 1)
    assert last.note == "reviewed: it asks the graft of the stage before, which a preview does not train"


def test_a_dry_run_reckons_with_every_round_and_says_who_is_asked(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    judged = {"method": "reviewed", "params": {"judge": "before"}}
    chain = recipe(
        model, {"method": "reviewed", "name": "first"}, judged, compare=[{"method": "reviewed", "name": "one"}]
    )
    lines = [line for line in estimate(chain).lines if line.stage.startswith("synthesis")]
    pairs, each = PAIRS, 0.75 * 6
    assert [(line.stage, line.tokens, line.note.partition(";")[0]) for line in lines] == [
        ("synthesis-reviewed-explain", pairs * each, ""),
        ("synthesis-reviewed-shorten", pairs * each, "by engine scripted"),
        ("synthesis-reviewed-judge", pairs * each, ""),
        ("synthesis-reviewed-judge", pairs * each, "by the graft of the stage before"),
    ]  # what has been answered is not asked again
    assert [line.hours > 0 for line in lines] == [True, False, True, True]
    shown = describe(chain, tmp_path).splitlines()
    assert [text.split("  ")[0] for text in shown if text.startswith("synthesis")] == [line.stage for line in lines]


def test_a_server_may_be_asked_beside_a_base_in_4_bits(model: Path, tmp_path: Path) -> None:
    stage = {"method": "reviewed", "train": {"precision": "nf4"}}
    context = Context(recipe(model, stage), tmp_path, Reporter(quiet=True))
    assert context.precision == "nf4"
    assert context.engine(EngineChoice.model_validate(TEACHER)).name == "scripted"
