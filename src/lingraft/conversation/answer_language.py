"""In which language a conversation is answered: the user's own, told from what was written last."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.core.errors import UsageError
from lingraft.data.records import Message
from lingraft.language.codes import base_language
from lingraft.language.identification import identifier_label, identify_among
from lingraft.language.measures import in_script_of, letter_count
from lingraft.translation.markers import Markers

_SHARE = 0.3
"""Share of a text's letters from which a script of its own tells the language: questions quote names and code."""


def check_language(lang: str, markers: Markers) -> str:
    """Return the primary code of a language asked for; the empty one (to be found out) stays.

    Raises:
        UsageError: it has no marker.
    """
    code = base_language(lang) if lang else ""
    if code and code != "en" and code not in markers.languages:
        raise UsageError(
            f"the graft does not answer in {lang!r}; it knows English and {', '.join(markers.languages) or 'no other'}"
        )
    return code


def answer_language(messages: Sequence[Message], markers: Markers, lang: str = "") -> str:
    """Return the language in which the last user message is answered: "en" or one of the markers'.

    A message that tells nothing (digits, a smile) is answered in the language of the user's message before it, a first
    one in English.

    Args:
        messages: of the conversation, the first one first; only the user's count.
        markers: of the graft.
        lang: overrides what is found.

    Raises:
        UsageError: the language given has no marker.
    """
    given = check_language(lang, markers)
    if given:
        return given
    users = [message.content for message in messages if message.role == "user"]
    return next((found for text in reversed(users) if (found := text_language(text, markers))), "en")


def text_language(text: str, markers: Markers) -> str:
    """Return the language of a text, "en" or one of the markers'; empty where it holds no letter.

    A language with a script of its own is told by it: by a third of the letters, or by half of those of the first or
    the last line, since questions come with code and quotations. Languages that share a script, English among
    them, are told apart by the identifier, which may choose among these alone.
    """
    if not letter_count(text):
        return ""
    lines = [line for line in text.splitlines() if letter_count(line)]
    latin = [code for code in markers.languages if in_script_of("a", code)]
    own = [
        code
        for code in markers.languages
        if code not in latin
        and (in_script_of(text, code, _SHARE) or any(in_script_of(line, code) for line in (lines[0], lines[-1])))
    ]
    candidates = own or ["en", *latin]
    known = [code for code in candidates if identifier_label(code) is not None]
    if len(candidates) == 1 or not known:
        return candidates[0]
    return identify_among(text, known)
