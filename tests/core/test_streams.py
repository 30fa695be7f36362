"""Standard streams as users have them: other locales, pipes, closed ones."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.streams import json_text

SHOWN = """
import sys
from lingraft.core.streams import json_text, open_streams
open_streams()
print(json_text({"text": "Café „pünktlich“ 日本", "name": "a\\udcff", "half": "\\ud83d", "none": float("nan")}))
print("Café „日本“ a\\udcff \\ud83d")
print("Café „日本“", file=sys.stderr)
"""


def ran(code: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more.pop("env", {})}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False, **more)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "utf-8"])
def test_data_is_utf_8_whatever_the_locale(encoding: str) -> None:
    result = ran(SHOWN, env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    read = json.loads(first.decode("utf-8"))
    assert read == {"text": "Café „pünktlich“ 日本", "name": "a\udcff", "half": "\ud83d", "none": None}
    assert second == "Café „日本“ a".encode() + b"\xff \\ud83d"


def test_words_on_stderr_are_escaped_where_the_locale_lacks_letters() -> None:
    result = ran(SHOWN, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert result.stderr == b"Caf\\xe9 \\u201e\\u65e5\\u672c\\u201c\n"


@pytest.mark.parametrize(
    "value", [[1, "ä\u2028\x85\n\x0c\x1e", None, True, 0.1], {"a": {"b": [math.inf, -math.inf, math.nan]}}, ("x",)]
)
def test_json_is_read_by_a_strict_parser(value: Any) -> None:
    def refused(name: str) -> None:
        raise AssertionError(name)

    expected = json.loads(json.dumps(value), parse_constant=lambda _: None)
    assert json.loads(json_text(value), parse_constant=refused) == expected
    assert len(json_text(value).splitlines()) == 1


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_stop_nothing(closed: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for arguments, code in (("--version", 0), ("nothing", 2)):
        line = f"exec {sys.executable} -m lingraft {arguments} {closed}"
        result = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr


def test_a_file_opened_with_stdout_closed_holds_its_own_words_alone(tmp_path: Path) -> None:
    code = """
import os, sys
from lingraft.core.streams import open_streams
open_streams()
with open(sys.argv[1], "w") as file:
    print("words")
    sys.stdout.flush()
    file.write("content")
"""
    target = tmp_path / "file"
    line = f"exec {sys.executable} -c '{code}' {target} 0<&- 1>&-"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(["sh", "-c", line], env=environment, check=True)
    assert target.read_text() == "content"


@pytest.mark.parametrize(("columns", "used"), [("0", 40), ("7", 40), ("40", 40), ("90", 90)])
def test_tables_have_room_whatever_the_environment_says(columns: str, used: int) -> None:
    code = (
        "from lingraft.core.streams import open_streams; open_streams(); import rich; print(rich.get_console().width)"
    )
    assert int(ran(code, env={"COLUMNS": columns}).stdout) == used
