"""Suite "mt_if": translation requests with an instruction, and whether it was obeyed, by program."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from lingraft.core.errors import DataError
from lingraft.core.validation import IS_PATH
from lingraft.data.instruction_sets import Format
from lingraft.data.records import Message, Request, Sampling
from lingraft.data.sampling import draw
from lingraft.data.translation_requests import TranslationRequest, read_translation_requests
from lingraft.language.constraints import KINDS, texts_in
from lingraft.language.measures import is_echo, translated_into
from lingraft.language.placeholders import prose
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import Answers, AtHand, ItemScores, Suite, SuiteInputs, Workload

_CITE = ("zhou-2023-ifeval",)
_COPY = 0.9


class InstructedTranslationSuite(Suite):
    """Share of translation requests that are answered as they were told, in %: `obeyed`, retained, all or nothing.

    Told is, by item: only the translation, formality, gender, a length limit, terms of a glossary, names that stay,
    tags and placeholders, lines, layout. An item fails when one of its checks does, or when the answer is not in the
    target language or copies the source. Diagnostics: `checks_obeyed` (mean share of an item's checks),
    `not_translated` (% in another language, empty or copied), and `obeyed_<kind>` of each kind of check.

    Source: the strict accuracies of IFEval (Zhou et al. 2023, arXiv 2311.07911), by prompt and by instruction, over
    translation requests. How good a translation is, it does not say: a metric of translation does.
    """

    name: ClassVar[str] = "mt_if"
    paper: ClassVar[str] = "arXiv 2311.07911"
    metrics: ClassVar[Mapping[str, MetricFacts]] = {
        "obeyed": MetricFacts(label="Translation instructions obeyed", decimals=1, unit="%", cite=_CITE),
        "checks_obeyed": MetricFacts(label="Checks obeyed", decimals=1, unit="%", cite=_CITE, retains=False),
        "not_translated": MetricFacts(label="Not translated", better="lower", decimals=1, unit="%", retains=False),
        **{
            f"obeyed_{kind}": MetricFacts(label=label, decimals=1, unit="%", retains=False)
            for kind, label in KINDS.items()
        },
    }

    class Params(Suite.Params):
        """Parameters of the suite."""

        path: Annotated[str, IS_PATH] = Field(
            default="starter:mt_if.jsonl", description="file of requests with their checks (docs/evaluation.md)"
        )
        format: Format = Field(
            default="requests", description="how the file is laid out: requests, or as a benchmark is published"
        )
        directions: tuple[str, ...] = Field(
            default=(), description="directions that are asked, such as en-de; empty: all of the file"
        )
        max_prompts: int = Field(default=300, ge=1, description="requests asked, drawn by seed when there are more")
        max_new_tokens: int = Field(default=256, ge=1, description="longest answer, in tokens")

    params: Params

    def check(self) -> None:
        """Refuse requests that cannot be read.

        Raises:
            DataError: the file is missing, a row of it is no request, or none is in the directions.
        """
        _ = self._items

    @cached_property
    def _items(self) -> dict[str, TranslationRequest]:
        known = read_translation_requests(self.params.path, self.params.format)
        wanted = self.params.directions
        found = {one.id: one for one in known if not wanted or one.direction in wanted}
        if lacking := set(wanted) - {one.direction for one in known}:
            there = ", ".join(sorted({one.direction for one in known}))
            raise DataError(
                f"suite 'mt_if': {self.params.path} holds no request in direction {sorted(lacking)[0]!r}; "
                f"it has {there}"
            )
        return found

    def _asked(self, inputs: SuiteInputs) -> list[TranslationRequest]:
        return [self._items[id_] for id_ in draw(self._items, self.params.max_prompts, inputs.seed)]

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask for each translation, as the file words it.

        Raises:
            DataError: the requests cannot be read.
        """
        sampling = Sampling(max_new_tokens=self.params.max_new_tokens, seed=inputs.seed)
        return [Request(one.id, (Message("user", one.prompt),), sampling, direct=True) for one in self._asked(inputs)]

    def unseen_texts(self, inputs: SuiteInputs) -> Mapping[str, tuple[str, ...]]:
        """Return sources and references."""
        return {f"{one.id}/pair": (one.asked.source, one.reference) for one in self._asked(inputs)}

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Check what the system answered.

        Raises:
            DataError: an answer is missing.
        """
        obeyed: dict[str, float] = {}
        shares: dict[str, float] = {}
        untranslated: dict[str, float] = {}
        by_kind: dict[str, dict[str, float]] = {}
        for one in self._asked(inputs):
            answer = self.answer_to(system.generations, one.id).text.strip()
            translated = is_translation(answer, one)
            results = [(check.kind, translated and check.obeyed(answer, one.asked)) for check in one.checks]
            untranslated[one.id] = float(not translated)
            obeyed[one.id] = float(all(done for _, done in results))
            shares[one.id] = sum(done for _, done in results) / len(results)
            for kind in dict.fromkeys(kind for kind, _ in results):
                by_kind.setdefault(kind, {})[one.id] = float(all(done for other, done in results if other == kind))
        rules = (
            f"requests:{Path(self.params.path).name}|format:{self.params.format}"
            + (f"|directions:{','.join(self.params.directions)}" if self.params.directions else "")
            + f"|greedy|max_new_tokens:{self.params.max_new_tokens}|strict|copy:{_COPY:g}"
        )
        rows = {"obeyed": obeyed, "checks_obeyed": shares, "not_translated": untranslated}
        rows |= {f"obeyed_{kind}": by_kind[kind] for kind in KINDS if kind in by_kind}
        return [self.item_scores(metric, values, scale=100.0, signature=rules) for metric, values in rows.items()]

    def workload(self, at_hand: AtHand) -> Workload | None:
        """Count answers of a quarter of the longest."""
        return Workload(0.25 * min(self.params.max_prompts, len(self._items)) * self.params.max_new_tokens)


def is_translation(answer: str, one: TranslationRequest) -> bool:
    """Say whether an answer is in the target language and no copy of the source, judged beside the reference."""
    source, target = one.asked.source_lang, one.asked.target_lang
    written, reference, given = (texts_in(text) for text in (answer, one.reference, one.asked.source))
    if not answer or not translated_into(prose(written), [prose(reference)], target, [source]):
        return False
    return not is_echo(written, given, _COPY) or is_echo(reference, given, _COPY)
