"""Suite "self": how far a system's behaviour on general prompts has moved from the base's own.

It needs no labelled benchmark: the base's answers are the reference. The divergence from the base follows Shenfeld,
Pari & Agrawal 2025, "RL's Razor: Why Online Reinforcement Learning Forgets Less" (arXiv 2509.04259), where the KL from
the base predicts forgetting; here it is measured forward, KL(base || system), on the base's own sampled answers to
general prompts, and on the new task's inputs as there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any, ClassVar, Literal

from pydantic import Field

from lingraft.core.errors import DataError
from lingraft.core.hashing import content_hash
from lingraft.data.records import Pair, Prompt, Request, Sampling
from lingraft.data.sampling import draw
from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language
from lingraft.language.identification import identify
from lingraft.language.measures import is_echo, is_looping, letter_count, translated_into, words, written_in
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import Answers, AtHand, ItemScores, Suite, SuiteInputs, Workload
from lingraft.translation.direct import Source, extract
from lingraft.translation.direct import requests as translation_requests

MIN_LETTERS = 20
MIN_PROBABILITY = 0.9
ECHO_THRESHOLD = 0.85
LONGEST = (2, 10)
"""Words of a translation: at most so many times those of the reference, and so many more."""


@cache
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()


def agreement(answer: str, base_answer: str) -> float:
    """Return sentence chrF (effective order) of an answer against the base's, 0 to 100; equal texts give 100."""
    if answer == base_answer:
        return 100.0
    return float(_chrf().sentence_score(answer, [base_answer]).score)


def stays_answer(answer: str, base_answer: str, prompt: Prompt, languages: Sequence[str] = ()) -> bool:
    """Say whether `answer` still answers the prompt instead of doing something else, such as translating it.

    It does not when
      - it is empty (no letter and no digit),
      - it echoes the last user message (`lingraft.language.measures.is_echo`, threshold 0.85, at which true
        answers that repeat the words of the question pass), or
      - it is in another language than both the prompt's and the base's answer
        (`lingraft.language.measures.written_in`, from 20 letters on with a probability of at least 0.9, below by
        script). A translated prompt is caught here. The base's answer counts because a prompt may ask for another
        language; so this rule never strikes the base.

    Args:
        answer: what the system wrote.
        base_answer: what the base wrote, greedy.
        prompt: what was asked.
        languages: languages of the run, candidates for identification.
    """
    return (
        not is_blank(answer)
        and any(map(str.isalnum, answer))
        and not does_another_task(answer, base_answer, prompt, languages)
    )


def does_another_task(answer: str, base_answer: str, prompt: Prompt, languages: Sequence[str] = ()) -> bool:
    """Say whether `answer` copies or translates instead of answering: the last two rules of `stays_answer`."""
    asked = next((message.content for message in reversed(prompt.messages) if message.role == "user"), "")
    if is_echo(answer, asked, ECHO_THRESHOLD):
        return True
    among = {base_language(prompt.lang), *(base_language(code) for code in languages)}
    if written_in(answer, prompt.lang, among, MIN_LETTERS, MIN_PROBABILITY):
        return False
    if answer == base_answer:
        return False
    if letter_count(base_answer) < MIN_LETTERS:
        return True
    named, _ = identify(base_answer, among)
    return not written_in(answer, named, among, MIN_LETTERS, MIN_PROBABILITY)


def answers_instead(translation: str, pair: Pair, languages: Sequence[str] = ()) -> bool:
    """Say whether what was written for a translation request is something else: an answer, an explanation, a copy.

    It is when it is in another language than asked for (`lingraft.language.measures.translated_into`), or has more
    than twice the words of the reference and ten more. An answer in the right language and of a translation's length
    passes.
    """
    if not any(map(str.isalnum, translation)):
        return False
    references = (pair.target, *pair.references)
    if not translated_into(translation, references, pair.target_lang, {pair.source_lang, *languages}):
        return True
    return len(words(translation)) > LONGEST[0] * len(words(pair.target)) + LONGEST[1]


def _share_of_errors(label: str) -> MetricFacts:
    return MetricFacts(label=label, better="lower", decimals=1, unit="%", retains=False)


_DIVERGENCE = MetricFacts(
    better="lower", decimals=3, unit="nats per token", cite=("shenfeld-2025-razor",), retains=False
)


class SelfSuite(Suite):
    """Agreement with the base's own answers, divergence from it, and whether answers are still answers.

    Metrics: `agreement` (mean sentence chrF with the base's greedy answer, 0 to 100; its chance is what unrelated
    answers share, see `unrelated`), `stays_answer` (% of answers that still answer, see `stays_answer`), both retained;
    and diagnostics: `kl_from_base` (nats per token on the base's sampled answers), `kl_from_base_translation` (the same
    on the run's test segments, as translation requests in the words that the system was taught),
    `wrong_task` (% of answers that copy or translate the prompt), `wrong_task_translation` (% of translation requests
    that are answered instead), `length_drift` (mean |ln(words / base's words)|), `words` (mean per answer), `loops`
    (% of answers that loop).
    """

    name: ClassVar[str] = "self"
    paper: ClassVar[str] = "KL from base as in arXiv 2509.04259, on the base's own answers"
    consumes: ClassVar[frozenset[Literal["prompts", "texts"]]] = frozenset({"prompts"})
    metrics: ClassVar[Mapping[str, MetricFacts]] = {
        "agreement": MetricFacts(label="Agreement with base", decimals=1, unit="chrF"),
        "stays_answer": MetricFacts(label="Answers that stay answers", decimals=1, unit="%"),
        "wrong_task": _share_of_errors("Answers of the wrong task"),
        "length_drift": MetricFacts(label="Length drift |ln ratio|", better="lower", decimals=3, retains=False),
        "words": MetricFacts(label="Words per answer", better=None, decimals=1, retains=False),
        "loops": _share_of_errors("Answers that loop"),
        "wrong_task_translation": _share_of_errors("Translations of the wrong task"),
        "kl_from_base": replace(_DIVERGENCE, label="KL from base", role="divergence"),
        "kl_from_base_translation": replace(_DIVERGENCE, label="KL from base on translation requests"),
    }

    class Params(Suite.Params):
        """Parameters of the suite."""

        max_prompts: int = Field(
            default=60, ge=1, description="general prompts asked, drawn by seed when there are more"
        )
        max_pairs: int = Field(
            default=40, ge=0, description="test segments asked for as translations, drawn by seed; 0: none"
        )
        max_new_tokens: int = Field(default=128, ge=1, description="longest greedy answer, in tokens")
        kl_max_new_tokens: int = Field(default=128, ge=1, description="longest sampled answer of the base, in tokens")
        temperature: float = Field(default=1.0, gt=0, description="temperature of the base's sampled answers")

    params: Params

    @property
    def answer_tokens(self) -> int:
        """The longest of the two answers to each prompt."""
        return max(self.params.max_new_tokens, self.params.kl_max_new_tokens)

    def _prompts(self, inputs: SuiteInputs) -> dict[str, Prompt]:
        """Return the prompts asked, by id; the draw does not depend on the order of the input."""
        prompts = {prompt.id: prompt for prompt in inputs.prompts}
        if not prompts:
            raise DataError("suite 'self' has no general prompts to ask; set `prompts:` in the recipe")
        return {id_: prompts[id_] for id_ in draw(prompts, self.params.max_prompts, inputs.seed)}

    def _pairs(self, inputs: SuiteInputs) -> dict[str, Pair]:
        """Return the test segments asked, by an id that tells directions apart."""
        pairs = {f"{pair.source_lang}-{pair.target_lang}/{pair.id}": pair for pair in inputs.pairs}
        return {id_: pairs[id_] for id_ in draw(pairs, self.params.max_pairs, inputs.seed)}

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask every system for a greedy answer to each prompt, and for a translation of each segment."""
        limit = self.params.max_new_tokens
        sampling = Sampling(max_new_tokens=limit, seed=inputs.seed)
        general = [Request(_greedy_id(id_), prompt.messages, sampling) for id_, prompt in self._prompts(inputs).items()]
        return [*general, *self._translations(inputs, _PAIR, limit)]

    def _translations(
        self, inputs: SuiteInputs, prefix: str, max_new_tokens: int, temperature: float = 0.0
    ) -> Iterator[Request]:
        """Ask for a translation of each segment, as the system is asked for those of the test sets."""
        sources = (
            Source(f"{prefix}{id_}", pair.source, pair.source_lang, pair.target_lang)
            for id_, pair in self._pairs(inputs).items()
        )
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=inputs.seed)
        yield from translation_requests(sources, inputs.translating, sampling)

    def base_only_requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask the base for a sampled answer to each prompt; KL(base || system) is measured on these.

        The base has no stop strings: it answers what a system with some is asked as it would by itself.
        """
        limit, temperature = self.params.kl_max_new_tokens, self.params.temperature
        sampling = Sampling(max_new_tokens=limit, temperature=temperature, seed=inputs.seed)
        general = [
            Request(_sampled_id(id_), prompt.messages, sampling) for id_, prompt in self._prompts(inputs).items()
        ]
        worded = replace(inputs, translating=replace(inputs.translating, stop=()))
        return [*general, *self._translations(worded, _sampled_pair(inputs), limit, temperature)]

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Compare a system's answers with the base's.

        `kl_from_base` is given where `system.kl` holds divergences; all other metrics always.

        Raises:
            DataError: an answer or a divergence is missing.
        """
        prompts = self._prompts(inputs)
        own = {id_: self.answer_to(system.generations, _greedy_id(id_)).text for id_ in prompts}
        theirs = {id_: self.answer_to(base.generations, _greedy_id(id_)).text for id_ in prompts}
        counts = {id_: len(words(text)) for id_, text in own.items()}
        base_counts = {id_: len(words(text)) for id_, text in theirs.items()}
        greedy = f"greedy|max_new_tokens:{self.params.max_new_tokens}"
        chrf = f"chrF2|nc:6|nw:0|eff:yes|sacrebleu:{version('sacrebleu')}"
        rule = (
            f"not empty, echo<{ECHO_THRESHOLD}, language of prompt or base answer"
            f"|lid:py3langid-{version('py3langid')}|min_letters:{MIN_LETTERS}|min_probability:{MIN_PROBABILITY}"
        )
        floor = unrelated(theirs, {id_: prompt.lang for id_, prompt in prompts.items()})
        scores = [
            self.item_scores(
                "agreement",
                {id_: agreement(text, theirs[id_]) for id_, text in own.items()},
                chance=round(floor, 9),
                signature=f"{chrf}|ref:base|{greedy}|unrelated:{floor:.1f}",
            ),
            self.item_scores(
                "stays_answer",
                {
                    id_: float(stays_answer(text, theirs[id_], prompts[id_], inputs.languages))
                    for id_, text in own.items()
                },
                scale=100.0,
                signature=f"{rule}|{greedy}",
            ),
            self.item_scores(
                "wrong_task",
                {
                    id_: float(
                        any(map(str.isalnum, text))
                        and does_another_task(text, theirs[id_], prompts[id_], inputs.languages)
                    )
                    for id_, text in own.items()
                },
                scale=100.0,
                signature=f"general prompts: {rule}, empty counts 0|{greedy}",
            ),
            self.item_scores(
                "length_drift",
                {id_: abs(math.log(max(1, count) / max(1, base_counts[id_]))) for id_, count in counts.items()},
                signature=f"mean |ln(words/base words)|, empty counts 1|{greedy}",
            ),
            self.item_scores(
                "words",
                {id_: float(count) for id_, count in counts.items()},
                signature=f"words per answer|{greedy}",
            ),
            self.item_scores(
                "loops",
                {id_: float(is_looping(text)) for id_, text in own.items()},
                scale=100.0,
                signature=f"lingraft.text.is_looping|{greedy}",
            ),
        ]
        pairs = self._pairs(inputs)
        if pairs:
            scores.append(self._translating(pairs, system, inputs))
        if any(kl.tokens for kl in system.kl.values()):
            scores += self._divergence("kl_from_base", [*prompts], _sampled_id(""), system)
            scores += self._divergence("kl_from_base_translation", [*pairs], _sampled_pair(inputs), system)
        return scores

    def _translating(self, pairs: Mapping[str, Pair], system: Answers, inputs: SuiteInputs) -> ItemScores:
        values = {}
        for id_, pair in pairs.items():
            source = Source(id_, pair.source, pair.source_lang, pair.target_lang)
            generation = self.answer_to(system.generations, f"{_PAIR}{id_}")
            written = extract(source, generation, inputs.translating.stop).text
            values[id_] = float(answers_instead(written, pair, inputs.languages))
        return self.item_scores(
            "wrong_task_translation",
            values,
            scale=100.0,
            signature=(
                f"translation requests: another language than asked, or words > {LONGEST[0]} x reference + {LONGEST[1]}"
                f"|greedy|max_new_tokens:{self.params.max_new_tokens}"
            ),
        )

    def workload(self, at_hand: AtHand) -> Workload:
        """Count answers, those of the base for the divergence included."""
        limit = self.params.max_new_tokens + self.params.kl_max_new_tokens
        asked = min(self.params.max_prompts, at_hand.prompts) + min(self.params.max_pairs, at_hand.pairs)
        return Workload(0.7 * limit * asked)

    def _divergence(self, metric: str, prompts: Sequence[str], prefix: str, system: Answers) -> list[ItemScores]:
        """Return nats per token of each answer, weighted by its tokens; an empty answer has no divergence."""
        missing = [id_ for id_ in prompts if f"{prefix}{id_}" not in system.kl]
        if missing:
            raise DataError(
                f"suite 'self' has no divergence for {len(missing)} of {len(prompts)} prompts "
                f"(first: {missing[0]!r}); measure it on every sampled answer of the base"
            )
        measured = {id_: system.kl[f"{prefix}{id_}"] for id_ in prompts}
        measured = {id_: kl for id_, kl in measured.items() if kl.tokens > 0}
        if not measured:
            return []
        row = self.item_scores(
            metric,
            {id_: kl.nats / kl.tokens for id_, kl in measured.items()},
            weights={id_: float(kl.tokens) for id_, kl in measured.items()},
            signature=(
                f"KL(base||system) nats/token|base answers, temperature:{self.params.temperature:g}"
                f"|max_new_tokens:{self.params.kl_max_new_tokens}"
            ),
        )
        return [row]


_PAIR = "self-mt:"


def _sampled_pair(inputs: SuiteInputs) -> str:
    """Return how the ids of the base's sampled translations begin: it writes one for each wording that a system has."""
    return f"self-mt-kl-{content_hash(inputs.translating.instruction)[:8]}:"


def _greedy_id(prompt_id: str) -> str:
    return f"self:{prompt_id}"


def _sampled_id(prompt_id: str) -> str:
    return f"self-kl:{prompt_id}"


def unrelated(answers: Mapping[str, str], langs: Mapping[str, str]) -> float:
    """Return what answers that have nothing to do with each other share: the chance level of `agreement`, 0 to 100.

    It is the mean, over all prompts, of the agreement of the base's answer with its answer to the next prompt of the
    same language by id (the last one's next is the first; of any language where there is no other of it). 0 where there
    is one prompt alone.

    Args:
        answers: of the base, by prompt id.
        langs: language of each prompt.
    """
    alike: dict[str, list[str]] = {}
    for id_ in sorted(answers):
        alike.setdefault(base_language(langs[id_]), []).append(id_)
    everything = sorted(answers)
    if len(everything) < 2:
        return 0.0
    scores = []
    for ids in alike.values():
        among = ids if len(ids) > 1 else everything
        for place, id_ in enumerate(ids, start=among.index(ids[0])):
            scores.append(agreement(answers[id_], answers[among[(place + 1) % len(among)]]))
    return math.fsum(scores) / len(scores)
