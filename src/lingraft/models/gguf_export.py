"""A graft merged into its base as one GGUF file for llama.cpp and Ollama, kept only if llama.cpp reads and writes what
transformers does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lingraft.core.errors import ModelError, UsageError
from lingraft.core.strangers import copy_file
from lingraft.data.records import Message
from lingraft.models.architectures import config_of, open_weights
from lingraft.models.bases import base_license
from lingraft.models.cuts import Reading, chosen_cuts
from lingraft.models.devices import free_memory, quiet
from lingraft.models.files import ModelFiles
from lingraft.models.gguf_agreement import agreement, compare_written, expected
from lingraft.models.gguf_card import gguf_card
from lingraft.models.graft import GraftInfo, find_base, find_graft, graft_renderer, read_info
from lingraft.models.llama_cpp import Converter, LlamaCpp, Opener, worker_command
from lingraft.models.merged_model import TEXTS, write_merged
from lingraft.models.modelfile import modelfile
from lingraft.models.reading_texts import reading_texts
from lingraft.models.vocabulary import Vocabulary
from lingraft.rendering.go_template import TurnForm
from lingraft.rendering.renderer import Renderer
from lingraft.store.files import write_atomic
from lingraft.store.publishing import new_folder, refuse_existing
from lingraft.translation.wording import ask

KINDS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "q8_0": "q8_0"}
"""Types of weights, and what llama.cpp calls them."""
CONTEXT = 2048
NO_CHAIN = (
    "The chain of thought through English is Lingraft's, and not in this file: a program that asks for an answer gets "
    "the whole chain as one text, without the markers, which are special tokens. For conversations use `lingraft chat` "
    "or `lingraft serve` with the graft."
)
DECOMPOSED = (
    "llama.cpp does not bring text into Unicode's form NFC, as the tokenizer does: give it composed characters "
    "(é as one character, not e and an accent)."
)
NO_SYSTEM = "The chat template takes no system message in a fixed place: Ollama leaves system messages out."
OTHER_PROMPTS = (
    "llama-server makes other prompts of conversations than the graft was trained with, by the chat template in the "
    "file: send it ready prompts (/completion), or use Ollama with the Modelfile."
)


def export_gguf(
    graft: Path, out: Path, model: str | None = None, kind: str = "bf16", opener: Opener = worker_command
) -> dict[str, Any]:
    """Write base and graft as `model.gguf` with a `Modelfile` for Ollama.

    Base and graft are merged in float32 (`write_merged`), converted in float32, and read by llama.cpp: 200 texts and
    the prompts of the Modelfile must be the same tokens, and what is written greedily the same text, as in
    transformers. Only then is the type that is asked for made, whose agreement is reported.

    Args:
        graft: its folder, or that of its run.
        out: folder to write, which must not exist yet.
        model: the base, if not where the graft says.
        kind: "fp32", "bf16", "fp16" or "q8_0".
        opener: of processes in the GGUF environment.

    Returns:
        `folder`, `dtype`, `bytes`, `parameters`, `tokens` and `max_logit_difference`, as `export_graft`; `texts` and
        `prompts` whose tokens are the same, `cuts` (name of the way to cut words), `written`: `prompts` and `tokens`
        that are written alike in float32, `ties` among them, see `compare_written`; `agreement` of the type that is
        written, see `Agreement`, None for "fp32"; `template`; `warnings`.

    Raises:
        UsageError: `out` exists, an unknown type, no environment, or the chat template cannot be written for Ollama.
        ModelError: no graft, another base, or llama.cpp cannot read the model or computes something else.
        EngineError: a process of the environment failed.
        StoreError: it cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no type {kind!r} of GGUF to export in; choose one of {', '.join(KINDS)}")
    refuse_existing(out)
    opener()
    graft = find_graft(graft)
    info, grown = read_info(graft), Vocabulary.in_folder(graft)
    files = find_base(info, graft, model)
    renderer = graft_renderer(files, graft)
    form = TurnForm.of(renderer.prompt_text, renderer.template.name)
    stop = [*(str(renderer.tokenizer.convert_ids_to_tokens(end)) for end in renderer.end_ids), *info.stop]
    composed = _composes(renderer)
    languages = [code for one in info.directions for code in (one.source, one.target)]
    reading = _reading(renderer, reading_texts(languages, composed=composed))
    warnings = [NO_CHAIN] if info.chat == "tcot" else []
    warnings += [] if form.system else [NO_SYSTEM]
    modelfile("model.gguf", form, stop=stop)  # refused before anything long begins
    with new_folder(out) as partial, Converter(opener()) as converter:
        scratch = partial / "scratch"
        (scratch / "tokenizer").mkdir(parents=True)
        (scratch / "merged").mkdir()
        _write_tokenizer(files, renderer, grown, scratch / "tokenizer")
        joined = grown is not None and grown.info.cuts_as_base is False
        cuts = chosen_cuts(converter, opener, scratch / "tokenizer", scratch, reading, joined)
        merged = write_merged(files, graft, scratch / "merged", torch.float32, "export without --gguf")
        _copy_pieces(files, grown, scratch / "merged")
        free_memory()
        conversations = _conversations(info)
        with quiet():
            wanted = expected(open_weights(scratch / "merged", dtype=torch.float32).eval(), renderer, conversations)
        free_memory()
        exact = scratch / "exact.gguf"
        converter.convert(scratch / "merged", exact, "f32", cuts, out.name)
        with LlamaCpp(opener(), exact, CONTEXT) as program:
            form, more = _check_reading(program, reading, renderer, form, conversations, composed=composed)
            written = compare_written(wanted, program, renderer.end_ids, graft)
        found = None
        if kind == "fp32":
            exact.replace(partial / "model.gguf")
        else:
            exact.unlink()
            converter.convert(scratch / "merged", partial / "model.gguf", KINDS[kind], cuts, out.name)
            with LlamaCpp(opener(), partial / "model.gguf", CONTEXT) as program:
                found = agreement(wanted, program, graft, kind)
        shutil.rmtree(scratch)
        warnings += more
        copy_file(graft / "lingraft.json", partial / "lingraft.json")
        card = gguf_card(
            info,
            graft,
            renderer,
            name=out.name,
            kind=kind,
            agreement=found,
            warnings=warnings,
            licence=base_license(files.name, files.folder),
        )
        write_atomic(partial / "README.md", card)
        write_atomic(partial / "Modelfile", modelfile("model.gguf", form, stop=stop, notes=warnings))
        size = (partial / "model.gguf").stat().st_size
    return {
        "folder": str(out),
        "dtype": kind,
        "bytes": size,
        "parameters": merged.parameters,
        "tokens": merged.tokens,
        "max_logit_difference": merged.max_logit_difference,
        "texts": len(reading.texts),
        "prompts": len(conversations),
        "cuts": cuts,
        "written": asdict(written),
        "agreement": asdict(found) if found else None,
        "template": info.template or {},
        "warnings": warnings,
    }


def _composes(renderer: Renderer) -> bool:
    """Whether the tokenizer brings text into Unicode's form NFC."""
    normalizer = renderer.tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and normalizer.normalize_str("e\u0301") == "\u00e9"


def _reading(renderer: Renderer, texts: Sequence[str]) -> Reading:
    ids = [list(renderer.tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
    return Reading(texts, ids)


def _write_tokenizer(files: ModelFiles, renderer: Renderer, grown: Vocabulary | None, folder: Path) -> None:
    """Write configuration and tokenizer, as they are beside the merged weights."""
    config = config_of(files.folder)
    if grown is not None:
        config.get_text_config().vocab_size = grown.info.rows
    with quiet():
        config.save_pretrained(folder)
        renderer.tokenizer.save_pretrained(folder)
    _copy_pieces(files, grown, folder)


def _copy_pieces(files: ModelFiles, grown: Vocabulary | None, folder: Path) -> None:
    """Copy the base's SentencePiece model, from which the converter reads the scores of pieces."""
    pieces = files.folder / "tokenizer.model"
    if grown is None and pieces.is_file() and not (folder / pieces.name).exists():
        copy_file(pieces, folder / pieces.name)


def _conversations(info: GraftInfo) -> list[tuple[Message, ...]]:
    """Return conversations as the graft is asked, and plain ones."""
    asked = [
        ask(info.instruction, TEXTS[number % len(TEXTS)], one.source, one.target)
        for number, one in enumerate(info.directions[:4])
    ]
    first = Message("user", "Name three colours, and say what each of them reminds you of.")
    again = (first, Message("assistant", "Red, green and blue."), Message("user", "Only warm ones, please."))
    return [*asked, *((Message("user", text),) for text in TEXTS[:2]), (first,), again]


def _check_reading(
    program: LlamaCpp,
    reading: Reading,
    renderer: Renderer,
    form: TurnForm,
    conversations: Sequence[Sequence[Message]],
    *,
    composed: bool,
) -> tuple[TurnForm, list[str]]:
    """Return the form of Ollama's prompts, and what a user should know.

    Raises:
        ModelError: texts or prompts are read as other tokens than in training.
    """
    if different := reading.different(program):
        raise ModelError(
            f"llama.cpp reads {len(different)} of {len(reading.texts)} texts from the whole model as other tokens than "
            f"the tokenizer does, such as {reading.texts[different[0]]!r:.80}; export it without --gguf"
        )
    (front,) = program.ids([""], prompt=True)
    if front:  # llama.cpp puts it before each prompt by itself, and so does Ollama
        form = form.without_start("".join(str(renderer.tokenizer.decode([one])) for one in front))
    trained = [list(renderer.prompt_ids(turns).ids) for turns in conversations]
    found = program.ids([form.render(turns) for turns in conversations], prompt=True)
    for turns, one, other in zip(conversations, trained, found, strict=True):
        if one != other:
            raise ModelError(
                f"llama.cpp reads the prompt of {turns[-1].content!r:.60} as {len(other)} tokens that are not the "
                f"{len(one)} of training; export it without --gguf"
            )
    warnings = []
    try:
        rendered = program.ids(program.render(conversations, renderer.template.variables), prompt=True)
    except ModelError:  # llama.cpp knows not all that a chat template may hold
        rendered = []
    if rendered != trained:
        warnings.append(OTHER_PROMPTS)
    if composed and program.ids(["e\u0301"], prompt=False) != program.ids(["\u00e9"], prompt=False):
        warnings.append(DECOMPOSED)
    return form, warnings
