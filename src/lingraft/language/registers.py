"""How a text addresses its reader, formally or informally, by the words that tell it in a language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lingraft.language.codes import base_language

Level = Literal["formal", "informal"]


@dataclass(frozen=True)
class _Words:
    """What a text at a level must have somewhere (None: nothing), and what it must not have."""

    has: re.Pattern[str] | None
    lacks: re.Pattern[str]


_DU = r"(?i:\b(?:du|dich|dir|dein(?:e[mnrs]?)?|euch|eue?r(?:e[mnrs]?)?)\b)"
_SIE = r"(?:Sie|Ihnen|Ihr(?:e[mnrs]?)?)\b"
_TU = r"(?i:\b(?:tu|te|toi|ton|ta|tes)\b|\bt['’])"
_VOUS = r"(?i:(?<!rendez-)\b(?:vous|votre|vos|vôtres?)\b)"
_TUTEO = (
    r"(?i:\b(?:tú|te|ti|tu|tus|tuy[oa]s?|contigo|eres|estás|tienes|puedes|podrías|quieres|has|vas|sabes|necesitas|debes"
    r"|deberías|prefieres|vienes|haces|puedas|quieras|tengas|hayas|estabas|fuiste|irás|podrás|tendrás)\b)"
)
_USTED = (
    r"(?i:\b(?:ustedes|usted|su|sus|suy[oa]s?|le|les|se|puede|podría|quiere|desea|tiene|ha|está|va|sabe|necesita|debe"
    r"|debería|prefiere|viene)\b)"
)
_POLITE_THAI = r"ครับ|ค่ะ|คะ(?!แนน|เน)"

_WORDS: Mapping[str, Mapping[Level, _Words]] = {
    "de": {
        "formal": _Words(re.compile(rf"\b{_SIE}"), re.compile(_DU)),
        # At the beginning of a sentence "Sie" may be she or they, and "Ihr" the plural of "du".
        "informal": _Words(re.compile(_DU), re.compile(rf"(?<=[\w,;)] ){_SIE}")),
    },
    "fr": {
        "formal": _Words(re.compile(_VOUS), re.compile(_TU)),
        "informal": _Words(re.compile(_TU), re.compile(_VOUS)),
    },
    "es": {
        "formal": _Words(re.compile(_USTED), re.compile(_TUTEO)),
        "informal": _Words(re.compile(_TUTEO), re.compile(r"(?i:\busted(?:es)?\b)")),
    },
    "zh": {
        "formal": _Words(re.compile("您"), re.compile("你")),
        "informal": _Words(re.compile("你"), re.compile("您")),
    },
    "th": {
        "formal": _Words(re.compile(_POLITE_THAI), re.compile("มึง")),
        "informal": _Words(None, re.compile(f"{_POLITE_THAI}|ท่าน")),
    },
}
REGISTERED = frozenset(_WORDS)
"""Languages whose registers are known."""


def in_register(text: str, code: str, level: Level) -> bool:
    """Say whether a text that addresses one reader does so at a level.

    It must have a word of the level, and none of the other one: du against Sie, tu against vous, tú against usted, 你
    against 您; in Thai, with a polite particle (ครับ, ค่ะ, คะ) or without.

    Args:
        text: which addresses somebody; one that does not is at no level.
        code: its language, one of `REGISTERED`.
        level: formal or informal.

    Raises:
        KeyError: the registers of the language are not known.
    """
    words = _WORDS[base_language(code)][level]
    return (words.has is None or words.has.search(text) is not None) and words.lacks.search(text) is None
