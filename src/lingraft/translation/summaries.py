"""A summary in another language, asked for in one step and taken out of what the model wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from lingraft.data.records import Generation, Request, Sampling
from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language, language_name
from lingraft.language.thinking import said
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import ask


def requests(
    sources: Iterable[Source], wording: str, sampling: Sampling, stop: Sequence[str] = ()
) -> Iterator[Request]:
    """Yield the request for the summary of each document; it is answered without any chain of thought.

    Args:
        sources: documents with the language of their summaries.
        wording: how a summary is asked for, see `check_wording`.
        sampling: of the answers; its stop strings are replaced.
        stop: strings at which what the system writes ends, such as the delimiter of a graft that was taught to explain
            its translations; those that the document itself has are left to it.
    """
    for source in sources:
        own = replace(sampling, stop=_stops(source, stop))
        yield Request(source.id, ask(wording, source.text, source.source_lang, source.target_lang), own, direct=True)


def extract(source: Source, generation: Generation, stop: Sequence[str] = ()) -> Translation:
    """Take the summary out of what the model wrote, by one rule for all systems.

    Unlike a translation it has no more or fewer paragraphs than it should, so that all of them are kept. What went
    wrong is named in `failure`:

    - "thinking", "empty", "unfinished": as of translations, see `lingraft.translation.direct.extract`.
    - "preamble": the first line announces the summary (ends with a colon and names the target language or the word
      summary) and more follows; it is taken off, since it is not in the summary's own words.

    Args:
        source: the document.
        generation: the answer to its request.
        stop: as for `requests`.
    """
    found = said(generation.text, source.text)
    ends = [place for one in _stops(source, stop) if (place := found.text.find(one)) >= 0]
    text = (found.text[: min(ends)] if ends else found.text).strip()
    tokens = len(generation.token_ids)
    if is_blank(text):
        return Translation(source.id, "", tokens, "thinking" if found.thought else "empty", found.thought)
    first_line, _, rest = text.partition("\n")
    opening = first_line.casefold().strip(" *#_")
    named = language_name(base_language(source.target_lang)).casefold() in opening or "summar" in opening
    if named and opening.endswith(":") and not is_blank(rest):
        return Translation(source.id, rest.strip(), tokens, "preamble", found.thought)
    cut = generation.finish_reason == "length" and not ends
    return Translation(source.id, text, tokens, "unfinished" if cut else "", found.thought)


def _stops(source: Source, stop: Sequence[str]) -> tuple[str, ...]:
    return tuple(one for one in stop if (one.strip() or one) not in source.text)
