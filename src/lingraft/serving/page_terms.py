"""The terms that a user of the page writes: `term = translation`, one a line."""

from __future__ import annotations

from lingraft.data.glossary import MAX_TERM, Glossary, Term
from lingraft.language.characters import is_blank
from lingraft.serving.request import ApiError

MOST_TERMS = 1000


def read_terms(text: str) -> Glossary:
    """Return the glossary that lines of `term = translation` are; without a translation behind it a term stays.

    Raises:
        ApiError: a line is none; names it.
    """
    found: dict[str, tuple[Term, int]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if is_blank(line):
            continue
        source, is_term, target = (" ".join(part.split()) for part in line.partition("="))
        if not (source and is_term):
            raise _not_a_term(number, "write `term = translation`, or `term =` to keep it as it is")
        if max(len(source), len(target)) > MAX_TERM:
            raise _not_a_term(number, f"it has more than {MAX_TERM} characters; give terms, not texts")
        term = Term(source, target or source)
        other, first = found.setdefault(source.casefold(), (term, number))
        if other.target != term.target:
            raise _not_a_term(number, f"line {first} translates the term otherwise; leave one of them out")
        if len(found) > MOST_TERMS:
            raise _not_a_term(number, f"here are at most {MOST_TERMS:,} terms; start the server with --glossary FILE")
    return Glossary(tuple(term for term, _ in found.values()))


def _not_a_term(line: int, remedy: str) -> ApiError:
    return ApiError(400, f"glossary, line {line}: {remedy}", param="terms")
