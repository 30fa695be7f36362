"""Letters that a file's own encoding does not have, and the line with which Excel names the separator."""

from __future__ import annotations

import pytest

from lingraft.documents.base import DOCUMENTS, Filled
from lingraft.documents.table_column import TableColumn

THAI = "สวัสดี “€”"
FILES = {
    "po": 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=ISO-8859-1\\n"\n\nmsgid "Grüße"\nmsgstr ""\n',
    "html": '<meta charset="iso-8859-1"><p>Grüße</p>',
    "xliff": '<?xml version="1.0" encoding="ISO-8859-1"?><xliff version="1.2" '
    'xmlns="urn:oasis:names:tc:xliff:document:1.2"><file source-language="de" target-language="th" datatype="x" '
    'original="x"><body><trans-unit id="1"><source>Grüße</source></trans-unit></body></file></xliff>',
}


@pytest.mark.parametrize("name", FILES)
def test_translations_with_letters_that_the_encoding_lacks_are_written(name: str) -> None:
    format, data = DOCUMENTS.get(name)(), FILES[name].encode("latin-1")
    document = format.parse(data, "file", "de", "th")
    assert [one.text for one in document.segments] == ["Grüße"]
    assert document.written({}) == data
    written = document.written({one.id: Filled(THAI) for one in document.segments})
    again = format.parse(written, "file", "de", "th")
    assert again.shape() == document.shape()
    utf8 = name == "po"  # which has no other way to write them, and says so in its header
    assert written.decode("utf-8" if utf8 else "latin-1").count("Grüße") == (name != "html")
    assert (THAI.encode() in written) == utf8
    assert (b"charset=UTF-8" in written) == utf8


@pytest.mark.parametrize("header", [True, False])
def test_the_line_that_names_the_separator_is_no_row(header: bool) -> None:
    rows = "source;target\nGuten, Morgen;Good\n"
    data = f"sep=;\n{rows}".encode()
    format = TableColumn(TableColumn.Params(column="1", header=header))
    document = format.parse(data, "t.csv", "de", "en")
    assert [one.text for one in document.segments] == ["source", "Guten, Morgen"][header:]
    filled = {one.id: Filled("x; y") for one in document.segments}
    assert document.written(filled).startswith(b"sep=;\n")
    assert document.written({}) == data
