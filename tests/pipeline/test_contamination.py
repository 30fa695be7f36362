"""Contamination within a run: everything that is trained on is searched, and nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lingraft.core.progress import Reporter
from lingraft.data.files import Row
from lingraft.data.readers import PromptSource, read_prompts
from lingraft.data.sampling import split_prompts
from lingraft.evaluation.scorecard import Contamination
from lingraft.pipeline.contamination import ContaminationCheck
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.render import render_system
from lingraft.pipeline.suites import open_suites
from lingraft.pipeline.synthesise import synthesise
from lingraft.pipeline.vocabulary import add_languages
from lingraft.recipe.load import parse_recipe
from models_support import save_tiny_model

LONG = "Der Bürgermeister versprach am Montag in der alten Halle am Hafen, dass das Schwimmbad bis Mai repariert wird."
HARBOUR = "In the old harbour eleven ships wait for better weather, and the fishermen play cards."
TRANSLATED = "On Monday the mayor promised in the old hall that the swimming pool will be repaired by May, he said."
QUESTION = "Ask {}: please tell me in a few words what the old lighthouse keeper does all day long"
NATIVE_QUESTION = (
    "Frage {}: sage mir bitte in wenigen Worten, was der alte Wärter vom Leuchtturm den ganzen Tag lang tut"
)
REFERENCE = "The keeper {} cleans the great lamp, writes down the weather and waits for the evening boat"
NATIVE_REFERENCE = "Der Wärter {} putzt die große Lampe, schreibt das Wetter auf und wartet auf das Boot am Abend"
ANSWER = "He polishes the brass, counts the gulls on the rocks and sings old songs to himself until night"
NATIVE_ANSWER = "Er poliert das Messing, zählt die Möwen auf den Felsen und singt sich alte Lieder vor bis zur Nacht"
RATIONALE = "The verb stands at the end of the clause here, because the conjunction opens a subordinate clause."
NAMES = ("Otto", "Emil", "Hans", "Karl", "Ludwig", "Moritz", "Norbert", "Oskar", "Paul", "Rudolf", "Stefan", "Theodor")


def write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_model(tmp_path / "model")
    train = [{"source": f"Satz Nummer {n} steht hier.", "target": f"Sentence number {n} is here."} for n in range(60)]
    train[17] = {"source": f"Wie man hört: {LONG[:-1]}, sagte er.", "target": f"{TRANSLATED} This is what one hears."}
    write(tmp_path / "train.jsonl", train)
    tests = [{"id": f"t{n}", "source": f"Etwas ganz anderes {n}.", "target": f"Something else {n}."} for n in range(8)]
    tests[5]["source"] = LONG
    write(tmp_path / "test.jsonl", tests)
    write(
        tmp_path / "prompts.jsonl",
        [{"id": name, "prompt": QUESTION.format(name), "reference": REFERENCE.format(name)} for name in NAMES],
    )
    known = {QUESTION: NATIVE_QUESTION, REFERENCE: NATIVE_REFERENCE}
    write(
        tmp_path / "translations.jsonl",
        [{"source": a.format(name), "target": b.format(name)} for a, b in known.items() for name in NAMES],
    )
    return tmp_path


def contaminated(
    folder: Path,
    stage: dict[str, Any],
    suites: Sequence[dict[str, Any]] = ({"kind": "self", "max_prompts": 4},),
    reporter: Reporter | None = None,
    **changes: Any,
) -> tuple[dict[tuple[str, str], Contamination], Data, Context]:
    """Return what a run finds before it trains its only stage, by set and kind."""
    values = {
        "name": "contamination",
        "model": str(folder / "model"),
        "pairs": {
            "train": {"path": "train.jsonl", "source": "de", "target": "en"},
            "test": {"path": "test.jsonl", "source": "de", "target": "en", "name": "held"},
        },
        "prompts": {"path": "prompts.jsonl"},
        "stages": [stage],
        "evaluate": {"retention": {"suites": list(suites)}, "engine": "transformers"},
        **changes,
    }
    recipe = parse_recipe(values, "test", folder)
    with Context(recipe, folder / "run", reporter or Reporter(quiet=True)) as context:
        data = add_languages(context, prepare(context))
        check = ContaminationCheck(context, data, open_suites(context, data))
        trained = [
            (made, render_system(context, data, made)) for made in [synthesise(context, data, recipe.systems()[0])]
        ]
        check.look_in(trained)
        check.look_in(trained)  # nothing new
        return {(row.where, row.kind): row for row in check.rows()}, data, context


def found(rows: dict[tuple[str, str], Contamination], where: str, kind: str) -> dict[str, str]:
    row = rows[where, kind]
    return dict(zip(row.ids, row.rows, strict=True))


def test_items_and_rows_are_named(folder: Path) -> None:
    reporter = Reporter(quiet=True)
    reporter.console = Console(file=io.StringIO(), width=10_000)
    stage = {"method": "vanilla", "beside": [{"method": "recovery", "share": 0.5, "params": {"answers": "reference"}}]}
    # All questions are of one template: what is replayed and what is measured share it.
    rows, data, context = contaminated(folder, stage, reporter=reporter)
    again, *_ = contaminated(folder, stage)
    assert again == rows
    assert rows.keys() == {(where, kind) for where in ("held de-en", "self") for kind in ("exact", "ngram")}
    run = rows["held de-en", "ngram"]
    assert (run.n, run.shared, run.ids, run.rows) == (8, 1, ["t5"], ["train:18"])
    assert run.signature.startswith("words:13|")
    assert (rows["held de-en", "exact"].shared, rows["self", "exact"].shared) == (0, 0)
    by_item = found(rows, "self", "ngram")
    replayed = {item: row for item, row in by_item.items() if row.startswith("prompt recovery:")}
    assert len(replayed) == min(4, len(data.retention))  # all general questions of the suite
    (asked_to_translate,) = by_item.keys() - replayed.keys()  # its translation requests quote the test set
    assert by_item[asked_to_translate] == "train:18"
    said = reporter.console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("Warning: 1 of 8 items of held de-en share") == 1
    assert "first 't5' with 'train:18'" in said
    assert f"Warning: {len(by_item)} of {rows['self', 'ngram'].n} items of self share" in said
    assert context.built.count("contamination-vanilla+recovery") == 1


def test_what_no_method_trains_on_is_not_searched(folder: Path) -> None:
    rows, *_ = contaminated(folder, {"method": "vanilla"})
    (asked_to_translate,) = found(rows, "self", "ngram").values()
    assert asked_to_translate == "train:18"


SCRIPT = [
    {"pattern": "German[^$]*please tell", "answer": NATIVE_QUESTION.format("Otto")},
    {"pattern": "German[^$]*He polishes", "answer": NATIVE_ANSWER},
    {"pattern": "Note:$", "answer": f" {RATIONALE}"},
    {"pattern": "please tell", "answer": ANSWER},
    {"pattern": "", "answer": "Nothing of note."},
]
SCRIPTED = {"kind": "scripted", "rules": SCRIPT}
GIVEN = {"answers": "reference", "translations": "translations.jsonl"}
OWN = {"translator": SCRIPTED}
GERMAN = {"languages": ["de"]}


@pytest.mark.parametrize(
    ("stage", "texts"),
    [
        ({"method": "radis"}, {"rationale": RATIONALE}),
        (
            {"method": "vanilla", "beside": [{"method": "recovery", "share": 0.5}]},
            {"prompt": QUESTION, "reply": ANSWER},
        ),
        (
            {"method": "vanilla", "beside": [{"method": "recovery", "share": 0.5, "params": {"answers": "reference"}}]},
            {"prompt": QUESTION, "given_reply": REFERENCE},
        ),
        (
            {"method": "native_sft", "params": GIVEN | GERMAN},
            {"prompt": NATIVE_QUESTION, "native_reply": NATIVE_REFERENCE},
        ),
        (
            {"method": "tcot", "params": GIVEN},
            {
                "prompt": NATIVE_QUESTION,
                "english_query": QUESTION,
                "english_reply": REFERENCE,
                "native_reply": NATIVE_REFERENCE,
            },
        ),
        (
            {"method": "tcot", "params": OWN},
            {
                "prompt": NATIVE_QUESTION,
                "english_query": QUESTION,
                "english_reply": ANSWER,
                "native_reply": NATIVE_ANSWER,
            },
        ),
        ({"method": "pretraining", "params": GERMAN}, {"text": NATIVE_ANSWER}),
    ],
    ids=["radis", "recovery", "recovery of references", "native_sft", "chains of a file", "own chains", "pretraining"],
)
def test_all_that_a_method_trains_on_is_searched(folder: Path, stage: dict[str, Any], texts: dict[str, str]) -> None:
    names = {name: text.format("Otto") for name, text in texts.items()}
    write(folder / "pairs.jsonl", [{"id": name, "en": text, "de": "-"} for name, text in names.items()])
    write(folder / "asked.jsonl", [{"en": "Why do ships wait?", "de": "Warum warten Schiffe?"}])
    write(
        folder / "texts.jsonl",
        [
            {"text": NATIVE_ANSWER if n == 3 else f"Hier steht ein ganz anderer Satz, der {n}. von allen."}
            for n in range(9)
        ],
    )
    # Prompts that differ in their case alone are in one half: all of them, or none, are trained on.
    prompt = {"prompt": QUESTION.format("Otto"), "reference": REFERENCE.format("Otto")}
    other = {"prompt": "Name a fish.", "reference": "The eel is a fish."}
    write(folder / "prompts.jsonl", [prompt] * 6 + [{**other, "prompt": f"Name a fish, the {n}."} for n in range(12)])
    changes: dict[str, Any] = {
        "engine": SCRIPTED,
        "texts": [{"path": "texts.jsonl", "lang": "de"}],
        "text_checks": {"heldout_share": 0.0, "language_check": False},
        "seed": next(seed for seed in range(99) if replayed(folder, seed)),
    }
    if stage["method"] == "tcot":
        changes["vocabulary"] = {"languages": ["de"], "size": 20}
        stage = {**stage, "tuner": {"kind": "lora", "embeddings": "new"}}
    suite = {"kind": "tcot", "language": "de", "prompts": "asked.jsonl", "pairs": "pairs.jsonl"}
    rows, *_ = contaminated(folder, stage, [suite], **changes)
    for kind in ("exact", "ngram"):
        named = found(rows, "tcot", kind)
        assert {item.removeprefix("reply:"): row.split()[0] for item, row in named.items()} == {
            name: name for name in names
        }, kind


def replayed(folder: Path, seed: int) -> bool:
    """Whether the question that all is about is in the half that is trained on."""
    rows = read_prompts(PromptSource(path=str(folder / "prompts.jsonl")))
    halves = split_prompts((row.record for row in rows if isinstance(row, Row)), seed)
    return "please tell" in halves.replay[0].messages[0].content and len(halves.retention) > 0


def test_only_the_examples_that_a_share_lets_in_are_searched(folder: Path) -> None:
    write(
        folder / "texts.jsonl",
        [{"id": f"d{n}", "text": f"{HARBOUR} The {name} said so."} for n, name in enumerate(NAMES)],
    )
    stage = {
        "method": "vanilla",
        "beside": [{"method": "pretraining", "share": 0.01, "params": {"languages": ["en"]}}],
    }
    texts = {"texts": [{"path": "texts.jsonl", "lang": "en"}]}
    checks = {"text_checks": {"heldout_share": 0.0, "language_check": False, "repeated_line": 0}}
    write(
        folder / "pairs.jsonl",
        [{"id": f"d{n}", "en": f"{HARBOUR} The {name} said so.", "de": "-"} for n, name in enumerate(NAMES)],
    )
    write(folder / "asked.jsonl", [{"en": "Why do ships wait?", "de": "Warum warten Schiffe?"}])
    suite = {"kind": "tcot", "language": "de", "prompts": "asked.jsonl", "pairs": "pairs.jsonl"}
    rows, *_ = contaminated(folder, stage, [suite], **texts, **checks)
    exact = found(rows, "tcot", "exact")
    assert 0 < len(exact) < len(NAMES)
    assert {row.split()[1] for row in exact.values()} == {item.removeprefix("reply:") for item in exact}


def test_documents_that_hold_a_test_text_contaminate_it(folder: Path) -> None:
    with (folder / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "t8", "source": "Der Hafen.", "target": HARBOUR}) + "\n")
    documents = [{"id": f"d{i}", "text": f"Nothing of this is in any test set {i}. " * 3} for i in range(6)]
    documents[4]["text"] += f"As they say: {HARBOUR[:-1]}, and so on."
    write(folder / "texts.jsonl", documents)
    checks = {"heldout_share": 0.0, "language_check": False, "repeated_line": 0}
    stage = {"method": "pretraining", "params": {"languages": ["en"]}}
    texts = [{"path": "texts.jsonl", "lang": "en"}]
    rows, *_ = contaminated(folder, stage, texts=texts, text_checks=checks)
    assert found(rows, "held de-en", "ngram") == {"t8": "text d4"}


def test_a_document_whose_perplexity_is_measured_is_looked_for(folder: Path) -> None:
    # Held out for its content, so that another document may hold its sentences.
    lines = [f"{HARBOUR} {name} has seen it from the pier." for name in NAMES]
    write(folder / "texts.jsonl", [{"id": f"d{n}", "text": line} for n, line in enumerate(lines)])
    train = [{"source": f"Satz {n}: er sah es.", "target": f"So it is: {line}"} for n, line in enumerate(lines)]
    write(folder / "train.jsonl", train)
    checks = {"heldout_share": 0.3, "language_check": False, "repeated_line": 0}
    changes = {
        "texts": [{"path": "texts.jsonl", "lang": "en"}],
        "text_checks": checks,
        "checks": {"max_length_ratio": 50},
    }
    rows, data, _ = contaminated(folder, {"method": "vanilla"}, [{"kind": "perplexity"}], **changes)
    measured = {f"en/{text.id}#0" for text in data.heldout}
    assert len(measured) == 4
    assert rows["perplexity", "ngram"].n == 4
    assert found(rows, "perplexity", "ngram").keys() == measured
    assert {int(row.removeprefix("train:")) for row in found(rows, "perplexity", "ngram").values()} <= set(range(1, 13))


def test_pairs_of_a_suite_are_looked_for_too(folder: Path) -> None:
    given = [{"id": "a", "en": HARBOUR, "de": "Schiffe warten."}, {"id": "b", "en": "Good morning.", "de": LONG}]
    write(folder / "pairs.jsonl", given)
    write(folder / "asked.jsonl", [{"en": "Why do ships wait?", "de": "Warum warten Schiffe?"}])
    suite = {"kind": "tcot", "language": "de", "prompts": "asked.jsonl", "pairs": "pairs.jsonl"}
    rows, *_ = contaminated(folder, {"method": "vanilla"}, [suite])
    assert (rows["tcot", "ngram"].n, found(rows, "tcot", "ngram")) == (4, {"reply:b": "train:18"})
