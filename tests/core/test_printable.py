"""Words of strangers obey nobody: no terminal, no spreadsheet, no TeX, no reader of Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import lingraft  # noqa: F401  (a fixture)
from lingraft.cli import ends as cli_ends
from lingraft.cli import main as cli
from lingraft.cli.translate_page import Page, TranslateOptions
from lingraft.core.printable import MOST, csv_text, fence, inline_code, latex, markdown, printable
from lingraft.core.progress import Reporter
from lingraft.core.streams import json_text
from lingraft.translation.blocks import TextBlock

HOSTILE = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;title\x07",
    "c1": "\x9b2J",
    "over": "good\rbad",
    "line": "a\nlingraft: all is well",
    "override": "\u202egpj.exe",
    "isolate": "\u2066a\u2069",
    "separator": "a\u2028b\u2029c\x85d",
    "half": "a\ud83d \udcff",
    "delete": "\x7f\x08\x08",
    "nul": "\0",
}

_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_left_to_obey(name: str) -> None:
    shown = printable(HOSTILE[name])
    assert not _OBEYED.search(shown)
    assert shown.encode("utf-8")
    kept = printable(HOSTILE[name], None, lines=True)
    assert set(_OBEYED.findall(kept)) <= {"\n"}
    assert not _OBEYED.search(json_text({HOSTILE[name]: HOSTILE[name]}))
    assert json.loads(json_text([HOSTILE[name]])) == [HOSTILE[name]]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None), max_size=40))
def test_words_stay_what_they_are(text: str) -> None:
    shown = printable(text, None)
    assert not _OBEYED.search(shown)
    # Independent of the table: whatever is no control, format character, separator or half of a pair stays.
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert [c for c in shown if c in text] or not [c for c in text if unicodedata.category(c) not in kinds]
    if not any(unicodedata.category(c) in kinds for c in text):
        assert shown == text


def test_letters_of_all_scripts_stay() -> None:
    for text in ("می‌خواهم", "नमस्ते", "👩‍👩‍👧", "שלום\u200f!", "ไทย", "e\u0301", "a\u00a0b", "a\u00adb"):
        assert printable(text) == text


def test_what_is_long_keeps_its_beginning_and_its_remedy() -> None:
    shown = printable(f"/data/{'x' * 100_000}: is no graft; name another")
    assert shown.startswith("/data/xxx")
    assert shown.endswith("is no graft; name another")
    assert len(shown) < MOST + 60
    assert "[... 99,5" in shown


def cells(text: str, mark: str, quoting: int) -> list[str]:
    """Return the cells as a program finds them that separates by `mark`."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, quoting=quoting)
    return [cell for row in reader for cell in row]


PIECES = [
    "=cmd|'/C calc'!A0",
    "=1+1",
    "-1",
    "+x",
    "@SUM(A1)",
    "＝1",
    ";",
    ",",
    "\t",
    "\n",
    "\r",
    '"',
    " ",
    "Hallo",
    "5",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), min_size=1, max_size=4))
def test_no_program_finds_a_formula_whatever_separates_its_cells(row: list[str]) -> None:
    text = csv_text([row], line_end="\r\n")
    assert len(cells(text, ",", csv.QUOTE_MINIMAL)) == len(row)
    for mark, quoting in [(m, q) for m in ",;\t" for q in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)]:
        for cell in cells(text, mark, quoting):
            # A comma before a blank is punctuation; nobody takes what begins with a blank there for a formula.
            stripped = cell.lstrip('"') if mark == "," and quoting == csv.QUOTE_NONE else cell.strip('" \t')
            assert not stripped.startswith(("=", "+", "-", "@", "＝")), (mark, cell)


def test_numbers_stay_numbers_and_prose_stays_prose() -> None:
    rows = [["system", "gain"], ["a;=x", -1.5], ["minus 5, -3 degrees; fine", None], ["x=1; y", 7]]
    again = list(csv.reader(io.StringIO(csv_text(rows))))
    assert again == [["system", "gain"], ["a;'=x", "-1.5"], ["minus 5, -3 degrees; fine", ""], ["x=1; y", "7"]]


def test_latex_and_markdown_are_one_line_of_text() -> None:
    assert latex("a\r\\input{x}\x1b") == r"a \textbackslash{}input\{x\}␛"
    assert "\n" not in latex(" 50 %\n& more ")
    assert latex(" a ") == " a "
    assert markdown("a\x1b[0m\n# b\u202e<i>") == r"a␛\[0m \# b\u202e&lt;i&gt;".replace(r"\u", "\\\\u")
    assert inline_code("a\x9bb`|") == r'`"a\x9bb\u0060\u007c"`'
    assert fence("a\n```\n\x1bb") == "````\na\n```\n␛b\n````"


def test_words_of_a_run_keep_their_brackets_and_obey_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.say("[red]x[/red] :smile: \x1b[2J\x9b" + "y" * 100_000 + "\nlingraft: all is well")
    with reporter.task("[bold]\x1bt", 3) as task:
        task.update(3)
    shown = capsys.readouterr().err
    assert shown.startswith("[red]x[/red] :smile: ␛[2J\\x9byyy")
    assert shown.endswith("␊lingraft: all is well\n")
    assert len(shown) < 5000


def test_a_message_is_one_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli_ends.fail("\x1b[2Ja\nb " + "x" * 100_000 + "; name another", 2)
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("lingraft: ␛[2Ja␊b xxx")
    assert shown.endswith("; name another\n")
    assert len(shown) < 1100


def test_a_name_that_a_pattern_of_the_shell_found_is_shown_as_text(lingraft: Any, tmp_path: Path) -> None:
    name = "--a\x1b[31m\x9b"
    result = lingraft("check", name, "--from", "de", "--to", "en")
    assert result.code == 2
    assert not re.search("[\x1b\x9b]", result.err)
    path = tmp_path / "rows\x1b[2J\x9b.jsonl"
    path.write_text(json.dumps({"source": "Guten \x9bTag", "target": "Good\x1b[0m day"}) + "\n", "utf-8")
    for more in ((), ("--json",)):
        result = lingraft("check", path, "--from", "de", "--to", "en", *more)
        assert "rows" in result.out
        assert not re.search("[\x1b\x9b]", result.out + result.err)


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_translations_to_a_terminal_are_shown_and_elsewhere_are_data() -> None:
    block = TextBlock(1, "12 \x1b[31m\x9b3", translate=False)
    for stream, shown in ((Terminal(), "12 ␛[31m\\x9b3\n"), (io.StringIO(), "12 \x1b[31m\x9b3\n")):
        page = Page([block], {}, TranslateOptions(), _stream=stream)
        page.write()
        assert stream.getvalue() == shown


def test_a_fault_of_our_own_shows_what_strangers_wrote(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("\x1b[2J\x9b")

    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # set back at the end
    monkeypatch.setattr("lingraft.api.list_entries", broken)
    monkeypatch.setattr(sys, "argv", ["lingraft", "list", "recipes"])
    with pytest.raises(ValueError) as raised:
        cli.main()
    sys.excepthook(raised.type, raised.value, raised.tb)  # as Python does at the end
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith("ValueError: ␛[2J\\x9b\n")
