"""Grafts that are trained already: adapters of other programs, and when a graft is to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.api.recipes import PROMPTS, Files

if TYPE_CHECKING:
    from lingraft.data.file_checks import Data
    from lingraft.pipeline.learn_route import LearntRoute


def adopt(
    adapter: str | Path,
    out: str | Path,
    *,
    source: str | Sequence[str],
    target: str | Sequence[str],
    both_directions: bool = False,
    model: str | None = None,
    instruction: str = "",
    stop: Sequence[str] = (),
    template: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a graft of a PEFT adapter that another program has trained, to translate, measure, route and serve it.

    Args:
        adapter: its folder, which is left as it is, or, as a string, `org/name` or `org/name@revision` of the hub.
        out: folder to write, which must not exist yet.
        source: code of the language that it was trained to translate from; several: of each direction.
        target: code of the language that it was trained to translate to; likewise.
        both_directions: it was trained on the opposite direction of each as well.
        model: alias, folder or hub id of its base; by default the one that its configuration names.
        instruction: wording of the requests that it was trained on, with {source}, and {source_name} and {target_name}
            where they are in it; by default Lingraft's.
        stop: strings at which a translation ends.
        template: variables that the chat template was given in training, such as {"enable_thinking": False}.

    Returns:
        `folder`, `base` (its name), `base_sha256`, `layers` that the adapter changes, `notes`: what a user should know.

    Raises:
        UsageError: the folder exists, it is a graft already, the wording cannot be filled in, or directions that are
            none.
        ModelError: no adapter, a damaged one, one of another kind than LoRA and SHiRA, or one that does not fit.
        StoreError: it cannot be written.
    """
    from lingraft.models.adopt import adopt_adapter, directions
    from lingraft.models.graft_names import locate_adapter
    from lingraft.translation.wording import DEFAULT

    return adopt_adapter(
        locate_adapter(adapter),
        Path(out),
        directions=directions(source, target, both=both_directions),
        base=model,
        instruction=instruction or DEFAULT,
        stop=stop,
        template=template,
    )


def route(
    graft: str | Path,
    pairs: Data | Sequence[Data] = (),
    *,
    source: str | None = None,
    target: str | None = None,
    prompts: Files = PROMPTS,
    by: str = "classifier",
    params: Mapping[str, Any] | None = None,
    requests: str | Path = "starter:routing.jsonl",
    model: str | None = None,
    out: str | Path | None = None,
    seed: int = 1,
    quiet: bool = False,
) -> LearntRoute:
    """Let a decider learn when a graft is to answer and when its base, measure its errors, and store it with the graft.

    Args:
        graft: its folder, that of its run, or, as a string, a name of the hub.
        pairs: like those that the graft was trained on: a file, several, or entries as under `pairs:` of a recipe.
        source: language of their source sides, e.g. "de".
        target: language of their target sides.
        prompts: file of general prompts, or several; half of them is learnt from, the one that runs with `seed` replay.
        by: name of `list_entries("deciders")`.
        params: of the decider.
        requests: file of requests with the routes that they should take, by which it is measured.
        model: the base, if it is not where it was.
        out: folder for a copy of the graft with the decider; by default the graft's own folder gets it.
        seed: of what is drawn.
        quiet: show no progress.

    Raises:
        UsageError: an unknown decider or parameter, nothing to learn from, or a graft that cannot be routed to.
        DataError: a file cannot be read, or too many of its rows are bad.
        ModelError: no graft, or another base.
        StoreError: it cannot be written.
    """
    from lingraft.core.progress import Reporter
    from lingraft.data.file_checks import pair_entries, pair_sources
    from lingraft.data.readers import PromptFile
    from lingraft.pipeline.learn_route import learn_route

    files = [prompts] if isinstance(prompts, str | Path) else prompts
    return learn_route(
        str(graft),
        pairs=pair_sources(pair_entries(pairs, source, target)),
        prompts=[PromptFile(path=str(one)) for one in files],
        by=by,
        params=params or {},
        requests=str(requests),
        base=model,
        out=None if out is None else Path(out),
        seed=seed,
        reporter=Reporter(quiet),
    )
