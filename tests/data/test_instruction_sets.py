"""Benchmarks of instructions, in the layouts in which they are published; the texts are made for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError, LingraftError
from lingraft.data.translation_requests import TranslationRequest, read_translation_requests


def judged(one: TranslationRequest, answer: str) -> bool:
    return all(check.obeyed(answer, one.asked) for check in one.checks)


def lines(path: Path, *texts: str) -> None:
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")


@pytest.fixture
def cocoa(tmp_path: Path) -> str:
    path = tmp_path / "formality-control.test.telephony.en-de"
    lines(path, "Do you see your bag?", "It rains.")
    lines(Path(f"{path}.formal.annotated"), "[F]Sehen Sie[/F] [F]Ihre[/F] Tasche?", "Es regnet.")
    lines(Path(f"{path}.informal.annotated"), "[F]Siehst du[/F] [F]deine[/F] Tasche?", "Es regnet.")
    return str(path)


def test_cocoa_mt_asks_each_line_at_both_levels(cocoa: str) -> None:
    formal, informal = read_translation_requests(cocoa, "cocoa_mt")
    assert (formal.id, informal.id, formal.direction) == ("1-formal", "1-informal", "en-de")
    assert formal.reference == "Sehen Sie Ihre Tasche?"
    assert "German" in formal.prompt
    assert "informal" in informal.prompt
    assert judged(formal, formal.reference)
    assert judged(formal, "Erkennen Sie Ihre Tasche?")
    assert not judged(formal, informal.reference)
    assert not judged(formal, "Sehen Sie deine Tasche?")
    assert not judged(formal, "Ist die Tasche zu sehen?")
    assert judged(informal, informal.reference)


def test_cocoa_mt_refuses_what_is_not_its_own(cocoa: str, tmp_path: Path) -> None:
    with pytest.raises(LingraftError, match=r"end in \.en-de"):
        read_translation_requests(str(tmp_path / "x.txt"), "cocoa_mt")
    lines(Path(f"{cocoa}.formal.annotated"), "nur [F]Sie[/F]")
    with pytest.raises(DataError, match=r"has 2 lines and .*formal\.annotated 1"):
        read_translation_requests(cocoa, "cocoa_mt")
    Path(f"{cocoa}.informal.annotated").unlink()
    with pytest.raises(DataError, match=r"informal\.annotated"):
        read_translation_requests(cocoa, "cocoa_mt")


def test_mt_geneval_forbids_words_of_the_other_gender(tmp_path: Path) -> None:
    name = str(tmp_path / "geneval-sentences-{}-test.en_es.{}")
    lines(Path(name.format("feminine", "en")), "She is a tired writer.", "It rains.")
    lines(Path(name.format("feminine", "es")), "Es una escritora cansada.", "Llueve.")
    lines(Path(name.format("masculine", "es")), "Es un escritor cansado.", "Llueve.")
    (one,) = read_translation_requests(name.format("feminine", "en"), "mt_geneval")
    assert (one.id, one.direction) == ("1-feminine", "en-es")
    assert judged(one, one.reference)
    assert judged(one, "Ella es escritora y está agotada.")
    assert not judged(one, "Es una escritora cansado.")
    with pytest.raises(LingraftError, match="geneval-sentences-feminine-test"):
        read_translation_requests(str(tmp_path / "context.en"), "mt_geneval")


def ifmt(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "test_multi_constraint.jsonl"
    shared = {"md5": "m", "input": "Translate:", "origin_language": "英语", "target_language": "German"}
    lines(path, *(json.dumps({**shared, **row}) for row in rows))
    return str(path)


def test_ifmtbench_keeps_what_a_program_can_check(tmp_path: Path) -> None:
    path = ifmt(
        tmp_path,
        {
            "md5": "terms",
            "class": ["机器翻译-术语表约束翻译", "机器翻译-风格指令遵循"],
            "origin_text": "The lease ends.",
            "output": "Der Mietvertrag endet.",
            "term_dict": json.dumps({"lease": ["Pachtvertrag", "Mietvertrag"]}),
        },
        {"md5": "style", "class": ["机器翻译-风格指令遵循"], "origin_text": "Hi.", "output": "Hallo."},
        {
            "md5": "parts",
            "class": "机器翻译-布局保留翻译",
            "origin_text": "one || two",
            "output": "eins || zwei",
            "meta_data": {"primary_delimiter": "||", "source_chunks": ["one ", " two"]},
        },
        {
            "md5": "json",
            "class": ["机器翻译-结构化数据翻译"],
            "origin_text": '{"a": "one"}',
            "output": '{"a": "eins"}',
            "data_format": "JSON",
        },
        {
            "md5": "code",
            "class": ["机器翻译-代码标签保留翻译"],
            "origin_text": "Run <b>make</b>.",
            "output": "Führe <b>make</b> aus.",
            "meta_data": {"extracted_assets": ["<b>", "</b>"]},
        },
    )
    found = {one.id: one for one in read_translation_requests(path, "ifmtbench")}
    assert list(found) == ["terms", "parts", "json", "code"]
    assert {one.direction for one in found.values()} == {"en-de"}
    assert all(judged(one, one.reference) for one in found.values())
    wrong = {"terms": "Der Pachtvertrag endet.", "parts": "eins, zwei", "json": '{"b": "eins"}', "code": "<b>make"}
    assert not any(judged(found[id_], answer) for id_, answer in wrong.items())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"class": ["机器翻译-结构化数据翻译"], "data_format": "YAML"}, "data_format 'YAML' is none of"),
        ({"class": ["机器翻译-术语表约束翻译"], "term_dict": "{"}, "term_dict is no JSON"),
        ({"class": ["机器翻译-术语表约束翻译"], "term_dict": {"a": "b"}, "target_language": "Elvish"}, "'Elvish'"),
        ({"class": ["机器翻译-术语表约束翻译"], "term_dict": {"a": "b"}, "output": ""}, "no text under 'reference'"),
        ({"class": ["机器翻译-风格指令遵循"]}, "holds no request"),
    ],
)
def test_ifmtbench_refuses_what_it_cannot_check(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = ifmt(tmp_path, {"origin_text": "x a", "output": "b", **row})
    with pytest.raises(DataError, match=message):
        read_translation_requests(path, "ifmtbench")
