"""How a translation is asked for. One place, so that synthesis, training, decoding and evaluation ask alike.

The paper's wording is not known; these are plain instructions that name both languages in English, as ALMA does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

from lingraft.core.errors import UsageError
from lingraft.core.hashing import stable_fraction
from lingraft.data.records import Message, Pair
from lingraft.language.codes import language_name

DEFAULT = "Translate the following text from {source_name} into {target_name}.\n\n{source}"

VARIANTS = (
    DEFAULT,
    "Please translate this {source_name} text into {target_name}:\n\n{source}",
    "What is the {target_name} translation of the following {source_name} text?\n\n{source}",
    "{source}\n\nTranslate the text above from {source_name} to {target_name}.",
    "Give the {target_name} translation of this text.\n\n{source_name}: {source}",
)
"""Wordings for training with varied instructions; the first is always the one used to translate."""

SUMMARY = (
    "Summarise the following {source_name} text in {target_name}. Write two to four sentences, in {target_name} only."
    "\n\n{source}"
)
"""How a summary in another language is asked for in one step; no paper's wording."""
SUMMARY_VARIANTS = (
    SUMMARY,
    "Summarise the following {source_name} text in {target_name}.\n\n{source}",
    "Summarize the following {source_name} text in {target_name}.\n\n{source}",
    "{source}\n\nSummarise the {source_name} text above in {target_name}.",
    "{source}\n\nSummarize the {source_name} text above in {target_name}.",
)
"""Wordings by which a request for a summary is told."""

MAX_WORDING = 20_000
MAX_FIELDS = 16
FIELDS = ("source", "source_name", "target_name")


@dataclass(frozen=True)
class TranslationSystem:
    """How one system is asked for a translation, whoever asks.

    Attributes:
        instruction: wording of the request, see `check_wording`.
        stop: strings at which the translation ends.
    """

    instruction: str = DEFAULT
    stop: tuple[str, ...] = ()


def check_wording(wording: str) -> str:
    """Return the wording if it can be filled in.

    Raises:
        UsageError: it lacks {source}, or has a field other than source, source_name, target_name, or very many.
    """
    if len(wording) > MAX_WORDING:
        raise UsageError(f"instruction: it has more than {MAX_WORDING:,} characters; shorten it")
    try:
        fields = [field for field in Formatter().parse(wording) if field[1] is not None]
    except ValueError as error:
        raise UsageError(f"instruction {wording!r}: {error}; write {{{{ and }}}} for braces in the text") from error
    if len(fields) > MAX_FIELDS:  # each holds the text anew
        raise UsageError(f"instruction {wording[:80]!r}: it has more than {MAX_FIELDS} fields; name each once")
    for _, name, form, conversion in fields:
        if name not in FIELDS or form or conversion:  # formats and attributes could cut or blow up the text
            whole = f"{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}"
            raise UsageError(
                f"instruction {wording!r}: unknown field {whole!r}; use {{source}}, {{source_name}} and {{target_name}}"
            )
    if "source" not in {name for _, name, _, _ in fields}:
        raise UsageError(f"instruction {wording!r} has no {{source}}: the text to translate would be missing")
    return wording


def with_fields(text: str, names: Sequence[str]) -> str:
    """Return a text if it has these fields, each once, and no other.

    Raises:
        ValueError: it has not; or it has more than `MAX_WORDING` characters.
    """
    if len(text) > MAX_WORDING:
        raise ValueError(f"it has more than {MAX_WORDING:,} characters; shorten it")
    try:
        fields = [field for field in Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"{error}; write {{{{ and }}}} for braces in the text") from error
    # Formats and attributes could cut or blow up what is put in.
    if sorted(str(name) for _, name, _, _ in fields) != sorted(names) or any(form or way for *_, form, way in fields):
        wanted = " and ".join(f"{{{name}}}" for name in names)
        raise ValueError(f"it needs {wanted}, each once, and no other field")
    return text


def ask(wording: str, source: str, source_lang: str, target_lang: str) -> tuple[Message, ...]:
    """Return the conversation that asks for one translation.

    Args:
        wording: with the fields `{source}`, `{source_name}` and `{target_name}`, see `check_wording`.
        source: text to translate.
        source_lang: its language code.
        target_lang: language code of the translation.
    """
    text = wording.format(source=source, source_name=language_name(source_lang), target_name=language_name(target_lang))
    return (Message("user", text),)


def ask_for(pair: Pair, wordings: Sequence[str], seed: int = 0) -> tuple[Message, ...]:
    """Return the conversation that asks for a pair's translation, the wording drawn by the pair's id."""
    index = int(stable_fraction("wording", seed, pair.id) * len(wordings)) if len(wordings) > 1 else 0
    return ask(wordings[index], pair.source, pair.source_lang, pair.target_lang)
