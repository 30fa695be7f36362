"""Options that several commands share."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from lingraft import api
from lingraft.cli.completion import names_of, recipes
from lingraft.core.errors import UsageError
from lingraft.recipe.strict_yaml import plain_values

_USAGE: Any = typer.BadParameter.__bases__[0]  # typer may bring its own copy of click
_MISSING: Any = next(kind for kind in typer.BadParameter.__subclasses__() if kind.__name__ == "MissingParameter")

PLACES = (
    *("--out", "-o", "--graft", "--beside", "--run", "--csv", "--latex", "--html", "--glossary", "--memory"),
    *("--model", "--base", "--recipe", "--pairs", "--test", "--target", "--test-target", "--prompts", "--requests"),
    *("--rejected", "--glossaries"),
)
"""Options whose value is a path, or may be one."""


def refuse_empty_places(arguments: Sequence[str]) -> None:
    """Refuse an empty path, which would be the current folder: `--out "$OUT"` where OUT is not set.

    Raises:
        UsageError: one is empty.
    """
    # Plain arguments: see `Command`.
    for option, value in pairwise([*arguments, "-"]):
        name, _, joined = option.partition("=")
        if name in PLACES and (not joined if "=" in option else not value):
            raise UsageError(f"{name} is empty; give a path (the current folder is .)")


def given(context: typer.Context) -> dict[str, str]:
    """Return the options that stand on the command line: name of the parameter -> the option."""
    return {
        str(one.name): max(one.opts, key=len)
        for one in context.command.params
        if str(one.name) in context.params
        and getattr(context.get_parameter_source(str(one.name)), "name", "") == "COMMANDLINE"
        and one.param_type_name == "option"
    }


def refuse_ignored(context: typer.Context, used: Collection[str], how: str) -> None:
    """Refuse options that a command would not look at.

    Args:
        context: of the command.
        used: names of the parameters that it looks at.
        how: when it does not look at the others: "with --run".

    Raises:
        UsageError: others are given.
    """
    ignored = [option for name, option in given(context).items() if name not in used]
    if ignored:
        have, them = ("has", "it") if len(ignored) == 1 else ("have", "them")
        raise UsageError(f"{', '.join(ignored)} {have} no effect {how}; leave {them} out")


CHAIN_OPTIONS = {"show_chain", "language", "max_query_tokens", "max_english_tokens"}
"""Parameters about the translation chain of thought."""


def refuse_without_chain(context: typer.Context, graft: list[str] | None) -> None:
    """Refuse options about the chain where the graft, or the base, holds conversations without it.

    Raises:
        UsageError: one is given.
        ModelError: no graft.
    """
    asked = given(context)
    if not CHAIN_OPTIONS & asked.keys():
        return
    if graft:
        with api.open_graft(graft) as opened:
            if opened.answers_through_chain:
                return
    refuse_ignored(context, asked.keys() - CHAIN_OPTIONS, "without a graft with a translation chain of thought")


def advise(command: str) -> None:
    """Say, in one line, how a command is written today that is given in an older way."""
    print(f"Note: this is `{command}` now", file=sys.stderr)


class Command(TyperCommand):
    """A command that names all that is missing at once, and whose help shows brackets as they are written."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        for one in self.params:
            if text := getattr(one, "help", None):
                one.help = escape(text)  # type: ignore[attr-defined]

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Parse; see the base class.

        Raises:
            click's UsageError: what is missing or wrong.
            UsageError: an argument is empty, as it is where a variable of the shell is not set; a path would be that of
                the current folder.
        """
        whole = list(args)
        if "" in whole:
            self._refuse_empty(context, whole)
        try:
            return super().parse_args(context, args)
        except _MISSING as error:
            found, _, _ = self.make_parser(context).parse_args(whole)
            lacking = [one for one in self.params if one.required and not found.get(str(one.name))]
            if len(lacking) < 2:
                raise
            names = [one.opts[0] if one.param_type_name == "option" else str(one.name).upper() for one in lacking]
            raise _USAGE(f"Missing: {', '.join(names)}.", ctx=context) from error

    def _refuse_empty(self, context: Any, args: list[str]) -> None:
        found, _, _ = self.make_parser(context).parse_args(list(args))
        for one in self.params:
            value = found.get(str(one.name)) if one.param_type_name == "argument" else None
            if value == "" or (isinstance(value, tuple | list) and "" in value):
                remedy = (
                    "give a name or a path (the current folder is .)" if one.required else "write it or leave it out"
                )
                raise UsageError(f"{str(one.name).upper()} is empty; {remedy}")


def fill_paragraphs(app: typer.Typer) -> None:
    """Take the lines of all commands' docstrings together: a help text is as wide as the terminal."""
    for command in app.registered_commands:
        paragraphs = inspect.cleandoc(command.callback.__doc__ or "").split("\n\n")
        command.help = "\n\n".join(" ".join(part.split()) for part in paragraphs)


def parameters(texts: Sequence[str], example: str, option: str = "--param") -> dict[str, Any]:
    """Return what parameters that are written NAME=VALUE give.

    Args:
        texts: the parameters.
        example: one, for messages.
        option: that they are given with.

    Raises:
        UsageError: one is written otherwise, or given twice.
    """
    given: dict[str, Any] = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not (name and found):
            raise UsageError(f"{option} {text!r} is not of the form NAME=VALUE, such as {example}")
        if name in given:
            raise UsageError(f"{option} {name}= is given twice; give it once")
        given[name] = plain_values(value, f"{option} {text!r}")
    return given


ESCAPES = r"\n is a line break, \t a tab, \\ a backslash."
"""For the help of options whose value is read by `unescaped`."""


def unescaped(text: str) -> str:
    r"""Return what a text on the command line stands for, with \n, \t and \\ as a line break, a tab and a backslash.

    Between quotes shells hand these on as two letters each, and a model would be asked with them. A backslash before
    anything else is one.
    """
    return re.sub(r"\\([nt\\])", lambda found: {"n": "\n", "t": "\t"}.get(found[1], "\\"), text)


def decoder_choice(name: str, param: Sequence[str], glossary: Path | None) -> dict[str, Any] | None:
    """Return the decoder that options name, as `kind` with its parameters; None where they name none.

    Args:
        name: of the decoder; "" for none.
        param: its parameters, NAME=VALUE each.
        glossary: file of terms, which stands for the decoder `glossary`.

    Raises:
        UsageError: the options contradict each other.
    """
    if glossary is not None:
        if name not in ("", "glossary"):
            raise UsageError(f"--glossary is of the decoder `glossary`, and --decoder names {name!r}; leave one out")
        return {**parameters(param, "path=terms.csv"), "path": str(glossary), "kind": "glossary"}
    if not name:
        if param:
            raise UsageError("--param is of a decoder; name it with --decoder")
        return None
    return {**parameters(param, "samples=4"), "kind": name}


def refuse_gpu_alone(gpu: str | None, dry_run: bool) -> None:
    """Refuse --gpu for what is not a dry run.

    Raises:
        UsageError: it is one.
    """
    if gpu and not dry_run:
        raise UsageError("--gpu is about estimates, and goes with --dry-run")


def share(text: str) -> float:
    """Return the number that a share is.

    Raises:
        typer.BadParameter: it is none from 0 to 1.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # nor is "nan"
        raise typer.BadParameter(f"{text!r} is no share; give a number from 0 to 1, such as 0.05")
    return value


RouteOption = Annotated[
    str,
    typer.Option(
        "--route",
        metavar="DECIDER",
        help="Let the graft answer translations and its base all else, as form, classifier or caller decides.",
    ),
]
DecoderOption = Annotated[
    str,
    typer.Option(
        "--decoder", help="Translate in several steps: `lingraft list decoders`.", autocompletion=names_of("decoders")
    ),
]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", help="A parameter of the decoder: samples=4; once for each.")
]
GlossaryOption = Annotated[
    Path | None,
    typer.Option("--glossary", help="CSV of your terms, source,target: short for the decoder `glossary`."),
]
RecipeArgument = Annotated[
    str,
    typer.Argument(help="A recipe file, the folder of a run, or a shipped recipe's name.", autocompletion=recipes),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the result, no progress.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and print stages and estimates; start nothing.")
]
GpuOption = Annotated[
    str | None, typer.Option("--gpu", help="With --dry-run: the card to plan for, e.g. rtx4090, a100-80gb or h100.")
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Replace what another recipe published in the folder; finished stages are kept."),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Allow, this time, what the recipe runs and sends; --dry-run lists it.")
]
GraftOption = Annotated[
    list[str] | None,
    typer.Option(
        "--graft",
        help="Folder of the graft or of its run, or org/name[@revision] of the hub; several are added; without it the "
        "base itself answers.",
    ),
]
ModelOption = Annotated[str | None, typer.Option("--model", help="The base; with a graft, if it is not where it was.")]
QueryTokens = Annotated[int, typer.Option("--max-query-tokens", min=1, help="Longest English query.")]
EnglishTokens = Annotated[int, typer.Option("--max-english-tokens", min=1, help="Longest English answer.")]
NativeTokens = Annotated[
    int, typer.Option("--max-native-tokens", min=1, help="Longest native answer (or without chain).")
]
Fields = Annotated[
    list[str] | None,
    typer.Option("--fields", help="Which column holds what: source=src,target=tgt, or by number source=2,target=4."),
]
Format = Annotated[
    str,
    typer.Option("--format", help="Format, if the names do not tell it: tsv, csv, jsonl, text, tmx, xliff ..."),
]
Aligned = Annotated[
    list[str] | None,
    typer.Option("--target", help="The second of two aligned text files, line by line; once for each file."),
]
TestFields = Annotated[list[str] | None, typer.Option("--test-fields", help="The same as --fields, for --test.")]
TestFormat = Annotated[str, typer.Option("--test-format", help="The same as --format, for --test.")]
TestAligned = Annotated[list[str] | None, typer.Option("--test-target", help="The same as --target, for --test.")]
InlineCodes = Annotated[
    str, typer.Option("--inline-codes", help="Inline codes of TMX and XLIFF: drop | keep | placeholder.")
]
