"""A watched run each of whose files strangers may have written; an entry point of `hostile.ENTRY_POINTS`."""

from __future__ import annotations

from pathlib import Path

from lingraft.watching.page import render_watch
from lingraft.watching.run_folder import watch_run


def watch_as_run(data: bytes, folder: Path) -> None:
    """Watch a run of which a file is `data`, one after the other, and at last all of them."""
    run = folder / "run"
    paths = [run / stage / name for stage, name in WATCHED]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        str(watch_run(run))
        path.unlink()
    for path in paths:
        path.write_bytes(data)
    state = watch_run(run)
    str(state)
    render_watch(state, 2.0)
    for path in paths:
        path.unlink()


WATCHED = [
    *[("", name) for name in ("progress.json", "recipe.yaml", "run.json", "scorecard.json", "experiment.json")],
    ("train-a-0.partial/work", "losses.jsonl"),
    ("train-a-0.partial/work", "dev.jsonl"),
    ("train-a-1", "losses.jsonl"),
    ("train-a-1", "manifest.json"),
    ("synthesis-a-0/parts", "part-000000-a-a.jsonl"),
    ("decode-a-0/parts", "part-000000-a-a.jsonl"),
    ("data-0", "counts.json"),
    ("data-1.partial", ".rejected.jsonl.1.tmp"),
    ("rows-a-0", "filters.json"),
]
WATCH_SEEDS = [
    b'{"holder": {"pid": 1, "machine": "m"}, "began": 1, "now": 2, "part": 1, "parts": [{"kind": "train", "of": "a", '
    b'"estimate": 3, "began": 1}], "stages": [{"folder": "train-a-0", "part": 1}], "task": {"title": "t", "total": 3}}',
    b'{"step": 1, "loss": 2.5, "tokens": 3, "by_role": {"text": 1e400}, "chrf": 3, "kl": NaN}\n',
    b'{"step": 1, "tokens": 3, "loss": 2, "chrf": 3, "kl": 0.5}\n'
    b'{"step": 2, "tokens": 9, "loss": 2, "chrf": 1e300, "kl": 5}\n',
    b'{"id": "a", "text": "t", "token_ids": [1], "finish_reason": "stop", '
    b'"segments": [{"role": "r", "text": "t", "tokens": 1}]}\n',
    b'{"counts": {"a": {"b": 3}}, "facts": {"kept_step": 1}, "kept": 3}\n',
]
