"""Exact and 13-word overlap with training texts, against a plain search over all windows."""

from __future__ import annotations

import random

import pytest

from lingraft.data.contamination import ContaminationIndex, HeldOutItem, units

VOCABULARY = [f"w{number}" for number in range(40)]


def _probe(items: list[HeldOutItem], rows: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    index = ContaminationIndex()
    index.add("set", items)
    for row, text in rows.items():
        index.look_up(row, text)
    (found,) = index.result()
    assert (found.name, found.items) == ("set", len(items))
    return found.exact, found.ngram


def _share_a_run(one: list[str], other: list[str], length: int) -> bool:
    """Plain search: some window of `length` words of one is a window of the other."""
    windows = [other[start : start + length] for start in range(len(other) - length + 1)]
    return any(one[start : start + length] in windows for start in range(len(one) - length + 1))


def test_runs_are_those_of_a_search_over_all_windows() -> None:
    generator = random.Random(5)
    training = {f"t{n}": [generator.choice(VOCABULARY) for _ in range(generator.randint(3, 40))] for n in range(60)}
    items, expected = [], {}
    for number in range(120):
        text = [generator.choice(VOCABULARY) for _ in range(generator.randint(2, 30))]
        if number % 2:  # a piece of a training text, often shorter than a run
            row = generator.choice(list(training.values()))
            start = generator.randrange(len(row))
            text += row[start : start + generator.randint(8, 20)]
        if number % 5 == 0:
            text = text[-generator.randint(6, 13) :]
        length = min(13, len(text))
        rows = [name for name, row in training.items() if len(text) >= 8 and _share_a_run(text, row, length)]
        items.append(HeldOutItem(str(number), (" ".join(text),)))
        if rows:
            expected[str(number)] = rows
    _, found = _probe(items, {name: " ".join(row).upper() + "!" for name, row in training.items()})
    assert 10 < len(expected) < 100
    assert found.keys() == expected.keys()
    assert all(found[item] in rows for item, rows in expected.items())


@pytest.mark.parametrize(
    ("words", "shared"),
    [(7, False), (8, True), (12, True), (13, True)],
)
def test_short_texts_count_as_a_whole_from_eight_words(words: int, shared: bool) -> None:
    text = [f"word{number}" for number in range(words)]
    exact, found = _probe([HeldOutItem("a", (" ".join(text),))], {"t": "before " + " ".join(text) + " after it"})
    assert bool(found) is shared
    assert not exact
    if words < 13:  # a part of it does not
        _, found = _probe([HeldOutItem("a", (" ".join(text),))], {"t": "before " + " ".join(text[1:]) + " after it"})
        assert not found


def test_exact_overlap_ignores_case_and_punctuation_and_needs_twenty_characters() -> None:
    items = [HeldOutItem("long", ("The bakery opens at seven!",)), HeldOutItem("short", ("Thank you.",))]
    exact, found = _probe(items, {"t1": "the bakery, opens at SEVEN", "t2": "thank you"})
    assert exact == {"long": "t1"}
    assert found == {}


def test_any_text_of_an_item_counts_and_the_first_row_is_named() -> None:
    item = HeldOutItem("a", ("nothing in common here", "The mayor promised that the pool would be repaired by May"))
    rows = {"t1": "unrelated", "t2": item.texts[1], "t3": item.texts[1]}
    assert _probe([item], rows) == ({"a": "t2"}, {"a": "t2"})


def test_scripts_without_spaces_count_characters() -> None:
    chinese = "街角的面包店每天早上六点开门我们找不到钥匙所以等着管理员请在两周内将签好的表格寄回给我们谢谢"
    assert len(units(chinese)) == len(chinese)
    shared = HeldOutItem("a", (chinese[:45],))
    assert _probe([shared], {"t": "前面" + chinese[2:41] + "后面"})[1] == {"a": "t"}
    assert _probe([shared], {"t": "前面" + chinese[2:40] + "后面"})[1] == {}  # 38 characters, not 39
    thai = "ร้านเบเกอรี่ที่หัวมุมเปิดทุกเช้าหกโมงเราหากุญแจไม่เจอจึงรอผู้ดูแลกรุณาส่งแบบฟอร์มที่ลงนามแล้ว"
    assert _probe([HeldOutItem("b", (thai,))], {"t": f"ก่อน {thai}"})[1] == {"b": "t"}
    assert _probe([HeldOutItem("b", (thai,))], {"t": thai[:20]})[1] == {}


def test_sets_are_told_apart() -> None:
    index = ContaminationIndex()
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    index.add("first", [HeldOutItem("1", (text,)), HeldOutItem("2", ("something else entirely, which is nowhere",))])
    index.add("second", [HeldOutItem("1", (text.replace("four ", "4 "),))])
    index.look_up("row", f"He counted: {text}.")
    first, second = index.result()
    assert first.ngram == {"1": "row"}
    assert second.ngram == {}
