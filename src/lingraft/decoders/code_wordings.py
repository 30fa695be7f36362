"""What the decoder `code` asks, and how values and blocks are shown in it; no paper's wording."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from lingraft.language.code_blocks import Block
from lingraft.language.code_calls import FAILED, Calls
from lingraft.translation.code import DECLARE, filled
from lingraft.translation.direct import Source

INPUTS = (
    "Here is a {source_name} program:\n\n```{source_lang}\n{source}\n```\n\nWrite {count} different calls of the "
    "function {name} to test it with, usual ones and special ones. Write the arguments of each call as one JSON list "
    "on a line of its own, and nothing else."
)
SYNTAX = (
    "This {target_name} program was translated from {source_name} and does not compile.\n\n{source_name}:\n"
    "```{source_lang}\n{source}\n```\n\n{target_name}:\n```{target_lang}\n{code}\n```\n\nThe compiler says:\n{said}\n\n"
    "Mend it. " + DECLARE + "Answer with the whole {target_name} program in one block of code, and with nothing else."
)
MISSING = (
    "This {target_name} program was translated from {source_name}, and what will be called is not in it: it does not "
    "define {lacking}.\n\n{source_name}:\n```{source_lang}\n{source}\n```\n\n{target_name}:\n```{target_lang}\n"
    "{code}\n```\n\nIt must declare, by exactly this name:\n```{target_lang}\n{declaration}\n```\n"
    "Answer with the whole {target_name} program in one block of code, and with nothing else."
)
ALIGN = (
    "A {source_name} function and its translation into {target_name}, cut into numbered blocks.\n\n{source_name}:\n"
    "{ours}\n\n{target_name}:\n{theirs}\n\nWhich blocks do the same? Write one line for each block of {source_name}: "
    "its number, a colon, and the number of the {target_name} block, such as 0: 0, and nothing else."
)
SEMANTIC = (
    "This {target_name} program was translated from {source_name} and does something else.\n\n{source_name}:\n"
    "```{source_lang}\n{source}\n```\n\n{target_name}:\n```{target_lang}\n{code}\n```\n\nCalled with {call} it gives "
    "{got}; right is {wanted}.{where}\n\nMend it. Answer with the whole {target_name} program in one block of code, "
    "and with nothing else."
)
WHERE = (
    "\n\nThe first place where they differ is behind this block of {target_name}:\n```{target_lang}\n{theirs}\n```\n"
    "which stands for this block of {source_name}:\n```{source_lang}\n{ours}\n```\nThere the variables are {have}; "
    "right is {need}."
)
MOST_VALUE = 300


def numbered(blocks: Iterable[Block]) -> str:
    """Return blocks with their numbers, to be shown."""
    return "\n".join(f"[{number}]\n{block.text}" for number, block in enumerate(blocks))


def where(source: Source, ours: Calls, theirs: Calls, one: int, other: int, have: Any, need: Any) -> str:
    """Return what is said of the first block that differs."""
    return filled(
        WHERE,
        source,
        ours=ours.blocks[one].text,
        theirs=theirs.blocks[other].text,
        have=shown(have) if have else "not there, for it is not reached",
        need=shown(need),
    )


def shown(value: Any) -> str:
    """Return a value as it is shown, cut where it is long."""
    text = value if value is FAILED else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_VALUE else f"{text[:MOST_VALUE]}…"
