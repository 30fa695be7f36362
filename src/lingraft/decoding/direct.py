"""Direct translation: ask once, stop at the delimiter, and say when no translation could be extracted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lingraft.data.languages import language_name
from lingraft.data.records import Generation, Record, Request, Sampling
from lingraft.instructions import ask
from lingraft.translating import paragraphs, stops_for, without_rationale


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
    sources: Iterable[Source],
    instruction: str,
    stop: Sequence[str],
    max_new_tokens: int,
    seed: int = 0,
    temperature: float = 0.0,
) -> Iterator[Request]:
    """Yield the request for each source text, greedy by default; it is answered without any chain of thought.

    Args:
        stop: strings at which translations end. A text whose translation might hold one is asked for without it, and
            `extract` cuts the answer.
    """
    for source in sources:
        sampling = Sampling(max_new_tokens, temperature, stop=stops_for(source.text, stop), seed=seed)
        messages = ask(instruction, source.text, source.source_lang, source.target_lang)
        yield Request(source.id, messages, sampling, direct=True)


def extract(source: Source, generation: Generation, stop: Sequence[str] = ()) -> Translation:
    """Take the translation out of what the model wrote, by one rule for all systems.

    The engine has cut the text at the delimiter, or it is cut here. What went wrong is named in `failure`:

    - "empty": nothing was written.
    - "preamble": the first line announces the translation (ends with a colon and names the target language or the
      word translation) and more lines follow; the text is kept as it is.
    - "extra_text": a source of one paragraph got an answer of several, such as a rationale without its delimiter; the
      first paragraph is taken.
    - "delimiter_in_source": the delimiter came before as many paragraphs as the source has, so that it may belong to
      the translation; what stands before its last place is taken.
    - "unfinished": the token limit was reached within the translation; the text is kept as it is.

    Args:
        stop: strings at which translations end, as for `requests`.
    """
    part, clear = without_rationale(source.text, generation.text, stop)
    whole = len(part) < len(generation.text)  # what was cut off shows that it had ended
    text = part.strip()
    tokens = len(generation.token_ids)
    if not text:
        return Translation(source.id, "", tokens, "empty")
    first_line, _, rest = text.partition("\n")
    named = language_name(source.target_lang).lower() in first_line.lower() or "translat" in first_line.lower()
    announced = named and first_line.rstrip().endswith(":") and not source.text.strip().startswith(first_line[:10])
    if rest.strip() and announced:
        return Translation(source.id, text, tokens, "preamble")
    wanted, found = len(paragraphs(source.text)), paragraphs(text)
    if wanted <= 1 < len(found):
        return Translation(source.id, found[0], tokens, "extra_text")
    if not clear or (generation.finish_reason == "stop_string" and len(found) < wanted):
        return Translation(source.id, text, tokens, "delimiter_in_source")
    cut = generation.finish_reason == "length" and not whole
    return Translation(source.id, text, tokens, "unfinished" if cut else "")


def one_line(text: str) -> str:
    """Return the text with all white space, line breaks included, as single spaces."""
    return " ".join(text.split())
