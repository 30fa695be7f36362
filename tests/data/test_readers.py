"""Readers are checked against what other programs write (gzip, datasets), and against files nobody can read."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lingraft.core.errors import DataError, UsageError
from lingraft.data.files import Row, stem
from lingraft.data.readers import MeasuredSource, PairSource, PromptSource, read_pairs, read_prompts
from lingraft.data.records import Pair
from lingraft.language.codes import language
from reading import SENTENCES, bad, pairs, sides, source, write_jsonl


def test_a_test_set_is_read_the_other_way_round(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"q": "Guten Tag", "z": ["Good day"], "id": "7"})
    there = MeasuredSource(path=str(path), source="de", target="en", fields={"source": "q", "references": "z"})
    one, other = there.model_copy(update={"both_directions": True}).ways
    assert one == there
    (row,) = read_pairs(other)
    assert isinstance(row, Row)
    assert row.record == Pair("7:rev", "Good day", "Guten Tag", "en", "de")
    assert [way.source for way in other.model_copy(update={"both_directions": True}).ways] == ["en", "de"]
    again = other.model_copy(update={"both_directions": True}).ways[1]
    assert list(read_pairs(again)) == list(read_pairs(there))


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("split", "test", "data sets"),
        ("subset", "de-en", "data sets of the hub"),
        ("revision", "main", "data sets of the hub"),
        ("inline_codes", "keep", "TMX and XLIFF files"),
    ],
)
def test_keys_that_do_nothing_in_a_format_are_refused(tmp_path: Path, key: str, value: str, what: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"source": "Guten Tag", "target": "Good day"})
    with pytest.raises(UsageError, match=rf"a\.jsonl: `{key}` is of {what}, and this is none; drop it$"):
        pairs(path, **{key: value})


def test_the_column_that_is_missing_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"src": "Guten Tag", "tgt": "Good day"})
    with pytest.raises(DataError, match=r"are 'src', 'tgt': there is no column 'trg', which `fields:` names; name one"):
        pairs(path, fields={"source": "src", "target": "trg"})


def test_a_huge_line_in_a_small_gzip_file_is_rejected_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    ok = b'{"source": "a", "target": "b"}\n'
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(ok)
        block = random.Random(1).randbytes(500_000).hex().encode()  # of which gzip makes half, as of text
        for _ in range(20):
            stream.write(block)
        stream.write(b"\n" + ok)
    language("de")  # the names of languages are read when the first one is asked for, and stay
    tracemalloc.start()
    rows = pairs(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bad(rows) == [(2, "line_too_long")]
    assert [row.line for row in rows] == [1, 2, 3]
    assert peak < 20_000_000


@pytest.mark.parametrize("character", ["x", "ä", "語", "😀"])
@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_counts_characters_not_bytes(tmp_path: Path, character: str, extra: int) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("ja\tyes\n" + character * (1_000_000 - 4 + extra) + "\tyes\nja\tyes", encoding="utf-8")
    rows = pairs(path)
    assert bad(rows) == ([(2, "line_too_long")] if extra else [])
    assert [row.line for row in rows] == [1, 2, 3]


def test_reading_streams(tmp_path: Path) -> None:
    row = json.dumps({"source": "a" * 500, "target": "b" * 500}) + "\n"
    path = tmp_path / "a.jsonl"
    path.write_text(row * 20_000)
    tracemalloc.start()
    count = sum(1 for _ in read_pairs(source(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < path.stat().st_size / 10


def test_arrow_folders(tmp_path: Path) -> None:
    import datasets

    rows = [{"translation": {"de": a, "en": b}} for a, b in SENTENCES]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "one")
    assert sides(pairs(tmp_path / "one")) == SENTENCES
    both = datasets.DatasetDict(train=datasets.Dataset.from_list(rows), test=datasets.Dataset.from_list(rows[:1]))
    both.save_to_disk(tmp_path / "both")
    assert sides(pairs(tmp_path / "both", split="test", format="arrow")) == SENTENCES[:1]
    with pytest.raises(DataError, match=r"no split 'dev'.*train, test"):
        pairs(tmp_path / "both", split="dev")
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="not a readable data set"):
        pairs(tmp_path / "one")


def test_hub_data_sets_are_streamed_and_offline_is_a_clear_error(tmp_path: Path) -> None:
    # `load_dataset` treats a folder of data files like a data set repository: the same path without a network.
    write_jsonl(tmp_path / "train.jsonl", *({"de": a, "en": b} for a, b in SENTENCES))
    code = (
        "import sys; from lingraft.data.readers import PairSource, read_pairs\n"
        "from lingraft.core.errors import DataError\n"
        "for path in sys.argv[1:]:\n"
        "    try: print([row.record.source for row in read_pairs(PairSource(path=path, source='de', target='en'))])\n"
        "    except DataError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code, f"hub:{tmp_path}", "hub:no-such/data-set"],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    read, refused = done.stdout.splitlines()
    assert read == str([one for one, _ in SENTENCES])
    assert refused.startswith("hub:no-such/data-set: cannot be read from the Hugging Face hub")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", None, "no such file"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "no rows"),
        ("a.jsonl", codecs.BOM_UTF16_LE + "{}".encode("utf-16-le"), "UTF-16"),
        ("a.jsonl.gz", b"not gzip", "gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"source": "a", "target": "b"}\n' * 999)[:-9], "gzip"),
        ("a" * 300 + ".jsonl", None, "cannot be read"),
        ("a\0.jsonl", None, "cannot be read"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_pairs(source(name), tmp_path))
    assert "\n" not in str(caught.value)


def test_the_unreadable_one_of_two_aligned_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(b"no gzip\n")
    (tmp_path / "b.txt").write_text("x\n")
    with pytest.raises(DataError, match=r"^a\.txt\.gz: is not a whole gzip file"):
        list(read_pairs(source("a.txt.gz", target_path="b.txt"), tmp_path))


def test_folders_and_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match="folder without a saved data set"):
        read_pairs(source(tmp_path / "folder.jsonl"))
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(source(tmp_path / "loop.jsonl"))


def test_formats_that_cannot_be_told(tmp_path: Path) -> None:
    for name in ("a.dat", "a.txt", "a.tmx"):
        (tmp_path / name).write_text("x")
    with pytest.raises(UsageError, match="format:"):
        read_pairs(source(tmp_path / "a.dat"))
    with pytest.raises(UsageError, match="target_path"):
        read_pairs(source(tmp_path / "a.txt"))
    with pytest.raises(UsageError, match="TMX"):
        read_prompts(PromptSource(path=str(tmp_path / "a.tmx")))
    with pytest.raises(DataError, match="not a readable Arrow file"):
        list(read_pairs(source(tmp_path / "a.dat", format="arrow")))


def test_pipes_are_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"printf 'ja\\tyes\\n' > '{pipe}'"]):
        assert sides(pairs(pipe, format="tsv")) == [("ja", "yes")]


def test_starter_files() -> None:
    row = next(read_pairs(source("starter:train.de-en.jsonl")))
    assert isinstance(row, Row)
    assert row.record.source_lang == "de"
    for path in ("starter:nothing.jsonl", "starter:../starter.yaml"):
        with pytest.raises(DataError, match=r"known: .*train\.de-en\.jsonl"):
            read_pairs(source(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "german"}, "did you mean 'de'"),
        ({"target": "deu"}, "two languages"),
        ({"format": "tsv", "target_path": "b"}, "target_path"),
        ({"fields": {"sorce": "x"}}, "unknown field 'sorce'"),
        ({"weight": 0}, "greater than 0"),
        ({"weight": float("inf")}, "finite"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"pth": "x"}, "pth"),
    ],
)
def test_bad_sources(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source("a.jsonl", **options)


def test_sources_are_normalised_described_and_dump_to_themselves() -> None:
    made = source("data/train.de-en.jsonl.gz", source="deu", target="zh_cn")
    assert (made.source, made.target, made.name) == ("de", "zh-CN", "train.de-en")
    assert PairSource(**made.model_dump()) == made
    for model in (PairSource, PromptSource):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("hub:org/name", "name"),
        ("starter:a.b.jsonl", "a.b"),
        ("dir/", "dir"),
        ("x/train.de", "train.de"),
        ("/", "data"),
    ],
)
def test_names(path: str, name: str) -> None:
    assert stem(path) == name
