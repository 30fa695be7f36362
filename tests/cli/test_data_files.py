"""`check`, `tune` and `evaluate` on files of every layout: what is shown is what the file says, errors name options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import lingraft, model  # noqa: F401  (fixtures)
from lingraft.cli.translate import _input_lines
from lingraft.core.errors import DataError
from lingraft.data.readers import PairSource

ROWS = [("Good night.", "Buenas noches."), ("See you soon.", "Hasta pronto."), ("Thank you.", "Gracias.")]
TO_SPANISH = ("--from", "en", "--to", "es")


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("a.csv", "English;Spanish\n" + "".join(f"{a};{b}\n" for a, b in ROWS), ()),
        ("a.csv", "Spanish,English\n" + "".join(f"{b},{a}\n" for a, b in ROWS), ()),
        ("a.tsv", "".join(f"{i}\t{a}\t{i}\t{b}\n" for i, (a, b) in enumerate(ROWS)), ("--fields", "source=2,target=4")),
        ("a.dat", "".join(f"{a}\t{b}\n" for a, b in ROWS), ("--format", "tsv")),
        ("a.csv", "l,r\n" + "".join(f"{a},{b}\n" for a, b in ROWS), ("--fields", "source=l", "--fields", "target=r")),
        ("a.en", "".join(f"{a}\n" for a, _ in ROWS), ("--target", "a.es")),
    ],
)
def test_check_shows_two_rows_as_read(
    lingraft: Any, tmp_path: Path, name: str, content: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content, "utf-8")
    Path("a.es").write_text("".join(f"{b}\n" for _, b in ROWS), "utf-8")
    shown = lingraft("check", name, *TO_SPANISH, *options)
    assert shown.code == 0, shown.err
    assert "3 of 3 rows are good" in shown.out
    for source, target in ROWS[:2]:
        assert f"as read: en '{source}' | es '{target}'\n" in shown.out
    assert ROWS[2][0] not in shown.out
    values = json.loads(lingraft("check", name, *TO_SPANISH, *options, "--json").out)["files"][0]
    assert [(row["source"], row["target"]) for row in values["examples"]] == ROWS[:2]


def test_errors_of_check_name_its_options_and_the_file_once(lingraft: Any, tmp_path: Path) -> None:
    mined = tmp_path / "mined.tsv"
    mined.write_text("".join(f"1.2{i}\t{a}\t{b}\n" for i, (a, b) in enumerate(ROWS)), "utf-8")
    swapped = tmp_path / "swapped.tsv"
    swapped.write_text("".join(f"{b}\t{a}\n" for a, b in ROWS), "utf-8")
    missing = tmp_path / "missing.tsv"
    for path, words in (
        (mined, ("first row has 3 cells", "'1.20', 'Good night.'", "--fields source=1,target=2")),
        (swapped, ("3 of 3 rows look swapped", "--from and --to the other way round")),
        (missing, ("no such file", "relative to the current folder")),
    ):
        found = lingraft("check", path, *TO_SPANISH)
        assert found.code == 1
        assert found.err.count(str(path)) == 1
        assert all(word in found.err for word in words), found.err
        assert "fields:" not in found.err + found.out
        assert "Traceback" not in found.err
    all_three = lingraft("check", mined, swapped, missing, *TO_SPANISH)
    assert [line.split(": ")[1] for line in all_three.err.splitlines()] == [str(mined), str(swapped), str(missing)]
    plain = tmp_path / "a.en"
    plain.write_text("x\n")
    assert "--target" in lingraft("check", plain, *TO_SPANISH).err
    half = tmp_path / "half.tsv"
    half.write_text("Good night.\tBuenas noches.\nalone\n", "utf-8")
    assert "raise --max-rejected-share" in lingraft("check", half, *TO_SPANISH).err
    assert "missing_field (rows 2): " in lingraft("check", half, *TO_SPANISH).out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fields", "sorce=2"), "--fields: 'sorce=2' is not FIELD=COLUMN"),
        (("--fields", "source"), "--fields: 'source' is not FIELD=COLUMN"),
        (("--format", "tvs"), "--format: unknown format 'tvs'; did you mean 'tsv'?"),
        (("--inline-codes", "all"), "--inline-codes: 'all' is none of drop, keep, placeholder"),
        (("--target", "a", "--target", "b"), "--target is given 2 times for 1 file;"),
        (
            ("--test-target", "x"),
            "--test-target says how the files of --test are laid out, but there is no --test",
        ),
        (("--test-fields", "source=1"), "--test-fields says how the files of --test are laid out"),
        (("--test-format", "tsv"), "--test-format says how the files of --test are laid out"),
        (("--fields", "source=1,target=1"), "source and target are both column '1'; a pair has two"),
        (("--max-rejected-share", "nan"), "'nan' is no share; give a number from 0 to 1"),
        (("--max-rejected-share", "5%"), "'5%' is no share; give a number from 0 to 1"),
        (("--max-rejected-share", "1.5"), "'1.5' is no share; give a number from 0 to 1"),
        (("--test", "hub:"), "'hub:' names no data set; write hub:org/name"),
        (("--test", "x", "--test-format", "xx"), "--test-format: unknown format 'xx'"),
        (("--target", "a", "--format", "tsv"), "target_path belongs to two aligned text files"),
    ],
)
def test_options_that_say_nothing_known(lingraft: Any, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    (tmp_path / "a.tsv").write_text("Good night.\tBuenas noches.\n", "utf-8")
    found = lingraft("check", tmp_path / "a.tsv", *TO_SPANISH, *options)
    assert (found.code, words in found.err) == (2, True), found.err


def test_inline_codes_are_counted_and_kept_if_wanted(lingraft: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    sides = [
        f'<tuv xml:lang="{code}"><seg>{word}<ph>[1]</ph> ok</seg></tuv>' for code, word in (("en", "Go"), ("es", "Ve"))
    ]
    path.write_text(f"<tmx><body><tu>{''.join(sides)}</tu></body></tmx>", "utf-8")
    dropped = lingraft("check", path, *TO_SPANISH)
    assert "row 1 as read: en 'Go ok' | es 'Ve ok'" in dropped.out
    assert "2 inline codes (ph 2) are left out, variables aside: --inline-codes" in dropped.out
    assert "en 'Go[1] ok' | es 'Ve[1] ok'" in lingraft("check", path, *TO_SPANISH, "--inline-codes", "keep").out


def test_tune_takes_layouts_and_tells_swapped_test_sets_first(
    lingraft: Any, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(f"Good night, number {i}.", f"Buenas noches, número {i}.") for i in range(12)]
    Path("train.tsv").write_text("".join(f"{i}\t{a}\t{b}\n" for i, (a, b) in enumerate(rows)), "utf-8")
    Path("test.en").write_text("".join(f"See you soon, {i}.\n" for i in range(6)), "utf-8")
    Path("test.es").write_text("".join(f"Hasta pronto, {i}.\n" for i in range(6)), "utf-8")
    tune = ("tune", "--pairs", "train.tsv", "--model", str(model), "--out", "run", *TO_SPANISH, "--dry-run")
    layout = ("--fields", "source=2,target=3", "--test-target")
    good = lingraft(*tune, "--test", "test.en", *layout, "test.es")
    assert (good.code, "12 training pairs" in good.out) == (0, True), good.err
    unnamed = lingraft(*tune, "--test", "test.en", "--test-target", "test.es")
    assert (unnamed.code, "--fields/--test-fields source=1,target=2" in unnamed.err) == (1, True), unnamed.err
    swapped = lingraft(*tune, "--test", "test.es", *layout, "test.en")
    assert (swapped.code, "test.es: 6 of 6 rows look swapped" in swapped.err) == (1, True), swapped.err
    assert "--from and --to the other way round" in swapped.err
    assert not Path("run").exists()
    run = lingraft(*tune[:-1], "--test", "test.es", *layout, "test.en", "--quiet")
    assert (run.code, "test.es: 6 of 6 rows look swapped" in run.err) == (1, True), run.err
    assert not [path for path in Path("run").rglob("*") if path.suffix in (".safetensors", ".html")]


def test_tune_takes_several_files_of_prompts(lingraft: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rows in (("train", ROWS), ("test", [("Wait a minute!", "¡Espera un minuto!")])):
        Path(f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in rows), "utf-8")
    Path("own.jsonl").write_text("".join(json.dumps({"frage": f"Why {n}?"}) + "\n" for n in range(12)), "utf-8")
    files = (
        "--pairs",
        "train.tsv",
        "--test",
        "test.tsv",
        "--prompts",
        "starter:prompts.jsonl",
        "--prompts",
        "own.jsonl",
    )
    tune = ("tune", *files, *TO_SPANISH, "--out", "run", "--dry-run")
    refused = lingraft(*tune)
    assert (refused.code, "--set prompts.N.fields='{prompt: ...}'" in refused.err) == (1, True), refused.err
    shown = lingraft(*tune, "--set", "prompts.1.fields={prompt: frage}", "--set", "prompts.0.limit=30")
    assert "42 general prompts (30 of prompts, 12 of own), about half of them for replay\n" in shown.out, shown.err


def test_preview_sends_nobody_to_a_folder_that_is_gone(lingraft: Any, tmp_path: Path, model: Path) -> None:
    bad = [*ROWS, ("x", "x")]
    for name, rows in (("train", bad), ("test", [("Wait a minute!", "¡Espera un minuto!")])):
        lines = [json.dumps({"source": a, "target": b}) + "\n" for a, b in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    declared = [{"path": f"{name}.jsonl", "source": "en", "target": "es"} for name in ("train", "test")]
    recipe = {
        "name": "tiny",
        "model": str(model),
        "pairs": {"train": declared[:1], "test": declared[1:]},
        "stages": [{"method": "vanilla"}],
        "prompts": {"path": "starter:prompts.jsonl"},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), "utf-8")
    found = lingraft("preview", tmp_path / "recipe.yaml")
    assert found.code == 1, found.err
    assert "1 of 4 rows (25.0%) are rejected" in found.err
    assert "see the file rejected.jsonl that `lingraft run` writes" in found.err
    assert str(Path("/tmp")) not in found.err.replace(str(tmp_path), "")


def test_translate_refuses_old_mac_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"Guten Morgen.\rBis bald.\r")
    with pytest.raises(DataError, match=r"a\.txt: .*old Mac line ends"):
        _input_lines(path)
    path.write_bytes(b"Guten Morgen.\r\nBis\rbald.\r\n")
    assert _input_lines(path) == ["Guten Morgen.", "Bis\rbald."]


@pytest.mark.parametrize(("code", "word"), [(False, "no"), (True, "yes")])
def test_norwegian_without_quotes_is_told(code: bool, word: str) -> None:
    for side in ("source", "target"):
        with pytest.raises(ValueError, match=f"write '{word}' in quotes"):
            PairSource.model_validate({"path": "a", "source": "de", "target": "en", side: code})


def test_rejected_rows_are_not_written_over_a_file_that_is_read(lingraft: Any, tmp_path: Path) -> None:
    train, test = tmp_path / "train.tsv", tmp_path / "test.tsv"
    train.write_text("Hallo\tHello\n", encoding="utf-8")
    test.write_text("Bis bald.\tSee you soon.\n", encoding="utf-8")
    for path, text in ((train, "Hallo\tHello\n"), (test, "Bis bald.\tSee you soon.\n")):
        refused = lingraft("check", train, "--test", test, "--from", "de", "--to", "en", "--rejected", path)
        assert refused.code == 2
        assert "--rejected" in refused.err
        assert path.read_text(encoding="utf-8") == text
    refused = lingraft("check", train, "--from", "de", "--to", "en", "--rejected", tmp_path / "none" / "x")
    assert (refused.code, refused.out) == (2, "")
    assert f"--rejected {tmp_path / 'none' / 'x'} cannot be written: there is no folder" in refused.err
    assert not (tmp_path / "none").exists()
