"""Every shape of a row that is known gives the same pair or prompt, and bad rows their place."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError
from lingraft.data.files import Row
from lingraft.data.readers import read_pairs
from lingraft.data.records import Message, Pair, Prompt, Rejected
from lingraft.data.remarks import Remarks
from reading import bad, good, pairs, prompts, sides, source, write_jsonl

FORMS: dict[str, dict[str, Any]] = {
    "plain": {"source": "Hallo", "target": "Hello"},
    "translation": {"translation": {"en": "Hello", "de": "Hallo"}},
    "flat": {"line": 7, "en": "Hello", "cs": "Ahoj", "de": "Hallo"},
    "named for the direction": {"line": 7, "de-en": {"de": "Hallo", "en": "Hello"}},
    "regional": {"translation": {"en-GB": "Hello", "de_AT": "Hallo"}},
    "three_letters": {"deu": "Hallo", "eng": "Hello"},
    "scripts": {"deu_Latn": "Hallo", "eng_Latn": "Hello"},
    "messages": {
        "messages": [
            {"role": "system", "content": "Translate."},
            {"role": "user", "content": "Hallo"},
            {"role": "assistant", "content": "Hello"},
        ]
    },
    "wmt": {"source": "Hallo", "references": {"A": "Hello"}},
    "by_language": {"source": "Hallo", "references": {"cs": "Ahoj", "en": "Hello"}},
    "named": {"source": "Hallo", "target": "Hello", "source_lang": "deu", "target_lang": "en-US"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_pair_gives_the_same_pair(tmp_path: Path, form: str) -> None:
    rows = pairs(write_jsonl(tmp_path / "a.jsonl", FORMS[form]))
    assert rows == [Row(1, Pair("a:1", "Hallo", "Hello", "de", "en"))]


@pytest.mark.parametrize(
    ("row", "target", "others"),
    [
        ({"references": {"A": "x", "B": "y"}}, "x", ("y",)),
        ({"references": ["x", None, "", "y", "x"]}, "x", ("y",)),
        ({"references": ["x", "y"], "target": "y"}, "y", ("x",)),
        ({"references": {"en": ["x", "y"], "cs": "z"}}, "x", ("y",)),
    ],
)
def test_further_references(tmp_path: Path, row: dict[str, Any], target: str, others: tuple[str, ...]) -> None:
    [pair] = good(pairs(write_jsonl(tmp_path / "a.jsonl", {"source": "s", **row})))
    assert (pair.target, pair.references) == (target, others)


def test_indonesian_id_is_a_text_and_not_an_identifier(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"id": "Selamat pagi", "en": "Good morning"})
    [pair] = good(pairs(path, source="id", target="en"))
    assert (pair.id, pair.source) == ("a:1", "Selamat pagi")


def test_ids_are_kept_and_made_unique(tmp_path: Path) -> None:
    row = {"source": "a", "target": "b"}
    ids = ["x", "x", None, 7, "a:6", None, "x@8", "x", True, ""]
    path = write_jsonl(tmp_path / "a.jsonl", *({**row, "id": one} for one in ids))
    found = [pair.id for pair in good(pairs(path))]
    assert len(set(found)) == len(ids)
    assert found == ["x", "x@2", "a:3", "7", "a:6", "a:6@6", "x@8", "x@8@8", "a:9", "a:10"]


def test_document_and_fields(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"src": "Hallo", "tgt": "Hello", "key": 5, "doc": "news.1"})
    fields = {"source": "src", "target": "tgt", "id": "key", "document": "doc"}
    assert good(pairs(path, fields=fields)) == [Pair("5", "Hallo", "Hello", "de", "en", "news.1")]


def test_bad_lines_are_rejected_with_their_number_and_reading_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ok = b'{"source": "a", "target": "b"}'
    lines = [
        codecs.BOM_UTF8 + ok,
        b'{"source": "Gr\xfc\xdfe", "target": "b"}',
        b"",
        b'{"source": "a"',
        b'["a", "b"]',
        b'{"source": "a", "target": null}',
        b'{"source": 1, "target": "b"}',
        b'{"source": "a"}',
        b"[" * 100_000,
        b'{"source": "a", "target": "b", "source_lang": "en", "target_lang": "de"}',
        b'{"source": "a", "references": []}',
        b'{"messages": [{"role": "user", "content": "a"}]}',
        b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
        b'{"translation": "x"}',
        ok + b"\r",
        ok,
    ]
    path.write_bytes(b"\n".join(lines))
    rows = pairs(path)
    assert [row.line for row in rows if isinstance(row, Row)] == [1, 15, 16]
    assert bad(rows) == [
        (2, "not_utf8"),
        (4, "malformed"),
        (5, "malformed"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "missing_field"),
        (9, "malformed"),
        (10, "language_mismatch"),
        (11, "malformed"),
        (12, "malformed"),
        (13, "malformed"),
        (14, "malformed"),
    ]
    assert {row.file for row in rows if isinstance(row, Rejected)} == {str(path)}


@pytest.mark.parametrize(
    ("declared", "given", "accepted"),
    [
        ("zh", "zh-CN", True),
        ("zh-CN", "zh", True),
        ("zh-CN", "zh-TW", False),
        ("zh", "cmn_Hans", True),
        ("sr-Latn", "sr-Cyrl", False),
        ("sr-Latn", "sh", True),
        ("ar", "arb_Arab", True),
        ("pt-PT", "pt_BR", True),
        ("zh", "ja", False),
        ("zh", 3, False),
    ],
)
def test_named_languages_must_agree(tmp_path: Path, declared: str, given: object, accepted: bool) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"source": "a", "target": "b", "target_lang": given})
    rows = pairs(path, target=declared)
    assert bad(rows) == ([] if accepted else [(1, "language_mismatch")])


TEXTS = {
    "en": "Good morning.",
    "zh-TW": "早安。",
    "zh-Hans": "早上好。",
    "sr_Cyrl": "Добро јутро.",
    "pt_BR": "Bom dia.",
}
TEXTS |= {"iw": "בוקר טוב.", "in": "Selamat pagi.", "nb-NO": "God morgen.", "sh": "Dobro jutro."}
TEXTS |= {"es-MX": "Buenos días.", "es-AR": "Buen día.", "es-ES": "Buenos días a todos."}


def in_every_form(folder: Path, *codes: str) -> list[Path]:
    """Write a row with texts under the codes in each form that has them by language."""
    row = {code: TEXTS[code] for code in ("en", *codes)}
    variants = "".join(f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in row.items())
    (folder / "a.tmx").write_text(f'<tmx version="1.4"><body><tu>{variants}</tu></body></tmx>', "utf-8")
    for name, mark in (("a.tsv", "\t"), ("a.csv", ",")):
        (folder / name).write_text(f"{mark.join(row)}\n{mark.join(row.values())}\n", "utf-8")
    write_jsonl(folder / "flat.jsonl", row)
    write_jsonl(folder / "nested.jsonl", {"translation": row})
    write_jsonl(folder / "references.jsonl", {"source": row.pop("en"), "references": row})
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    ("codes", "target", "taken"),
    [
        (["zh-TW", "zh-Hans"], "zh-CN", "zh-Hans"),
        (["zh-TW", "zh-Hans"], "zh", "zh-Hans"),
        (["zh-TW", "zh-Hans"], "zh-Hant", "zh-TW"),
        (["sh", "sr_Cyrl"], "sr-Latn", "sh"),
        (["iw"], "he", "iw"),
        (["iw"], "iw", "iw"),
        (["in"], "id", "in"),
        (["nb-NO"], "no", "nb-NO"),
        (["pt_BR"], "pt", "pt_BR"),
    ],
)
def test_a_language_is_found_under_any_of_its_codes_in_every_form(
    tmp_path: Path, codes: list[str], target: str, taken: str
) -> None:
    for path in in_every_form(tmp_path, *codes):
        remarks = Remarks()
        rows = list(read_pairs(source(path, source="en", target=target), remarks=remarks))
        assert sides(rows) == [(TEXTS["en"], TEXTS[taken])], path.name
        assert not remarks.regions


@pytest.mark.parametrize(
    ("code", "target", "remark"),
    [
        ("zh-TW", "zh", r"is in the script Hant, 'zh' in Hans: declare the one that is meant"),
        ("sr_Cyrl", "sr-Latn", r"is in the script Cyrl, 'sr-Latn' in Latn"),
        ("sh", "sr", r"is in the script Latn, 'sr' in Cyrl"),
    ],
)
def test_another_script_is_not_taken_and_told(tmp_path: Path, code: str, target: str, remark: str) -> None:
    for path in in_every_form(tmp_path, code):
        if path.suffix == ".tmx":
            row = next(read_pairs(source(path, source="en", target=target)))
            assert isinstance(row, Rejected)
            assert row.reason == "missing_field"
            assert re.search(remark, row.detail)
        with pytest.raises(DataError, match=remark):
            pairs(path, source="en", target=target)


def test_another_region_is_read_and_counted(tmp_path: Path) -> None:
    for path in in_every_form(tmp_path, "pt_BR"):
        remarks = Remarks()
        rows = list(read_pairs(source(path, source="en", target="pt-PT"), remarks=remarks))
        assert sides(rows) == [(TEXTS["en"], TEXTS["pt_BR"])], path.name
        counted = {(given.replace("_", "-"), code): count for (given, code), count in remarks.regions.items()}
        assert counted == {("pt-BR", "pt-PT"): 1}, path.name
    path = write_jsonl(tmp_path / "named.jsonl", *[{"source": "a", "target": "b", "target_lang": "pt_BR"}] * 3)
    remarks = Remarks()
    list(read_pairs(source(path, source="en", target="pt-PT"), remarks=remarks))
    assert remarks.regions == {("pt_BR", "pt-PT"): 3}


@pytest.mark.parametrize(
    ("codes", "target", "taken", "left"),
    [
        (["es-AR", "es-ES"], "es", "es-ES", ["es-AR"]),
        (["es-AR", "es-ES"], "es-AR", "es-AR", ["es-ES"]),
        (["es-MX", "es-AR", "es-ES"], "es-ES", "es-ES", ["es-MX", "es-AR"]),
        (["zh-TW", "zh-Hans", "pt_BR"], "zh", "zh-Hans", []),  # another script is another language
        (["pt_BR", "es-ES"], "pt", "pt_BR", []),
    ],
)
def test_variants_that_are_left_out_are_counted_in_every_form(
    tmp_path: Path, codes: list[str], target: str, taken: str, left: list[str]
) -> None:
    for path in in_every_form(tmp_path, *codes):
        remarks = Remarks()
        rows = list(read_pairs(source(path, source="en", target=target), remarks=remarks))
        assert sides(rows) == [(TEXTS["en"], TEXTS[taken])], path.name
        assert remarks.variants == {("target", code, taken): 1 for code in left}, path.name
        said = remarks.sentences("drop")
        assert all(f"1 text is in {code} and left out, where there is one in {taken}" in said[-1] for code in left)
        assert all(f"to take them: `target: {code}`" in said[-1] for code in left)


def test_several_equally_near_fields_are_named(tmp_path: Path) -> None:
    TEXTS["es-AR"] = "Buen día."
    for path in in_every_form(tmp_path, "es-MX", "es-AR"):
        with pytest.raises(DataError, match="'es-MX' and 'es-AR' are equally near to 'es'"):
            pairs(path, source="en", target="es")


def test_first_row_without_the_fields_names_found_and_expected(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"src": "a", "tgt": "b", "translation": {"fr": "c"}})
    with pytest.raises(DataError, match=r"'src', 'tgt', 'translation' \(with 'fr'\).*'source'.*'messages'.*fields:"):
        pairs(path)
    with pytest.raises(DataError, match="fields"):
        pairs(path, fields={"source": "sorce", "target": "tgt"})


USER = (Message("user", "Why?"),)


@pytest.mark.parametrize(
    ("row", "messages", "reference"),
    [
        ({"prompt": "Why?"}, USER, None),
        ({"goal": "Why?", "target": "Sure, here is"}, USER, None),
        ({"question": "Why?", "reference": "Because."}, USER, "Because."),
        ({"text": "Why?"}, USER, None),
        ({"turns": ["Why?", "And now?"], "reference": ["Because.", "No."]}, USER, "Because."),
        ({"instruction": "Why?", "input": "", "output": "Because."}, USER, "Because."),
        ({"instruction": "Sum.", "input": "1 2"}, (Message("user", "Sum.\n\n1 2"),), None),
        ({"messages": [{"role": "user", "content": "Why?"}]}, USER, None),
        ({"conversations": [{"from": "human", "value": "Why?"}]}, USER, None),
        (
            {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]},
            USER,
            "Because.",
        ),
        (
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
            USER,
            "Because.",
        ),
    ],
)
def test_every_form_of_a_prompt(
    tmp_path: Path, row: dict[str, Any], messages: tuple[Message, ...], reference: str | None
) -> None:
    rows = prompts(write_jsonl(tmp_path / "p.jsonl", row), lang="deu")
    assert rows == [Row(1, Prompt("p:1", messages, "de", reference))]


def test_earlier_turns_are_kept(tmp_path: Path) -> None:
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = {"id": "k", "messages": [{"role": role, "content": text} for role, text in turns]}
    [found] = prompts(write_jsonl(tmp_path / "p.jsonl", row))
    assert isinstance(found, Row)
    assert found.record == Prompt("k", tuple(Message(*turn) for turn in turns[:4]), "en", "d")


def test_bad_prompts(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "p.jsonl",
        {"prompt": "ok"},
        {"prompt": " "},
        {"prompt": 3},
        {"other": "x"},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "judge", "content": "x"}]},
        {"turns": []},
    )
    with path.open("a") as stream:
        stream.write('{"prompt": "\\ud800"}\n')
    assert bad(prompts(path)) == [
        (2, "empty_prompt"),
        (3, "malformed"),
        (4, "missing_field"),
        (5, "malformed"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "control_characters"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "Why?\n\nHow?\n"),
        ("p.csv", "n,goal\n1,Why?\n2,How?\n"),
        ("p.csv", "Why?\nHow?\n"),
        ("p.tsv", "Why?\nHow?"),
    ],
)
def test_prompts_from_text_and_tables(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    rows = prompts(tmp_path / name)
    assert [row.record.messages[0].content for row in rows if isinstance(row, Row)] == ["Why?", "How?"]


def test_prompts_with_other_column_names(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", {"Question": "Why?", "Best Answer": "Because."})
    fields = {"prompt": "Question", "reference": "Best Answer"}
    assert prompts(path, fields=fields) == [Row(1, Prompt("p:1", USER, "en", "Because."))]
    with pytest.raises(DataError, match=r"'Question', 'Best Answer', but expected .*'instruction'.*fields: \{prompt"):
        prompts(path)
