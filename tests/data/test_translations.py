"""Files of translations that others have made."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from lingraft.core.errors import DataError
from lingraft.data.translations import read_translations

SEGMENTS = ["t:1", "t:2", "t:4"]


def lines(*rows: tuple[str, str]) -> bytes:
    return "".join(json.dumps({"id": id_, "text": text}) + "\n" for id_, text in rows).encode()


def test_lines_follow_the_segments_and_objects_name_them(tmp_path: Path) -> None:
    expected = {"t:1": "one", "t:2": "", "t:4": "four\u2028more"}
    (tmp_path / "plain.en").write_bytes(b"\xef\xbb\xbfone\r\n\r\nfour\xe2\x80\xa8more")
    assert read_translations(str(tmp_path / "plain.en")).of(SEGMENTS, "t") == expected
    named = lines(("t:4", "four\u2028more"), ("t:1", "one"), ("t:2", ""))
    (tmp_path / "named.jsonl.gz").write_bytes(gzip.compress(named))
    assert read_translations(str(tmp_path / "named.jsonl.gz")).of(SEGMENTS, "t") == expected


def test_a_file_may_translate_every_row_of_the_test_file(tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    found = read_translations(str(tmp_path / "all.txt")).of(SEGMENTS, "t", ["t:1", "t:2", None, "t:4", "t:5"])
    assert found == {"t:1": "one", "t:2": "two", "t:4": "four"}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", None, "there is no such file"),
        ("a.txt", b"", "the file is empty"),
        ("a.txt", b"\n \n\n", "there is no translation in the file"),
        ("a.txt", b"one\n\xff\n", "line 2: byte 1"),
        ("a.txt", b"one\ntwo\n", "has 2 lines, but the test set 't' has 3 segments"),
        ("a.jsonl", b"one\n", "line 1: not JSON"),
        ("a.jsonl", b'{"id": 1, "text": "one"}\n', "line 1: needs the texts `id` and `text`"),
        ("a.jsonl", lines(("t:1", "a"), ("t:1", "b")), "line 2: the id 't:1' comes twice"),
        ("a.jsonl", lines(*((f"t:{i}", "a") for i in range(1, 5))), "the test set 't' has no segment 't:3'"),
        ("a.jsonl", lines(("t:1", "a")), "2 of 3 segments of the test set 't' have no translation, the first 't:2'"),
    ],
)
def test_what_does_not_translate_the_segments_is_refused(
    tmp_path: Path, name: str, data: bytes | None, words: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_translations(str(tmp_path / name)).of(SEGMENTS, "t")
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
