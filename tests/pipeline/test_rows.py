"""Data and rows of a run, read lazily and rendered in a stream, against the same done in lists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError
from lingraft.core.progress import Reporter
from lingraft.data.pair_checks import CheckLimits, check_pairs
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Example, Generation, Message, Pair, Rejected, Span
from lingraft.data.sampling import sample_mixture
from lingraft.methods.base import MethodInputs, Tally
from lingraft.methods.vanilla import Vanilla
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.render import _Rendering, render_system
from lingraft.pipeline.synthesise import Component, synthesise
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import verify


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(model: Path, **pairs: Any) -> Recipe:
    starter = {"source": "de", "target": "en"}
    values = {
        "name": "rows",
        "model": str(model),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "both_directions": True, "limit": 30, **starter},
            "test": {"path": "starter:test.de-en.jsonl", **starter},
            **pairs,
        },
        "stages": [{"method": "vanilla", "params": {"instructions": "varied"}}],
        "evaluate": {"retention": {"suites": []}},
    }
    return parse_recipe(values, "test", Path("/"))


def opened(recipe: Recipe, folder: Path) -> tuple[Context, Data]:
    context = Context(recipe, folder, Reporter(quiet=True))
    return context, prepare(context)


def test_rows_are_what_lists_would_give(model: Path, tmp_path: Path) -> None:
    made = recipe(model)
    context, data = opened(made, tmp_path)
    (source,) = made.pairs.train
    checked = check_pairs(read_pairs(source), CheckLimits(), file=source.path, count_tokens=context.renderer.count_many)
    pairs = list(islice((item for item in checked if isinstance(item, Pair)), 30))
    mixed = list(sample_mixture([(source, pairs)], "proportional", made.seed))
    assert list(data.train) == mixed
    assert len(mixed) == 60
    assert data.directions == list(dict.fromkeys((pair.source_lang, pair.target_lang) for pair in mixed))
    (system,) = made.systems()
    rendered = render_system(context, data, synthesise(context, data, system))
    method = Vanilla(Vanilla.Params.model_validate(system.stage.params))
    examples = method.examples(MethodInputs(mixed, seed=made.seed), {}, Tally())
    assert list(rendered.rows) == [context.renderer.render(example) for example in examples]


def test_rejected_rows_are_read_lazily_in_the_order_they_were_found(model: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"source": f"Das ist Satz Nummer {i}.", "target": f"This is row {i}."}) for i in range(60)]
    lines[3], lines[7] = "{broken", json.dumps({"source": "", "target": "Nothing."})
    (tmp_path / "train.jsonl").write_text("\n".join(lines), "utf-8")
    train = {"path": str(tmp_path / "train.jsonl"), "source": "de", "target": "en"}
    _, data = opened(recipe(model, train=train), tmp_path / "run")
    found = list(check_pairs(read_pairs(PairSource(**train)), CheckLimits(), file=train["path"]))
    assert list(data.rejected) == [item for item in found if isinstance(item, Rejected)]
    assert list(data.rejected[1:]) == list(data.rejected)[1:]
    assert (tmp_path / "run" / "rejected.jsonl").read_text("utf-8") == (data.folder / "rejected.jsonl").read_text(
        "utf-8"
    )
    assert data.counts == {train["path"]: {"malformed": 1, "empty_source": 1}}
    assert not list(data.folder.glob("accepted-*"))


class Interrupted(Exception):
    """Stands for a kill."""


def test_rendering_that_was_interrupted_ends_as_if_it_had_not_been(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(model)
    (system,) = made.systems()
    context, data = opened(made, tmp_path / "whole")
    whole = render_system(context, data, synthesise(context, data, system))

    examples = Vanilla.examples

    def breaks(self: Vanilla, *arguments: Any) -> Iterator[Example]:
        yield from islice(examples(self, *arguments), 17)
        raise Interrupted

    context, data = opened(made, tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(Vanilla, "examples", breaks)
        with pytest.raises(Interrupted):
            render_system(context, data, synthesise(context, data, system))
    assert not [path for path in (tmp_path / "killed").glob("rows-*") if verify(path)]
    again = render_system(context, data, synthesise(context, data, system))
    assert again.content == whole.content
    assert list(again.rows) == list(whole.rows)
    once = {path: path.stat().st_mtime_ns for path in again.folder.rglob("*")}
    render_system(context, data, synthesise(context, data, system))
    assert once == {path: path.stat().st_mtime_ns for path in again.folder.rglob("*")}


def test_too_many_examples_that_do_not_fit_stop_the_run(model: Path, tmp_path: Path) -> None:
    long = [json.dumps({"source": "a b " * 600 + str(i), "target": "b a " * 600 + str(i)}) for i in range(3)]
    (tmp_path / "train.jsonl").write_text("\n".join(long), "utf-8")
    train = {"path": str(tmp_path / "train.jsonl"), "source": "de", "target": "en"}
    made = recipe(model, train=train)
    checks = made.checks.model_copy(update={"max_tokens": 10_000, "language_check": False})
    made = made.model_copy(update={"checks": checks})
    context, data = opened(made, tmp_path / "run")
    (system,) = made.systems()
    with pytest.raises(DataError, match=r"3 of 3 training examples of vanilla cannot.*tokens, more than the 2048"):
        render_system(context, data, synthesise(context, data, system))


class Listening(Reporter):
    """Keeps what is said."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.lines: list[str] = []

    def say(self, text: str, *, always: bool = False) -> None:
        self.lines.append(text)


def test_a_stage_that_takes_a_while_says_how_long(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter, now = Listening(quiet=True), [0.0]
    monkeypatch.setattr("lingraft.pipeline.context.time", SimpleNamespace(monotonic=lambda: now[0]))
    with Context(recipe(model), tmp_path / "run", reporter) as context:
        for stage, seconds in (("long", 1500.0), ("short", 0.5)):

            def build(folder: Path, seconds: float = seconds) -> dict[str, Any]:
                now[0] += seconds
                return {}

            context.artefact(stage, {}, build)
            context.artefact(stage, {}, build)  # is there already
    assert reporter.lines == ["Starting long", "Finished long in 25 min", "Starting short"]


class Given(Vanilla):
    """Yields the examples that it is given."""

    def __init__(self, examples: list[Example], **filters: int) -> None:
        super().__init__(Vanilla.Params())
        self.given, self.filters = examples, filters

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        tally.filters.update(self.filters)
        yield from self.given


def test_many_examples_of_another_method_do_not_hide_those_that_do_not_fit(model: Path, tmp_path: Path) -> None:
    context, _ = opened(recipe(model), tmp_path / "run")
    question = (Message("user", "Tell me."),)
    own = [Example(f"own:{i}", question, (Span("b a " * 1200 * (i < 5) + "x", "text"),)) for i in range(10)]
    others = [Example(f"other:{i}", question, (Span("Yes.", "text"),)) for i in range(500)]
    parts = [
        Component(method=Given(some), share=share, inputs=MethodInputs([]), stop=(), answers={})
        for some, share in ((own, None), (others, 0.5))
    ]
    rendering = _Rendering(
        context=context, renderer=context.renderer, name="x", scratch=tmp_path / "scratch", refuse=lambda item: None
    )
    with pytest.raises(DataError, match="x: 5 of 10 training examples of vanilla cannot be rendered"):
        list(rendering.rows(parts))


def test_groups_are_rendered_whole_whatever_their_share(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also across the batches in which examples are rendered, and where one of a group cannot be."""
    monkeypatch.setattr("lingraft.pipeline.render.BATCH", 7)
    monkeypatch.setattr("lingraft.pipeline.render.MAX_REFUSED_SHARE", 0.3)
    context, _ = opened(recipe(model), tmp_path / "run")
    question, long = (Message("user", "Tell me."),), {(5, 1), (11, -1)}
    own = [Example(f"own:{i}", question, (Span("Yes. " * 9, "text"),)) for i in range(100)]
    pairs = [
        Example(
            f"{i}:{sign}",
            question,
            (Span("b a " * (1200 if (i, sign) in long else 3), "text"),),
            group=f"{i}",
            sign=sign,
        )
        for i in range(120)
        for sign in (1, -1)
    ]
    pairs[40] = replace(pairs[40], messages=())
    for share in (0.5, 0.2):
        parts = [
            Component(method=Given(some), share=part, inputs=MethodInputs([]), stop=(), answers={})
            for some, part in ((own, None), (pairs, share))
        ]
        refused: list[Rejected] = []
        rendering = _Rendering(
            context=context, renderer=context.renderer, name="x", scratch=tmp_path / "scratch", refuse=refused.append
        )
        rows = list(rendering.rows(parts))
        used = [(row.group, row.sign) for row in rows if row.group]
        assert used[::2] == [(group, 1) for group, _ in used[::2]]
        assert used[1::2] == [(group, -1) for group, _ in used[::2]]
        assert len({*used}) == len(used) > 30
        assert not {"5", "11", "20"} & {group for group, _ in used}
        tokens = {name: sum(len(row.input_ids) for row in rows if bool(row.group) == name) for name in (True, False)}
        assert tokens[True] == pytest.approx(share / (1 - share) * tokens[False], abs=2 * len(rows[-1].input_ids))
    assert share == 0.2
    assert len(refused) % 2 == 0


def test_of_a_share_conversations_and_documents_have_their_parts(model: Path, tmp_path: Path) -> None:
    """Neither takes the place of the other within what is rendered at once."""
    context, _ = opened(recipe(model), tmp_path / "run")
    question, text = (Message("user", "Tell me."),), (Span("There are ships in the old harbour.", "text"),)
    own = [Example(f"own:{i}", question, text) for i in range(60)]
    others = [Example(f"other:{i}", question if i % 2 else (), text, block=16) for i in range(240)]
    parts = [
        Component(method=Given(some), share=share, inputs=MethodInputs([]), stop=(), answers={})
        for some, share in ((own, None), (others, 0.4))
    ]
    rendering = _Rendering(
        context=context, renderer=context.renderer, name="x", scratch=tmp_path / "scratch", refuse=lambda item: None
    )
    used = [row.id.removeprefix("other:") for row in rendering.rows(parts) if row.id.startswith("other:")]
    documents = sum(int(number.partition("#")[0]) % 2 == 0 for number in {id_.partition("#")[0] for id_ in used})
    assert documents >= 10
    whole = [Component(method=Given(others), share=None, inputs=MethodInputs([]), stop=(), answers={})]
    ids = [row.id.partition("#")[0] for row in rendering.rows(whole)]
    assert list(dict.fromkeys(ids)) == [example.id for example in others]


def test_pairs_of_a_direction_are_drawn_by_its_weight_and_counted(model: Path, tmp_path: Path) -> None:
    whole = opened(recipe(model), tmp_path / "whole")[1]
    context, data = opened(recipe(model, direction_weights={"en-de": 0.4}), tmp_path / "run")
    back = [pair for pair in data.train if pair.source_lang == "en"]
    assert 3 <= len(back) <= 21
    assert list(data.train) == [pair for pair in whole.train if pair.source_lang == "de" or pair in back]
    found = dict(zip(data.directions, data.amounts, strict=True))
    tokens = sum(context.renderer.count_many([pair.target for pair in back]))
    assert found["en", "de"] == (len(back), tokens)
    assert found["de", "en"][0] == 30
    with pytest.raises(DataError, match="direction_weights leave no training pair; raise them, or give more pairs"):
        opened(recipe(model, direction_weights={"en-de": 0.0, "de-en": 1e-9}), tmp_path / "none")


def test_partners_of_what_cannot_be_rendered_are_refused_with_the_reason(model: Path, tmp_path: Path) -> None:
    context, _ = opened(recipe(model), tmp_path / "run")
    question = (Message("user", "Tell me."),)
    pairs = [
        Example(f"{i}:{sign}", question, (Span("b a " * (1200 if i == sign else 3), "text"),), group=f"{i}", sign=sign)
        for i in range(60)
        for sign in (1, -1)
    ]
    pairs[7] = replace(pairs[7], messages=())
    refused: list[Rejected] = []
    rendering = _Rendering(
        context=context, renderer=context.renderer, name="x", scratch=tmp_path / "scratch", refuse=refused.append
    )
    rows = list(
        rendering.rows([Component(method=Given(pairs), share=None, inputs=MethodInputs([]), stop=(), answers={})])
    )
    assert [row.id for row in rows] == [pair.id for pair in pairs if pair.group not in ("1", "3")]
    assert {item.file: item.detail for item in refused} == {
        "1:1": f"{len(context.renderer.render(pairs[2]).input_ids)} tokens, more than the 2048 allowed",
        "1:-1": "'1:1' of the same group cannot be rendered",
        "3:1": "'3:-1' of the same group cannot be rendered",
        "3:-1": "it has no messages: plain text cannot be in a group",
    }
    assert {item.line for item in refused} == {3, 4, 7, 8}


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"kept": 30, "kept_truncated": 10, "looping": 40}, []),
        ({"kept_de": 1, "left_out_de": 90}, []),
        (
            {"kept": 6, "query_echo": 200, "empty": 34},
            ["Warning: x: of 240 answers vanilla dropped 234 (query_echo 200, empty 34)"],
        ),
    ],
)
def test_the_run_warns_where_filters_drop_most_answers(
    model: Path, tmp_path: Path, filters: dict[str, int], said: list[str]
) -> None:
    context, _ = opened(recipe(model), tmp_path / "run")
    context.reporter = listening = Listening(quiet=True)
    examples = [Example("a", (Message("user", "Tell me."),), (Span("Yes.", "text"),))]
    rendering = _Rendering(
        context=context, renderer=context.renderer, name="x", scratch=tmp_path / "scratch", refuse=lambda item: None
    )
    part = Component(method=Given(examples, **filters), share=None, inputs=MethodInputs([]), stop=(), answers={})
    assert len(list(rendering.rows([part]))) == 1
    assert [line.partition(";")[0] for line in listening.lines] == said
