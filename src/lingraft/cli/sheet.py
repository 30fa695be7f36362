"""`lingraft sheet`: human evaluation, out and in again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lingraft import api
from lingraft.cli.options import Command
from lingraft.core.errors import UsageError
from lingraft.core.printable import printable
from lingraft.core.streams import json_text

app = typer.Typer(
    no_args_is_help=True, help="Human evaluation: export blinded side-by-side items, import the filled sheets."
)


@app.command(name="export", cls=Command)
def export_sheet(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    systems: Annotated[str, typer.Option("--systems", help="Two or more systems of the run, e.g. base,radis.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the sheet, the form and the key.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Items to draw.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draw, the order and the sides.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A direction or suite; repeatable. Default: all directions.")
    ] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Show raters the reference, too.")] = False,
    pearmut: Annotated[
        str,
        typer.Option("--pearmut", metavar="PROTOCOL", help="Also a campaign for Pearmut: ESA | cESA | DA | MQM."),
    ] = "",
    raters: Annotated[int, typer.Option("--raters", min=1, help="Of the campaign; each rates all items.")] = 1,
) -> None:
    """Draw items, blind them and write them as CSV and as an HTML form; hand out raters/, keep key.json.

    With --pearmut the same items are a campaign, pearmut.json, for `pearmut add`: it names the systems, and Pearmut
    hides them from its raters.
    """
    if raters > 1 and not pearmut:
        raise UsageError("--raters is of a campaign for Pearmut; give --pearmut ESA, or leave it out")
    written = api.export_sheet(
        run,
        [name.strip() for name in systems.split(",") if name.strip()],
        out,
        n=n,
        seed=seed,
        only=only or [],
        reference=reference,
        pearmut=pearmut,
        raters=raters,
    )
    print("\n".join(map(printable, written.files)))
    print(
        f"{written.items} items to rate; on {written.alike} more the systems wrote the same. "
        f"Hand out {printable(out / 'raters')}, keep {written.key.name}.",
        file=sys.stderr,
    )


@app.command(name="import", cls=Command)
def import_sheets(
    folder: Annotated[
        Path, typer.Argument(help="The folder that `sheet export` made, or ratings that the page of `serve` saved.")
    ],
    filled: Annotated[
        list[Path] | None,
        typer.Argument(help="Filled sheets, CSV or JSON, one a rater; Pearmut's .jsonl; or others' from the page."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say who wins how often, with intervals, and how far the raters agree."""
    found = api.import_sheets(folder, filled or [], seed=seed)
    if as_json:
        print(json_text(found.to_dict(), indent=2))
        return
    for one in found.comparisons:
        low, high = one.win.ci95
        who = f"{printable(one.system)} against {printable(one.against)}"
        print(
            f"{who}: win rate {one.win.percent:.1f} % [{low:.1f}, {high:.1f}], ties half; "
            f"wins {one.wins.percent:.1f} %, ties {one.ties.percent:.1f} %, losses {one.losses.percent:.1f} % "
            f"({one.rated} items rated, {one.same} alike)"
        )
    agreement = found.agreement
    shown = [
        f"{name} {'not defined' if value is None else f'{value:.3f}'}"
        for name, value in (
            ("Krippendorff's alpha, nominal", agreement.alpha_nominal),
            ("ordinal", agreement.alpha_ordinal),
            *((("Cohen's kappa", agreement.kappa),) if len(found.raters) == 2 else ()),
        )
    ]
    print(f"Agreement on {agreement.items} items rated by two or more: {', '.join(shown)}")
    raters = (f"{printable(name)} {number} of {found.items}" for name, number in found.raters.items())
    print(f"Raters: {', '.join(raters)}")
