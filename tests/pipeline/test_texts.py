"""Stage `texts`: documents to train on and documents held out, frozen for the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders import CORPUS, tiny_llama, tiny_tokenizer, with_markers
from lingraft.core.errors import DataError
from lingraft.core.progress import Reporter
from lingraft.data.document_checks import TextLimits
from lingraft.data.files import Row
from lingraft.data.overlap import MIN_SIDE
from lingraft.data.readers import PairSource, TextSource, read_pairs
from lingraft.data.records import Example, Message, Rejected, Span
from lingraft.language.measures import normalise
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.render import _Rendering
from lingraft.pipeline.texts import PreparedDocuments, prepare_texts
from lingraft.recipe.load import parse_recipe
from lingraft.store.artefacts import verify

LIMITS = TextLimits(language_check=False, min_characters=10, heldout_share=0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = with_markers(tiny_tokenizer("smollm2"), "<EN>")
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def opened(model: Path, root: Path) -> tuple[Context, Data]:
    sides = {"source": "de", "target": "en"}
    values = {
        "name": "texts",
        "model": str(model),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 10, **sides},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 5, **sides},
        },
        "stages": [{"method": "vanilla"}],
        "evaluate": {"retention": {"suites": []}},
    }
    context = Context(parse_recipe(values, "test", Path("/")), root, Reporter(quiet=True))
    return context, prepare(context)


def written(path: Path, contents: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": content}) + "\n" for content in contents), "utf-8")
    return path


def documents(count: int, language: str) -> list[str]:
    return [f"{language} {i}: {CORPUS[i % len(CORPUS)][:15]} {i * i}" for i in range(count)]


def test_no_row_of_a_test_file_stays_in_a_document_whatever_the_limit(model: Path, tmp_path: Path) -> None:
    context, data = opened(model, tmp_path / "run")
    rows = read_pairs(PairSource(path="starter:test.de-en.jsonl", source="de", target="en"))
    tests = [row.record.target for row in rows if isinstance(row, Row)]
    assert len(data.tests[0].pairs) == 5 < len(tests)
    lines = [f"This is said before it, number {n}.\n{text}" for n, text in enumerate(tests)]
    source = TextSource(path=str(written(tmp_path / "a.jsonl", lines)), lang="en")
    texts = prepare_texts(context, data, [source], LIMITS)
    kept = "\n".join(text.text for text in (*texts.train, *texts.heldout))
    assert kept.count("This is said before it") == len(tests)
    assert [text for text in tests if len(normalise(text)) >= MIN_SIDE and text in kept] == []


def test_documents_are_split_by_their_content(model: Path, tmp_path: Path) -> None:
    context, data = opened(model, tmp_path / "run")
    test = data.tests[0].pairs[0].target
    german = [*documents(40, "de"), "", "kurz", documents(1, "de")[0], f"Genug Text davor.\n{test}"]
    sources = [
        TextSource(path=str(written(tmp_path / "a.jsonl", german)), lang="de"),
        TextSource(
            path=str(written(tmp_path / "b.jsonl", [test + "\n" + text for text in documents(8, "en")])), lang="en"
        ),
    ]
    texts = prepare_texts(context, data, sources, LIMITS)
    assert isinstance(texts, PreparedDocuments)
    held, trained = {t.text for t in texts.heldout}, {t.text for t in texts.train}
    assert not held & trained
    assert held | trained == {*documents(40, "de"), f"Genug Text davor.\n{test}", *documents(8, "en")}
    assert [sum(t.lang == lang for t in texts.heldout) for lang in ("de", "en")] == [4, 1]
    assert texts.counts == {sources[0].path: {"empty_text": 1, "too_short": 1, "duplicate": 1}}
    assert texts.rows_read == {sources[0].path: 44, sources[1].path: 8}
    assert texts.removed[sources[1].path]["overlap"] == 8 * len(test)
    assert texts.characters == {lang: sum(len(t.text) for t in texts.train if t.lang == lang) for lang in ("de", "en")}
    assert [item.line for item in texts.rejected if isinstance(item, Rejected)] == [41, 42, 43]
    assert len((tmp_path / "run" / "rejected-texts.jsonl").read_text("utf-8").splitlines()) == 3
    assert verify(texts.folder)
    assert {path.name for path in texts.folder.iterdir()} == {
        "texts.jsonl", "heldout.jsonl", "rejected.jsonl", "counts.json", "manifest.json",
    }  # fmt: skip
    # In another order the same ones are held out; the artefact is found again.
    written(tmp_path / "c.jsonl", german[:40][::-1])
    other = prepare_texts(context, data, [TextSource(path=str(tmp_path / "c.jsonl"), lang="de")], LIMITS)
    assert {t.text for t in other.heldout} <= held
    assert prepare_texts(context, data, sources, LIMITS).folder == texts.folder
    assert context.built.count("texts") == 2


def test_limits_of_sources_and_of_what_is_held_out(model: Path, tmp_path: Path) -> None:
    context, data = opened(model, tmp_path / "run")
    path = written(tmp_path / "a.jsonl", documents(40, "de"))
    few = prepare_texts(context, data, [TextSource(path=str(path), lang="de", limit=20)], LIMITS)
    assert len(few.train) + len(few.heldout) == 20
    none = prepare_texts(
        context, data, [TextSource(path=str(path), lang="de")], LIMITS.model_copy(update={"heldout_share": 0.0})
    )
    assert (len(none.train), len(none.heldout)) == (40, 0)
    one = prepare_texts(
        context, data, [TextSource(path=str(path), lang="de")], LIMITS.model_copy(update={"heldout_documents": 1})
    )
    assert (len(one.train), len(one.heldout)) == (39, 1)
    single = prepare_texts(context, data, [TextSource(path=str(path), lang="de", limit=1)], LIMITS)
    assert (len(single.train), len(single.heldout)) == (1, 0)


def test_what_a_source_has_behind_its_limit_is_left_to_other_sources(model: Path, tmp_path: Path) -> None:
    context, data = opened(model, tmp_path / "run")
    line = "Startseite | Nachrichten | Wetter"
    first = [f"{line} {i}\n{text}" for i, text in enumerate(documents(20, "de"))]
    paths = [written(tmp_path / name, rows) for name, rows in (("a.jsonl", first), ("b.jsonl", first[10:]))]
    sources = [TextSource(path=str(paths[0]), lang="de", limit=5), TextSource(path=str(paths[1]), lang="de")]
    texts = prepare_texts(context, data, sources, LIMITS)
    assert {t.text for t in texts.train} | {t.text for t in texts.heldout} == {*first[:5], *first[10:]}
    assert texts.removed[sources[0].path]["characters"] == sum(len(text) - text.count("\n") for text in first[:5])
    assert texts.counts == {}


def test_documents_of_several_sources_have_ids_of_their_own(model: Path, tmp_path: Path) -> None:
    context, data = opened(model, tmp_path / "run")
    sources = []
    for name, begin in (("a", 0), ("b", 10), ("c", 20)):
        rows = [{"id": i, "text": text} for i, text in enumerate(documents(30, "de")[begin : begin + 10])]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        sources.append(TextSource(path=str(path), lang="de"))
    texts = prepare_texts(context, data, sources, LIMITS)
    names = {text.id: text.text for text in [*texts.train, *texts.heldout]}
    assert len(names) == 30
    assert [names[id_] for id_ in ("3", "b/3", "c/3")] == [documents(30, "de")[i] for i in (3, 13, 23)]


def test_a_source_of_which_little_is_fit_stops_the_run(model: Path, tmp_path: Path) -> None:
    context, data = opened(model, tmp_path / "run")
    path = written(tmp_path / "a.jsonl", [*documents(3, "de"), "kurz", "knapp", "eng", "nix"])
    with pytest.raises(
        DataError, match=r"4 of 7 rows \(57.1%\) are rejected, mostly too_short \(4\), more than the 50"
    ):
        prepare_texts(context, data, [TextSource(path=str(path), lang="de")], LIMITS)
    assert len((tmp_path / "run" / "rejected-texts.jsonl").read_text("utf-8").splitlines()) == 4
    with pytest.raises(DataError, match=r"none\.jsonl"):
        prepare_texts(context, data, [TextSource(path=str(tmp_path / "none.jsonl"), lang="de")], LIMITS)


def test_texts_and_conversations_are_rendered_in_one_stream(model: Path, tmp_path: Path) -> None:
    context, _ = opened(model, tmp_path / "run")
    refused: list[Rejected] = []
    rendering = _Rendering(
        context=context, renderer=context.renderer, name="x", scratch=tmp_path / "scratch", refuse=refused.append
    )
    chat = [Example(f"c{i}", (Message("user", "x"),), (Span(f"y {i}", "text"),)) for i in range(300)]
    plain = [Example(f"t{i}", (), (Span(CORPUS[i % 10], "text"),), block=16) for i in range(300)]
    bad = [Example("bad", (), (Span("<TH>", "marker"), Span("x", "text")))]
    mixed = [*[item for both in zip(chat, plain, strict=True) for item in both], *bad]
    rows = list(rendering._rendered(iter(mixed)))
    render = context.renderer
    expected = {row.id: row for example in plain for row in render.render_text(example)}
    expected |= {example.id: render.render(example) for example in chat}
    good = [row for unit in rows if not isinstance(unit, Rejected) for row in unit]
    assert {row.id: row for row in good} == expected
    assert len(good) == len(expected)
    (found,) = [row for row in rows if isinstance(row, Rejected)]
    assert (found.file, found.line, found.reason) == ("bad", 601, "not_rendered")
    assert "no token '<TH>'" in found.detail
