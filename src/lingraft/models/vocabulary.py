"""A vocabulary: tokenizer files that add learnt pieces and markers to those of a base, and `vocabulary.json`.

`lingraft.vocabulary.learn` learns one. Here it is read and copied; `lingraft.models.growth` grows a loaded base to it.
A graft that was trained with a vocabulary has its files in its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lingraft.core.errors import ModelError
from lingraft.core.hashing import file_hash
from lingraft.core.strangers import copy_file, from_strangers, parsed, read_object, shown, told
from lingraft.models.files import ModelFiles
from lingraft.models.hashes import combined_hash
from lingraft.models.loading import load_renderer
from lingraft.rendering.renderer import Renderer
from lingraft.store.disk import explain_os_errors
from lingraft.translation.markers import Markers

FILE = "vocabulary.json"
SCHEMA = "lingraft.vocabulary/1"
_TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json")


class Fertility(BaseModel):
    """Tokens per word (per character in languages written without spaces) on text that was not learnt from."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    lang: str = Field(max_length=200)
    unit: Literal["word", "character"]
    before: float
    after: float
    sample: int = Field(description="words or characters counted")


MAX_ROWS = 2**24
"""Rows of embeddings; the largest known have 262,144."""
MAX_PADDING = 4096
"""Of rows without a token; whatever processor it is for wants a few hundred at most."""
Count = Annotated[int, Field(ge=0, le=MAX_ROWS)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class VocabularyInfo(BaseModel):
    """What `vocabulary.json` holds; a stranger may have written it."""

    model_config = ConfigDict(extra="forbid")

    schema_: str = Field(SCHEMA, alias="schema")
    base_sha256: Sha256 = Field(description="hash of the base that it extends")
    # Not `Count` with another bound: of two, pydantic would take the one within.
    base_tokens: int = Field(ge=1, le=MAX_ROWS, description="ids of the base's tokenizer; added ones follow")
    base_rows: Count = Field(description="rows of the base's embeddings")
    tokens: Count = Field(description="ids of this tokenizer that stand for something")
    reserved: Count = Field(0, description="control tokens behind them, so that each row of the embeddings has one")
    rows: Count = Field(description="rows of the grown embeddings")
    cuts_as_base: bool | None = Field(
        None, description="whether the tokenizer cuts words as the base's does, as other formats take for granted"
    )
    pieces: int = Field(description="pieces added, markers not counted")
    merges: int = Field(description="merges added")
    markers: dict[str, Any] = Field(description="the markers, as `Markers.to_dict` gives them")
    init: Literal["mean", "random"] = Field("mean", description="first value of the new rows")
    pad_multiple: int = Field(8, ge=1, le=MAX_PADDING)
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    sha256: Sha256 = Field(description="hash of the tokenizer's files")
    fertility: list[Fertility] = Field(default_factory=list, max_length=10_000)

    @field_validator("markers")
    @classmethod
    def _are_markers(cls, values: dict[str, Any]) -> dict[str, Any]:
        try:
            markers = Markers.from_dict(values)
            texts = [*markers.tokens, *markers.languages]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"they are no markers ({told(error)})") from error
        if any(not isinstance(text, str) or not text.isprintable() or not 0 < len(text) <= 100 for text in texts):
            raise ValueError("a marker is a short text that can be shown")
        return values

    @model_validator(mode="after")
    def _goes_together(self) -> VocabularyInfo:
        if not self.base_tokens <= self.tokens or self.base_tokens > self.base_rows:
            raise ValueError(f"it has {self.tokens} tokens for {self.base_tokens} of the base in {self.base_rows} rows")
        if not max(self.base_rows, self.tokens + self.reserved) <= self.rows:
            raise ValueError(f"{self.rows} rows are too few for its tokens")
        if self.rows - max(self.base_rows, self.tokens) >= max(self.pad_multiple, 1) + self.reserved:
            raise ValueError(f"{self.rows} rows are more than its tokens need")
        return self

    def marker_tokens(self) -> Markers:
        """Return the markers."""
        return Markers.from_dict(self.markers)


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of a vocabulary's tokenizer, sorted by name."""
    return sorted({path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()})


def tokenizer_hash(folder: Path) -> str:
    """Return one hash of names and contents of the tokenizer's files."""
    return combined_hash({path.name: file_hash(path) for path in tokenizer_files(folder)})


_RENDERERS: dict[tuple[str, str, str], Renderer] = {}
"""The last ones made, by the hashes of the tokenizer's files and of the base, and by the variables of the template:
every graft of a run holds a copy of the same files."""
_KEPT = 4


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary in a folder, whose files were compared with what its manifest says.

    Attributes:
        folder: that holds the manifest and the tokenizer's files.
        info: what the manifest says.
    """

    folder: Path
    info: VocabularyInfo

    @classmethod
    def in_folder(cls, folder: Path) -> Vocabulary | None:
        """Return the vocabulary in a folder, such as a graft's; None if it holds none.

        Args:
            folder: to look into.

        Raises:
            ModelError: the manifest is damaged or of another version, or the tokenizer's files are not those it names.
        """
        path = folder / FILE
        if not path.exists():
            return None
        with from_strangers(f"{path} is damaged", "make the vocabulary again or copy it anew"):
            values = read_object(path)
            found = values.get("schema")
            if found != SCHEMA:
                raise ModelError(
                    f"{path} has schema {shown(repr(found))}, this version reads {SCHEMA!r}; update lingraft"
                )
            info = parsed(VocabularyInfo, values)
        if tokenizer_hash(folder) != info.sha256:
            raise ModelError(
                f"the tokenizer in {folder} is not the one that {FILE} describes; make the vocabulary again or copy it "
                f"anew"
            )
        return cls(folder, info)

    @classmethod
    def of(cls, folder: Path) -> Vocabulary:
        """Return the vocabulary in a folder.

        Args:
            folder: that holds one.

        Raises:
            ModelError: it holds none; or as `in_folder`.
        """
        found = cls.in_folder(folder)
        if found is None:
            raise ModelError(f"{folder} holds no vocabulary: it lacks {FILE}")
        return found

    @property
    def markers(self) -> Markers:
        """The markers among its tokens."""
        return self.info.marker_tokens()

    def copy_to(self, target: Path) -> None:
        """Copy tokenizer and manifest into another folder, such as a graft's.

        Args:
            target: folder, made if it is not there.

        Raises:
            ModelError: one of the files is a link to a file elsewhere, see `copy_file`.
            StoreError: they cannot be written.
        """
        with explain_os_errors(target):
            target.mkdir(parents=True, exist_ok=True)
            for path in [*tokenizer_files(self.folder), self.folder / FILE]:
                copy_file(path, target / path.name)

    def renderer(self, files: ModelFiles, variables: Mapping[str, Any] | None = None) -> Renderer:
        """Return the renderer of a base with this vocabulary, without loading weights.

        Args:
            files: the base.
            variables: of the chat template, see `load_renderer`.

        Raises:
            ModelError: damaged, made for another base, or a marker is not one token.
        """
        folder, info = self.folder, self.info
        if info.base_sha256 != files.sha256:
            raise ModelError(
                f"the vocabulary in {folder} extends a base with hash {info.base_sha256[:12]}, but {files.name} has "
                f"hash {files.sha256[:12]}; give the original base or make a vocabulary for this one"
            )
        key = (info.sha256, files.sha256, repr(sorted((variables or {}).items())))
        renderer = _RENDERERS.get(key)
        if renderer is None:
            while len(_RENDERERS) >= _KEPT:
                _RENDERERS.pop(next(iter(_RENDERERS)))
            renderer = _RENDERERS[key] = load_renderer(files, variables, tokenizer=folder)
        if len(renderer.tokenizer) != info.tokens + info.reserved:
            raise ModelError(
                f"the tokenizer in {folder} has {len(renderer.tokenizer)} tokens, {FILE} says "
                f"{info.tokens + info.reserved}; make the vocabulary again"
            )
        for token in self.markers.tokens:
            ids = renderer.tokenizer.backend_tokenizer.encode(token, add_special_tokens=False).ids
            if len(ids) != 1 or renderer.tokenizer.convert_ids_to_tokens(ids[0]) != token:
                raise ModelError(f"the marker {token} is {len(ids)} tokens of the tokenizer in {folder}; make it again")
        return renderer
