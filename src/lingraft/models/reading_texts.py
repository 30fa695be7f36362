"""Texts on which two programs for the same tokenizer must agree: those of given languages, and hard ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import chain, islice
from unicodedata import normalize

import langcodes

from lingraft.language.codes import base_language

COUNT = 200
_LONGEST = 400
_CODES = (
    "de",
    "en",
    "fr",
    "es",
    "ru",
    "zh",
    "ja",
    "ko",
    "ar",
    "he",
    "hi",
    "bn",
    "ta",
    "th",
    "km",
    "ka",
    "hy",
    "am",
    "el",
)
_JOINS = (", ", " ", "", "\n", " (", "/", ". ", "-12 ", "\t", "! ")

HARD = (
    *(
        "a",
        " a",
        "  a",
        "a ",
        "a  b",
        "a   b\n",
        "\n",
        "\n\n",
        " \n \n",
        "\t\tx",
        "a\r\nb",
        "   ",
        "\n\n1",
        " 1",
        "1 2  3",
    ),
    *(
        "0",
        "12",
        "123",
        "1234",
        "1234567890",
        "3.14159",
        "1,000,000",
        "٣٤٥",
        "๑๒๓ ๔",
        "x²+y³",
        "10%",
        "5kg",
        "v1.2.3-rc4",
    ),
    *(
        "I'm he's they'll WE'VE I'D you're 'tis",
        "don’t l’été",
        "'s",
        "' s",
        '"quoted" «so» „auch“ 「也」',
        "(a)[b]{c}<d>",
    ),
    *(
        "!!!",
        "?!...",
        "a--b — c – d",
        "#1 @x &amp; $5 €7",
        "C:\\path\\n",
        "https://example.org/a?b=c&d=e#f",
        "a_b__c",
        "===>",
    ),
    *(
        "def f(x):\n    return x ** 2  # done\n",
        "if (a<b) { c++; }\n\n\treturn;",
        "SELECT * FROM t WHERE a='b';",
        "<p>x</p>",
    ),
    *("😀", "a😀b", "👩‍👩‍👧‍👦 👍🏽", "❤️ ☎️!!❤️", "1️⃣ 2️⃣", "🇹🇭🇩🇪", "✓ ✗ → ∀x∈ℝ", "™®©½"),
    *("ก็ดี กี่ น้ำ ที่", "ภาษาไทยไม่เว้นวรรค", "ไทยEnglishไทย 12บาท", "ำ", "กำ่", "हिन्दी में कि", "தமிழ்", "ខ្មែរ", "မြန်မာ", "བོད་"),
    *("مَرْحَبًا", "שָׁלוֹם", "Ελληνικά άέ", "Русский ёж", "Tiếng Việt ạ ữ", "Ọ̀rọ̀ Yorùbá ń", "Türkçe İı", "naïve café Ä ö ß"),
    *(
        "今天天气很好。",
        "日本語のカタカナ・ひらがな",
        "한국어 문장입니다",
        "中文abc中文123",
        "ｆｕｌｌ　ｗｉｄｔｈ",
        "々〆ヶ",
        "𠮷野家",
    ),
    *(
        "a\u00a0b",
        "a\u200bb",
        "a\u2009b\u3000c",
        "\ufeffx",
        "x\u0300\u0301\u0302",
        "1\u0301",
        " \u0e31",
        "(\u0e48)",
        "-\u093f",
        "a\u200d",
    ),
    *("ALLCAPS CamelCase snakeCase mixedUP", "xxxxxxxxxxxxxxxxxxxxxxxx", "aaaaabbbbbccccc", "........................"),
    *(
        "antidisestablishmentarianism",
        "Donaudampfschifffahrtsgesellschaft",
        'Mr. O\'Neil-Smith, 42, said: "No!"',
        "e.g., i.e., etc.",
    ),
)
"""Spaces and lines, digits, contractions, punctuation, code, emoji, scripts, and marks that follow no letter."""


def reading_texts(languages: Sequence[str], *, composed: bool) -> list[str]:
    """Return `COUNT` texts, the same each time.

    Args:
        languages: codes of those that matter most.
        composed: bring them into Unicode's form NFC, where a tokenizer does so itself.
    """
    codes = list(dict.fromkeys(map(base_language, languages)))
    own = [chain(_shipped(code), _names(code)) for code in codes]
    taken = [islice(texts, max(1, (COUNT - len(HARD)) // max(1, len(codes)))) for texts in own]
    others = (text for code in _CODES if code not in codes for text in _names(code))
    rows = chain(HARD, chain.from_iterable(taken), others)
    return list(islice(dict.fromkeys(normalize("NFC", text) if composed else text for text in rows), COUNT))


def _shipped(code: str) -> Iterator[str]:
    """Yield texts of the starter files that are in a language."""
    folder = files("lingraft.shipped") / "starter"
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        found = re.fullmatch(r"(texts|train|test)\.([a-z]+)(?:-([a-z]+))?\.jsonl", entry.name)
        if found is None or code not in found.groups()[1:]:
            continue
        key = "text" if found[1] == "texts" else "source" if found[2] == code else "target"
        for line in islice(entry.read_text("utf-8").splitlines(), 40):
            yield str(json.loads(line)[key])[:_LONGEST]


def _names(code: str) -> Iterator[str]:
    """Yield texts in any language: names of languages as it calls them, joined in several ways."""
    names = [langcodes.Language.get(other).display_name(code) for other in _CODES]
    for number, join in enumerate(_JOINS):
        yield join.join(names[number:] + names[:number])[:_LONGEST]
