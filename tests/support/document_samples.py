"""Files of every format of documents, the texts that are in them, and what they become where these are in capitals."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """A file. `texts`: of its segments; `expected`: the file when each text is in capitals; `params`: of the format."""

    format: str
    name: str
    data: bytes
    texts: list[str]
    expected: str | bytes
    params: Mapping[str, Any] = field(default_factory=dict)


MARKDOWN = Case(
    "markdown",
    "all",
    b"""---
title: Hallo
---
# Titel *eins*

Ein Absatz mit `code`, [Link](http://x.de/a_b "T") und
**fett** sowie ![Bild](a.png).\x20\x20
Harte Zeile & mehr.

> - Punkt eins
>   geht weiter
> - [ ] Aufgabe
>   1. Tief `x|y`

```py
# Kommentar
```

    eingerueckter Code

| Kopf | b\\|c |
|------|---|
| Zelle | **z** <b>hi</b> |

<div>
HTML bleibt
</div>

[ref]: http://x.de

Siehe [den Text][ref] und <http://auto.de>. Note[^1] {name} %s.
""",
    [
        "Titel <1>eins</1>",
        "Ein Absatz mit <1/>, <2>Link</2> und <3>fett</3> sowie <4>Bild</4>.",
        "Harte Zeile & mehr.",
        "Punkt eins geht weiter",
        "Aufgabe",
        "Tief <1/>",
        "Kopf",
        "b|c",
        "Zelle",
        "<1>z</1> <2>hi</2>",
        "Siehe <1>den Text</1> und <2/>. Note<3/> {name} %s.",
    ],
    """---
title: Hallo
---
# TITEL *EINS*

EIN ABSATZ MIT `code`, [LINK](http://x.de/a_b "T") UND
**FETT** SOWIE ![BILD](a.png).\x20\x20
HARTE ZEILE & MEHR.

> - PUNKT EINS
>   GEHT WEITER
> - [ ] AUFGABE
>   1. TIEF `x|y`

```py
# Kommentar
```

    eingerueckter Code

| KOPF | B\\|C |
|------|---|
| ZELLE | **Z** <b>HI</b> |

<div>
HTML bleibt
</div>

[ref]: http://x.de

SIEHE [DEN TEXT][ref] UND <http://auto.de>. NOTE[^1] {NAME} %S.
""",
)
MARKDOWN_CRLF = Case(
    "markdown",
    "crlf",
    "\ufeffEin Satz\r\nin zwei Zeilen.\r\n\r\nTitel\r\n=====\r\n\r\n日本語の文\r\nです。".encode(),
    ["Ein Satz in zwei Zeilen.", "Titel", "日本語の文です。"],
    "\ufeffEIN SATZ\r\nIN ZWEI ZEILEN.\r\n\r\nTITEL\r\n=====\r\n\r\n日本語の文\r\nです。",
)
MARKDOWN_LITERAL = Case(
    "markdown",
    "literal",
    b"Wie \\<1> und *das* und \\<9999>.\n",
    ["Wie <1> und <2>das</2> und <9999>."],
    "WIE <1> UND *DAS* UND <9999>.\n",
)
HTML = Case(
    "html",
    "all",
    b"""<!DOCTYPE html>
<html lang="de"><head><title>Titel &amp; mehr</title><meta name="description" content="Eine Seite">
<script>var a = "<b>Hallo</b>";</script><style>p { color: red }</style></head>
<body><p>Hallo <b>Welt</b>, <a href="x" title="Zum Ziel">hier
   klicken</a> und <code>x = 1</code> sehen.<br>Neue Zeile <img src=a.png alt='Ein Bild'></p>
<!-- Kommentar --><ul><li>Eins<li>Zwei</ul><pre>Nicht
 anfassen</pre><p translate="no">Name</p><P CLASS=x>Ende</P></body></html>
""",
    [
        "Titel & mehr",
        "Eine Seite",
        "Hallo <1>Welt</1>, <2>hier klicken</2> und <3/> sehen.",
        "Zum Ziel",
        "Neue Zeile",
        "Ein Bild",
        "Eins",
        "Zwei",
        "Ende",
    ],
    """<!DOCTYPE html>
<html lang="en"><head><title>TITEL &amp; MEHR</title><meta name="description" content="EINE SEITE">
<script>var a = "<b>Hallo</b>";</script><style>p { color: red }</style></head>
<body><p>HALLO <b>WELT</b>, <a href="x" title="ZUM ZIEL">HIER
   KLICKEN</a> UND <code>x = 1</code> SEHEN.<br>NEUE ZEILE <img src=a.png alt="EIN BILD"></p>
<!-- Kommentar --><ul><li>EINS<li>ZWEI</ul><pre>Nicht
 anfassen</pre><p translate="no">Name</p><P CLASS=x>ENDE</P></body></html>
""",
)
SRT = Case(
    "srt",
    "all",
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Guten Tag,\r\nwie geht es?</i>\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000 X1:1\r\n- Gut.\r\n- {\\an8}Sehr gut.\r\n\r\n"
    "3\r\n00:00:05,000 --> 00:00:06,000\r\n12:30\r\n".encode(),
    ["Guten Tag, wie geht es?", "Gut.", "Sehr gut."],
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>GUTEN TAG,\r\nWIE GEHT ES?</i>\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000 X1:1\r\n- GUT.\r\n- {\\an8}SEHR GUT.\r\n\r\n"
    "3\r\n00:00:05,000 --> 00:00:06,000\r\n12:30\r\n",
)
VTT = Case(
    "vtt",
    "all",
    b"""WEBVTT - Titel

NOTE Das ist eine Notiz

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.000 align:start
<v Anna>Hallo &amp; <c.x>gute</c> Nacht
zusammen

00:03.000 --> 00:04.000
Bis <00:03.500>bald.
""",
    ["Hallo & <1>gute</1> Nacht zusammen", "Bis <1/>bald."],
    """WEBVTT - Titel

NOTE Das ist eine Notiz

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.000 align:start
<v Anna>HALLO &amp; <c.x>GUTE</c> NACHT
ZUSAMMEN

00:03.000 --> 00:04.000
BIS <00:03.500>BALD.
""",
)
JSON = Case(
    "json",
    "all",
    rb"""{ "@note" : "kein Text",
  "menu": {"open": "Datei <b>\u00f6ffnen</b>\n", "n": 12, "list": ["eins", true, "zwei \"drei\""]},
  "count": "{n, plural, one {# Datei} other {# Dateien}} in {ort}",
  "empty": "", "id": "12"
}
""",
    ["Datei <1>öffnen</1>", "eins", 'zwei "drei"', "# Datei", "# Dateien", "in {ort}"],
    r"""{ "@note" : "kein Text",
  "menu": {"open": "DATEI <b>\u00d6FFNEN</b>\n", "n": 12, "list": ["EINS", true, "ZWEI \"DREI\""]},
  "count": "{n, plural, one {# DATEI} other {# DATEIEN}} IN {ORT}",
  "empty": "", "id": "12"
}
""",
)
JSON_KEYS = Case(
    "json",
    "keys",
    '[{"key": "ja", "title": "Über uns"}, {"key": "nein", "title": "Hilfe"}]'.encode(),
    ["Über uns", "Hilfe"],
    '[{"key": "ja", "title": "ÜBER UNS"}, {"key": "nein", "title": "HILFE"}]',
    {"keys": ["*.title"]},
)
YAML = Case(
    "yaml",
    "all",
    b"""# Kommentar
de:
  open: Datei oeffnen  # am Ende
  quoted: "Sag \\"ja\\""
  single: 'Es ist''s'
  list: [eins, "zwei"]
  number: 12
  yes: "12"
  anchor: &a Gleicher Text
  again: *a
  # zwischen
  literal: |
    Erste Zeile
    zweite <b>Zeile</b>

  folded: >-
    Ein Satz
    geht weiter
""",
    [
        "Datei oeffnen",
        'Sag "ja"',
        "Es ist's",
        "eins",
        "zwei",
        "Gleicher Text",
        "Erste Zeile\nzweite <1>Zeile</1>",
        "Ein Satz geht weiter",
    ],
    """# Kommentar
en:
  open: DATEI OEFFNEN  # am Ende
  quoted: "SAG \\"JA\\""
  single: 'ES IST''S'
  list: [EINS, "ZWEI"]
  number: 12
  yes: "12"
  anchor: &a GLEICHER TEXT
  again: *a
  # zwischen
  literal: |
    ERSTE ZEILE
    ZWEITE <b>ZEILE</b>

  folded: >-
    EIN SATZ GEHT WEITER
""",
)
CSV = Case(
    "csv",
    "in-place",
    '\ufeffid;text;note\r\n1;"Guten ""Tag"";";x\r\n2;Hallo\r\n3;"zwei\r\nZeilen";\r\n4;12;y'.encode(),
    ['Guten "Tag";', "Hallo", "zwei\r\nZeilen"],
    '\ufeffid;text;note\r\n1;"GUTEN ""TAG"";";x\r\n2;HALLO\r\n3;"ZWEI\r\nZEILEN";\r\n4;12;y',
    {"column": "text"},
)
CSV_NEW = Case(
    "csv",
    "new-column",
    b"id\ttext\n1\tJa, <b>gut</b>\n2\t12\n",
    ["Ja, <1>gut</1>"],
    "id\ttext\ten\n1\tJa, <b>gut</b>\tJA, <b>GUT</b>\n2\t12\t12\n",
    {"column": "2", "target_column": "en"},
)
PO = Case(
    "po",
    "all",
    rb"""# Kopf
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Language: \n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

#. Ein Hinweis
#: a.c:1
#, c-format
msgctxt "menu"
msgid "Datei \"%s\" <b>offen</b>\n"
msgstr ""

msgid "fertig"
msgstr "done"

#, fuzzy, c-format
#| msgid "alt"
msgid "%d Datei"
msgid_plural "%d Dateien"
msgstr[0] "guess"
msgstr[1] ""

#, fuzzy
msgid ""
"Zwei\n"
"Zeilen"
msgstr "x"

#~ msgid "obsolet"
#~ msgstr ""
""",
    ['Datei "%s" <1>offen</1>', "%d Datei", "%d Dateien", "Zwei\nZeilen"],
    r"""# Kopf
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Language: en\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

#. Ein Hinweis
#: a.c:1
#, c-format
msgctxt "menu"
msgid "Datei \"%s\" <b>offen</b>\n"
msgstr "DATEI \"%S\" <b>OFFEN</b>\n"

msgid "fertig"
msgstr "done"

#, c-format
msgid "%d Datei"
msgid_plural "%d Dateien"
msgstr[0] "%D DATEI"
msgstr[1] "%D DATEIEN"

msgid ""
"Zwei\n"
"Zeilen"
msgstr ""
"ZWEI\n"
"ZEILEN"

#~ msgid "obsolet"
#~ msgstr ""
""",
)
XLIFF1 = Case(
    "xliff",
    "1.2",
    """<?xml version="1.0" encoding="UTF-8"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
 <file original="a" source-language="de-DE" datatype="plaintext"><body>
  <trans-unit id="1">
   <source>Grüße <g id="1">an <x id="2"/>alle</g> &amp; mehr</source>
   <note>Ein Hinweis</note>
  </trans-unit>
  <trans-unit id="2"><source>Fertig</source><target state="final">Done</target></trans-unit>
  <trans-unit id="3"><source><![CDATA[Ja & nein]]></source><target state="new"/></trans-unit>
  <trans-unit id="4" translate="no"><source>Name</source></trans-unit>
  <trans-unit id="5"><source>Eins. Zwei.</source><seg-source><mrk mtype="seg" mid="0">Eins.</mrk> <mrk mtype="seg" mid="1"><bpt id="1">&lt;b></bpt>Zwei<ept id="1">&lt;/b></ept> da.</mrk></seg-source></trans-unit>
 </body></file>
</xliff>
""".encode(),  # noqa: E501
    ["Grüße <1>an <2/>alle</1> & mehr", "Ja & nein", "Eins.", "<1>Zwei</1> da."],
    """<?xml version="1.0" encoding="UTF-8"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
 <file original="a" source-language="de-DE" datatype="plaintext" target-language="en"><body>
  <trans-unit id="1">
   <source>Grüße <g id="1">an <x id="2"/>alle</g> &amp; mehr</source>
   <target state="translated">GRÜSSE <g id="1">AN <x id="2"/>ALLE</g> &amp; MEHR</target>
   <note>Ein Hinweis</note>
  </trans-unit>
  <trans-unit id="2"><source>Fertig</source><target state="final">Done</target></trans-unit>
  <trans-unit id="3"><source><![CDATA[Ja & nein]]></source><target state="translated">JA &amp; NEIN</target></trans-unit>
  <trans-unit id="4" translate="no"><source>Name</source></trans-unit>
  <trans-unit id="5"><source>Eins. Zwei.</source><seg-source><mrk mtype="seg" mid="0">Eins.</mrk> <mrk mtype="seg" mid="1"><bpt id="1">&lt;b></bpt>Zwei<ept id="1">&lt;/b></ept> da.</mrk></seg-source><target state="translated"><mrk mtype="seg" mid="0">EINS.</mrk> <mrk mtype="seg" mid="1"><bpt id="1">&lt;b></bpt>ZWEI<ept id="1">&lt;/b></ept> DA.</mrk></target></trans-unit>
 </body></file>
</xliff>
""",  # noqa: E501
)
XLIFF2 = Case(
    "xliff",
    "2.0",
    b"""<xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="de" trgLang="en">\r
 <file id="f1"><unit id="u1"><notes><note>Hinweis</note></notes>\r
  <segment id="s1" state="initial">\r
   <source>Ein <pc id="1">fetter</pc> Satz<ph id="2"/>.</source>\r
  </segment>\r
  <ignorable><source> </source></ignorable>\r
  <segment><source>Gut</source><target>Good</target></segment>\r
  <segment><source>Neu <sc id="3"/>hier<ec startRef="3"/> <mrk id="m1" type="term">da</mrk></source></segment>\r
 </unit></file>\r
</xliff>\r
""",
    ["Ein <1>fetter</1> Satz<2/>.", "Neu <1>hier</1> <2>da</2>"],
    b"""<xliff xmlns="urn:oasis:names:tc:xliff:document:2.0" version="2.0" srcLang="de" trgLang="en">\r
 <file id="f1"><unit id="u1"><notes><note>Hinweis</note></notes>\r
  <segment id="s1" state="translated">\r
   <source>Ein <pc id="1">fetter</pc> Satz<ph id="2"/>.</source>\r
   <target>EIN <pc id="1">FETTER</pc> SATZ<ph id="2"/>.</target>\r
  </segment>\r
  <ignorable><source> </source></ignorable>\r
  <segment><source>Gut</source><target>Good</target></segment>\r
  <segment state="translated"><source>Neu <sc id="3"/>hier<ec startRef="3"/> <mrk id="m1" type="term">da</mrk></source><target>NEU <sc id="3"/>HIER<ec startRef="3"/> <mrk id="m1" type="term">DA</mrk></target></segment>\r
 </unit></file>\r
</xliff>\r
""",  # noqa: E501
)


def docx(body: str, header: str) -> bytes:
    """A package of Word with a text and a header, and a part that is no text."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in (
            ("[Content_Types].xml", "<Types/>"),
            ("word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>"),
            ("word/header1.xml", f"<w:hdr {space}>{header}</w:hdr>"),
            ("word/media/image1.png", "\x00bild"),
        ):
            package.writestr(zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6)), text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


DOCX = Case(
    "docx",
    "all",
    docx(
        '<w:p><w:pPr><w:b/></w:pPr><w:r><w:t>Ein </w:t></w:r><w:proofErr w:type="a"/>'
        '<w:r w:rsidR="1"><w:t>Satz &amp; </w:t></w:r>'
        '<w:r><w:rPr><w:b/></w:rPr><w:t xml:space="preserve">fett</w:t></w:r>'
        "<w:r><w:br/><w:t>.</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Zelle</w:t></w:r></w:p></w:tc></w:tr></w:tbl><w:p/>"
        "<w:p><w:r><w:instrText>PAGE</w:instrText><w:t>12</w:t></w:r></w:p>",
        "<w:p><w:r><w:t>Kopf</w:t></w:r></w:p>",
    ),
    ["Ein Satz & <1/>fett<2/>.", "Zelle", "Kopf"],
    docx(
        '<w:p><w:pPr><w:b/></w:pPr><w:r><w:t xml:space="preserve">EIN SATZ &amp; </w:t>'
        '</w:r><w:r><w:rPr><w:b/></w:rPr><w:t xml:space="preserve">FETT</w:t></w:r><w:r><w:br/>'
        '<w:t xml:space="preserve">.</w:t></w:r></w:p>'
        '<w:tbl><w:tr><w:tc><w:p><w:r><w:t xml:space="preserve">ZELLE</w:t></w:r></w:p></w:tc></w:tr></w:tbl><w:p/>'
        "<w:p><w:r><w:instrText>PAGE</w:instrText><w:t>12</w:t></w:r></w:p>",
        '<w:p><w:r><w:t xml:space="preserve">KOPF</w:t></w:r></w:p>',
    ),
)
CASES = [
    MARKDOWN,
    MARKDOWN_CRLF,
    MARKDOWN_LITERAL,
    HTML,
    SRT,
    VTT,
    JSON,
    JSON_KEYS,
    YAML,
    CSV,
    CSV_NEW,
    PO,
    XLIFF1,
    XLIFF2,
    DOCX,
]
