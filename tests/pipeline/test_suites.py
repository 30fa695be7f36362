"""The suites of a run as they ask each of its systems."""

from __future__ import annotations

from builders import tiny_tokenizer
from lingraft.data.records import Request
from lingraft.pipeline.suites import OpenSuite
from lingraft.rendering.renderer import Renderer
from lingraft.suites.base import Answers, ItemScores, Suite, SuiteInputs
from lingraft.translation.markers import Markers
from lingraft.translation.wording import TranslationSystem


class Silent(Suite):
    """Asks nothing."""

    name = "silent"

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        return []

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        return []


def test_a_system_is_asked_with_its_markers_whether_or_not_it_shares_the_tokenizer_of_the_base() -> None:
    """A graft on a base that has had the markers before has no tokenizer of its own."""
    of_base, other = Renderer(tiny_tokenizer()), Renderer(tiny_tokenizer())
    suite = OpenSuite("silent", Silent(Suite.Params()), SuiteInputs([], ["en"], renderer=of_base))
    markers, how = Markers.for_languages(["de"]), TranslationSystem("{source} in {target_name}?")
    for renderer in (of_base, other):
        inputs = suite.of_system(renderer, markers, how).inputs
        assert (inputs.renderer, inputs.markers, inputs.translating) == (renderer, markers, how)
