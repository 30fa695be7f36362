"""The command line: thin wrappers over functions. Data goes to stdout, words and progress to stderr.

Exit codes: 0 done, 1 the work failed, 2 wrong usage or a bad recipe, 130 interrupted, 143 terminated.
Heavy imports wait for the command.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from lingraft.cli import chat_options as cli_chat
from lingraft.cli import doctor_options as cli_doctor
from lingraft.cli import ends as cli_ends
from lingraft.cli import evaluate_options as cli_evaluate
from lingraft.cli import serve_options as cli_serve
from lingraft.cli import sheet as cli_sheet
from lingraft.cli import translate_options as cli_translate
from lingraft.cli.options import (
    Aligned,
    DryRun,
    Fields,
    Format,
    GpuOption,
    InlineCodes,
    Quiet,
    Replace,
    TestAligned,
    TestFields,
    TestFormat,
    Trust,
    refuse_empty_places,
    share,
)
from lingraft.core import __version__
from lingraft.core.errors import LingraftError
from lingraft.core.hub_kernels import keep_out
from lingraft.core.printable import printable
from lingraft.core.streams import open_streams

app = typer.Typer(
    name="lingraft",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teach a chat LLM to translate without losing what it knows, and prove both with confidence intervals.",
    epilog="Start with: lingraft run demo. Shipped recipes: lingraft list recipes.",
)

app.add_typer(cli_sheet.app, name="sheet")


class _Terminated(BaseException):
    """SIGTERM, which batch systems send before they kill; raised so that locks and temporary files are cleaned up."""


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def main() -> None:
    """Run the command line; every expected error is one sentence on stderr."""
    # Typer may bring its own copy of click, whose classes are not those of the package click.
    usage_error: Any = typer.BadParameter.__bases__[0]
    keep_out()
    signal.signal(signal.SIGTERM, _terminate)
    open_streams()
    try:
        refuse_empty_places(sys.argv[1:])
        code = app(standalone_mode=False)
        if code == 130:  # typer turns Ctrl-C into this code
            raise KeyboardInterrupt
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except LingraftError as error:
        cli_ends.fail(str(error), error.exit_code)
    except _Terminated:
        cli_ends.stop("terminated", 143)
    except (typer.Abort, KeyboardInterrupt):
        cli_ends.stop("interrupted", 130)
    except usage_error as error:
        error.message = printable(error.message, 1000)  # it may name a file that a pattern of the shell found
        error.show()
        if folder := _graft_unnamed(error, sys.argv):
            cli_ends.fail(f"give the graft, or the folder of its run, as --graft {folder}", 2)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes standard output once more at its end
        sys.exit(1)
    except OSError as error:
        if error.strerror is None:
            cli_ends.unexpected(error)
        cli_ends.refused(error)
    except MemoryError:
        cli_ends.fail("out of memory; use smaller files or batches, or a machine with more", 1)
    except Exception as error:
        cli_ends.unexpected(error)


def _graft_unnamed(error: Any, arguments: Sequence[str]) -> str:
    """Return the graft, or the run with one, that a command which wants it as --graft was given as a plain argument."""
    parameters = getattr(getattr(getattr(error, "ctx", None), "command", None), "params", ())
    if not any("--graft" in parameter.opts for parameter in parameters):
        return ""
    plain = (word for before, word in pairwise(arguments) if not before.startswith("-"))
    places = ("lingraft.json", os.path.join("graft", "lingraft.json"))
    return next((word for word in plain if any(os.path.exists(os.path.join(word, place)) for place in places)), "")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lingraft {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    cli_ends.begin(context.invoked_subcommand)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, the folder of a run, or a shipped recipe's name.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes, e.g. stages.0.train.epochs=2 pairs.train.0.limit=500.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; by default runs/<name>.")] = None,
    dry_run: DryRun = False,
    gpu: GpuOption = None,
    replace: Replace = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """Run a whole recipe: read, synthesise, train, translate, evaluate, report.

    A killed run continues where it was when the same command is given again, or the run's folder as the recipe; a
    finished one does nothing. A folder holds one experiment: another recipe, base, seed or test set needs another
    folder, or --replace.
    """
    from lingraft.cli.run import run_command

    run_command(recipe, overrides or [], out, dry_run, replace, quiet, gpu, trust)


@app.command()
def tune(
    pairs: Annotated[str, typer.Option("--pairs", help="Training pairs (JSONL, TSV, CSV, TMX, hub:org/name ...).")],
    test: Annotated[str, typer.Option("--test", help="Held-out pairs.")],
    source: Annotated[str, typer.Option("--from", help="Source language, e.g. de.")],
    target: Annotated[str, typer.Option("--to", help="Target language, e.g. en.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    model: Annotated[str, typer.Option("--model", help="Alias, folder or hub id.")] = "smollm2-135m-instruct",
    method: Annotated[str, typer.Option("--method", help="See `lingraft list methods`.")] = "radis",
    prompts: Annotated[
        str, typer.Option("--prompts", help="General prompts, to measure what is kept.")
    ] = "starter:prompts.jsonl",
    compare: Annotated[list[str] | None, typer.Option("--compare", help="Also train this method; repeatable.")] = None,
    both: Annotated[bool, typer.Option("--both-directions", help="Train each pair in both directions.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Any recipe key, e.g. seed=2; repeatable.")
    ] = None,
    fields: Fields = None,
    format: Format = "auto",
    aligned: Aligned = None,
    test_fields: TestFields = None,
    test_format: TestFormat = "auto",
    test_aligned: TestAligned = None,
    dry_run: DryRun = False,
    gpu: GpuOption = None,
    replace: Replace = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> None:
    """The same as `run`, without writing a recipe."""
    from lingraft.cli.layouts import TUNE_OPTIONS, FileLayout
    from lingraft.cli.run import tune_command
    from lingraft.core.errors import options

    with options(TUNE_OPTIONS):
        tune_command(
            *(pairs, test, source, target, out, model, method, prompts, compare, both, overrides or []),
            layout=FileLayout(fields or (), format, aligned or ()),
            test_layout=FileLayout(test_fields or (), test_format, test_aligned or (), prefix="--test-"),
            dry_run=dry_run,
            gpu=gpu,
            replace=replace,
            quiet=quiet,
            trust=trust,
        )


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(help="Files of pairs.")],
    source: Annotated[str, typer.Option("--from", help="Source language, e.g. de.")],
    target: Annotated[str, typer.Option("--to", help="Target language, e.g. en.")],
    test: Annotated[list[str] | None, typer.Option("--test", help="Test sets the files must not contain.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Count tokens with this model's tokenizer.")] = None,
    rejected: Annotated[Path | None, typer.Option("--rejected", help="Write rejected rows to this JSONL file.")] = None,
    max_rejected_share: Annotated[
        float, typer.Option(parser=share, metavar="SHARE", help="Exit 1 above this share (0 to 1).")
    ] = 0.05,
    fields: Fields = None,
    format: Format = "auto",
    aligned: Aligned = None,
    inline_codes: InlineCodes = "drop",
    test_fields: TestFields = None,
    test_format: TestFormat = "auto",
    test_aligned: TestAligned = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Validate files of pairs, and show two rows as they are read; exit 1 with the reasons when too many are bad.

    Reasons and formats are explained in docs/data.md.
    """
    from lingraft.cli.check import check_command
    from lingraft.cli.layouts import FileLayout

    check_command(
        *(files, source, target, test or [], model, rejected, max_rejected_share, as_json),
        layout=FileLayout(fields or (), format, aligned or (), inline_codes),
        test_layout=FileLayout(test_fields or (), test_format, test_aligned or (), inline_codes, prefix="--test-"),
    )


@app.command()
def preview(
    recipe: Annotated[str, typer.Argument(help="A recipe file, the folder of a run, or a shipped recipe's name.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes, e.g. stages.0.method=vanilla.")] = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="Examples to show for each system.")] = 2,
    trust: Trust = False,
) -> None:
    """Show rendered training examples, supervised text in colour; writes nothing.

    The base writes the few rationales that are shown.
    """
    from lingraft.cli.preview import preview_command

    preview_command(recipe, overrides or [], rows, trust)


app.command()(cli_translate.translate)
app.command()(cli_chat.chat)
app.command()(cli_serve.serve)


@app.command()
def export(
    graft: Annotated[Path, typer.Option("--graft", help="Folder of the graft or of its run, e.g. runs/demo.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must not exist yet.")],
    model: Annotated[str | None, typer.Option("--model", help="The base, if it is not where it was.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="Type of the weights: bf16 | fp16 | fp32.")] = "bf16",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Merge a graft into its base: one model folder for transformers, vLLM and others, extended vocabulary included.

    The merged model is read again, and its logits must equal those of base and graft beside each other.
    """
    from lingraft.cli.commands import export_command

    export_command(graft, out, model, dtype, as_json)


app.command()(cli_evaluate.evaluate)
app.command()(cli_evaluate.compare)


@app.command(name="list")
def list_things(
    kind: Annotated[str, typer.Argument(help="methods | tuners | suites | engines | metrics | recipes")],
) -> None:
    """List what can be named in a recipe: name, one line, paper."""
    from lingraft.cli.commands import list_command

    list_command(kind)


app.command()(cli_doctor.doctor)


if __name__ == "__main__":
    main()
