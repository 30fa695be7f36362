"""Direct translation: ask once, stop at the delimiter, and say when no translation could be extracted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lingraft.data.languages import language_name
from lingraft.data.records import Generation, Record, Request, Sampling
from lingraft.instructions import ask


@dataclass(frozen=True)
class Source(Record):
    """A text to translate."""

    id: str
    text: str
    source_lang: str
    target_lang: str


@dataclass(frozen=True)
class Translation(Record):
    """An extracted translation. `failure` says why extraction failed, else it is empty; `tokens` were generated."""

    id: str
    text: str
    tokens: int
    failure: str = ""


def requests(
    sources: Iterable[Source], instruction: str, stop: Sequence[str], max_new_tokens: int, seed: int = 0
) -> Iterator[Request]:
    """Yield the greedy request for each source text."""
    sampling = Sampling(max_new_tokens, stop=tuple(stop), seed=seed)
    for source in sources:
        yield Request(source.id, ask(instruction, source.text, source.source_lang, source.target_lang), sampling)


def extract(source: Source, generation: Generation) -> Translation:
    """Take the translation out of what the model wrote.

    The engine has cut the text at the delimiter. Extraction fails, with the text kept as it is, when nothing was
    written ("empty"), when the token limit was reached before the end of the translation ("unfinished"), or when the
    answer announces itself instead of translating ("preamble": its first line ends with a colon and names the target
    language or the word translation, and more lines follow).
    """
    text = generation.text.strip()
    failure = ""
    if not text:
        failure = "empty"
    elif generation.finish_reason == "length":
        failure = "unfinished"
    else:
        first, _, rest = text.partition("\n")
        named = language_name(source.target_lang).lower() in first.lower() or "translat" in first.lower()
        if rest.strip() and first.rstrip().endswith(":") and named and not source.text.strip().startswith(first[:10]):
            failure = "preamble"
    return Translation(source.id, text, len(generation.token_ids), failure)


def one_line(text: str) -> str:
    """Return the text with all white space, line breaks included, as single spaces."""
    return " ".join(text.split())
