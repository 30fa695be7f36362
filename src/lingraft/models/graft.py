"""A graft: a standard PEFT adapter folder plus `lingraft.json` (prompt format, delimiter, languages, base).

The adapter loads with plain `PeftModel.from_pretrained`; `lingraft.json` says how to ask and where a translation ends.
A graft that was trained with an extended vocabulary has its tokenizer and `vocabulary.json` in its folder.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from lingraft.core.errors import ModelError
from lingraft.core.strangers import ANEW, from_strangers, parsed, read_object, shown
from lingraft.core.validation import as_value_error
from lingraft.models.adapter import changes_nothing, layers_kept, put_weights, take_off
from lingraft.models.adapter_config import FITTING
from lingraft.models.adapter_files import read_adapter
from lingraft.models.architectures import without_weights
from lingraft.models.bases import find_by_hash
from lingraft.models.devices import quiet
from lingraft.models.files import ALIASES, ModelFiles, find_model
from lingraft.models.graft_seal import INFO as FILE
from lingraft.models.graft_seal import adapter_hash
from lingraft.models.growth import extended
from lingraft.models.loading import LoadedModel, load_renderer
from lingraft.models.sparse_entries import Entries
from lingraft.models.sparse_files import read_entries
from lingraft.models.vocabulary import Vocabulary
from lingraft.rendering.renderer import Renderer
from lingraft.store.artefacts import RECORD
from lingraft.store.files import write_atomic, write_json
from lingraft.translation.wording import TranslationSystem, check_wording

SCHEMA = "lingraft.graft/1"


class Direction(BaseModel):
    """One direction the graft was trained on."""

    model_config = ConfigDict(extra="forbid")
    source: str = Field(pattern="^[A-Za-z0-9_-]{1,200}$")
    target: str = Field(pattern="^[A-Za-z0-9_-]{1,200}$")


Text = Annotated[str, Field(min_length=1, max_length=1000)]


class GraftInfo(BaseModel):
    """What `lingraft.json` holds; a stranger may have written it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_: str = Field(SCHEMA, alias="schema")
    method: str = Field(max_length=200)
    instruction: str = Field(description="wording of the translation request, with {source} and language names")
    delimiter: str | None = Field(
        None, max_length=1000, description="text between translation and rationale in training"
    )
    stop: list[Text] = Field(default_factory=list, max_length=64, description="strings at which a translation ends")
    directions: list[Direction] = Field(max_length=10_000)
    base_id: str = Field("", max_length=1000, description="hub id or alias of the base; empty where it has none")
    base_sha256: str = Field(
        pattern="^[0-9a-f]{64}$", description="hash of the base's weights, configuration and tokenizer"
    )
    upon_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="hash of the adapter that was in the base while this one was trained (`upon`), and that this one "
        "does not hold: it is used beside that, or another in its place; absent: none",
    )
    chat: Literal["direct", "tcot"] = Field(
        "direct",
        description="how a conversation is held: directly, or through the translation chain of thought, where answers "
        "to English begin with <RESPONSE>",
    )
    template: dict[Text, Any] | None = Field(
        None,
        max_length=64,
        description="variables that the chat template was given in training; absent in older grafts: none",
    )
    params: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    adapter_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="seal of configuration, weights and vocabulary, see `lingraft.models.graft_seal`; absent if older",
    )

    @field_validator("instruction")
    @classmethod
    def _can_be_filled_in(cls, wording: str) -> str:
        with as_value_error():
            return check_wording(wording)

    @field_validator("method", "base_id")
    @classmethod
    def _can_be_shown(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("it holds characters that cannot be shown")
        return name

    @property
    def translating(self) -> TranslationSystem:
        """How the graft is asked for translations."""
        return TranslationSystem(self.instruction, tuple(self.stop))


def write_info(folder: Path, info: GraftInfo) -> None:
    """Write `lingraft.json` beside an adapter that is complete, vocabulary included, and seal it."""
    info = info.model_copy(update={"adapter_sha256": adapter_hash(folder)})
    write_atomic(folder / FILE, info.model_dump_json(by_alias=True, indent=2) + "\n")


def find_graft(folder: Path) -> Path:
    """Return the folder of the graft that a user names: itself, or that of the run whose folder it is."""
    inner = folder / "graft"
    return inner if not (folder / FILE).exists() and (inner / FILE).exists() else folder


def is_exported(folder: Path) -> bool:
    """Say whether a folder holds a graft and its base as one model, as `lingraft export` writes it."""
    return all((folder / name).is_file() for name in (FILE, "config.json")) and not _has_adapter(folder)


def _has_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").exists()


def name_base(folder: Path, hub_id: str) -> None:
    """Let PEFT's `adapter_config.json` call the base by its hub id, or not at all where that is empty.

    PEFT notes where the base was loaded from: a folder of this machine, which means nothing elsewhere. A graft needs a
    new seal then (`write_info`).
    """
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text("utf-8"))
    write_json(path, {**values, "base_model_name_or_path": hub_id or None})


def read_info(folder: Path) -> GraftInfo:
    """Read a graft's `lingraft.json`.

    Raises:
        ModelError: not a graft, or written by a newer version.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no graft at {folder}; give the folder that holds adapter_config.json and {FILE}")
    if is_exported(folder):
        raise ModelError(f"{folder} is no graft, but a graft and its base as one model; give it as --model")
    if not (folder / FILE).exists() or not _has_adapter(folder):
        found = (path for form in ("graft", "*/graft", "*") for path in sorted(folder.glob(f"{form}/{FILE}")))
        inner = next(found, None)
        hint = f"; did you mean {inner.parent}?" if inner else ""
        if (folder / RECORD).exists():
            raise ModelError(f"{folder} is the folder of a run that has no graft of its own (yet){hint}")
        if _has_adapter(folder):
            raise ModelError(f"{folder} holds an adapter without {FILE}; `lingraft adopt` makes a graft of one")
        raise ModelError(f"{folder} is not a graft: it lacks {FILE} or adapter_config.json{hint}")
    return read_asking(folder)


def read_asking(folder: Path) -> GraftInfo:
    """Read the `lingraft.json` of a folder, be it that of a graft or of a graft and its base as one model.

    Raises:
        ModelError: damaged, or written by a newer version.
    """
    path = folder / FILE
    with from_strangers(f"{path} is damaged", ANEW):
        values = read_object(path)
        if values.get("schema") != SCHEMA:
            raise ModelError(
                f"{path} has schema {shown(repr(values.get('schema')))}, this version reads {SCHEMA!r}; update lingraft"
            )
        return parsed(GraftInfo, values)


def find_base(info: GraftInfo, folder: Path, given: str | None = None) -> ModelFiles:
    """Return the base a graft was trained on, checking that it is the same model.

    Args:
        info: of the graft.
        folder: of the graft, beside which its run may note the base.
        given: model named by the user; by default one with the right hash on this machine, else the one that the graft
            names.

    Raises:
        ModelError: not found, or other weights than the graft was trained on.
    """
    if not given and info.base_id not in ALIASES and (known := find_by_hash(info.base_sha256, folder)):
        return known
    if not given and not info.base_id:
        raise ModelError(
            f"the base of the graft {folder} is not on this machine where it was, and the graft names none; give the "
            f"model with hash {info.base_sha256[:12]} with --model FOLDER"
        )
    files = find_model(given or info.base_id)
    if files.sha256 != info.base_sha256:
        raise ModelError(
            f"the graft {folder} was trained on {info.base_id or 'a base'} with hash {info.base_sha256[:12]}, but "
            f"{files.name} in {files.folder} has hash {files.sha256[:12]}; give the original base with --model"
        )
    return files


@contextmanager
def grafted(loaded: LoadedModel, folder: Path | None) -> Iterator[LoadedModel]:
    """Put a graft on a loaded base for the time of the block; the base is as before afterwards.

    The base is grown to the graft's own vocabulary if it has one, and the renderer is then that vocabulary's. Low-rank
    factors stay in float32 beside the base, as in training; whole layers are rounded to the base's type. A graft may
    not be put on a base that carries an adapter already. Prompts are rendered as those that the graft was trained with.

    Args:
        loaded: the base, without an adapter.
        folder: of the graft; None for the base as it is.

    Raises:
        ModelError: the adapter or its vocabulary is damaged, not safetensors, or does not fit the base.
    """
    if folder is None:
        yield loaded
        return
    with extended(loaded, Vocabulary.in_folder(folder)) as grown, _adapted(grown, folder) as on:
        yield replace(on, renderer=as_trained(on.renderer, folder))


@contextmanager
def _adapted(loaded: LoadedModel, folder: Path) -> Iterator[LoadedModel]:
    from peft import get_peft_model

    config, weights = read_adapter(folder)
    if changes_nothing(config, weights):
        raise ModelError(
            f"the adapter in {folder} changes nothing, all its updates are zero; give one that was trained, with more "
            f"steps or a higher learning_rate where this one was"
        )
    if config.peft_type == "SHIRA":
        with _changed(loaded, read_entries(config, weights, folder), folder) as on:
            yield on
        return
    config.inference_mode = True
    # `find_base` compared hashes; PEFT compares names, and warns when a hub id now lies in a folder.
    config.base_model_name_or_path = loaded.model.name_or_path
    config.exclude_modules = _alike(loaded.model, config.target_modules) or None
    with layers_kept(loaded.model):
        with (
            from_strangers(f"the adapter in {folder} does not fit the base", FITTING),
            quiet(),
            torch.random.fork_rng(devices=[]),  # PEFT draws a start that is overwritten
        ):
            model = get_peft_model(loaded.model, config)
        try:
            put_weights(model, weights, folder)
            model.requires_grad_(False)
            yield replace(loaded, model=model.eval())
        finally:
            take_off(model)


@contextmanager
def _changed(loaded: LoadedModel, entries: Mapping[str, Entries], folder: Path) -> Iterator[LoadedModel]:
    from lingraft.models.sparse_layer import wrapped

    with layers_kept(loaded.model):
        try:
            with quiet():
                model = wrapped(loaded.model, entries)
        except ModelError as error:
            raise ModelError(f"the adapter in {folder} does not fit the base: {error}") from error
        try:
            model.requires_grad_(False)
            yield replace(loaded, model=model.eval())
        finally:
            take_off(model)


def _alike(model: Any, targets: Collection[str]) -> list[str]:
    """Return the layers that PEFT would take for one of these, since their names end like it."""
    names = set() if isinstance(targets, str) else set(targets)  # a text stands for none at all
    return [
        name for name, _ in model.named_modules() if name not in names and any(end in names for end in _ends_of(name))
    ]


def _ends_of(name: str) -> Iterator[str]:
    while "." in name:
        name = name.partition(".")[2]
        yield name


def as_trained(renderer: Renderer, folder: Path) -> Renderer:
    """Return a renderer of a graft's tokenizer that gives the chat template what it was given when the graft was
    trained, so that the graft is asked as it was trained. An adapter without `lingraft.json` is asked like its base.

    Raises:
        ModelError: `lingraft.json` is damaged.
    """
    variables = template_of(folder)
    return renderer if variables is None else renderer.asking(variables)


def template_of(folder: Path) -> dict[str, Any] | None:
    """Return the variables that the chat template was given when a graft was trained; None of an adapter without
    `lingraft.json`.

    Raises:
        ModelError: `lingraft.json` is damaged.
    """
    return (read_info(folder).template or {}) if (folder / FILE).exists() else None


def graft_renderer(files: ModelFiles, folder: Path) -> Renderer:
    """Return the renderer of a base with a graft, without loading weights: that of the graft's own vocabulary, if any,
    which asks as the graft was trained.

    Raises:
        ModelError: a damaged tokenizer, or a vocabulary for another base.
    """
    variables, vocabulary = template_of(folder), Vocabulary.in_folder(folder)
    own = vocabulary.renderer(files, variables) if vocabulary else load_renderer(files, variables)
    return as_trained(own, folder)


def check_fit(files: ModelFiles, renderer: Renderer, folder: Path) -> None:
    """Check that a graft can be put on a base, without loading the base's weights.

    Args:
        files: the base.
        renderer: of the base.
        folder: of the graft.

    Raises:
        ModelError: as `grafted`.
    """
    with grafted(LoadedModel(files, without_weights(files.folder), renderer), folder):
        pass
