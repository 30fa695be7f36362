"""Entry points that take bytes from strangers, seeds for them, and what hostile bytes are made of.

Used by the hypothesis tests and by `make fuzz`. An entry point returns for anything a user may have on disk: rows,
rejected rows and LingraftError are all right; every other exception is a defect.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow
from pyarrow import parquet

from document_samples import CASES
from hostile_server import RATINGS, SERVER_ENTRY_POINTS, read_ratings
from hostile_watch import WATCH_SEEDS, watch_as_run
from lingraft.core.errors import LingraftError, UsageError
from lingraft.data.document_checks import TextLimits, check_texts
from lingraft.data.files import Row
from lingraft.data.overlap import OverlapIndex
from lingraft.data.pair_checks import CheckLimits, check_pairs
from lingraft.data.readers import PairSource, PromptSource, TextSource, read_pairs, read_prompts, read_texts
from lingraft.data.records import Pair, Prompt, Rejected, Text
from lingraft.documents.base import DOCUMENTS, Filled
from lingraft.models.adapter_files import read_adapter
from lingraft.models.graft import read_info
from lingraft.models.vocabulary import Vocabulary
from lingraft.recipe.load import dump_recipe, load_recipe, parse_recipe
from lingraft.recipe.shipped import shipped_recipes
from lingraft.recipe.strict_yaml import plain_values
from lingraft.store.files import write_lines

PAIR_FORMATS = ("jsonl", "json", "tsv", "csv", "tmx")
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": partial(gzip.compress, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: bytes(pyarrow.compress(data, codec="zstd", asbytes=True)),
}
PROMPT_FORMATS = ("jsonl", "json", "tsv", "csv", "text")

LIMITS = CheckLimits(language_check=False)


def read_as_pairs(format: str, packed: str, data: bytes, folder: Path) -> list[Row[Pair] | Rejected]:
    """Read, check, write and read back `data` as a file of pairs; returns what was read.

    Args:
        format: of the data. packed: suffix of its compression, ".gz", or "".
    """
    path = folder / f"data.{format}{packed}"
    path.write_bytes(data)
    source = PairSource(path=str(path), source="de", target="en", format=format)  # type: ignore[arg-type]
    rows: list[Row[Pair] | Rejected] = []
    with suppress(LingraftError):
        for row in read_pairs(source):
            rows.append(row)
    _places(rows)
    good = [row.record for row in rows if isinstance(row, Row)]
    assert len({pair.id for pair in good}) == len(good)
    checked = list(check_pairs(rows, LIMITS, file=str(path), overlap=OverlapIndex(good[:3])))
    assert len(checked) == len(rows)
    write_lines(folder / "kept.jsonl", (pair.to_json() for pair in good))
    back = [Pair.from_json(line) for line in (folder / "kept.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert back == good
    write_lines(folder / "rejected.jsonl", (item.to_json() for item in checked if isinstance(item, Rejected)))
    return rows


def read_as_prompts(format: str, packed: str, data: bytes, folder: Path) -> list[Row[Prompt] | Rejected]:
    """Read `data` as a file of prompts."""
    path = folder / f"data.{format}{packed}"
    path.write_bytes(data)
    rows: list[Row[Prompt] | Rejected] = []
    with suppress(LingraftError):
        for row in read_prompts(PromptSource(path=str(path), format=format)):  # type: ignore[arg-type]
            rows.append(row)
    _places(rows)
    for row in rows:
        if isinstance(row, Row):
            assert Prompt.from_json(row.record.to_json()) == row.record
            row.record.messages[-1].content.encode("utf-8")
    return rows


def read_as_texts(format: str, packed: str, data: bytes, folder: Path) -> list[Row[Text] | Rejected]:
    """Read and check `data` as a file of documents; returns what was read."""
    path = folder / f"data.{format}{packed}"
    path.write_bytes(data)
    rows: list[Row[Text] | Rejected] = []
    with suppress(LingraftError):
        for row in read_texts(TextSource(path=str(path), lang="de", format=format)):  # type: ignore[arg-type]
            rows.append(row)
    _places(rows)
    overlap = OverlapIndex([Pair("t", "Grüße an alle, die hier sind", "Greetings to all", "de", "en")])
    checked = list(check_texts(rows, TextLimits(language_check=False), file=str(path), overlap=overlap))
    assert len(checked) == len(rows)
    for item in checked:
        if isinstance(item, Text):
            assert Text.from_json(item.to_json()) == item
            item.text.encode("utf-8")
    return rows


def read_aligned(data: bytes, folder: Path) -> None:
    """Read the two halves of `data` as aligned text files."""
    middle = len(data) // 2
    (folder / "a.txt").write_bytes(data[:middle])
    (folder / "b.txt").write_bytes(data[middle:])
    source = PairSource(path=str(folder / "a.txt"), source="de", target="en", target_path=str(folder / "b.txt"))
    with suppress(LingraftError):
        _places(list(read_pairs(source)))


def _places(rows: list[Row[Pair] | Rejected] | list[Row[Prompt] | Rejected] | list[Row[Text] | Rejected]) -> None:
    for row in rows:
        assert row.line >= 1
        if isinstance(row, Rejected):
            assert row.reason
            assert len(row.detail) <= 200


def load_as_recipe(data: bytes, folder: Path) -> None:
    """Load `data` as a recipe file; what is accepted dumps to what loads to the same."""
    path = folder / "recipe.yaml"
    path.write_bytes(data)
    problem, recipe = "", None
    try:
        recipe = load_recipe(str(path))
    except UsageError as error:
        problem = str(error)
    assert "\n" not in problem
    assert len(problem) < 2000
    if recipe is None:
        return
    text = dump_recipe(recipe)
    assert dump_recipe(parse_recipe(plain_values(text, "dump"), "dump", Path("/"))) == text


def load_with_override(data: bytes, folder: Path) -> None:
    """Load the demo with `data` as an override."""
    text = data.decode("utf-8", "surrogateescape")  # as the arguments of a command arrive
    with suppress(UsageError):
        load_recipe("demo", [text])


def read_as_summaries(format: str, data: bytes, folder: Path) -> None:
    """Read `data` as a file of documents with summaries; WikiLingua as both of its files."""
    path = folder / "data.jsonl"
    path.write_bytes(data)
    other = str(path) if format == "wikilingua" else None
    with suppress(LingraftError):
        source = PairSource(path=str(path), target_path=other, source="de", target="en", format=format)  # type: ignore[arg-type]
        list(read_pairs(source))


def read_as_graft(data: bytes, folder: Path) -> None:
    """Read `data` as the descriptions of a graft and of its vocabulary."""
    for name in ("vocabulary.json", "lingraft.json", "adapter_model.safetensors"):
        (folder / name).unlink(missing_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_bytes(data)
        with suppress(LingraftError):
            read_adapter(folder)
    (folder / "lingraft.json").write_bytes(data)
    with suppress(LingraftError):
        read_info(folder)
    (folder / "vocabulary.json").write_bytes(data)
    with suppress(LingraftError):
        Vocabulary.in_folder(folder)


PAIRS = [
    {"source": "Guten Morgen!", "target": "Good morning!", "id": "a"},
    {"translation": {"de": "Grüße an alle", "en": "Greetings to all"}, "document": "d"},
    {"messages": [{"role": "user", "content": "Hallo"}, {"role": "assistant", "content": "Hello"}]},
    {"source": "Ja", "references": {"en": "Yes", "cs": "Ano"}, "source_lang": "deu"},
]
PROMPTS = [
    {"prompt": "Why?"},
    {"instruction": "Sum.", "input": "1 2", "output": "3"},
    {"turns": ["Why?", "And now?"], "reference": ["Because."]},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Why?"}]},
]
TMX = (
    '<?xml version="1.0" encoding="UTF-8"?><tmx version="1.4"><header srclang="de"/><body><tu tuid="1">'
    '<tuv xml:lang="de"><seg>Hallo <ph>x</ph>Welt</seg></tuv><tuv xml:lang="en"><seg>Hello</seg></tuv></tu>'
    "</body></tmx>"
)
GRAFT = {
    "schema": "lingraft.graft/1",
    "method": "radis",
    "instruction": "Translate {source} into {target_name}.",
    "directions": [{"source": "de", "target": "en"}],
    "base_id": "x",
    "base_sha256": "0" * 64,
}


def _lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: list[dict[str, object]]) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), stream)
    return stream.getvalue()


PAIR_SEEDS: dict[str, bytes] = {
    "jsonl": _lines(PAIRS),  # type: ignore[arg-type]
    "json": json.dumps(PAIRS, indent=1).encode(),
    "tsv": b"source\ttarget\nGuten Morgen!\tGood morning!\nJa\tYes\n",
    "csv": b'de,en\n"Sie sagte: ""Nein""\nund ging","She said ""no"" and left"\nJa,Yes\n',
    "tmx": TMX.encode(),
}
PROMPT_SEEDS: dict[str, bytes] = {
    "jsonl": _lines(PROMPTS),  # type: ignore[arg-type]
    "json": json.dumps(PROMPTS).encode(),
    "tsv": b"prompt\nWhy?\n",
    "csv": b"goal,n\nWhy?,1\n",
    "text": b"Why?\n\nHow?\n",
}

TEXTS = [
    {"text": "Guten Morgen!\nGrüße an alle, die hier sind.\n\n- Ja. Nein!", "id": 3},
    {"content": "Guten Morgen!\nEin Satz, der lang genug ist, um gezählt zu werden."},
]
TEXT_SEEDS: dict[str, bytes] = {
    "jsonl": _lines(TEXTS),  # type: ignore[arg-type]
    "json": json.dumps(TEXTS).encode(),
    "tsv": b"text\nGuten Morgen\n",
    "csv": b'content,n\n"Guten Morgen\nund Tag",1\n',
    "text": b"Guten Morgen\n\nGuten Tag\n",
}

SUMMARY_SEEDS: dict[str, bytes] = {
    "crosssum": _lines([{"source_url": "s", "target_url": "t", "summary": "A ferry.", "text": "Eine Fähre hält."}]),
    "wikilingua": _lines(
        [
            {
                "url": "http://w/x",
                "article": {
                    "Eins": {
                        "document": "d",
                        "summary": "s",
                        "english_url": "http://w/x",
                        "english_section_name": "One",
                    }
                },
            },
            {"url": "http://w/x", "article": {"section_name": ["One"], "document": ["d"], "summary": ["s"]}},
        ]
    ),
}


WMT_SEED = b"""<dataset id="a"><doc id="d"><src lang="de"><p><seg id="1">Eins.</seg></p></src>
<ref lang="en" translator="A"><p><seg id="1">One.</seg></p></ref></doc></dataset>"""


def read_as_document(name: str, data: bytes, folder: Path) -> None:
    """Read `data` as a document, and put the texts themselves in place of translations."""
    case = next(one for one in CASES if one.format == name)
    kind = DOCUMENTS.create({"kind": name, **case.params})
    with suppress(LingraftError):
        document = kind.parse(data, "the file", "de", "en")
        assert document.written({}) == data
        document.shape()
        filled = {one.id: Filled(one.text) for one in document.segments}
        assert len(filled) == len(document.segments)
        document.written(filled)


ENTRY_POINTS: dict[str, tuple[Callable[[bytes, Path], object], list[bytes]]] = {
    **{f"pairs-{name}": (partial(read_as_pairs, name, ""), [PAIR_SEEDS[name]]) for name in PAIR_FORMATS},
    **{f"prompts-{name}": (partial(read_as_prompts, name, ""), [PROMPT_SEEDS[name]]) for name in PROMPT_FORMATS},
    **{f"texts-{name}": (partial(read_as_texts, name, ""), [TEXT_SEEDS[name]]) for name in PROMPT_FORMATS},
    "texts-jsonl-gz": (partial(read_as_texts, "jsonl", ".gz"), [gzip.compress(TEXT_SEEDS["jsonl"], mtime=0)]),
    **{
        f"pairs-jsonl-{suffix}": (partial(read_as_pairs, "jsonl", f".{suffix}"), [pack(PAIR_SEEDS["jsonl"])])
        for suffix, pack in PACKERS.items()
    },
    "pairs-json-gz": (partial(read_as_pairs, "json", ".gz"), [gzip.compress(PAIR_SEEDS["json"], mtime=0)]),
    "pairs-tmx-gz": (partial(read_as_pairs, "tmx", ".gz"), [gzip.compress(PAIR_SEEDS["tmx"], mtime=0)]),
    "summaries-crosssum": (partial(read_as_summaries, "crosssum"), [SUMMARY_SEEDS["crosssum"]]),
    "summaries-wikilingua": (partial(read_as_summaries, "wikilingua"), [SUMMARY_SEEDS["wikilingua"]]),
    "pairs-parquet": (partial(read_as_pairs, "parquet", ""), [_parquet(PAIRS[:1])]),
    "pairs-xliff": (partial(read_as_pairs, "xliff", ""), [one.data for one in CASES if one.format == "xliff"]),
    "pairs-po": (partial(read_as_pairs, "po", ""), [one.data for one in CASES if one.format == "po"]),
    "pairs-wmt": (partial(read_as_pairs, "wmt", ""), [WMT_SEED]),
    "aligned": (read_aligned, [b"eins\nzwei\none\ntwo\n"]),
    "recipe": (load_as_recipe, [text.encode() for text in shipped_recipes().values()]),
    "override": (load_with_override, [b"stages.0.train.epochs=2", b"compare=[{method: vanilla}]"]),
    "graft": (read_as_graft, [json.dumps(GRAFT).encode(), b'{"peft_type": "LORA", "r": 4, "target_modules": ["q"]}']),
    **{
        f"document-{name}": (partial(read_as_document, name), [one.data for one in CASES if one.format == name])
        for name in sorted({one.format for one in CASES})
    },
    "watch": (watch_as_run, WATCH_SEEDS),
    **SERVER_ENTRY_POINTS,
    "page-ratings": (read_ratings, [RATINGS]),
}
"""name -> what takes bytes and a scratch folder, and seeds."""

POISON: tuple[bytes, ...] = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",  # half a surrogate pair as UTF-8
    b"\\ud800",
    b"\\u0000",
    "\u2028".encode(),
    "\u0085".encode(),
    b"\r",
    b"\r\n",
    b"\n\n",
    b'"',
    b"'",
    b"\t",
    b",",
    b";",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"0x" + b"f" * 5000,
    b"[" * 3000,
    b'{"a":' * 3000,
    b"- " * 2000,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"&a [*a, *a]",
    b"*a",
    b"<<: *a",
    b"!!python/object:os.system",
    b"!!timestamp 2026-99-99",
    b"? ",
    b"| ",
    b"%YAML 9999999999999.1\n",
    b'<!DOCTYPE x [<!ENTITY a "b">]>',
    b"&a;",
    b"<![CDATA[",
    b"<!--",
    b'<?xml version="1.0" encoding="utf-7"?>',
    b"<g>" * 3000,
    b"</seg></tuv></tu>",
    b"a" * 140_000,  # beyond the field limit of the csv module
    b"zh-Hant-x-" + b"q" * 60,
    b"\xe2\x80\xae",
)
"""Pieces that have broken parsers."""
