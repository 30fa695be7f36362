"""Models: a graft that is used, exported and served, and the machine they run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingraft.conversation.file_translation import FileOptions, TranslatedFile
    from lingraft.conversation.open_graft import OpenGraft
    from lingraft.pipeline.machine import ComparedEngines
    from lingraft.serving.endpoint import ServeOptions


Grafts = str | Path | Sequence[str | Path] | None
"""A graft; several, of one base, which are added; or none."""


def open_graft(
    graft: Grafts = None,
    *,
    model: str | Path | None = None,
    engine: str | Mapping[str, Any] = "auto",
    route: str = "",
    quiet: bool = False,
) -> OpenGraft:
    """Open a graft on its base, or a base alone, to translate and to chat; a context manager.

    Args:
        graft: its folder, that of its run, or, as a string, `org/name` or `org/name@revision` of the hub; several: the
            sum of what they change, asked as the last one is; None: the base alone.
        model: the base, if it is not where it was; without a graft, what answers. Folder, alias or hub id.
        engine: what answers requests for translations: a name of `list_entries("engines")`, or `kind` with parameters.
        route: what decides which turns of a chat the graft answers, and which its base: a name of
            `list_entries("deciders")`; "": the graft answers all.
        quiet: leave out notes.

    Raises:
        ModelError: no graft, it cannot be fetched, or several cannot be added.
        UsageError: unknown engine, parameter or decider, or there is nothing to route between.
    """
    from lingraft.conversation.open_graft import OpenGraft
    from lingraft.core.progress import Reporter

    return OpenGraft(_folder_of(graft), None if model is None else str(model), engine, Reporter(quiet), route)


def translate_file(
    opened: OpenGraft,
    file: str | Path | bytes,
    out: str | Path | None = None,
    *,
    options: FileOptions | None = None,
    quiet: bool = False,
) -> TranslatedFile:
    """Translate a file with its structure: Markdown, HTML, subtitles and others of `list_entries("documents")`.

    Inline codes, placeholders, addresses and ends of lines of each segment are checked. What lost any is drawn anew,
    then asked for in pieces; what no translation kept is left as in the source, and is among `lost` of the result.

    Args:
        opened: what `open_graft` gives.
        file: its place, or what is in it.
        out: file to write, as a whole, at the end; a call that was killed goes on where it was. None: none is written.
        options: languages, format and limits; by default the graft's only direction, and what the file's name says.
        quiet: show no progress.

    Raises:
        UsageError: the format or the direction cannot be told, or something does not work here.
        DataError: the file cannot be read, or is not of its format; names the line.
        ModelError: base or graft cannot be used.
        EngineError: an answer fails.
        StoreError: it cannot be written.
    """
    from lingraft.conversation.file_translation import FileOptions, translate_file
    from lingraft.core.progress import Reporter

    place = file if isinstance(file, bytes) else Path(file)
    return translate_file(opened, place, None if out is None else Path(out), options or FileOptions(), Reporter(quiet))


def _folder_of(graft: Grafts) -> Path | None:
    from lingraft.models.compose import composed
    from lingraft.models.graft_names import locate_graft

    if graft is None:
        return None
    several = [graft] if isinstance(graft, str | Path) else graft
    return composed([locate_graft(one) if isinstance(one, str) else one for one in several])


def export(
    graft: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | None = None,
    dtype: str = "bf16",
    route: bool = False,
    gguf: bool = False,
) -> dict[str, Any]:
    """Merge a graft into its base: one model folder for transformers, vLLM and others, or one file for llama.cpp.

    With `route` it is not merged: the folder has the graft as vLLM loads it beside its base, and a gateway that sends
    requests for translations to it and all others to the base.

    Args:
        graft: its folder, that of its run, or, as a string, a name of the hub; several: their sum.
        out: folder to write, which must not exist yet.
        model: the base, if it is not where it was.
        dtype: of the weights: "bf16", "fp16" or "fp32", with `gguf` also "q8_0"; of no effect with `route`.
        route: see above.
        gguf: write a GGUF file, and a Modelfile for Ollama; needs `install("gguf")`.

    Returns:
        What was written and how closely it agrees with base and graft: see `lingraft.models.export.export_graft`, with
        `route` `lingraft.routing.export.export_route`, with `gguf` `lingraft.models.gguf_export.export_gguf`.

    Raises:
        UsageError: the folder exists, an unknown type, vLLM cannot load the graft beside its base, `route` and `gguf`
            together, or Ollama cannot make the prompts.
        ModelError: no graft, another base, or the merged model gives other logits, tokens or text.
        EngineError: a process of the GGUF environment failed.
        StoreError: it cannot be written.
    """
    from lingraft.core.errors import UsageError
    from lingraft.models.export import export_graft

    if route and gguf:
        raise UsageError("a graft that is routed to is not merged, and GGUF holds one model; give route or gguf")
    folder = _folder_of(graft)
    assert folder is not None
    if gguf:
        from lingraft.models.gguf_export import export_gguf

        return export_gguf(folder, Path(out), model, dtype)
    if route:
        from lingraft.routing.export import export_route

        return export_route(folder, Path(out), model)
    return export_graft(folder, Path(out), model, dtype)


def merge(
    models: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    kind: str = "linear",
    params: Mapping[str, Any] | None = None,
    base: str | None = None,
    checkpoint: bool = False,
    dtype: str = "",
    max_shard_size: str = "",
    quiet: bool = False,
) -> dict[str, Any]:
    """Make one graft, or one model, of the weights of several of one base, without training.

    Args:
        models: what is merged, in order: folders of grafts, of runs with one, or of whole models, names of the hub
            (`org/name`, `org/name@revision`), or "base" for the base itself.
        out: folder to write. One that was made of the very same stays as it is.
        kind: what merges them, see `list_entries("mergers")`.
        params: of the merger, such as {"strength": 0.5}; those left out have their defaults.
        base: alias, folder or hub id of the base; by default that of the first graft.
        checkpoint: write a model of its own, instead of a graft of whole layers.
        dtype: of that model: "bf16", "fp16" or "fp32"; by default that of the base.
        max_shard_size: of a file of that model's weights, such as "5GB"; by default 50GB.
        quiet: show no progress.

    Returns:
        `folder`, `form` ("graft" or "checkpoint"), `kind`, `of`, `parameters` and `bytes` that were written, `weights`
        that may be others than the base's, and `max_logit_difference` of what was written, read again, to the merged
        weights in memory.

    Raises:
        UsageError: an unknown merger or parameter, nothing to merge, no base, or the folder holds something else.
        ModelError: no graft or model, one of another base, size or vocabulary, or the result cannot be used.
        StoreError: it cannot be written.
    """
    from lingraft.core.progress import Reporter
    from lingraft.merging.by_name import merge_named

    names = [str(one) for one in ([models] if isinstance(models, str | Path) else models)]
    return merge_named(
        names,
        Path(out),
        kind=kind,
        params=params or {},
        base=base,
        checkpoint=checkpoint,
        dtype=dtype,
        max_shard_size=max_shard_size,
        reporter=Reporter(quiet),
    )


def serve(
    graft: Grafts = None,
    *,
    model: str | None = None,
    options: ServeOptions | None = None,
    until: Event | None = None,
    quiet: bool = False,
) -> None:
    """Serve a graft, or a base, to programs that speak the OpenAI protocol; it returns when the service ends.

    Clients must send the environment variable LINGRAFT_API_KEY, if it is set.

    Args:
        graft: its folder, that of its run, or, as a string, a name of the hub; several: their sum; None: the base
            alone.
        model: the base, if it is not where it was.
        options: address, name, limits, and what routes or translates in several steps.
        until: ends the service once it is set. In the main thread SIGINT and SIGTERM do, too; in a notebook, whose main
            thread runs an event loop, serve in a thread of its own.
        quiet: no line for each answer.

    Raises:
        UsageError: the extra `serve` is not installed, the address cannot be had or needs a key, or the decoder cannot
            serve.
        DataError: a file that the decoder is to read cannot be read.
        ModelError: the model or the graft cannot be used.
    """
    from lingraft.core.progress import Reporter
    from lingraft.serving.endpoint import ServeOptions, serve_model

    serve_model(_folder_of(graft), model, options or ServeOptions(), Reporter(quiet), until)


def doctor(*, try_engines: bool = False, model: str = "smollm2-135m-instruct") -> dict[str, Any]:
    """Return versions, device, optional parts, engines and models of this machine, ready for JSON.

    Args:
        try_engines: ask each engine one prompt; what it did is under "tried".
        model: that they are asked with.
    """
    from lingraft.pipeline.machine import environment, try_engine

    found = environment()
    if try_engines:
        found["tried"] = {name: try_engine(name, model) for name in found["engines"] if name != "auto"}
    return found


def verify_models() -> dict[str, str]:
    """Read all models that are known on this machine; return by folder what is wrong with it, "" for nothing."""
    from lingraft.pipeline.machine import damaged_folders

    return damaged_folders()


def agree(
    first: str,
    second: str,
    *,
    prompts: str | Path = "starter:prompts.jsonl",
    limit: int = 32,
    model: str = "smollm2-135m-instruct",
    precision: str = "auto",
) -> ComparedEngines:
    """Ask two engines the same prompts, greedily, and return how far their answers agree; as a text, in words.

    Args:
        first: name of an engine of `list_entries("engines")`.
        second: name of the other one.
        prompts: file of general prompts.
        limit: how many of them are asked.
        model: alias, folder or hub id.
        precision: "auto", "bf16" or "fp32".

    Raises:
        UsageError: no such engine or precision, or one of the engines is not installed.
        LingraftError: prompts or model cannot be used, or an engine fails.
    """
    from lingraft.pipeline.machine import compare_engines

    return compare_engines(first, second, str(prompts), limit, model, precision)


def install(name: str, *, quiet: bool = False) -> Path:
    """Make an environment of its own for what cannot share Lingraft's, in the cache folder, and return its folder.

    Args:
        name: "comet" or "gguf".
        quiet: do not say what is done.

    Raises:
        UsageError: there is nothing of that name.
        StoreError: an installation failed.
    """
    from lingraft.core.progress import Reporter
    from lingraft.pipeline.machine import install_environment

    say = Reporter(quiet).say
    folder = install_environment(name, say)
    say(f"The environment of {name} is ready: {folder}")
    return folder
