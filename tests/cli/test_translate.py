"""`lingraft translate` as a user meets it: languages, files, long lines, documents, work that is broken off."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from commands import graft, lingraft, model, one_sentence  # noqa: F401
from nursery import born
from openai_server import FakeServer, choice
from processes import HANGING

LONG = "Das Haus ist groß und der Garten ist schön. " * 300
FEW = ("--max-new-tokens", "4", "--quiet")


def test_a_line_that_is_too_long_costs_that_line(lingraft: Any, graft: Path) -> None:
    arguments = ("translate", "--graft", graft, *FEW)
    alone = lingraft(*arguments, stdin="Guten Morgen.\nBis bald.\n").out.splitlines()
    result = lingraft(*arguments, stdin=f"Guten Morgen.\n{LONG}\n\n{LONG}\nBis bald.\n")
    assert result.out.split("\n") == [alone[0], "", "", "", alone[1], ""]
    one_sentence(result, 1, "2 of 4 lines are too long", "(lines 2, 4: ", "of 2,048", "--max-new-tokens")
    result = lingraft(*arguments, "--json", stdin=f"Guten Morgen.\n{LONG}\nBis bald.\n")
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3]
    assert (rows[1]["failure"], rows[1]["translation"], rows[1]["tokens"]) == ("too_long", "", 0)
    assert rows[0]["failure"] != "too_long" != rows[2]["failure"]
    one_sentence(result, 1, "1 of 3 lines is too long", "(line 2: ")


@pytest.mark.parametrize(
    "refusal",
    [
        {"message": "This model's maximum context length is 64 tokens. However, you requested 90", "code": 400},
        {"message": "does not fit", "code": "context_length_exceeded"},
    ],
)
def test_a_line_that_is_too_long_for_the_server_costs_that_line(
    lingraft: Any,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: dict[str, Any],
) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return {"status": 400, "error": refusal} if "Lang" in body["prompt"] else choice("said")

    arguments = ("translate", "--model", model, "--from", "de", "--to", "en", "--engine", "openai", "--quiet")
    with FakeServer(answer, owned_by="library") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        result = lingraft(*arguments, stdin="Eins.\nLang.\nZwei.\nLang, lang.\n")
    assert result.out == "said\n\nsaid\n\n"
    one_sentence(result, 1, "2 of 4 lines are too long", "(lines 2, 4: ", refusal["message"])


def test_a_document_is_asked_for_by_paragraph_and_tells_what_was_cut(
    lingraft: Any,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "Erster Absatz,\nzwei Zeilen.\n\n***\n\n```\nCode\n```\nZweiter Absatz.\n"
    asked = ("translate", "--model", model, "--from", "de", "--to", "en", "--document", "--quiet")
    result = lingraft(*asked, "--engine", "scripted", stdin=text)
    assert (result.code, result.out) == (0, "ok\n\n***\n\n```\nCode\n```\nok\n")
    whole = json.loads(lingraft(*asked, "--engine", "scripted", "--json", stdin=text).out)
    assert whole["translation"] == result.out.removesuffix("\n")
    assert (whole["failure"], whole["failures"], whole["tokens"]) == ("", [], 4)
    ends = {"Erster": "stop", "Zweiter": "length"}
    answer = lambda body: choice("said", reason=next(ends[word] for word in ends if word in body["prompt"]))  # noqa: E731
    with FakeServer(answer, owned_by="library") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        cut = lingraft(*asked, "--engine", "openai", stdin=text)
        one_sentence(cut, 1, "1 of 2 parts is cut at --max-new-tokens 512 (the first begins in line 9); raise it")
        assert cut.out == "said\n\n***\n\n```\nCode\n```\nsaid\n"
        lines = lingraft(*(word for word in asked if word != "--document"), "--engine", "openai", stdin="Zweiter.")
        assert (lines.code, lines.out) == (0, "said\n")  # with --strict it fails
        assert "1 of 1 translations could not be extracted cleanly (unfinished)" in lines.err
    long = lingraft(*asked, "--engine", "scripted", stdin=f"{LONG}\n\nEnde.")  # 300 sentences, in several requests
    assert long.code == 0
    first, blank, last = long.out.splitlines()
    assert (set(first.split()), blank, last) == ({"ok"}, "", "ok")
    assert 10 < len(first.split()) <= 300


def test_languages_come_from_the_only_direction(lingraft: Any, graft: Path, tmp_path: Path) -> None:
    arguments = ("translate", "--quiet", "--engine", "scripted")
    for given in ((), ("--from", "de"), ("--to", "en"), ("--from", "de", "--to", "en")):
        assert lingraft(*arguments, "--graft", graft, *given, stdin="Ja, bitte.").out == "ok\n"
    one_sentence(lingraft(*arguments, "--graft", graft, "--from", "fr", stdin="Oui."), 2, "trained on de-en", "--to")
    one_sentence(lingraft(*arguments, "--model", graft, stdin="Ja."), 2, "give --from and --to")
    both = tmp_path / "both"
    shutil.copytree(graft, both)
    info = json.loads((both / "lingraft.json").read_text("utf-8"))
    info["directions"].append({"source": "en", "target": "de"})
    (both / "lingraft.json").write_text(json.dumps(info), "utf-8")
    one_sentence(
        lingraft(*arguments, "--graft", both, stdin="Ja."), 2, "trained on de-en, en-de; say which with --from"
    )
    assert lingraft(*arguments, "--graft", both, "--to", "de", stdin="Yes.").out == "ok\n"


def test_the_folder_of_a_run_stands_for_its_graft(lingraft: Any, graft: Path, tmp_path: Path) -> None:
    expected = lingraft("translate", "--graft", graft, *FEW, stdin="Guten Morgen.").out
    result = lingraft("translate", "--graft", graft.parent, *FEW, stdin="Guten Morgen.")
    assert (result.code, result.out) == (0, expected)
    said = lingraft("chat", "--graft", graft.parent, "--max-native-tokens", "2", "--quiet", stdin="Hallo")
    assert said.code == 0
    exported = tmp_path / "whole"
    assert lingraft("export", "--graft", graft.parent, "--out", exported, "--dtype", "fp32").code == 0
    for option in ("--graft", "--model"):  # its lingraft.json says how it is asked, and in which direction
        whole = lingraft("translate", option, exported, *FEW, stdin="Guten Morgen.")
        assert (whole.code, whole.out) == (0, expected)
    two = lingraft("translate", "--graft", exported, "--model", graft, *FEW, stdin="Guten Morgen.")
    one_sentence(two, 2, f"{exported} is a whole model and takes no base; leave out the model")
    one_sentence(lingraft("chat", "--graft", exported, stdin="Hallo"), 1, "as one model; give it as --model")


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("a.srt", 0, ""),
        ("a.rst", 0, "translated as plain lines"),
        ("a.txt", 0, ""),
        ("a.vtt", 1, "does not begin with WEBVTT"),
        ("a.txt.zst", 2, "is no plain text"),
        ("a.sdlxliff", 1, "is not well-formed XML (line 1"),
        ("a.parquet", 2, "is no plain text"),
    ],
)
def test_formats_are_announced_or_refused(
    lingraft: Any,
    model: Path,
    tmp_path: Path,
    name: str,
    code: int,
    words: str,
) -> None:
    file = tmp_path / name
    file.write_text("1\n00:00:01,000 --> 00:00:03,500\nGuten Morgen.\n", "utf-8")
    result = lingraft(
        "translate", file, "--model", model, "--from", "de", "--to", "en", "--engine", "scripted", "--quiet"
    )
    assert result.code == code, result.err
    assert words in result.err
    assert result.out == ("" if code else "1\n00:00:01,000 --> 00:00:03,500\nok\n")


def test_a_file_with_structure_keeps_it_and_names_what_was_lost(lingraft: Any, model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "a.MD", tmp_path / "b.md"
    source.write_text("# Titel\n\nMit *Betonung*, {name}.\n\n```\nCode\n```\n", "utf-8")
    languages = ("--from", "de", "--to", "en")
    line = ("translate", source, "--model", model, *languages, "--engine", "scripted", "--quiet")
    result = lingraft(*line, "-o", out)
    assert (result.code, result.out) == (0, "")
    assert out.read_text("utf-8") == "# ok\n\nok *ok*, {name}.\n\n```\nCode\n```\n"
    assert lingraft(*line).out == out.read_text("utf-8")
    piped = lingraft("translate", "-", *line[2:], "--format", "html", stdin="<p>Hallo <b>du</b></p>")
    assert (piped.code, piped.out) == (0, "<p>ok <b>ok</b></p>")
    plain = lingraft(*line, "--format", "text")
    assert (plain.code, plain.out) == (0, "ok\n\nok\n\n```\nCode\n```\n")
    two_lines = lingraft("translate", "-", *line[2:], "--format", "markdown", stdin="Erste Zeile\nzweite\n\nGut.\n")
    one_sentence(two_lines, 1, "1 of 2 segments is left as in the source", "line 1 (it has no place for 1 end")
    assert two_lines.out == "Erste Zeile\nzweite\n\nok\n"
    one_sentence(lingraft(*line, "--json"), 2, "--json: of plain text", "--format text")
    one_sentence(lingraft(*line, "--format", "srtt"), 2, "did you mean 'srt'")
    one_sentence(lingraft(*line, "--format", "text", "--column", "a"), 2, "--column")
    one_sentence(lingraft(*line, "-o", source), 2, "is the input itself")


def test_an_output_file_is_written_only_when_there_is_something(
    lingraft: Any,
    graft: Path,
    tmp_path: Path,
) -> None:
    source, out = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("Guten Morgen.\n\nBis bald.", "utf-8")
    out.write_text("old", "utf-8")
    arguments = ("translate", source, "--engine", "scripted", "--quiet")
    one_sentence(lingraft(*arguments, "--graft", tmp_path, "-o", out), 1, "is not a graft")
    one_sentence(lingraft(*arguments, "--graft", graft, "-o", source), 2, "is the input itself")
    one_sentence(lingraft(*arguments, "--graft", graft, "-o", tmp_path), 2, "cannot be written")
    one_sentence(lingraft(*arguments, "--graft", graft, "-o", tmp_path / "none" / "out"), 2, "there is no folder")
    full = lingraft(*arguments, "--graft", graft, "-o", "/dev/full")
    one_sentence(full, 1, "cannot write to /dev/full: the disk is full; free some space and run again")
    assert (out.read_text("utf-8"), source.read_text("utf-8")) == ("old", "Guten Morgen.\n\nBis bald.")
    piped = lingraft("translate", "-", *arguments[2:], "--graft", graft, "-o", "-", stdin="Ja, bitte.")
    assert (piped.code, piped.out) == (0, "ok\n")
    result = lingraft(*arguments, "--graft", graft, "-o", out)
    assert (result.code, result.out, out.read_text("utf-8")) == (0, "", "ok\n\nok\n")


def test_a_kill_leaves_the_lines_that_were_finished(model: Path, tmp_path: Path) -> None:
    """Sentence 7 and those from 10 on are never answered: what comes before is there, what comes after is not."""
    source, out = tmp_path / "in.txt", tmp_path / "out.txt"
    numbers = [0, 0, 1, 1, *range(2, 40)]  # equal lines are asked for once
    source.write_text("12\n" + "".join(f"Satz {number} bitte.\n" for number in numbers), "utf-8")

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        number = int(body["prompt"].split("Satz ")[1].split()[0])
        if number == 7 or number >= 10:
            server.released.wait(HANGING)
        return choice(f"sentence {number}")

    with FakeServer(answer, owned_by="library") as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url}
        line = ["translate", source, "--model", model, "--engine", "openai", "--from", "de", "--to", "en"]
        with out.open("wb") as stream, born("", *line, stdout=stream, env=environment) as process:
            while out.read_text("utf-8").count("\n") < 10:
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
    expected = "".join(f"sentence {number}\n" for number in [0, 0, 1, 1, *range(2, 7)])
    assert out.read_text("utf-8") == f"12\n{expected}"


def test_a_test_set_is_not_cut_where_its_translations_hold_the_delimiter(
    lingraft: Any,
    graft: Path,
    tmp_path: Path,
) -> None:
    assert json.loads((graft / "lingraft.json").read_text("utf-8"))["stop"] == ["\nNote:"]
    translated = "Clean the device.\n\nNote: Switch it off first.\n\nLet it dry."
    source = "Gerät reinigen.\n\nAnmerkung: Vorher ausschalten.\n\nTrocknen lassen."
    pairs = tmp_path / "manual.jsonl"
    pairs.write_text(json.dumps({"source": source, "target": translated}) + "\n", "utf-8")
    rules = [{"pattern": "Gerät", "answer": f"{translated}\n\nNote: In German, the verb goes to the end."}, {}]
    evaluation = {
        "engine": {"kind": "scripted", "rules": rules},
        "translation": {"metrics": ["chrf++"]},
        "retention": {"suites": [{"kind": "refusal", "max_prompts": 1}]},
    }
    languages = ("--from", "de", "--to", "en")
    result = lingraft(
        *("evaluate", "--graft", graft.parent, "--out", tmp_path / "run", "--test", pairs, *languages, "--quiet"),
        *("--set", f"evaluate={json.dumps(evaluation)}"),
    )
    assert result.code == 0, result.err
    lines = (tmp_path / "run" / "outputs.jsonl").read_text("utf-8").splitlines()
    outputs = next(row["outputs"] for row in map(json.loads, lines) if row["reference"])
    assert {name: text for name, text in outputs.items() if name != "base"} == {"tiny": translated}


def test_a_decoder_translates_in_steps_and_says_what_it_cost(lingraft: Any, model: Path, tmp_path: Path) -> None:
    asked = ("translate", "--model", model, "--from", "de", "--to", "en", "--engine", "scripted")
    few = ("--decoder", "rerank", "--param", "samples=3")
    result = lingraft(*asked, *few, stdin="Eins.\n12\nZwei.\n")
    assert (result.code, result.out) == (0, "ok\n12\nok\n")
    assert "rerank: 6 calls for 2 translations, 3 each" in result.err
    rows = [json.loads(line) for line in lingraft(*asked, *few, "--json", stdin="Eins.\n12\n").out.splitlines()]
    assert [(row["translation"], row["calls"]) for row in rows] == [("ok", 3), ("12", 0)]
    whole = json.loads(lingraft(*asked, *few, "--json", "--document", stdin="Eins.\n\nZwei.\n").out)
    assert (whole["translation"], whole["calls"]) == ("ok\n\nok", 6)
    nowhere = ("translate", "--model", tmp_path / "none", "--from", "de", "--to", "en", "--quiet")
    one_sentence(lingraft(*nowhere, "--decoder", "tears", stdin="Eins."), 2, "unknown decoder 'tears'", "'tear'")
    one_sentence(lingraft(*nowhere, "--param", "samples=3", stdin="Eins."), 2, "--param", "--decoder")
    odd = lingraft(*nowhere, "--decoder", "rerank", "--param", "samples", stdin="Eins.")
    one_sentence(odd, 2, "--param 'samples' is not of the form NAME=VALUE, such as samples=4")


def test_terms_are_put_into_the_requests(lingraft: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "terms.csv").write_text("Eins,one\n", "utf-8")
    (tmp_path / "odd.csv").write_text("Eins,one\nZwei\n", "utf-8")
    asked = ("translate", "--model", model, "--from", "de", "--to", "en", "--engine", "scripted", "--quiet")
    result = lingraft(*asked, "--glossary", tmp_path / "terms.csv", "--json", stdin="Eins.\n")
    assert (result.code, json.loads(result.out)["calls"]) == (0, 1)
    odd = lingraft(*asked, "--glossary", tmp_path / "odd.csv", stdin="Eins.")
    one_sentence(odd, 1, "odd.csv, line 2: 'Zwei' has no translation", "to keep it as it is")
    one_sentence(lingraft(*asked, "--glossary", tmp_path / "none.csv", stdin="Eins."), 1, "none.csv", "no such file")
    two = lingraft(*asked, "--glossary", tmp_path / "terms.csv", "--decoder", "tear", stdin="Eins.")
    one_sentence(two, 2, "--glossary is of the decoder `glossary`, and --decoder names 'tear'")
    one_sentence(lingraft(*asked, "--decoder", "glossary", stdin="Eins."), 2, "it has no terms; name their CSV file")
    one_sentence(lingraft(*asked, "--glossary", "", stdin="Eins."), 2, "--glossary is empty")
