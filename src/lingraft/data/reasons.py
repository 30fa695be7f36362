"""Why a row is not used: short machine-readable names, each with what it means for the user."""

from __future__ import annotations

NOT_UTF8 = "not_utf8"
MALFORMED = "malformed"
MISSING_FIELD = "missing_field"
LINE_TOO_LONG = "line_too_long"
LANGUAGE_MISMATCH = "language_mismatch"
AMBIGUOUS_LANGUAGE = "ambiguous_language"
EMPTY_PROMPT = "empty_prompt"
EMPTY_TEXT = "empty_text"
EMPTY_SOURCE = "empty_source"
EMPTY_TARGET = "empty_target"
CONTROL_CHARACTERS = "control_characters"
IDENTICAL_SIDES = "identical_sides"
LENGTH_RATIO = "length_ratio"
TOO_LONG = "too_long"
TOO_SHORT = "too_short"
NOT_RENDERED = "not_rendered"
DUPLICATE = "duplicate"
WRONG_LANGUAGE = "wrong_language"
WRONG_LANGUAGE_SOURCE = "wrong_language_source"
WRONG_LANGUAGE_TARGET = "wrong_language_target"
OVERLAP_WITH_TEST = "overlap_with_test"

REASONS: dict[str, str] = {
    NOT_UTF8: "the line is not UTF-8",
    MALFORMED: "the row cannot be parsed, or a side is not a text",
    MISSING_FIELD: "a field that the first row has is missing",
    LINE_TOO_LONG: "the line has more than 1,000,000 characters",
    LANGUAGE_MISMATCH: "the row names other languages than the declared pair",
    AMBIGUOUS_LANGUAGE: "several fields of the row are equally near to a declared language",
    EMPTY_PROMPT: "the prompt has no text",
    EMPTY_TEXT: "the document has no text",
    EMPTY_SOURCE: "the source has no text",
    EMPTY_TARGET: "the target has no text",
    CONTROL_CHARACTERS: "control characters, U+FFFD or half a surrogate pair: usually a wrong encoding",
    IDENTICAL_SIDES: "source and target are the same text",
    LENGTH_RATIO: "one side is far longer than the other",
    TOO_LONG: "a side has too many tokens, or the prompt leaves no room for an answer in the model's context",
    NOT_RENDERED: "the model's chat template does not take the prompt",
    TOO_SHORT: "little is left of the document, lines that occurred before and lines of a test set left out",
    DUPLICATE: "the same source and target, the same document, or in an earlier file the same prompt, occurred before",
    WRONG_LANGUAGE: "the document is in another language",
    WRONG_LANGUAGE_SOURCE: "the source is in another language",
    WRONG_LANGUAGE_TARGET: "the target is in another language",
    OVERLAP_WITH_TEST: "the pair, or one long side of it, is in a test set",
}
