"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, no progress.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and print stages and estimates; start nothing.")
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Replace what another recipe published in the folder; finished stages are kept."),
]
GraftOption = Annotated[
    Path | None, typer.Option("--graft", help="Folder of the graft or of its run; without it the base itself answers.")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="The base; with a graft, if it is not where it was.")]
QueryTokens = Annotated[int, typer.Option("--max-query-tokens", min=1, help="Longest English query.")]
EnglishTokens = Annotated[int, typer.Option("--max-english-tokens", min=1, help="Longest English answer.")]
NativeTokens = Annotated[
    int, typer.Option("--max-native-tokens", min=1, help="Longest native answer (or without chain).")
]
