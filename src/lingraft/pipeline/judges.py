"""Stages `judge-<suite>-<system>`: the verdicts of judges on answers, and what a verdict must have room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.hashing import list_hash
from lingraft.data.records import Generation, Request
from lingraft.engines.base import ENGINES, EngineModel
from lingraft.engines.resumable import generate
from lingraft.models.files import ModelFiles, find_model, local_folder, longest_sequence
from lingraft.models.loading import load_renderer
from lingraft.pipeline.answers import KNOWN, keep, read_answers
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.earlier_answers import TakenOver, note_asked
from lingraft.pipeline.lengths import Window
from lingraft.pipeline.suites import OpenSuite, merge_rounds, rounds
from lingraft.rendering.renderer import Renderer
from lingraft.store.files import line_writer
from lingraft.store.parts import PartStore
from lingraft.store.spent import Spent
from lingraft.suites.base import Answers, WithoutThoughts

STAND_INS = "\ue000", "\ue001"
"""Characters for private use, in place of an answer of the base and of a system that are not known yet."""


@dataclass(frozen=True)
class Judge:
    """The engine that gives a suite's verdicts.

    Attributes:
        kind: class of the engine.
        params: its own.
        named: the model it answers with; None: the base, or a server's.
    """

    kind: Any
    params: Any
    named: str | None

    @classmethod
    def of(cls, choice: Mapping[str, Any]) -> Judge:
        """Return what a suite's `judge` names."""
        kind = ENGINES.get(str(choice["kind"]))
        own = {key: value for key, value in choice.items() if key != "kind"}
        named = None if "model" in kind.Params.model_fields else own.pop("model", None)
        return cls(*ENGINES.read({"kind": kind.name, **own}), named)

    @property
    def served(self) -> bool:
        """Whether a server answers, with a model and a template of its own."""
        return "model" in self.kind.Params.model_fields

    def window(self, base: Renderer, longest: int | None) -> Window | None:
        """Return what it can hold; None where that is not known: of a server, or of a model that is not here yet.

        Args:
            base: renderer of the base.
            longest: sequence of the base, in tokens.
        """
        if self.served:
            return None
        if self.named is None:
            return Window(base, self.kind.longest(self.params, longest))
        folder = local_folder(self.named)
        if folder is None:
            return None
        renderer = load_renderer(ModelFiles(self.named, folder, ""))
        return Window(renderer, self.kind.longest(self.params, longest_sequence(folder)))


def verdicts_wanted(suite: OpenSuite) -> Iterator[tuple[Request, int]]:
    """Yield what a suite's judge would be asked about a system, each with the tokens that the answers it is shown may
    have at most beyond their stand-ins."""
    (base, _), (system, limit) = (_answered(suite, text) for text in STAND_INS)
    for request in suite.verdict_requests(Answers(base), Answers(system)):
        shown = sum(message.content.count(text) for message in request.messages for text in STAND_INS)
        yield request, shown * limit


def _answered(suite: OpenSuite, text: str) -> tuple[dict[str, Generation], int]:
    """Return answers to all questions of a suite, and the most tokens that one may have."""
    asked, given, limit = suite.requests(), dict[str, Generation](), 0
    for _ in rounds([suite]):
        if not asked:
            break
        given |= {request.id: Generation(request.id, text, (), "stop") for request in asked}
        limit = max(limit, *(request.sampling.max_new_tokens for request in asked))
        asked = suite.follow_ups(Answers(given))
    return given, limit


def judge(context: Context, suites: Sequence[OpenSuite], base: SystemAnswers, decoded: SystemAnswers) -> SystemAnswers:
    """Let the judges of the suites that have one give their verdicts on a system's answers.

    Args:
        context: of the run.
        suites: of the run.
        base: what the base has answered, with which answers are compared.
        decoded: what the system has answered.

    Raises:
        ModelError, UsageError, EngineError: a judge cannot be used.
    """
    verdicts: list[Mapping[str, Generation]] = []
    known: dict[str, Request] = {}
    artefacts = list(decoded.artefacts)
    for suite in suites:
        if suite.suite.judge is None:
            continue
        given: Mapping[str, Generation] = {}
        parts: list[Mapping[str, Generation]] = []
        for number in chain([1], rounds([suite])):
            asked = suite.verdict_requests(base.answers, decoded.answers, given)
            if not asked:
                break
            stage = f"judge-{suite.name}-{decoded.name}" + (f"-round{number}" if number > 1 else "")
            artefacts.append(ask_judge(context, stage, Judge.of(suite.suite.judge), asked))
            parts.append(read_answers(artefacts[-1]))
            known |= {request.id: request for request in asked}
            given = WithoutThoughts(merge_rounds(parts), known)
        verdicts += parts
    answers = replace(decoded.answers, verdicts=WithoutThoughts(merge_rounds(verdicts), known))
    return replace(decoded, answers=answers, artefacts=tuple(artefacts))


def ask_judge(context: Context, stage: str, judge: Judge, asked: Sequence[Request]) -> Path:
    """Return the artefact with the verdicts; what was judged before, word for word, is not judged again: the answers of
    a system that routes are those of two others."""
    kind, params = judge.kind, judge.params
    files = find_model(judge.named) if judge.named else context.files
    identity = {"judge": kind.identity(params), "model": files.sha256}
    digest, count = list_hash(request.to_dict() for request in asked)

    def build(folder: Path) -> dict[str, Any]:
        spent = Spent(folder)
        parts, earlier = folder / "parts", TakenOver(context.answered, identity, asked, read_answers)
        with line_writer(parts / KNOWN) as write:
            for known in earlier.answers():
                write(known.to_json())
        note_asked(folder, asked)
        missing = list(earlier.missing())
        taken = {"taken_over": count - len(missing)} if len(missing) < count else {}
        if not missing:
            PartStore(parts).known([])
            return {"requests": count, "engine": kind.name, **taken}
        if judge.named:
            model = EngineModel.at(files)
        else:
            model = EngineModel(files, context.renderer, lambda: context.loaded, context.precision)
        requests = missing if judge.served else in_roles(model.renderer, missing)
        with closing(kind.create(model, params)) as engine, context.reporter.task(stage, len(missing)) as task:
            generate(
                engine,
                requests,
                parts,
                identity=identity,
                progress=lambda done, _: task.update(done),
                kept=partial(keep, spent, engine),
            )
            spent.add(engine.usage())
        usage = {"usage": spent.usage} if spent.usage else {}
        return {"seconds": round(spent.seconds, 2), "requests": count, "engine": kind.name, **taken, **usage}

    return context.artefact(stage, {"identity": identity, "requests": digest}, build)


def in_roles(renderer: Renderer, asked: Sequence[Request]) -> list[Request]:
    """Return the requests, the system message put before the question where the judge's template takes none."""
    try:
        renderer.prompt_ids(asked[0].messages)
        return list(asked)
    except UsageError:
        joined = []
        for request in asked:
            system, first, *rest = request.messages
            message = replace(first, content=f"{system.content}\n\n{first.content}")
            joined.append(replace(request, messages=(message, *rest)))
        return joined
