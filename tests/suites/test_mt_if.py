"""The suite "mt_if": the shipped requests, the values, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError
from lingraft.data.readers import PromptFile, read_prompts
from lingraft.data.records import Generation, Prompt
from lingraft.data.translation_requests import read_translation_requests
from lingraft.language.constraints import KINDS
from lingraft.language.identification import identify
from lingraft.suites.base import SUITES, Answers, SuiteInputs
from lingraft.suites.mt_if import InstructedTranslationSuite, is_translation

INPUTS = SuiteInputs([], ["de", "en"], seed=3)
SHIPPED = read_translation_requests("starter:mt_if.jsonl")
NATIVE = read_translation_requests("starter:mt_if.native.jsonl")
BY_HAND = Path(__file__).with_name("mt_if.native.jsonl")
LANGUAGES = ("de", "es", "fr", "th", "zh")


def made(**params: Any) -> InstructedTranslationSuite:
    return InstructedTranslationSuite(InstructedTranslationSuite.Params(**params))


def answers(texts: dict[str, str]) -> Answers:
    return Answers({id_: Generation(id_, text, (1,), "stop") for id_, text in texts.items()})


def values(suite: InstructedTranslationSuite, texts: dict[str, str]) -> dict[str, dict[str, float]]:
    given = answers(texts)
    return {row.metric: dict(row.values) for row in suite.score(INPUTS, given, given)}


def written(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


ROW = {
    "id": "a",
    "source_lang": "en",
    "target_lang": "de",
    "prompt": "Translate into German, at most 40 characters:\n\nThe weather is nice today.",
    "source": "The weather is nice today.",
    "reference": "Das Wetter ist heute schön.",
    "checks": [{"kind": "length", "most": 40}, {"kind": "only"}],
}


def test_is_registered() -> None:
    assert SUITES.get("mt_if") is InstructedTranslationSuite


def test_the_shipped_requests_cover_every_kind_and_direction() -> None:
    assert len(SHIPPED) >= 200
    assert {one.direction for one in SHIPPED} == {d for code in LANGUAGES for d in (f"en-{code}", f"{code}-en")}
    kinds = Counter((check.kind, one.asked.target_lang) for one in SHIPPED for check in one.checks)
    for kind in KINDS.keys() - {"parts", "register", "gender"}:
        assert all(kinds[kind, code] for code in (*LANGUAGES, "en")), kind
    assert all(kinds[kind, code] >= 2 for kind in ("register", "gender") for code in LANGUAGES)
    assert len({one.asked.source for one in SHIPPED}) == len(SHIPPED)
    assert all(one.asked.source in one.prompt for one in SHIPPED)


@pytest.mark.parametrize("name", ["mt_if", "mt_if.native"])
def test_every_reference_obeys_and_no_source_does(name: str) -> None:
    suite, known = made(path=f"starter:{name}.jsonl"), SHIPPED if name == "mt_if" else NATIVE
    right = values(suite, {one.id: one.reference for one in known})
    assert [id_ for id_, value in right["obeyed"].items() if not value] == []
    copied = values(suite, {one.id: one.asked.source for one in known})
    assert [id_ for id_, value in copied["obeyed"].items() if value] == []
    assert set(copied["not_translated"].values()) == {1.0}


def test_requests_worded_in_each_language_are_as_many_and_of_every_kind() -> None:
    own = Counter(next(code for code in one.direction.split("-") if code != "en") for one in NATIVE)
    assert own == dict.fromkeys(LANGUAGES, 8)
    assert {check.kind for one in NATIVE for check in one.checks} == KINDS.keys() - {"parts"}
    for one in NATIVE:
        code = next(code for code in one.direction.split("-") if code != "en")
        asked = one.prompt.removesuffix(one.asked.source).strip()
        assert len(asked) < len(one.prompt) - len(one.asked.source)  # the source stands at the end
        assert identify(asked, [*LANGUAGES, "en"])[0] == code, one.id
    assert len({one.asked.source for one in (*SHIPPED, *NATIVE)}) == len(SHIPPED) + len(NATIVE)


def test_answers_written_by_hand_are_told_apart() -> None:
    """Of each request a translation other than the reference obeys, and one that translates and does not fails by a
    check: `right` and `wrong` of the file."""
    suite = made(path="starter:mt_if.native.jsonl")
    written_by_hand = [json.loads(line) for line in BY_HAND.read_text("utf-8").splitlines()]
    assert [row["id"] for row in written_by_hand] == [one.id for one in NATIVE]
    assert not {row["right"] for row in written_by_hand} & {one.reference for one in NATIVE}
    right = values(suite, {row["id"]: row["right"] for row in written_by_hand})
    assert [id_ for id_, value in right["obeyed"].items() if not value] == []
    wrong = values(suite, {row["id"]: row["wrong"] for row in written_by_hand})
    assert [id_ for id_, value in wrong["obeyed"].items() if value] == []
    assert set(wrong["not_translated"].values()) == {0.0}


def test_a_reference_with_a_preface_fails_where_that_was_forbidden() -> None:
    texts = {one.id: f"Here is the translation:\n\n{one.reference}\n\nLet me know!" for one in SHIPPED}
    found = values(made(), texts)
    for kind in ("only", "lines", "layout"):
        assert set(found[f"obeyed_{kind}"].values()) == {0.0}, kind
    assert sum(found["obeyed_markup"].values()) > 0


def test_an_item_is_all_or_nothing_and_checks_are_counted(tmp_path: Path) -> None:
    suite = made(path=written(tmp_path, ROW))
    cases = {
        "Das Wetter ist heute schön.": (1.0, 1.0, 0.0),
        "Here is the translation: Das Wetter ist schön.": (0.0, 0.0, 0.0),
        "Das Wetter ist heute hier bei uns wirklich ganz besonders schön.": (0.0, 0.5, 0.0),
        "The weather is nice today.": (0.0, 0.0, 1.0),
        "El tiempo está muy bueno hoy, amigos.": (0.0, 0.0, 1.0),
        "": (0.0, 0.0, 1.0),
    }
    for text, expected in cases.items():
        found = values(suite, {"a": text})
        assert tuple(found[metric]["a"] for metric in ("obeyed", "checks_obeyed", "not_translated")) == expected, text


def test_json_is_judged_by_its_values() -> None:
    one = next(
        one for one in SHIPPED if one.direction == "th-en" and one.checks[0].kind == "layout" and "{" in one.prompt
    )
    assert is_translation(one.reference.replace("green", "mild green"), one)
    assert not is_translation(one.asked.source, one)


def test_directions_and_a_seeded_draw() -> None:
    suite = made(directions=["en-de"], max_prompts=5)
    asked = suite.requests(INPUTS)
    assert len(asked) == 5
    assert asked == suite.requests(INPUTS)
    known = {one.id: one.direction for one in SHIPPED}
    assert {known[request.id] for request in asked} == {"en-de"}
    assert all(request.direct and request.sampling.temperature == 0.0 for request in asked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checks": []}, "own.jsonl:1: checks"),
        ({"checks": [{"kind": "rhyme"}]}, "own.jsonl:1: checks"),
        ({"source": " "}, "no text under 'source'"),
        ({"target_lang": "sv", "checks": [{"kind": "register", "level": "formal"}]}, "not known by itself in 'sv'"),
    ],
)
def test_rows_that_are_no_requests_are_refused_before_anything_starts(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        made(path=written(tmp_path, {**ROW, **change})).check()


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no request in direction 'en-sv'; it has de-en"):
        made(directions=["en-sv"]).check()
    with pytest.raises(DataError, match="no such starter file"):
        made(path="starter:nothing.jsonl").check()


def test_replay_prompts_hold_nothing_that_is_asked() -> None:
    found = [row.record for row in read_prompts(PromptFile(path="starter:prompts.mt_if.jsonl"), Path())]
    prompts = [row.messages[-1].content for row in found if isinstance(row, Prompt)]
    assert len(prompts) == len(set(prompts)) == 120
    lines = {line.strip(" -") for one in prompts for line in one.splitlines() if len(line) > 25}
    asked = {line.strip(" -") for one in (*SHIPPED, *NATIVE) for line in one.prompt.splitlines() if len(line) > 25}
    assert not lines & asked
    tested = files("lingraft.shipped") / "starter"
    for name in ("test.de-en.jsonl", "test.th-en.jsonl"):
        for row in map(json.loads, (tested / name).read_text("utf-8").splitlines()):
            assert not any(row[side] in one for one in prompts for side in ("source", "target")), row["id"]


def test_a_benchmark_is_asked_by_its_format(tmp_path: Path) -> None:
    path = tmp_path / "formality-control.test.x.en-de"
    for suffix, line in (
        ("", "Do you see your bag?"),
        (".formal.annotated", "[F]Sehen Sie Ihre[/F] Tasche?"),
        (".informal.annotated", "[F]Siehst du deine[/F] Tasche?"),
    ):
        Path(f"{path}{suffix}").write_text(line + "\n", "utf-8")
    suite = made(path=str(path), format="cocoa_mt")
    suite.check()
    found = values(suite, dict.fromkeys(("1-formal", "1-informal"), "Sehen Sie Ihre Tasche?"))
    assert found["obeyed"] == {"1-formal": 1.0, "1-informal": 0.0}
