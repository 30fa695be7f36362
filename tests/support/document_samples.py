"""Files of every format of documents, the texts that are in them, and what they become where these are in capitals."""

from __future__ import annotations

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
CASES = [MARKDOWN, MARKDOWN_CRLF, HTML, SRT, VTT]
