"""Asking a model and keeping what it said: answers are artefacts, asked once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.core.hashing import content_hash, list_hash
from lingraft.core.progress import Task
from lingraft.data.records import Generation, Message, Request
from lingraft.engines.base import Engine
from lingraft.engines.resumable import generate
from lingraft.language.thinking import said, thinks
from lingraft.pipeline.context import Context
from lingraft.pipeline.earlier_answers import TakenOver, note_asked
from lingraft.pipeline.lengths import Window, engine_tokens
from lingraft.recipe.choices import EngineChoice
from lingraft.rendering.renderer import Renderer
from lingraft.store.artefacts import facts
from lingraft.store.files import line_writer
from lingraft.store.parts import PartStore
from lingraft.store.record_files import RecordsById
from lingraft.store.spent import Spent

KNOWN = "known.jsonl"
"""Answers taken over, beside the parts."""


@dataclass(frozen=True)
class Through:
    """Something put around an engine, and what of it decides the answers."""

    wrap: Callable[[Engine], Engine]
    identity: Any


def asks(renderer: Renderer) -> str:
    """Return a hash of how a question, an answer that is continued and a plain text are put to a model: an update that
    renders them otherwise does not take over what was answered before, and any other one does."""
    question, begun = (Message("user", "What is <b>2 + 2</b>?\n\nล่ะ"),), "It's 4,\n\n- or"
    shown = [renderer.prompt_ids(question), renderer.prompt_ids(question, begun), renderer.prompt_ids((), begun)]
    return content_hash([list(prompt.ids) for prompt in shown])[:16]


def answer(
    context: Context,
    stage: str,
    requests: Iterable[Request],
    *,
    graft: Path | None = None,
    graft_hash: str = "",
    choice: EngineChoice | None = None,
    through: Through | None = None,
    renderer: Renderer | None = None,
) -> Path:
    """Return the artefact with the answers of base or graft to the requests, generating what is missing.

    What earlier artefacts of the run folder have answered is taken over. The requests are iterated several times and
    never held.

    Args:
        context: of the run.
        stage: name of the artefact.
        requests: what is asked.
        graft: folder of the graft that answers; None for the base.
        graft_hash: what the graft depends on; "" for the base.
        choice: the engine; the recipe's own if None.
        through: is put around the engine.
        renderer: of the model that answers. With it, an answer may have as many tokens as the context leaves, if these
            are fewer than asked for; a request that leaves none gets an empty answer, cut ("length"). Without it, the
            engine refuses such requests.
    """
    identity = {"model": context.files.sha256, "graft": graft_hash, **context.engine_identity(choice)}
    identity |= {**context.renderer.identity, "asks": asks(context.renderer)}
    if through:
        identity |= {"through": through.identity}
    if renderer is not None:
        window, given = Window(renderer, engine_tokens(choice or context.recipe.engine, context.longest)), requests
        requests = _Asked(lambda: map(window.fitted, given))
    digest, count = list_hash(request.to_dict() for request in requests)
    inputs = {"identity": identity, "requests": digest}

    def build(folder: Path) -> dict[str, Any]:
        parts, earlier = folder / "parts", TakenOver(context.answered, identity, requests, read_answers)
        answerable = _Asked(lambda: (one for one in earlier.missing() if one.sampling.max_new_tokens))
        known = tokens_known = 0
        taken: Counter[Path] = Counter()
        with line_writer(parts / KNOWN) as write:
            for generation, place in earlier.answers_and_places():
                write(generation.to_json())
                known, tokens_known = known + 1, tokens_known + len(generation.token_ids)
                taken[place] += len(generation.token_ids)
            for request in earlier.missing() if renderer is not None else ():
                if not request.sampling.max_new_tokens:
                    write(Generation(request.id, "", (), "length").to_json())
                    known += 1
        note_asked(folder, requests)
        taken_over = (
            {"taken_over": known, "taken_tokens": tokens_known, "taken_seconds": _seconds(taken)} if known else {}
        )
        if known == count:
            PartStore(parts).known([])
            return {"requests": count, "tokens": 0, **taken_over}
        spent = Spent(folder)
        engine = context.engine(choice)
        if through:
            engine = through.wrap(engine)
        missing = requests if not known else answerable
        with context.reporter.task(stage, count - known) as task:
            kept, shown = partial(keep, spent, engine), _shown(task, engine)
            generate(engine, missing, parts, identity=identity, graft=graft, progress=shown, kept=kept)
        tokens, tagged, given_answers = 0, set[str](), read_answers(folder)
        for generation in given_answers.records():
            tokens += len(generation.token_ids)
            if thinks(generation.text):  # of itself: what is quoted from the request is seen to below
                tagged.add(generation.id)
        asked = (request for request in requests if request.id in tagged) if tagged else ()
        thoughts = sum(said(given_answers[request.id].text, request.given).thought for request in asked)
        if thoughts:
            context.reporter.say(_thinking(stage, thoughts, count), always=True)
        spent.add(engine.usage())
        return {
            "seconds": round(spent.seconds, 2),
            "requests": count,
            "tokens": tokens - tokens_known,
            "engine": engine.name,
            **taken_over,
            **({"thoughts": thoughts} if thoughts else {}),
            **({"usage": spent.usage} if spent.usage else {}),
        }

    return context.artefact(stage, inputs, build)


def keep(spent: Spent, engine: Engine) -> None:
    """Note what an engine has cost so far, once a part of its answers is kept."""
    spent.add(engine.usage())
    spent.keep()


def work_of(folder: Path) -> tuple[float, int]:
    """Return the seconds and the tokens of all answers of an artefact, of those as well that were taken over."""
    made = facts(folder)
    seconds = float(made["seconds"]) + float(made.get("taken_seconds", 0.0))
    return seconds, int(made.get("tokens") or 0) + int(made.get("taken_tokens", 0))


def _seconds(taken: Mapping[Path, int]) -> float:
    """Return about how long answers took that were taken over: of each artefact's time their share of its tokens."""
    found = 0.0
    for folder, tokens in taken.items():
        seconds, whole = work_of(folder)
        found += seconds * tokens / whole if whole else 0.0
    return round(found, 2)


def _thinking(stage: str, thoughts: int, count: int) -> str:
    return (
        f"Warning: {stage}: {thoughts:,} of {count:,} answers hold thoughts, which count as no translation, "
        f"rationale or answer; switch thinking off by a variable of the chat template (`template:` of the recipe), "
        f"or as a server has it (`engine.extra_body`)"
    )


def _shown(task: Task, engine: Engine) -> Callable[[int, int], None]:
    """Return what tells the task of answers given; its rate counts those under way, too."""
    given = 0

    def progress(done: int, tokens: int) -> None:
        nonlocal given
        given = tokens
        task.update(done)

    def rate() -> str:
        written = given + engine.under_way
        return f"{written / max(task.elapsed, 1e-9):,.0f} tokens/s" if written else ""

    task.describe(rate)
    return progress


def read_answers(folder: Path) -> RecordsById[Generation]:
    """Return the generations of an artefact by request id; they are read when asked for."""
    parts = folder / "parts"
    return RecordsById([*sorted(parts.glob("part-*.jsonl")), *parts.glob(KNOWN)], Generation)


@dataclass(frozen=True)
class _Asked(Iterable[Request]):
    """What a method asks, made anew in each pass."""

    ask: Callable[[], Iterator[Request]]

    def __iter__(self) -> Iterator[Request]:
        return self.ask()
