"""What all systems wrote, conversations of a suite and faults of translations included, from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from builders import tiny_tokenizer
from lingraft.data.records import Generation, Message, Pair, Request, Sampling, SideBySide
from lingraft.pipeline import prepare
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.pipeline.outputs import answers, breakdowns, side_by_side
from lingraft.pipeline.suites import OpenSuite
from lingraft.rendering.renderer import Renderer
from lingraft.suites.base import Answers, ItemScores, Suite, SuiteInputs
from lingraft.translation.direct import Translation
from lingraft.translation.wording import TranslationSystem


class Talk(Suite):
    """Asks everybody "one", and "two" only those who answered with a question."""

    name = "talk"

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        return [Request("q", (Message("user", "one"),), Sampling())]

    def follow_ups(self, inputs: SuiteInputs, generations: Mapping[str, Generation]) -> list[Request]:
        said = generations["q"].text
        if "q/2" in generations or not said.endswith("?"):
            return []
        return [
            Request("q/2", (Message("user", "one"), Message("assistant", said), Message("user", "two")), Sampling())
        ]

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        return []


def generation(id_: str, text: str) -> Generation:
    return Generation(id_, text, (1,), "stop")


def system_of(name: str) -> MeasuredSystem:
    return MeasuredSystem(name=name, renderer=Renderer(tiny_tokenizer()), translating=TranslationSystem())


def decoded(name: str, translations: dict[str, dict[str, Translation]], **said: str) -> SystemAnswers:
    answered = {f"talk/{key.replace('_', '/')}": text for key, text in said.items()}
    return SystemAnswers(
        system=system_of(name),
        artefacts=(),
        translations=translations,
        answers=Answers({key: generation(key, text) for key, text in answered.items()}),
    )


def test_follow_ups_are_items_of_their_own_with_the_systems_that_were_asked() -> None:
    suite = OpenSuite("talk", Talk(Suite.Params()), SuiteInputs([], ["en"]))
    base, radis = decoded("base", {}, q="why?", q_2="because"), decoded("radis", {}, q="done.")
    assert list(answers(suite, [base, radis])) == [
        SideBySide("talk/q", "talk", "one", "", {"base": "why?", "radis": "done."}),
        SideBySide("talk/q/2", "talk", "one\n\ntwo", "", {"base": "because"}),
    ]


def test_translations_are_listed_and_their_faults_counted_by_direction() -> None:
    pairs = [
        Pair("1", "Guten Tag", "Good day", "de", "en"),
        Pair("2", "Hallo", "Hello", "de", "en"),
        Pair("3", "Good night", "Gute Nacht", "en", "de"),
    ]
    base = {
        "1": Translation("1", " guten  TAG", 3),
        "2": Translation("2", "", 0, "empty"),
        "3": Translation("3", "go " * 60, 60, "unfinished"),
    }
    radis = {pair.id: Translation(pair.id, pair.target, 3) for pair in pairs}
    systems = [decoded("base", {"t": base}), decoded("radis", {"t": radis})]
    data = prepare.Data(
        folder=Path(),
        train=[],
        tests=[prepare.PreparedTestSet("t", "news", pairs)],
        replay=[],
        retention=[],
        rejected=[],
        counts={},
        rows_read={},
        directions=[("de", "en")],
    )
    listed = list(side_by_side(data, [], systems))
    assert [(name, [item.id for item in items]) for name, items in listed] == [
        ("news, de-en", ["news/1", "news/2"]),
        ("news, en-de", ["news/3"]),
    ]
    first = listed[0][1][0]
    assert first == SideBySide("news/1", "de-en", "Guten Tag", "Good day", {"base": " guten  TAG", "radis": "Good day"})
    assert SideBySide.from_json(first.to_json()) == first
    found = breakdowns(data, systems)
    assert [(b.test_set, b.direction, b.n) for b in found] == [("news", "de-en", 2), ("news", "en-de", 1)]
    assert found[0].counts == {"base": {"copied_source": 1, "empty": 1}, "radis": {}}
    assert found[1].counts == {"base": {"looping": 1, "unfinished": 1}, "radis": {}}
