"""Formats with marks of their own: PO and XLIFF say what is doubtful and what is lost, and whose language they are."""

from __future__ import annotations

import pytest

from document_samples import DOCX
from lingraft.core.errors import DataError
from lingraft.documents.base import DOCUMENTS, Document, Filled, State

PO = """msgid ""
msgstr ""
"Language: en\\n"
"Plural-Forms: nplurals=3; plural=0;\\n"

# Wer
msgid "Eins"
msgstr ""

#, c-format
msgid "%d Datei"
msgid_plural "%d Dateien"
msgstr[0] ""
msgstr[1] ""
msgstr[2] ""

#, fuzzy
#| msgid "Dre"
msgid "Drei"
msgstr "guess"
"""
XLIFF = """<xliff version="1.2"><file source-language="de" target-language="en"><body>
<trans-unit id="a"><source>Eins</source></trans-unit>
<trans-unit id="b"><source>Zwei</source><target state='new' xml:lang="en">x</target></trans-unit>
</body></file></xliff>
"""
XLIFF2 = """<xliff version="2.0" srcLang="de" trgLang="en"><file id="f"><unit id="u">
<segment id="a"><source>Eins</source></segment>
</unit></file></xliff>
"""


def read(name: str, text: str) -> Document:
    return DOCUMENTS.create({"kind": name}).parse(text.encode(), "the file", "de", "en")


def filled(document: Document, *states: State) -> str:
    texts = {"lost": ""}
    pairs = zip(document.segments, states, strict=True)
    return document.written(
        {one.id: Filled(texts.get(state, one.text.upper()), state) for one, state in pairs}
    ).decode()


def test_what_is_doubtful_or_of_forms_that_nobody_can_tell_is_fuzzy() -> None:
    document = read("po", PO)
    assert [one.id for one in document.segments] == ["line 7", "line 11", "line 11, plural", "line 19"]
    assert document.segments[0].context == "# Wer"
    written = filled(document, "doubtful", "translated", "translated", "doubtful")
    assert '# Wer\n#, fuzzy\nmsgid "Eins"\nmsgstr "EINS"\n' in written
    assert '#, fuzzy, c-format\nmsgid "%d Datei"' in written
    assert 'msgstr[0] "%D DATEI"\nmsgstr[1] "%D DATEIEN"\nmsgstr[2] "%D DATEIEN"\n' in written
    assert '#, fuzzy\n#| msgid "Dre"\nmsgid "Drei"\nmsgstr "DREI"\n' in written


def test_what_is_lost_stays_as_it_was() -> None:
    document = read("po", PO)
    written = filled(document, "lost", "lost", "translated", "lost")
    assert written.count('msgstr ""') == 2
    assert 'msgstr "guess"' in written
    assert "#, fuzzy\n#| msgid" in written


def test_states_of_xliff() -> None:
    document = read("xliff", XLIFF)
    written = filled(document, "doubtful", "lost")
    assert '<source>Eins</source><target state="needs-review-translation">EINS</target>' in written
    assert '<target xml:lang="en" state="needs-translation"></target>' in written
    document = read("xliff", XLIFF2)
    assert [one.id for one in document.segments] == ["u/a"]
    doubtful, lost = filled(document, "doubtful"), filled(document, "lost")
    assert '<segment id="a" state="translated" subState="lingraft:doubtful"><source>Eins' in doubtful
    assert '<segment id="a" state="initial" subState="lingraft:lost"><source>Eins</source><target></target>' in lost


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("po", PO.replace("Language: en", "Language: fr"), r"translations are in 'fr' \(line 1\), not in 'en'"),
        ("po", 'msgid "a"\nmsgstr "b"\nnonsense\n', "line 3 is of no entry"),
        ("po", 'msgid "a"\n', "line 1: the entry has no msgstr"),
        ("xliff", XLIFF.replace('"de"', '"fr"'), "source-language is 'fr', and 'de' was asked for"),
        ("xliff", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "line 1: has a DOCTYPE"),
        ("xliff", "<xliff version='1.2'>\n<a></xliff>", r"not well-formed XML \(line 2: mismatched tag"),
        ("xliff", "<a/>", "is not XLIFF 1.2 or 2.0"),
        ("json", '{"a": 1,\n}', r"is not JSON \(line 2"),
        ("json", '{"a": "\\ud800"}', "line 1: half of a surrogate pair"),
        ("yaml", "a: b\nc: [", r"is not YAML \(line"),
        ("yaml", "[" * 20_000, "is nested too deeply"),
        ("json", "[" * 200_000, "is nested too deeply"),
    ],
)
def test_bad_files_are_refused_with_their_line(name: str, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(name, text)
    assert "\n" not in str(caught.value)


def test_columns_of_a_table_are_named() -> None:
    for params, words in (({}, "say which column"), ({"column": "txt"}, "no column 'txt'; did you mean 'text'")):
        with pytest.raises(Exception, match=words):
            DOCUMENTS.create({"kind": "csv", **params}).parse(b"id,text\n1,a\n", "the file", "de", "en")
    with pytest.raises(DataError, match="a quotation mark in line 2 is not closed"):
        DOCUMENTS.create({"kind": "csv", "column": "1"}).parse(b'a\n"b\n', "the file", "de", "en")


def test_what_is_no_package_of_word_is_refused() -> None:
    for data, words in (
        (b"PK nonsense", "is no whole DOCX file"),
        (DOCX.data[:-30], "is no whole DOCX file"),
        (DOCX.data.replace(b"word/document.xml", b"word/documenx.xml"), "holds no text of Word"),
    ):
        with pytest.raises(DataError, match=words):
            DOCUMENTS.create({"kind": "docx"}).parse(data, "the file", "de", "en")
