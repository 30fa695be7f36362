"""Direct translation: ask once, stop at the delimiter, and say when no translation could be extracted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lingraft.core.record import Record
from lingraft.data.records import Generation, Request, Sampling
from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language, language_name
from lingraft.language.thinking import said
from lingraft.translation.by_sentence import paragraphs, stops_for, without_rationale
from lingraft.translation.wording import TranslationSystem, ask


@dataclass(frozen=True)
class Source(Record):
    """A text to translate; `declaration`: of a program, what its translation is to declare."""

    id: str
    text: str
    source_lang: str
    target_lang: str
    declaration: str = ""


@dataclass(frozen=True)
class Translation(Record):
    """An extracted translation. `failure` says why extraction failed, else it is empty; `tokens` were generated, those
    of thoughts included; `thought`: whether there were thoughts before it. Of a decoder of several steps: the `calls`
    that it took, `candidates` that it chose from, what each of its `steps` wrote, by its name, and its `outcome`, whose
    words are counted for the report."""

    id: str
    text: str
    tokens: int
    failure: str = ""
    thought: bool = False
    calls: int = 1
    candidates: tuple[str, ...] = ()
    steps: Mapping[str, str] = field(default_factory=dict, hash=False)
    outcome: str = ""


def requests(sources: Iterable[Source], how: TranslationSystem, sampling: Sampling) -> Iterator[Request]:
    """Yield the request for each source text; it is answered without any chain of thought.

    Args:
        sources: texts with their directions.
        how: the system is asked. A text whose translation might hold one of its stop strings is asked for without it,
            and `extract` cuts the answer.
        sampling: of the answers; its stop strings are those of `how`.
    """
    for source in sources:
        messages = ask(how.instruction, source.text, source.source_lang, source.target_lang)
        own = replace(sampling, stop=stops_for(source.text, how.stop))
        yield Request(source.id, messages, own, direct=True)


def extract(source: Source, generation: Generation, stop: Sequence[str] = ()) -> Translation:
    """Take the translation out of what the model wrote, by one rule for all systems.

    The engine has cut the text at the delimiter, or it is cut here. A block of thoughts before the translation is none
    of it. What went wrong is named in `failure`:

    - "thinking": the model wrote thoughts alone: they had no end, or nothing came behind them.
    - "empty": nothing was written.
    - "preamble": the first line announces the translation (ends with a colon and names the target language or the
      word translation) and more lines follow; the text is kept as it is.
    - "extra_text": a source of one paragraph got an answer of several, such as a rationale without its delimiter; the
      first paragraph is taken.
    - "delimiter_in_source": the delimiter came before as many paragraphs as the source has, so that it may belong to
      the translation; what stands before its last place is taken.
    - "unfinished": the token limit was reached within the translation; the text is kept as it is.

    Args:
        source: what was to be translated.
        generation: the answer to its request.
        stop: strings at which translations end, as for `requests`.
    """
    found = said(generation.text, source.text)
    translation = _extracted(source, generation, found.text, stop)
    if found.thought and not translation.text:
        return replace(translation, failure="thinking", thought=True)
    return replace(translation, thought=found.thought)


def _extracted(source: Source, generation: Generation, said_text: str, stop: Sequence[str]) -> Translation:
    part, clear = without_rationale(source.text, said_text, stop)
    whole = len(part) < len(said_text)  # what was cut off shows that it had ended
    text = part.strip()
    tokens = len(generation.token_ids)
    if is_blank(text):
        return Translation(source.id, "", tokens, "empty")
    first_line, _, rest = text.partition("\n")
    said = first_line.casefold()
    named = language_name(base_language(source.target_lang)).casefold() in said or "translat" in said
    announced = named and first_line.rstrip().endswith(":") and not source.text.strip().startswith(first_line[:10])
    if not is_blank(rest) and announced:
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
