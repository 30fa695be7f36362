"""A program in another language, asked for in one step and taken out of what the model wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lingraft.core.code_languages import NAMES
from lingraft.data.records import Generation, Message, Request, Sampling
from lingraft.language.characters import is_blank
from lingraft.language.programs import code_in, defined_last, defines
from lingraft.language.thinking import said
from lingraft.translation.direct import Source, Translation

ASK = (
    "Translate this {source_name} program into {target_name}.\n\n```{source_lang}\n{source}\n```\n\n"
    "The {target_name} program must declare this, which tests will call:\n\n```{target_lang}\n{declaration}\n```\n\n"
    "Answer with the whole {target_name} program in one block of code, and with nothing else."
)
"""How a program is asked for; no paper's wording."""


def entry_point(source: Source) -> str:
    """Return the name of the function that a translated program has to define."""
    return defined_last(source.declaration, source.target_lang)


def filled(wording: str, source: Source, **fields: str) -> str:
    """Return a request about a program; `fields`: what there is beside the program and its languages."""
    names = {"source_name": NAMES[source.source_lang], "target_name": NAMES[source.target_lang]}
    codes = {"source_lang": source.source_lang, "target_lang": source.target_lang}
    about = {"source": source.text.strip("\n"), "declaration": source.declaration.strip("\n")}
    return wording.format(**names, **codes, **about, **fields)


def requests(sources: Iterable[Source], sampling: Sampling) -> Iterator[Request]:
    """Yield the request for each program; it is answered without any chain of thought, and ends where it ends."""
    for source in sources:
        yield Request(source.id, (Message("user", filled(ASK, source)),), sampling, direct=True)


def extract(source: Source, generation: Generation) -> Translation:
    """Take the program out of what the model wrote, see `code_in`. What went wrong is named in `failure`:

    - "thinking", "empty", "unfinished": as of translations, see `lingraft.translation.direct.extract`.
    - "no_code": what was asked for is not defined; the text is kept as it is.
    """
    found = said(generation.text, source.text)
    tokens = len(generation.token_ids)
    if is_blank(found.text):
        return Translation(source.id, "", tokens, "thinking" if found.thought else "empty", found.thought)
    code = code_in(found.text, source.target_lang)
    failure = "unfinished" if generation.finish_reason == "length" else ""
    if not defines(code, entry_point(source), source.target_lang):
        failure = "no_code"
    return Translation(source.id, code.strip("\n"), tokens, failure, found.thought)
