"""What a classifier learns from: a run's pairs as requests for translations, its replayed prompts, shipped contrasts.

Contrasts are what pairs and prompts of a run do not hold: requests in other words and languages, other tasks about the
same texts, questions about translation, and conversations of several turns. They were written for this purpose; the
requests by which routing is measured (`starter:routing.jsonl`) are none of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from lingraft.core.hashing import stable_fraction
from lingraft.data.records import Message, Pair, Prompt, Request, Sampling
from lingraft.data.sampling import draw
from lingraft.language.codes import language_name, same_language
from lingraft.routing.base import Lessons
from lingraft.translation.wording import VARIANTS, ask_for

FILE = "lessons.json"


@cache
def contrasts() -> dict[str, Any]:
    """Return the shipped wordings: `translations`, `about_texts` with the fields of a pair, and `others`."""
    found: dict[str, Any] = json.loads(files("lingraft.routing").joinpath(FILE).read_text("utf-8"))
    return found


def examples(
    given: Lessons, wordings: Sequence[str], limit: int, *, contrast: bool = True
) -> tuple[list[Request], list[Request]]:
    """Return requests for translations and others, the same for the same rows and seed; ids are unique within each.

    Args:
        given: pairs and prompts.
        wordings: in which the run asks for translations; the package's variants are taken as well.
        limit: pairs that are used at most, and prompts of each kind.
        contrast: whether the shipped contrasts are used as well: then every second pair is asked for in their words.
    """
    by_id = {pair.id: pair for pair in given.pairs}
    pairs = [by_id[id_] for id_ in draw(by_id, limit, given.seed)]
    prompts, instructed = (_drawn(part, limit, given.seed) for part in (given.general, given.instructed))
    own = list(dict.fromkeys((*wordings, *VARIANTS)))
    translations = []
    for number, pair in enumerate(pairs):
        other = contrast and number % 2
        asked = _asked_otherwise(pair, number // 2) if other else ask_for(pair, own, given.seed)
        translations.append(_request(f"pair/{pair.id}", asked))
    translations += [_request(f"instructed/{prompt.id}", prompt.messages) for prompt in instructed]
    others = [_request(f"prompt/{prompt.id}", prompt.messages) for prompt in prompts]
    if contrast:
        translations += _later_translations(pairs, prompts, own, given.seed)
        others += _other_tasks(pairs, prompts, own, given.seed)
    return translations, others


def _drawn(prompts: Sequence[Prompt], limit: int, seed: int) -> list[Prompt]:
    by_id = {prompt.id: prompt for prompt in prompts}
    return [by_id[id_] for id_ in draw(by_id, limit, seed)]


def _request(id_: str, messages: Sequence[Message]) -> Request:
    return Request(id_, tuple(messages), Sampling())


def _filled(wording: str, pair: Pair) -> str:
    return wording.format(
        source=pair.source,
        target=pair.target,
        source_name=language_name(pair.source_lang),
        target_name=language_name(pair.target_lang),
    )


def _asked_otherwise(pair: Pair, number: int) -> tuple[Message, ...]:
    """Return a pair's request in one of the shipped wordings; one for another language than the pair's sides have is
    about the side that is not of that language."""
    shipped = contrasts()["translations"]
    one = shipped[number % len(shipped)]
    to = one.get("to")
    given = pair.reversed() if to and same_language(pair.source_lang, to) else pair
    return (Message("user", _filled(one["wording"], given)),)


def _later_translations(
    pairs: Sequence[Pair], prompts: Sequence[Prompt], wordings: Sequence[str], seed: int
) -> Iterator[Request]:
    """Yield requests for a translation after another question, or after another translation."""
    for number, (pair, before) in enumerate(zip(pairs[::8], pairs[1::8], strict=False)):
        if number % 2 and prompts:
            first = [*prompts[number % len(prompts)].messages, Message("assistant", "I see. What else can I do?")]
        else:
            first = [*ask_for(before, wordings, seed), Message("assistant", before.target)]
        yield _request(f"later/{pair.id}", [*first, *_asked_otherwise(pair, number)])


def _other_tasks(
    pairs: Sequence[Pair], prompts: Sequence[Prompt], wordings: Sequence[str], seed: int
) -> Iterator[Request]:
    """Yield what is no request for a translation and looks like one, and questions after translations."""
    known = contrasts()
    for number, text in enumerate(known["others"]):
        yield _request(f"other/{number}", [Message("user", text)])
    tasks = known["about_texts"]
    for number, pair in enumerate(pairs[1::2]):
        given = pair if stable_fraction("side", seed, pair.id) < 0.7 else pair.reversed()
        yield _request(f"task/{pair.id}", [Message("user", _filled(tasks[number % len(tasks)], given))])
    for number, (pair, prompt) in enumerate(zip(pairs[::4], prompts, strict=False)):
        asked = _asked_otherwise(pair, number) if number % 2 else ask_for(pair, wordings, seed)
        yield _request(f"after/{pair.id}", [*asked, Message("assistant", pair.target), prompt.messages[-1]])
