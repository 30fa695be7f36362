"""Numbers by their value: what translators of many languages write for a number, and what is another number."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lingraft.language.numerals import Numerals, mentions
from lingraft.methods.carried_text import fault


def lost(source: str, target: str, lang: str = "en") -> list[str]:
    """Return the numbers of a source that a translation lacks."""
    found = Numerals(target)
    return [mention.shown for mention in mentions(source, lang) if not mention.single and not found.count(mention)]


RIGHT = {
    "grouping": [
        ("50,000", "50 000"),  # cs, ru, fr, pl ...
        ("50,000", "50\u00a0000"),
        ("50,000", "50\u202f000"),
        ("50,000", "50\u2009000"),
        ("50,000", "50.000"),  # de, es, it, id ...
        ("50,000", "50'000"),  # de-CH
        ("50,000", "50’000"),
        ("50,000", "50000"),
        ("1,250,000", "12,50,000"),  # hi
        ("1,250,000.5", "1.250.000,5"),
        ("1,250,000.5", "1 250 000,5"),
        ("in 1,234 of 5,678", "1234 of 5678"),
        ("1,234", "１，２３４"),
    ],
    "decimals": [("3.14", "3,14"), ("0.50", "0,5"), ("12.5", "12٫5"), ("1.5 million", "1.500.000")],
    "digits": [
        ("1,234", "١٬٢٣٤"),
        ("1,234.5", "١٬٢٣٤٫٥"),
        ("50,000", "۵۰٬۰۰۰"),
        ("1,234", "१,२३४"),
        ("2024", "๒๐๒๔"),
        ("1,234", "১২৩৪"),
    ],
    "scales": [
        ("50,000", "5万"),
        ("50,000", "五万"),
        ("12 million", "1200万"),
        ("12 million", "一千二百万"),
        ("350 million", "3億5000万"),
        ("123,456,789", "1億2345万6789"),
        ("2 billion", "20億"),
        ("2 billion", "20억"),
        ("53,000", "5만 3천"),
        ("53,000", "5만3000"),
        ("1.5 million", "150万"),
        ("50,000", "50 mil"),
        ("50,000", "50 mille"),
        ("50,000", "50 тыс."),
        ("50,000", "50 тысяч"),
        ("50,000", "50 tys. zł"),
        ("50,000", "50 tisíc"),
        ("50,000", "50 ألف"),
        ("50,000", "۵۰ هزار"),
        ("50,000", "50 אלף"),
        ("50,000", "50 हज़ार"),
        ("50,000", "5 หมื่น"),
        ("50,000", "50 nghìn"),
        ("50,000", "50 ribu"),
        ("50,000", "50 bin"),
        ("50,000", "50 tuhatta"),
        ("5 billion", "5 พันล้าน"),
        ("1.2 million", "12 लाख"),
        ("10 lakh", "10 लाख"),
        ("1.5 million", "1,5 Mio."),
        ("1.5 million", "1,5 миллиона"),
        ("2 billion", "2 Milliarden"),
        ("2 billion", "2 mil millones"),
        ("2 billion", "2 млрд"),
        ("2 billion", "2 tỷ"),
        ("1 billion", "mil millones"),
        ("5 million", "cinco millones"),
        ("$50k", "50.000 $"),
        ("$50k", "5万ドル"),
        ("50 m", "50 м"),
        ("50 cents", "50 центов"),
    ],
    "words": [
        ("12 apples", "zwölf Äpfel"),
        ("12 apples", "doce manzanas"),
        ("12 apples", "двенадцать яблок"),
        ("12 apples", "sebuah lusin atau dua belas apel"),
        ("10 men", "十人"),
        ("20 men", "yirmi adam"),
        ("15 men", "quinze hommes"),
        ("30 men", "тридцать человек"),
        ("40 men", "quaranta uomini"),
        ("50-year", "fünfzigjährig"),
        ("1,000-year", "tausendjährig"),
        ("100 men", "hundert Mann"),
        ("1,000 men", "mil hombres"),
        ("1,000,000 men", "eine Million Mann"),
    ],
    "times": [
        ("at 10:05 p.m.", "um 22:05 Uhr"),
        ("at 10:05 p.m.", "um 22.05 Uhr"),
        ("at 10:05 p.m.", "à 22 h 05"),
        ("at 10:05 p.m.", "в 22 часа 05 минут"),
        ("at 10:05 p.m.", "晚上10点05分"),
        ("at 10:05 p.m.", "午後10時5分"),
        ("at 10:05 p.m.", "오후 10시 5분"),
        ("at 10:05 PM", "à 10 h 05 du soir"),
        ("at 22:05", "22h05"),
        ("at 10:30", "um halb elf"),
        ("at 10:30", "10時半"),
        ("at 5:30 p.m.", "um halb sechs"),
        ("at 5:30 p.m.", "a las cinco y media"),
        ("at 5:30 p.m.", "17:30"),
        ("at 10 a.m.", "um 10 Uhr"),
        ("at 10 p.m.", "à 22 h"),
        ("at 12 p.m.", "à midi"),
        ("at 12:30 a.m.", "00:30"),
    ],
    "ordinals, centuries, decades, dates": [
        ("the 21st floor", "21-й этаж"),
        ("the 21st floor", "第21层"),
        ("the 20th century", "20. Jahrhundert"),
        ("the 20th century", "siglo XX"),
        ("the 20th century", "XXe siècle"),
        ("the 19th century", "XIXᵉ siècle"),
        ("the 20th century", "XX век"),
        ("the 20th century", "ХХ век"),  # in Cyrillic letters
        ("the 20th century", "二十世紀"),
        ("the 1990s", "anos 90"),
        ("the 1990s", "die 90er Jahre"),
        ("the 1990s", "1990-е годы"),
        ("the 1990s", "90年代"),
        ("the '90s", "die 1990er"),
        ("in 2024", "二〇二四年"),
        ("in 2024", "พ.ศ. 2567 นี้"),
        ("12/25/2024", "25. Dezember 2024"),
        ("12/25/2024", "25.12.2024"),
        ("December 24", "am 24.12. war es"),
        ("December 25", "12月25日"),
        ("between 1914 and 1918", "1914–1918"),
        ("version 3.11.27", "verze 3.11.27"),
    ],
}

WRONG = [
    ("50,000", "5 000"),
    ("50,000", "500 000"),
    ("50,000", "50"),
    ("50,000", "5千"),
    ("50,000", "500万"),
    ("50,000", "50 million"),
    ("1,500", "1,5"),
    ("1,250", "1.205"),
    ("1,234", "١٬٢٣٥"),
    ("350 million", "3億"),
    ("1.5 million", "1,6 Millionen"),
    ("5 million", "50 Millionen"),
    ("5 million", "500"),
    ("2 billion", "2 Millionen"),
    ("1000", "hundert"),
    ("100", "zehn"),
    ("12", "Äpfel"),
    ("12", "elf"),
    ("15", "cincuenta"),
    ("3.14", "3,15"),
    ("12.5 kg", "12,7 kg."),
    ("50%", "15 %"),
    ("10:05 p.m.", "22:15"),
    ("10:05 p.m.", "21:05"),
    ("10:05 p.m.", "am Abend"),
    ("10:30", "11時半"),
    ("10:30", "halb zwölf"),
    ("the 20th century", "siglo XIX"),
    ("the 20th century", "XXI век"),
    ("the 20th century", "el siglo"),
    ("the 1990s", "die 80er Jahre"),
    ("the 21st floor", "22-й этаж"),
    ("in 2024", "2025年"),
    ("in 2024", "พ.ศ. 2566 นี้"),
    ("12/25/2024", "24. Dezember 2024"),
    ("12/25/2024", "25. Dezember 2023"),
    ("1914 and 1918", "1914–1919"),
    ("53,000", "5만 2천"),
    ("12 million", "一千二百"),
]


@pytest.mark.parametrize("kind", RIGHT)
def test_a_number_is_found_however_a_language_writes_it(kind: str) -> None:
    assert {pair: found for pair in RIGHT[kind] if (found := lost(*pair))} == {}


@pytest.mark.parametrize(("source", "target"), WRONG)
def test_another_number_is_told_from_it(source: str, target: str) -> None:
    assert lost(source, target)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("三百五十万六千七百八十九", 3_506_789),
        ("一億", 100_000_000),
        ("MCMXCIX", 1999),
        ("XLIV", 44),
        ("1.2万", 12_000),
    ],
)
def test_values(text: str, values: int) -> None:
    (mention,) = mentions(str(values))
    assert Numerals(text).count(mention) == 1
    assert Fraction(values) in set().union(*mention.alternatives)


def test_how_often_a_number_occurs_is_counted() -> None:
    (mention,) = mentions("20", "en")
    assert Numerals("20, zwanzig, XX und 5").count(mention) == 3
    assert Numerals("5").count(mention) == 0


def test_numbers_of_one_digit_are_told() -> None:
    assert [mention.single for mention in mentions("3 men, 12 dogs, at 5 p.m.", "en")] == [True, False, True]


def test_the_filter_of_translations_goes_by_value() -> None:
    source = "The festival in the 1990s drew 50,000 people until 10:05 p.m. every night."
    target = "Le festival des années 90 attirait 50 000 personnes jusqu'à 22 h 05 chaque nuit."
    assert fault(source, target, "fr", 4.0) == ""
    assert fault(source, target.replace("50 000", "5 000"), "fr", 4.0) == "numbers_lost"
