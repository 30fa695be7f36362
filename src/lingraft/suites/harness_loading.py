"""Loading lm-eval's tasks: those it knows, those of a folder, and those over local files."""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from lm_eval import tasks as lm_eval_tasks
from lm_eval.api.task import Task

from lingraft.core.environment import cache_folder
from lingraft.core.errors import DataError, UsageError, first_line, suggestion
from lingraft.store.files import write_atomic
from lingraft.suites.harness_local import PREFIX, local_task, read_local

VERSION = version("lm_eval")
_TASKS = Path(lm_eval_tasks.__file__).parent


@dataclass(frozen=True)
class Entry:
    """A task, or a group of tasks whose items count together.

    Attributes:
        name: as the recipe has it.
        tasks: by lm-eval's names.
        macro: whether each task counts alike, whatever its number of items.
        templated: whether prompts go through the chat template.
    """

    name: str
    tasks: dict[str, Task]
    macro: bool
    templated: bool


@contextmanager
def quietly(seed: int = 0) -> Iterator[None]:
    """Keep lm-eval's log and progress bars off the terminal, and fix global random numbers that tasks may draw."""
    logger = logging.getLogger("lm_eval")
    level, state, numpy_state = logger.level, random.getstate(), np.random.get_state()
    logger.setLevel(logging.ERROR)
    random.seed(seed)
    np.random.seed(seed)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        logger.setLevel(level)
        random.setstate(state)
        np.random.set_state(numpy_state)


def prepare_ifeval() -> str:
    """Make IFEval run without a network and give the same each time; return what to say of it in a signature.

    Some of its rules count sentences with NLTK's `punkt_tab`. Where that is not installed, an empty one is put in the
    cache: every rule runs, and sentences are counted by punctuation alone.
    """
    import nltk
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0
    folder = cache_folder() / "nltk_data"
    if str(folder) not in nltk.data.path:
        nltk.data.path.append(str(folder))
    try:
        found = str(nltk.data.find("tokenizers/punkt_tab/english/"))
    except LookupError:
        for name in ("abbrev_types.txt", "collocations.tab", "sent_starters.txt", "ortho_context.tab"):
            write_atomic(folder / "tokenizers" / "punkt_tab" / "english" / name, "")
        found = str(folder)
    return f"punkt:{'empty' if found.startswith(str(folder)) else 'nltk'}|langdetect-seed:0"


def load_entries(
    names: Sequence[str],
    *,
    path: str | None,
    fewshot_path: str | None,
    include: str | None,
    num_fewshot: int | None,
    templated: bool | None,
    max_new_tokens: int | None,
) -> list[Entry]:
    """Load tasks by name; the arguments are those of the suite.

    Raises:
        UsageError: an unknown name.
        DataError: its data cannot be had.
    """
    entries = []
    with quietly():
        for name in names:
            local = name.startswith(PREFIX)
            manager = _manager(_TASKS / local_task(name).folder) if local else _index(name, include)
            spec = _local_spec(name, str(path), fewshot_path) if local else name
            try:
                loaded = manager.load([spec])
            except UsageError:
                raise
            except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, AttributeError) as error:
                cause = first_line(error, 300)
                raise DataError(
                    f"task {name!r} cannot be loaded ({cause}); without a network use one over a local file, such as "
                    f"`tasks: [local:hellaswag], path: hellaswag.jsonl`"
                ) from error
            tasks = loaded["tasks"]
            for task in tasks.values():
                if getattr(task, "UNSAFE_CODE", False):
                    raise UsageError(
                        f"task {name!r} runs the programs that a model writes on this machine, which Lingraft does "
                        f"not; measure it with lm-eval itself, within a container"
                    )
                _configure(task, num_fewshot, max_new_tokens, zero_shot=local and not fewshot_path)
            group = loaded["groups"].get(name)
            macro = bool(group and any(not metric.weight_by_size for metric in group.aggregate_metric_list or ()))
            pooled = [tasks] if local or group else [{key: task} for key, task in tasks.items()]
            for part in pooled:
                kinds = {task.OUTPUT_TYPE == "generate_until" for task in part.values()}
                label = name if len(pooled) == 1 else next(iter(part))
                entries.append(
                    Entry(label.removeprefix(PREFIX), part, macro, any(kinds) if templated is None else templated)
                )
    return entries


@cache
def _manager(only: Path | None, include: str | None = None) -> lm_eval_tasks.TaskManager:
    """Return an index of tasks: of one folder, which is fast, or of all that lm-eval has and those of `include`."""
    if only is not None:
        return lm_eval_tasks.TaskManager(include_defaults=False, include_path=str(only))
    return lm_eval_tasks.TaskManager(include_path=include)


def _index(name: str, include: str | None) -> lm_eval_tasks.TaskManager:
    """Return an index of tasks that has one, as small as can be: to read all of lm-eval's takes ten seconds.

    Raises:
        UsageError: an unknown name.
    """
    if include and name in (manager := _manager(Path(include))).all_subtasks:
        return manager
    texts = _definitions()
    if not include and len(found := [path for path, text in texts.items() if name in _named(text, "task")]) == 1:
        manager = _manager(found[0].parent)
        if name in manager.all_subtasks:
            return manager
    if include or any(name in text for text in texts.values()):  # a group, or named in a way of its own
        manager = _manager(None, include)
        if name in manager.all_tasks:
            return manager
        known = manager.all_tasks
    else:
        known = sorted({one for text in texts.values() for one in _named(text, "task|group|tag")})
    raise UsageError(
        f"lm-eval {VERSION} knows no task {name!r}{_near(name, known)}; "
        f"see `lm-eval ls tasks`, or give the folder of its YAML as `include`"
    )


@cache
def _definitions() -> dict[Path, str]:
    """Return the texts of the files in which lm-eval defines tasks and groups."""
    found = [Path(at, name) for at, _, names in os.walk(_TASKS) for name in names if name.endswith(".yaml")]
    return {path: path.read_text("utf-8", errors="replace") for path in sorted(found)}


def _named(text: str, keys: str) -> list[str]:
    """Return what a file of YAML names on the lines of some keys."""
    return re.findall(rf"^(?:{keys}):[ \t]*['\"]?([\w.-]+)['\"]?[ \t]*$", text, flags=re.MULTILINE)


def _near(name: str, known: Sequence[str]) -> str:
    return suggestion(name, known) if len(suggestion(name, known)) < 200 else ""


def _local_spec(name: str, path: str, fewshot_path: str | None) -> dict[str, Any]:
    """Return lm-eval's definitions of a task on the rows of a file, as a group."""
    rows = read_local(name, path)
    shots = read_local(name, fewshot_path) if fewshot_path else {}
    members = []
    for task, own in rows.items():
        splits = {"test": Dataset.from_list(own)}
        if fewshot_path:
            if task not in shots:
                raise DataError(f"{fewshot_path}: has no row for {task}, whose few-shot examples shall come from it")
            splits["fewshot"] = Dataset.from_list(shots[task])
        members.append(
            {
                "task": task,
                "custom_dataset": _given(DatasetDict(splits)),
                "dataset_path": None,
                "training_split": None,
                "validation_split": None,
                "test_split": "test",
                "fewshot_split": "fewshot" if fewshot_path else None,
            }
        )
    return {"group": f"lingraft_{name.removeprefix(PREFIX)}", "task": members}


def _given(data: DatasetDict) -> Any:
    def custom_dataset(**_: Any) -> DatasetDict:
        return data

    return custom_dataset


def _configure(task: Task, num_fewshot: int | None, max_new_tokens: int | None, *, zero_shot: bool) -> None:
    """Set the number of examples as `lm_eval.simple_evaluate` does, and the longest answer."""
    own = task.get_config("num_fewshot")
    if zero_shot or own is None:
        task.set_config("num_fewshot", 0)
    if num_fewshot is not None and not zero_shot and own != 0:
        task.set_config("num_fewshot", num_fewshot)
    if task.OUTPUT_TYPE == "generate_until" and max_new_tokens is not None:
        kwargs = dict(task.get_config("generation_kwargs") or {})
        for alias in ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"):
            kwargs.pop(alias, None)
        task.set_config("generation_kwargs", {**kwargs, "max_gen_toks": max_new_tokens})
