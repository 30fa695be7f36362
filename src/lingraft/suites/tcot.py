"""Suite "tcot": the translation chain of thought, step by step: is it complete, how good are its translations, what
does it cost, and does the user get an answer in the user's language."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from lingraft.core.errors import DataError
from lingraft.core.validation import IS_PATH
from lingraft.data.records import NATIVE, QUERY, REPLY, Generation, Message, Request, Sampling, Segment, Span
from lingraft.data.sampling import draw
from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language, language_name, match_column
from lingraft.language.measures import is_looping, words, written_in
from lingraft.statistics.metric_facts import Better, MetricFacts
from lingraft.suites.base import Answers, AtHand, ItemScores, Suite, SuiteInputs, Workload
from lingraft.suites.judging import language_code, read_rows

_STEP3 = "reply:"
_IN_ENGLISH = "english:"
_ROLES = (QUERY, REPLY, NATIVE)
_ENGLISH_FIELDS = ("en", "instruction", "prompt", "question", "text")


@dataclass(frozen=True)
class Parallel:
    """One text in English and in the language asked in."""

    id: str
    english: str
    native: str


_CITE = ("geng-2024-transllm",)


def _step(label: str) -> MetricFacts:
    return MetricFacts(label=label, decimals=1, unit="chrF", cite=_CITE, retains=False, role="step")


def _share(label: str, *, error: bool = True, role: str = "") -> MetricFacts:
    better: Better = "lower" if error else "higher"
    return MetricFacts(label=label, better=better, decimals=1, unit="%", cite=_CITE, retains=False, role=role)


def _mean(label: str, role: str = "") -> MetricFacts:
    return MetricFacts(label=label, better=None, decimals=1, cite=_CITE, retains=False, role=role)


class ChainSuite(Suite):
    """Prompts of which there is an English version, asked in another language, greedily.

    Of every system: `native_language` (% of answers in the language asked in; empty ones are in none), `answered` (%
    that are neither empty nor looping), `words` (mean per answer), and with `english` `english_chrf`: the same prompts
    asked in English, mean chrF of the answers against the base's. Of systems that answer through the chain, also
    `forced_response_english` (% of answers to these before which the marker was put, which recovery has to teach), and:
    `format_failure` (% of chains that lack a marker that the model should have written, or the text of a part),
    `english_cut` (% whose English answer reached the limit, which closes it), `unfinished` (% cut off),
    `forced_english`, `forced_response` and `forced_native` (% in which the marker was put),
    `query_chrf` (mean sentence chrF of the English query against the English prompt: step 1), `step2_chrf` (of the
    English answer against the base's answer to the English prompt: step 2, and what step 1 has cost it), and
    `tokens_query`, `tokens_english`, `tokens_native` (mean per answer). With `pairs`, `reply_chrf`: step 3 alone,
    translating an English answer that is given, after a prompt that has nothing to do with it; chrF against the pair's
    native side.
    Nothing is retained: the base has no chain, and may answer no other language.

    Source: Geng et al. 2024, TransLLM (arXiv 2405.13923). Its analysis of the steps is with COMET; chrF needs no model.
    """

    name: ClassVar[str] = "tcot"
    paper: ClassVar[str] = "arXiv 2405.13923"
    metrics: ClassVar[Mapping[str, MetricFacts]] = {
        "query_chrf": _step("Step 1, question to English"),
        "step2_chrf": _step("Step 2, English answer like the base's"),
        "english_chrf": _step("Step 2 alone, asked in English, like the base's"),
        "forced_response_english": _share("Asked in English, answer opened by force", role="step"),
        "reply_chrf": _step("Step 3 alone, answer from English"),
        "native_language": _share("Answers in the language asked for", error=False, role="step"),
        "answered": _share("Answers that say something", error=False),
        "words": _mean("Words per answer"),
        "format_failure": _share("Chains with a missing part", role="step"),
        "english_cut": _share("English answer at its limit"),
        "unfinished": _share("Chains cut off"),
        "forced_english": _share("Chains begun by force"),
        "forced_response": _share("English answer opened by force"),
        "forced_native": _share("Native answer opened by force"),
        "tokens_query": _mean("Tokens of the English question", role="step_tokens"),
        "tokens_english": _mean("Tokens of the English answer", role="step_tokens"),
        "tokens_native": _mean("Tokens of the native answer", role="step_tokens"),
    }

    class Params(Suite.Params):
        """Parameters of the suite."""

        prompts: Annotated[str, IS_PATH] = Field(
            "starter:prompts.en-th.jsonl",
            description="file of prompts in two languages: columns such as `en` and `th`, or `instruction` and "
            "`instruction_th`",
        )
        pairs: Annotated[str | None, IS_PATH] = Field(
            None, description="file of sentences in the same two languages, for the last step alone"
        )
        language: str = Field("th", description="language asked in")
        english: bool = Field(True, description="ask the prompts in English, too: what step 2 is held against")
        max_prompts: int = Field(200, ge=1, description="prompts asked, drawn by seed when there are more")
        max_pairs: int = Field(200, ge=1, description="pairs translated, drawn by seed when there are more")
        max_new_tokens: int = Field(512, ge=1, description="longest answer, in tokens")

        @field_validator("language")
        @classmethod
        def _language(cls, value: str) -> str:
            if not (code := language_code(value)) or base_language(code) == "en":
                raise ValueError("the chain answers in another language than English; give one such as 'th'")
            return code

    params: Params

    @cached_property
    def _prompts(self) -> dict[str, Parallel]:
        return read_parallel(self.params.prompts, self.params.language)

    @cached_property
    def _pairs(self) -> dict[str, Parallel]:
        return read_parallel(self.params.pairs, self.params.language) if self.params.pairs else {}

    def _asked(self, inputs: SuiteInputs) -> list[Parallel]:
        return [self._prompts[id_] for id_ in draw(self._prompts, self.params.max_prompts, inputs.seed)]

    def _translated(self, inputs: SuiteInputs) -> list[Parallel]:
        return [self._pairs[id_] for id_ in draw(self._pairs, self.params.max_pairs, inputs.seed)]

    def check(self) -> None:
        """Read the prompts and the pairs.

        Raises:
            DataError: a file cannot be read, or its rows lack one of the languages.
        """
        read_parallel(self.params.prompts, self.params.language)
        if self.params.pairs:
            read_parallel(self.params.pairs, self.params.language)

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask every system each prompt, greedily, and in English.

        Raises:
            DataError: the file cannot be read, or its rows lack one of the languages.
        """
        sampling = Sampling(max_new_tokens=self.params.max_new_tokens, seed=inputs.seed)
        asked = self._asked(inputs)
        native = [Request(item.id, (Message("user", item.native),), sampling) for item in asked]
        if not self.params.english:
            return native
        return native + [
            Request(f"{_IN_ENGLISH}{item.id}", (Message("user", item.english),), sampling) for item in asked
        ]

    def unseen_texts(self, inputs: SuiteInputs) -> dict[str, tuple[str, ...]]:
        """Return the pairs, both sides."""
        return {f"{_STEP3}{pair.id}": (pair.english, pair.native) for pair in self._translated(inputs)}

    def chain_requests(self, inputs: SuiteInputs) -> list[Request]:
        """Let systems with markers translate English answers that are given, within the chain.

        Raises:
            DataError: as `requests`, of the file of pairs.
        """
        markers = inputs.markers
        if markers is None or base_language(self.params.language) not in markers.languages or not self._pairs:
            return []
        prompts = self._asked(inputs)
        sampling = Sampling(max_new_tokens=self.params.max_new_tokens, seed=inputs.seed)
        out = []
        for number, pair in enumerate(self._translated(inputs)):
            before = prompts[number % len(prompts)]
            turn = (
                markers.span(markers.english),
                Span(before.english, QUERY),
                markers.span(markers.response),
                Span(pair.english, REPLY),
                markers.span(markers.of(self.params.language)),
            )
            out.append(Request(f"{_STEP3}{pair.id}", (Message("user", before.native),), sampling, turn=turn))
        return out

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Return the values of all prompts, and of all pairs where they were translated.

        Raises:
            DataError: an answer is missing.
        """
        asked = self._asked(inputs)
        own = {item.id: self.answer_to(system.generations, item.id) for item in asked}
        settings = (
            f"prompts:{Path(self.params.prompts).name}|language:{self.params.language}|greedy"
            f"|max_new_tokens:{self.params.max_new_tokens}"
        )
        rows = self._shown(own, inputs, settings)
        replies: dict[str, str] = {}
        if self.params.english:
            names = {item.id: f"{_IN_ENGLISH}{item.id}" for item in asked}
            replies = {id_: self.answer_to(base.generations, name).text for id_, name in names.items()}
            said = {id_: self.answer_to(system.generations, name).text for id_, name in names.items()}
            values = {id_: _agreement(said[id_], replies[id_]) for id_ in said}
            signature = f"mean sentence chrF against the base's answers, asked in English|{settings}"
            rows.append(self.item_scores("english_chrf", values, signature=signature))
            answers = {id_: self.answer_to(system.generations, name) for id_, name in names.items()}
            if any(answer.segments for answer in answers.values()):
                rows.append(_forced_in_english(answers, settings))
        if any(generation.segments for generation in own.values()):
            most = self.params.max_new_tokens
            rows += _steps(own, {item.id: item.english for item in asked}, replies, most, settings)
        pairs = self._translated(inputs)
        if pairs and f"{_STEP3}{pairs[0].id}" in system.generations:
            written = {pair.id: self.answer_to(system.generations, f"{_STEP3}{pair.id}").text for pair in pairs}
            values = {pair.id: chrf(written[pair.id], pair.native) for pair in pairs}
            name = Path(self.params.pairs or "").name
            signature = f"mean sentence chrF, English answer given|pairs:{name}|{settings}"
            rows.append(self.item_scores("reply_chrf", values, signature=signature))
        return sorted(rows, key=lambda row: [*self.metrics].index(row.metric))

    def _shown(self, own: Mapping[str, Generation], inputs: SuiteInputs, settings: str) -> list[ItemScores]:
        """Return what can be said of every system: about what the user sees."""
        lang, among = self.params.language, ("en", *inputs.languages)
        measures: tuple[tuple[str, Callable[[str], float], float, str], ...] = (
            (
                "native_language",
                lambda text: float(not is_blank(text) and written_in(text, lang, among)),
                100.0,
                "lingraft.text.written_in, empty counts 0",
            ),
            (
                "answered",
                lambda text: float(not is_blank(text) and not is_looping(text)),
                100.0,
                "neither empty nor lingraft.text.is_looping",
            ),
            ("words", lambda text: float(len(words(text))), 1.0, "words per answer"),
        )
        return [
            self.item_scores(
                metric,
                {id_: measure(generation.text) for id_, generation in own.items()},
                scale=scale,
                signature=f"{rule}|{settings}",
            )
            for metric, measure, scale, rule in measures
        ]

    def workload(self, at_hand: AtHand) -> Workload:
        """Count what is written for each prompt, in both languages and asked in English, and for the pairs."""
        prompts = min(self.params.max_prompts, len(self._prompts))
        pairs = min(self.params.max_pairs, len(self._pairs))
        answers = (3 if self.params.english else 2) * prompts + 0.2 * pairs
        return Workload(0.7 * self.params.max_new_tokens * answers)


def _forced_in_english(answers: Mapping[str, Generation], settings: str) -> ItemScores:
    """Return in how many answers to English prompts the marker of an English answer was put."""
    put = {
        id_: float(any(part.role == REPLY and part.forced for part in answer.segments))
        for id_, answer in answers.items()
    }
    rule = "asked in English, the marker was put"
    return ChainSuite.item_scores("forced_response_english", put, scale=100.0, signature=f"{rule}|{settings}")


def _steps(
    own: Mapping[str, Generation], english: Mapping[str, str], replies: Mapping[str, str], most: int, settings: str
) -> list[ItemScores]:
    """Return the measures of the chain itself.

    Args:
        own: the system's answers with their segments, by prompt id.
        english: the prompts in English, by prompt id.
        replies: the base's answers to these, if they were asked.
        most: limit of the English answer, in tokens; one that reaches it is closed by the next marker, and no failure.
        settings: for the signatures of the measures.
    """
    chains = {id_: {segment.role: segment for segment in one.segments} for id_, one in own.items()}

    def row(metric: str, values: Mapping[str, float], rule: str, share: bool = False) -> ItemScores:
        scale = 100.0 if share else 1.0
        return ChainSuite.item_scores(metric, values, scale=scale, signature=f"{rule}|{settings}")

    rows = [
        row(
            "format_failure",
            {id_: float(not _well_formed(one.segments, most)) for id_, one in own.items()},
            "parts missing, empty, out of order, or with a marker that was put before the limit",
            share=True,
        ),
        row(
            "english_cut",
            {id_: float(_cut(chain.get(REPLY), most)) for id_, chain in chains.items()},
            "English answer at its limit, closed by the next marker",
            share=True,
        ),
        row(
            "unfinished",
            {id_: float(one.finish_reason == "length") for id_, one in own.items()},
            "token limit reached",
            share=True,
        ),
    ]
    for role, metric in ((QUERY, "forced_english"), (REPLY, "forced_response"), (NATIVE, "forced_native")):
        put = {id_: float(role in chain and chain[role].forced) for id_, chain in chains.items()}
        rows.append(row(metric, put, "the marker was put", share=True))
    queries = {id_: chain[QUERY].text if QUERY in chain else "" for id_, chain in chains.items()}
    close = {id_: chrf(query, english[id_]) for id_, query in queries.items()}
    rows.append(row("query_chrf", close, "mean sentence chrF of the query against the English prompt"))
    if replies:
        said = {id_: chain[REPLY].text if REPLY in chain else "" for id_, chain in chains.items()}
        close = {id_: _agreement(text, replies[id_]) for id_, text in said.items()}
        rule = "mean sentence chrF of the English answer against the base's answer to the English prompt"
        rows.append(row("step2_chrf", close, rule))
    for role, metric in ((QUERY, "tokens_query"), (REPLY, "tokens_english"), (NATIVE, "tokens_native")):
        counts = {id_: float(chain[role].tokens if role in chain else 0) for id_, chain in chains.items()}
        rows.append(row(metric, counts, "tokens per answer, marker included"))
    return rows


def _well_formed(segments: Iterable[Segment], most: int) -> bool:
    """Whether all parts are there, with text, in order, and opened by the model itself, unless a limit stopped it."""
    found = list(segments)
    if tuple(segment.role for segment in found) != _ROLES or not all(segment.text for segment in found):
        return False
    query, reply, native = found
    return not (query.forced or reply.forced or (native.forced and not _cut(reply, most)))


def _cut(reply: Segment | None, most: int) -> bool:
    """Whether an English answer is as long as it may be; its marker counts among its tokens."""
    return reply is not None and reply.tokens > most


@cache
def _metric() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()


def chrf(text: str, reference: str) -> float:
    """Return sentence chrF, 0 to 100; an empty text has 0."""
    return float(_metric().sentence_score(text, [reference]).score) if not is_blank(text) else 0.0


def _agreement(text: str, base: str) -> float:
    """Return how far an answer is the base's own; equal ones, empty or not, are so in full."""
    return 100.0 if text == base else chrf(text, base)


def read_parallel(path: str, lang: str) -> dict[str, Parallel]:
    """Return the rows of a file by id: the row's own (`id`, `Instruct_id`), else `line-N`.

    Args:
        path: rows with the text in English (`en`, `instruction`, `prompt` ...) and in the language (its code, or an
            English column's name with `_` and the code).
        lang: code of the language.

    Raises:
        DataError: rows without these fields, or repeated ids.
    """
    found: dict[str, Parallel] = {}
    for line, row in read_rows(path, ChainSuite.name):
        where = f"suite 'tcot': {path}, line {line}"
        sides = ((name, match_column(row, "" if name == "en" else f"{name}_", lang)) for name in _ENGLISH_FIELDS)
        texts = next(((row[a], row[b]) for a, b in sides if a in row and b is not None), ())
        if not texts or not all(isinstance(text, str) and not is_blank(text) for text in texts):
            raise DataError(
                f"{where} lacks the text in English or {language_name(lang)}; give columns `en` and `{lang}`, or "
                f"`instruction` and `instruction_{lang}`"
            )
        id_ = str(next((row[key] for key in ("id", "Instruct_id") if key in row), f"line-{line}"))
        if id_ in found:
            raise DataError(f"{where} repeats the id {id_!r}; give every row an id of its own")
        found[id_] = Parallel(id_, *texts)
    return found
