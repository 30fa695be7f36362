"""A program in another language, asked for in one step and taken out of what the model wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lingraft.core.code_languages import NAMES
from lingraft.core.hashing import content_hash
from lingraft.data.records import Generation, Message, Request, Sampling
from lingraft.language.characters import is_blank
from lingraft.language.code_calls import parameters
from lingraft.language.programs import FENCE, TAGS, code_in, defined_last, defines
from lingraft.language.thinking import said
from lingraft.translation.direct import Source, Translation

DECLARING = (
    "The {target_name} program must declare this, which tests will call:\n\n```{target_lang}\n{declaration}\n```\n\n"
)
ASK = (
    "Translate this {source_name} program into {target_name}.\n\n```{source_lang}\n{source}\n```\n\n"
    + DECLARING
    + "Answer with the whole {target_name} program in one block of code, and with nothing else."
)
"""How a program is asked for; no paper's wording."""
DECLARE = "It must declare:\n```{target_lang}\n{declaration}\n```\n"
"""How it is said in a request to mend a program."""


def entry_point(source: Source) -> str:
    """Return the name of the function that a translated program has to define: the one that is declared, else the last
    one of the program itself; "" where that defines none."""
    return declared(source) or defined_last(source.text, source.source_lang)


def declared(source: Source) -> str:
    """Return the name of the function that is declared, "" if none is."""
    return defined_last(source.declaration, source.target_lang) if source.declaration else ""


def declaration_of(source: Source) -> str:
    """Return what a translated program is to declare, "" for nothing: where nobody has said it, the last function of
    the program by its name and those of its parameters."""
    if source.declaration or not (name := entry_point(source)):
        return source.declaration
    call = f"{name}({', '.join(own for _, own in parameters(source.text, name))})"
    return {
        "python": f"def {call}:",
        "javascript": f"function {call}",
        "cpp": f"// the function {call}",
        "java": f"class Solution {{ // with the method {call}",
    }[source.target_lang]


def filled(wording: str, source: Source, **fields: str) -> str:
    """Return a request about a program; `fields`: what there is beside the program and its languages."""
    declaration = declaration_of(source).strip("\n")
    for demand in () if declaration else (DECLARING, DECLARE):
        wording = wording.replace(demand, "")
    names = {"source_name": NAMES[source.source_lang], "target_name": NAMES[source.target_lang]}
    codes = {"source_lang": source.source_lang, "target_lang": source.target_lang}
    about = {"source": source.text.strip("\n"), "declaration": declaration}
    return wording.format(**names, **codes, **about, **fields)


_ASKED = re.compile(
    r"\s*(?:please\s+)?translate\s+(?:this|the\s+following)\s+(\S{1,16})\s+(?:program|code|function)\s+(?:in)?to\s+"
    r"(\S{1,16}?)[.:][ \t]*\n",
    re.IGNORECASE,
)
_LANGUAGES = {word: code for code in NAMES for word in (*TAGS[code], NAMES[code].lower())}


def asked_in(text: str) -> Source | None:
    """Return what a text asks to translate, where it is worded as `requests` words it; None where it is not.

    The program stands in the first block of code, what is to be declared in a second one that follows the sentence
    about it; without any block all behind the first line is the program.

    Args:
        text: of a user's turn.
    """
    begun = _ASKED.match(text)
    if begun is None:
        return None
    source, target = (_LANGUAGES.get(name.lower()) for name in begun.groups())
    if source is None or target is None or source == target:
        return None
    rest, declaration = text[begun.end() :], ""
    if blocks := list(FENCE.finditer(rest)):
        between = rest[blocks[0].end() : blocks[1].start()] if len(blocks) > 1 else ""
        if "must declare this" in between:
            declaration = blocks[1][3].strip("\n")
        program = blocks[0][3].strip("\n")
    else:
        program = rest.strip("\n")
    if is_blank(program):
        return None
    return Source(content_hash([program, declaration, source, target])[:16], program, source, target, declaration)


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
    name = entry_point(source)
    if name and not defines(code, name, source.target_lang):
        failure = "no_code"
    return Translation(source.id, code.strip("\n"), tokens, failure, found.thought)
