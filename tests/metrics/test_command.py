"""Metric `command` with real programs: what they are given, what they may answer, and what goes wrong in a sentence."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from lingraft.core.errors import DataError, LingraftError, UsageError
from lingraft.data.records import Pair
from lingraft.evaluation.translation import score_all
from lingraft.metrics.base import open_metric
from processes import HANGING

PAIRS = [
    Pair("a", "Quelle eins", "one two three", "de", "en", references=("one two",)),
    Pair("b", "Quelle\nzwei \u2028 drei", "four", "de", "en", references=("fore",)),
]
TEXTS = {"a": "one two", "b": "four"}

HEAD = "import json, sys\nrows = [json.loads(line) for line in {source}]\n"


def _program(folder: Path, body: str, source: str = "sys.stdin") -> str:
    path = folder / "a scorer.py"
    path.write_text(HEAD.format(source=source) + body, "utf-8")
    return shlex.join([sys.executable, str(path)])


def _row(command: str, **params: object) -> tuple[float, str | None]:
    row = score_all({"x": TEXTS}, PAIRS, "demo", [{"kind": "command", "command": command, **params}], n_bootstrap=20)[0]
    return row.score, row.better


def test_rows_hold_everything_and_scores_are_averaged(tmp_path: Path) -> None:
    body = """
assert [sorted(row) for row in rows] == [sorted(rows[0])] * 2
assert rows[1]["source"] == "Quelle\\nzwei \\u2028 drei" and rows[0]["references"] == ["one two three", "one two"]
assert (rows[0]["source_lang"], rows[0]["target_lang"], rows[0]["reference"]) == ("de", "en", "one two three")
for row in rows:
    print(len(row["hypothesis"].split()) / len(row["reference"].split()))
"""
    assert _row(_program(tmp_path, body)) == (pytest.approx((2 / 3 + 1) / 2), "higher")


def test_files_and_fields_as_metricx_has_them(tmp_path: Path) -> None:
    body = """
with open(sys.argv[2], "w") as out:
    for row in rows:
        out.write(json.dumps({**row, "prediction": len(row["hypothesis"]), "to": sys.argv[3]}) + "\\n")
print("loading a model ...")
"""
    command = _program(tmp_path, body, "open(sys.argv[1])") + " {input} {output} {target_lang}"
    assert _row(command, field="prediction", better="lower") == (pytest.approx(5.5), "lower")
    assert _row(command, field="prediction", better="neither") == (pytest.approx(5.5), None)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print(1)", r"wrote 1 lines for 2 segments"),
        ("print(1); print('nan')", r"line 2 is 'nan'; each must be a number"),
        ("print(1); print('good')", r"line 2 is 'good'"),
        ("print(1); print('{\"points\": 3}')", r"number in 'score' \(see `field:`\)"),
        ("sys.exit('model.bin is missing')", r"failed with exit code 1: model.bin is missing"),
        ("import time; time.sleep(3600)", r"had not ended after 1 s"),
    ],
    ids=["too few", "nan", "text", "field", "exit code", "timeout"],
)
def test_failures_are_one_sentence(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _row(_program(tmp_path, body), timeout=1 if "sleep" in body else HANGING)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kind": "command"}, "give it a program"),
        ({"kind": "command", "command": "'score"}, "check its quotes"),
        ({"kind": "command", "command": " "}, "is empty"),
        ({"kind": "command", "comand": "x"}, "did you mean 'command'"),
    ],
)
def test_a_bad_choice_is_told_at_once(choice: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_metric(choice)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(LingraftError, match=r"cannot be started \(No such file or directory\)"):
        _row("no-such-scorer-program --fast")
