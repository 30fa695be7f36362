"""The general prompts of a recipe as a run reads them: from one source or several, and what is refused of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lingraft.core.errors import DataError
from lingraft.core.hashing import HashSet
from lingraft.data import reasons
from lingraft.data.readers import PromptSource, read_prompts
from lingraft.data.records import Prompt, Rejected
from lingraft.data.sampling import PromptHalves, question_hash
from lingraft.pipeline.lengths import Room
from lingraft.pipeline.sources import fingerprint, own_id

Sources = Sequence[PromptSource]


def fingerprints(sources: Sources) -> Any:
    """Return what identifies the prompts of a run: that of the one source, else a list; None: there is none."""
    found = [fingerprint(source) | ({"task": source.task} if source.task else {}) for source in sources]
    return found if len(found) > 1 else next(iter(found), None)


def prompts_read(sources: Sources, room: Room | None) -> Iterator[tuple[int, Prompt | Rejected]]:
    """Yield the number of a source and a prompt of it up to the source's limit, or a row before that cannot be asked.

    What an earlier source has asked, too, is rejected, by the words of its user's turns; an id that an earlier source
    has becomes `name/id`. Within one source both are the file's affair.

    Args:
        sources: in the recipe's order.
        room: says which prompts cannot be asked; None: all can.
    """
    asked, taken, several = HashSet(), HashSet(), len(sources) > 1
    for number, source in enumerate(sources):
        questions, count = HashSet(), 0
        for row in read_prompts(source):
            if isinstance(row, Rejected):
                yield number, row
                continue
            prompt = row.record
            if room and (fault := room.fault(prompt)):
                yield number, Rejected(source.path, row.line, *fault)
                continue
            if several:
                question = question_hash(prompt)
                if question in asked:
                    yield number, Rejected(source.path, row.line, reasons.DUPLICATE)
                    continue
                questions.add(question)
                prompt = replace(prompt, id=own_id(prompt.id, source.name, taken))
            yield number, prompt
            count += 1
            if count == source.limit:
                break
        asked.update(questions)


def labels(sources: Sources) -> list[str]:
    """Return what the sources are called in a sentence: by name, those of one name by path."""
    names = [source.name for source in sources]
    return [one.name if names.count(one.name) == 1 else one.path for one in sources]


def refuse_too_few(
    sources: Sources, usable: Sequence[int], held: int, rejected: Mapping[str, Counter[str]], where: str = ""
) -> None:
    """Refuse sources of which nothing can be asked, and prompts of which none could be held out.

    Args:
        sources: as the recipe has them.
        usable: prompts of each.
        held: prompts that are held out.
        rejected: path of a source -> rows by reason.
        where: the rejected rows can be seen; "" where they are not kept.

    Raises:
        DataError: with the reason why most are rejected.
    """
    for source, count in zip(sources, usable, strict=True):
        if not count and len(sources) > 1:
            why = _why(rejected.get(source.path, Counter()), where)
            raise DataError(f"{source.path}: has no prompt that can be asked{why}; mend it, or drop it from `prompts`")
    if sources and not held:
        paths = ", ".join(source.path for source in sources)
        why = _why(sum((rejected.get(source.path, Counter()) for source in sources), Counter[str]()), where)
        end = "give at least ten that can be asked" if why else "give at least ten"
        raise DataError(f"{paths}: too few prompts to hold some out{why}; {end}")


def _why(rejected: Counter[str], where: str) -> str:
    if not rejected:
        return ""
    (reason, count), *_ = rejected.most_common(1)
    seen = f", see {where}" if where else ""
    return f": {rejected.total():,} are rejected, most as {reason} ({count:,}){seen}"


def halves_by_source(
    sources: Sources, prompts: Sequence[Sequence[Prompt]], halves: PromptHalves
) -> dict[str, list[int]]:
    """Return, of several sources, how many prompts of each are in the two halves; of one nothing."""
    if len(sources) < 2:
        return {}
    replayed = {prompt.id for prompt in halves.replay}
    counts = [sum(prompt.id in replayed for prompt in own) for own in prompts]
    return {
        label: [count, len(own) - count] for label, own, count in zip(labels(sources), prompts, counts, strict=True)
    }
