"""The command line as a user meets it: output, exit codes, and one sentence for each mistake."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import typer

from builders import tiny_llama, tiny_tokenizer
from commands import graft, lingraft, model, one_sentence  # noqa: F401  (fixtures)
from lingraft.cli import main as cli


@pytest.mark.parametrize("command", ["serve", "chat", "export", "evaluate"])
def test_a_run_as_a_plain_argument_is_told_how_it_is_given(lingraft: Any, command: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "graft").mkdir(parents=True)
    (tmp_path / "run" / "graft" / "lingraft.json").write_text("{}", "utf-8")
    for folder in (tmp_path / "run", tmp_path / "run" / "graft"):
        one_sentence(lingraft(command, folder), 2, f"give the graft, or the folder of its run, as --graft {folder}")
    result = lingraft(command, tmp_path / "no")
    assert result.code == 2
    assert "lingraft: " not in result.err


def test_a_folder_is_no_text(lingraft: Any, tmp_path: Path) -> None:
    ask = ("translate", tmp_path, "--from", "de", "--to", "en")
    one_sentence(lingraft(*ask), 2, f"{tmp_path} is a folder; give a text file")
    (tmp_path / "lingraft.json").write_text("{}", "utf-8")
    one_sentence(lingraft(*ask), 2, f"{tmp_path} is a folder; give the graft, or the folder of its run, as --graft")


@pytest.mark.parametrize(
    "command",
    ["", *sorted(typer.main.get_command(cli.app).commands)],
)
def test_every_command_explains_itself(lingraft: Any, command: str) -> None:
    result = lingraft(*([command] if command else []), "--help")
    assert result.code == 0
    assert "Usage" in result.out


@pytest.mark.parametrize(
    "arguments", [["run"], ["compare"], ["nothing"], ["list", "--nothing"], ["run", "demo", "--out"]]
)
def test_wrong_usage_is_told_without_a_traceback(lingraft: Any, arguments: list[str]) -> None:
    result = lingraft(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "Error" in result.err or "Usage" in result.err


def test_commands_look_for_garbage_seldom(lingraft: Any) -> None:
    before = gc.get_threshold()
    gc.set_threshold(700, *before[1:])
    try:
        lingraft("--version")
        assert gc.get_threshold() == (20_000, *before[1:])
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)


def test_version(lingraft: Any) -> None:
    from lingraft.core import __version__

    assert lingraft("--version").out == f"lingraft {__version__}\n"


@pytest.mark.parametrize(
    "kind",
    ["methods", "tuners", "objectives", "decoders", "suites", "engines", "metrics", "mergers", "documents", "recipes"],
)
def test_lists_name_what_is_registered(lingraft: Any, kind: str) -> None:
    expected = {
        "methods": "radis",
        "tuners": "lora",
        "objectives": "eaft",
        "decoders": "direct",
        "suites": "refusal",
        "engines": "transformers",
        "metrics": "chrf++",
        "mergers": "linear",
        "documents": "markdown",
        "recipes": "radis-wmt22",
    }
    result = lingraft("list", kind)
    assert result.code == 0
    assert expected[kind] in result.out


def test_unknown_list(lingraft: Any) -> None:
    one_sentence(lingraft("list", "method"), 2, "did you mean 'methods'")


def test_doctor_prints_json(lingraft: Any) -> None:
    result = lingraft("doctor", "--json")
    assert json.loads(result.out)["torch"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stages.0.train.epoch=2", ["stages.0.train.epoch", "did you mean 'epochs'"]),
        ("stages.0.method=radiss", ["radiss", "did you mean 'radis'"]),
        ("pairs.train.0.source=germn", ["germn", "did you mean 'de'"]),
        ("nonsense", ["key=value"]),
        ("engine=transformer", ["did you mean 'transformers'"]),
    ],
)
def test_recipe_mistakes(lingraft: Any, override: str, words: list[str]) -> None:
    one_sentence(lingraft("run", "demo", override), 2, *words)


def test_unknown_recipe(lingraft: Any) -> None:
    one_sentence(lingraft("run", "dmo"), 2, "did you mean 'demo'")


def test_dry_run_of_the_paper_scale_recipe_needs_neither_hub_nor_model(lingraft: Any, tmp_path: Path) -> None:
    result = lingraft("run", "radis-wmt22", "--dry-run", "--out", tmp_path / "x")
    assert result.code == 0
    for word in ("113,386", "train-radis", "memory", "GiB", "supervised"):
        assert word in result.out
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, ["no such file", "train.jsonl"]),
        (lambda path: path.write_text("", "utf-8"), ["empty"]),
        (lambda path: path.mkdir(), ["folder"]),
        (
            lambda path: path.write_text(json.dumps({"src": "Hallo", "tgt": "Hello"}) + "\n", "utf-8"),
            ["src", "tgt", "fields"],
        ),
    ],
    ids=["missing", "empty", "folder", "wrong fields"],
)
def test_file_mistakes_stop_check_and_run(
    lingraft: Any, tmp_path: Path, model: Path, make: Any, words: list[str]
) -> None:
    path = tmp_path / "train.jsonl"
    make(path)
    checked = lingraft("check", path, "--from", "de", "--to", "en")
    assert checked.code == 1
    assert all(word in checked.err.lower() or word in checked.err for word in words), checked.err
    ran = lingraft("run", "demo", f"pairs.train.0.path={path}", f"model={model}", "--out", tmp_path / "run")
    one_sentence(ran, 1)
    assert all(word in ran.err.lower() or word in ran.err for word in words), ran.err
    assert not (tmp_path / "run" / "scorecard.json").exists()


def test_check_counts_and_names_bad_rows(lingraft: Any, tmp_path: Path) -> None:
    rows = [{"source": f"Das ist Satz Nummer {i}.", "target": f"This is row number {i}."} for i in range(30)]
    rows[4] = dict(rows[2])
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    good = lingraft("check", path, "--from", "de", "--to", "en", "--rejected", tmp_path / "bad.jsonl")
    assert good.code == 0
    assert "29 of 30 rows are good" in good.out
    assert "1 duplicate (rows 5)" in good.out
    assert json.loads((tmp_path / "bad.jsonl").read_text("utf-8"))["line"] == 5
    strict = lingraft("check", path, "--from", "de", "--to", "en", "--max-rejected-share", "0.01", "--json")
    assert strict.code == 1
    assert json.loads(strict.out)["files"][0]["rejected"] == {"duplicate": 1}
    one_sentence(lingraft("check", path, "--from", "de", "--to", "de"), 2, "two languages")


def test_check_tells_other_scripts_and_regions(lingraft: Any, tmp_path: Path) -> None:
    path = tmp_path / "pairs.tmx"
    variants = "".join(
        f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>'
        for code, text in (("en", "Good morning."), ("zh-TW", "早安。"), ("pt_BR", "Bom dia."))
    )
    path.write_text(f'<tmx version="1.4"><body><tu>{variants}</tu></body></tmx>', "utf-8")
    refused = lingraft("check", path, "--from", "en", "--to", "zh")
    assert refused.code == 1
    assert "missing_field (rows 1): 'zh-TW' is in the script Hant, 'zh' in Hans: declare the one" in refused.out
    read = lingraft("check", path, "--from", "en", "--to", "pt-PT")
    assert (read.code, read.out.count("1 text is in pt_BR, read as pt-PT")) == (0, 1)
    told = json.loads(lingraft("check", path, "--from", "en", "--to", "pt-PT", "--json").out)
    assert told["files"][0]["other_regions"] == {"pt_BR as pt-PT": 1}
    path.write_text(path.read_text("utf-8").replace("zh-TW", "pt-PT"), "utf-8")
    asked = ("check", path, "--from", "en", "--to", "pt-BR")
    assert (
        "1 text is in pt-PT and left out, where there is one in pt_BR; to take them: --to pt-PT" in lingraft(*asked).out
    )
    assert json.loads(lingraft(*asked, "--json").out)["files"][0]["left_out"] == {"pt-PT beside pt_BR": 1}


def test_translate_keeps_order_and_blank_lines(lingraft: Any, graft: Path) -> None:
    text = "Das Wetter ist schön.\n\nGuten Morgen.\nHeute gehen wir zum alten Hafen.\n"
    arguments = ("translate", "--graft", graft, "--from", "de", "--to", "en", "--max-new-tokens", "8", "--quiet")
    result = lingraft(*arguments, stdin=text)
    assert result.code == 0
    assert result.out.count("\n") == 4
    assert result.out.split("\n")[1] == ""
    rows = [json.loads(line) for line in lingraft(*arguments, "--json", stdin=text).out.splitlines()]
    assert [row["id"] for row in rows] == [0, 1, 2, 3]
    assert [" ".join(row["translation"].split()) for row in rows] == result.out.split("\n")[:4]
    single = lingraft(*arguments, stdin="Guten Morgen.").out
    assert single == result.out.split("\n")[2] + "\n"
    unseen = "Guten Morgen.\n\u200b\n\ufeff\n\u2060 \u200d\n\u00ad\n\u3000\n\u3164\nGuten Morgen.\n"
    assert lingraft(*arguments, stdin=unseen).out == single + "\n" * 6 + single
    whole = lingraft(*arguments, "--document", "--json", stdin=text)
    assert len(whole.out.splitlines()) == 1


def test_translate_mistakes(lingraft: Any, graft: Path, model: Path, tmp_path: Path) -> None:
    base = ("translate", "--from", "de", "--to", "en")
    one_sentence(lingraft(*base, "--graft", tmp_path / "none", stdin="x"), 1, "no graft")
    one_sentence(lingraft(*base, "--graft", graft.parent.parent, stdin="x"), 1, "is not a graft", f"mean {graft}?")
    for nothing in ("", "\u200b\n\ufeff\n\u3164"):
        one_sentence(lingraft(*base, "--graft", graft, stdin=nothing), 1, "no text")
    one_sentence(lingraft(*base, "--graft", graft, stdin=b"\xff\xfe\x00"), 1, "UTF-8")
    one_sentence(lingraft(*base, "--graft", graft, tmp_path / "absent.txt"), 1, "absent.txt")
    other = tmp_path / "other"
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=4).save_pretrained(other)
    tokenizer.save_pretrained(other)
    one_sentence(lingraft(*base, "--graft", graft, "--model", other, stdin="x"), 1, "was trained on", "--model")
    for code in ("xx1", "x-klingon", "i-default", "und", "mul"):
        one_sentence(lingraft("translate", "--graft", graft, "--from", code, "--to", "en", stdin="x"), 2, code)


def test_models_that_cannot_be_used(lingraft: Any, model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((model / "config.json").read_text("utf-8"), "utf-8")
    (bare / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    one_sentence(lingraft("run", "demo", f"model={bare}", "--out", tmp_path / "a"), 1, "tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((model / name).read_bytes())
    one_sentence(lingraft("run", "demo", f"model={bare}", "--out", tmp_path / "b"), 1, "chat template")
    one_sentence(lingraft("run", "demo", "model=nowhere", "--out", tmp_path / "c"), 1, "nowhere")


def test_output_that_cannot_be_written(lingraft: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x", "utf-8")
    one_sentence(lingraft("run", "demo", "--out", blocked / "run"), 1, "cannot write")


def test_an_interrupt_is_one_sentence(
    lingraft: Any, monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lingraft.pipeline.trainings.prepare", interrupt)
    again = "run the same command again to continue"
    one_sentence(lingraft("run", "demo", f"model={model}", "--out", tmp_path / "r"), 130, f"interrupted; {again}")
    monkeypatch.setattr("lingraft.conversation.open_graft.answers", interrupt)
    monkeypatch.setattr("lingraft.data.file_checks.check_files", interrupt)
    file, languages = tmp_path / "a.tsv", ("--from", "de", "--to", "en")
    file.write_text("Hallo\tHello\n", "utf-8")
    stopped = lingraft(
        "translate", file, "--format", "text", *languages, "--model", model, "--engine", "scripted", "--quiet"
    )
    one_sentence(stopped, 130, "interrupted; what is finished is written; the same command begins anew")
    one_sentence(lingraft("check", file, *languages), 130, "interrupted; the same command begins anew")


def test_preview_shows_what_is_supervised(lingraft: Any, model: Path) -> None:
    result = lingraft("preview", "demo", f"model={model}", "stages.0.params.max_rationale_tokens=4", "-n", "1")
    assert result.code == 0
    assert "radis" in result.out
    assert "supervised" in result.out
    assert "Translate the following text from German into English." in result.out


def test_gates_decide_the_exit_code(lingraft: Any, graft: Path) -> None:
    held = lingraft("gate", graft.parent, "--gate", "off_target<=100", "--gate", "gain>=-100")
    assert held.code == 0
    assert [line[:6] for line in held.err.splitlines()] == ["holds ", "holds "]
    missed = lingraft("gate", graft.parent, "--gate", "gain>=100", "--gate", "gain<=100")
    one_sentence(missed, 1, "1 of 2 gates missed: gain>=100")
    one_sentence(lingraft("gate", graft.parent, "--gate", "gian>=0"), 2, "did you mean 'gain'?")
    one_sentence(lingraft("gate", graft.parent), 2, "there is no gate to check")
    old = lingraft("evaluate", "--run", graft.parent, "--gate", "off_target<=100")
    assert (old.code, old.out) == (0, "")
    advice, verdict = old.err.splitlines()
    assert advice == f"Note: this is `lingraft gate {graft.parent}` now"
    assert verdict.startswith("holds ")
    one_sentence(lingraft("evaluate", "--graft", graft), 2, "give --graft FOLDER and --out FOLDER")


def test_a_run_is_compared(lingraft: Any, graft: Path, tmp_path: Path) -> None:
    page = tmp_path / "frontier.html"
    result = lingraft("compare", graft.parent, "--html", page, "--resamples", 100)
    assert result.code == 0
    assert "base" in result.out
    assert "radis" in result.out
    assert page.read_text("utf-8").startswith("<!doctype html>")
    one_sentence(lingraft("compare", tmp_path), 1, "holds no finished run")
    one_sentence(lingraft("compare", graft.parent, "--sort", "gian"), 2, "did you mean 'gain'?")
    one_sentence(lingraft("compare", graft.parent, "--html", tmp_path), 2, "it is a folder")
    for option in ("--csv", "--latex", "--html"):
        refused = lingraft("compare", graft.parent, option, tmp_path / "none" / "x")
        one_sentence(refused, 2, f"{option} {tmp_path / 'none' / 'x'} cannot be written: there is no folder")
        read = lingraft("compare", graft.parent, option, graft.parent / "scorecard.json")
        one_sentence(read, 2, "is the input itself")
    assert not (tmp_path / "none").exists()
    one_sentence(lingraft("compare", graft.parent, "--csv", page, "--html", page), 2, "name the same file")


@pytest.mark.parametrize("place", [["--out", ""], ["--out="]])
def test_an_empty_path_is_not_the_current_folder(
    lingraft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = lingraft("run", "demo", *place, "--quiet")
    assert result.code == 2
    assert result.err == "lingraft: --out is empty; give a path (the current folder is .)\n"
    assert not list(tmp_path.iterdir())
