"""`lingraft export`: a graft and its base as one model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lingraft import api
from lingraft.cli import options
from lingraft.core.errors import UsageError
from lingraft.core.printable import printable
from lingraft.core.streams import json_text


def export(
    context: typer.Context,
    graft: Annotated[
        list[str],
        typer.Option(
            "--graft", help="Folder of the graft or of its run, or org/name[@revision] of the hub; several are added."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must not exist yet.")],
    model: Annotated[str | None, typer.Option("--model", help="The base, if it is not where it was.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="Type of the weights: bf16 | fp16 | fp32.")] = "bf16",
    route: Annotated[
        bool,
        typer.Option("--route", help="Not merged: the graft for vLLM beside its base, and a gateway before both."),
    ] = False,
    gguf: Annotated[
        bool,
        typer.Option("--gguf", help="One GGUF file for llama.cpp and Ollama, with a Modelfile; needs install gguf."),
    ] = False,
    quantize: Annotated[str, typer.Option("--quantize", help="With --gguf, instead of --dtype: q8_0.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Merge a graft into its base: one model folder for transformers, vLLM and others, extended vocabulary included.

    The merged model is read again, and its logits must equal those of base and graft beside each other. With --route,
    translations go to the graft and everything else to the base: see README.md in the folder. With --gguf, llama.cpp
    must read 200 texts as the same tokens and write the same text in float32 as transformers, or nothing is written.
    """
    if route:
        options.refuse_ignored(context, options.given(context).keys() - {"dtype"}, "with --route, which merges nothing")
    if quantize:
        if not gguf:
            raise UsageError("--quantize goes with --gguf: safetensors are exported in a --dtype")
        if quantize != "q8_0" or "dtype" in options.given(context):
            raise UsageError(f"--quantize is q8_0, in place of --dtype; {quantize!r} is not, or both are given")
    found = api.export(graft, out, model=model, dtype=quantize or dtype, route=route, gguf=gguf)
    if as_json:
        print(json_text(found, indent=2))
        return
    if route:
        print(f"{printable(found['folder'])}: `sh serve.sh` starts vLLM, `python3 gateway.py` routes to base and graft")
        return
    dtype = found["dtype"]
    size = f"{found['parameters']:,} parameters in {dtype}, {found['bytes'] / 1024**2:,.0f} MiB"
    print(f"{printable(found['folder'])}: {size}")
    print(f"In float32 its logits are those of base and graft, to {found['max_logit_difference']:.2g}")
    if found["template"]:
        given = printable(", ".join(f"{name}={value!r}" for name, value in found["template"].items()))
        print(f"It was trained with these variables of its chat template: {given}; give them when you ask it")
    if gguf:
        _tell_gguf(found)
    if rounded := found.get("rounded"):
        print(
            f"In {dtype} the most probable next token is the same at {100 * rounded['same_top_token']:.1f} % of "
            f"{rounded['positions']:,} positions; KL {rounded['mean_kl']:.2g} nats a token on average, logits differ "
            f"by at most {rounded['max_logit_difference']:.2g}"
        )
    for warning in found["warnings"]:
        print(f"Note: {printable(warning)}", file=sys.stderr)


def _tell_gguf(found: dict[str, Any]) -> None:
    written = found["written"]
    print(
        f"llama.cpp reads {found['texts']} texts and {found['prompts']} prompts as the same tokens, and in float32 "
        f"writes the same {written['tokens']:,} tokens behind {written['prompts']} of them"
        + (f"; at {written['ties']} two tokens were equally probable" if written["ties"] else "")
    )
    if agreed := found["agreement"]:
        print(
            f"In {found['dtype']} the most probable next token is the same at {100 * agreed['same_top_token']:.1f} % "
            f"of {agreed['positions']:,} positions; log-probabilities differ by {agreed['mean_difference']:.2g} nats "
            f"on average"
        )
    print(f"`ollama create NAME -f {printable(found['folder'])}/Modelfile` takes it into Ollama")
