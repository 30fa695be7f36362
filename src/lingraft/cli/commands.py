"""What the smaller commands do; `cli.py` declares them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.printable import printable
from lingraft.core.registry import Registry
from lingraft.core.streams import json_text


def export_command(graft: Path, out: Path, model: str | None, dtype: str, as_json: bool) -> None:
    """Write base and graft as one model, and say how closely it agrees with them."""
    from lingraft.models.export import export_graft

    found = export_graft(graft, out, model, dtype)
    if as_json:
        print(json_text(found, indent=2))
        return
    size = f"{found['parameters']:,} parameters in {dtype}, {found['bytes'] / 1024**2:,.0f} MiB"
    print(f"{printable(found['folder'])}: {size}")
    print(f"In float32 its logits are those of base and graft, to {found['max_logit_difference']:.2g}")
    if found["template"]:
        given = printable(", ".join(f"{name}={value!r}" for name, value in found["template"].items()))
        print(f"It was trained with these variables of its chat template: {given}; give them when you ask it")
    if rounded := found["rounded"]:
        print(
            f"In {dtype} the most probable next token is the same at {100 * rounded['same_top_token']:.1f} % of "
            f"{rounded['positions']:,} positions; KL {rounded['mean_kl']:.2g} nats a token on average, logits differ "
            f"by at most {rounded['max_logit_difference']:.2g}"
        )
    for warning in found["warnings"]:
        print(f"Note: {printable(warning)}", file=sys.stderr)


def list_command(kind: str) -> None:
    """Print the entries of a registry."""
    from lingraft.engines.base import ENGINES
    from lingraft.methods.base import METHODS
    from lingraft.metrics.base import METRICS
    from lingraft.recipe.shipped import shipped_recipes
    from lingraft.suites.base import SUITES
    from lingraft.training.tuners import TUNERS

    registries: dict[str, Registry[Any]] = {
        "methods": METHODS,
        "tuners": TUNERS,
        "suites": SUITES,
        "engines": ENGINES,
        "metrics": METRICS,
    }
    table = Table(box=None, pad_edge=False, show_header=True)
    if kind in registries:
        for column in ("name", "what", "paper"):
            table.add_column(column, overflow="fold")
        for name in registries[kind]:
            entry = registries[kind].get(name)
            text = getattr(entry, "summary", "") or (entry.__doc__ or "").strip().splitlines()[0]
            table.add_row(*map(Text, (name, text, getattr(entry, "paper", ""))))
    elif kind == "recipes":
        for column in ("name", "what"):
            table.add_column(column, overflow="fold")
        for name, text in sorted(shipped_recipes().items()):
            table.add_row(*map(Text, (name, text.lstrip("# ").splitlines()[0])))
    else:
        known = [*registries, "recipes"]
        raise UsageError(f"there is no list of {kind!r}{suggestion(kind, known)}")
    Console(highlight=False).print(table)
