"""`lingraft push`: a finished run's graft, card, scorecard and report to the hub."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.options import Quiet
from lingraft.core.printable import printable
from lingraft.core.streams import json_text


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run that trained something.")],
    to: Annotated[str, typer.Option("--to", metavar="ORG/NAME", help="Repository of the hub; made if there is none.")],
    private: Annotated[bool, typer.Option("--private", help="A private repository; one that is public is refused.")] = (
        False
    ),
    branch: Annotated[
        str, typer.Option("--branch", "--revision", help="Branch of the repository; made if there is none.")
    ] = "main",
    base_model: Annotated[
        str, typer.Option("--base-model", metavar="ORG/NAME", help="Hub id of the base, if the run knows none.")
    ] = "",
    licence: Annotated[
        str, typer.Option("--license", help="As the hub calls it, e.g. apache-2.0; by default that of the base.")
    ] = "",
    with_outputs: Annotated[
        bool, typer.Option("--with-outputs", help="Also texts of the test sets and what the models wrote.")
    ] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="Of the commit.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all of it, list the files and show the card; send nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Push a run's graft to the Hugging Face hub, in one commit: adapter, card, scorecard and report.

    The card gets the repository's name in its programs, the base with its licence, a tag for each method, and all
    results with their intervals as evaluation metadata. Of the data nothing is pushed, and no path of this machine. A
    run that is not finished, or whose files are not those that it published, is refused; only the card may have been
    edited. The token is that of `hf auth login`, or HF_TOKEN.
    """
    found = api.push(
        run,
        to,
        private=private,
        branch=branch,
        base_model=base_model,
        license=licence,
        with_outputs=with_outputs,
        message=message,
        dry_run=dry_run,
        quiet=quiet,
    )
    for note in found.notes:
        print(f"Note: {printable(note)}", file=sys.stderr)
    if as_json:
        print(json_text(asdict(found), indent=2))
    elif dry_run:
        for name, size in found.files.items():
            print(f"{size:>14,}  {printable(name)}")
        print(
            f"{sum(found.files.values()):>14,}  bytes to {found.repository}, branch {found.branch}; nothing was sent\n"
        )
        print(printable(found.card, None, lines=True), end="")
    else:
        print(found.url)
        print(f"Commit {found.commit}: lingraft translate --graft {found.repository}@{found.commit}")
