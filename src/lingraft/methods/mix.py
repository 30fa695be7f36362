"""Mix: given answers of instruction files, and documents, beside a method that teaches something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from lingraft.core.errors import DataError
from lingraft.core.hashing import file_hash
from lingraft.core.validation import IS_PATH, Needs, as_value_error
from lingraft.data.declared_sources import numbers_as_names
from lingraft.data.files import locate
from lingraft.data.readers import PromptSource, TextSource, read_prompts, read_texts
from lingraft.data.records import Example, Generation, Prompt, Rejected, Span, Text
from lingraft.data.row_shapes import TEXT_FIELDS
from lingraft.language.characters import is_blank
from lingraft.language.codes import language
from lingraft.methods.base import Available, Consumed, Method, MethodInputs, MethodParams, Tally
from lingraft.methods.recovery import Recovery, RecoveryParams

Kind = Literal["prompts", "texts"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_AT_ONCE = 256  # prompts


class _Instructions(PromptSource):
    """A file of instructions that a parameter names: `fields` stands beside it, and no key for the format."""

    fields_key: ClassVar[str] = "mix.fields"
    format_key: ClassVar[str] = ""


class _Documents(TextSource):
    """A file of documents, as `_Instructions`."""

    fields_key: ClassVar[str] = "mix.fields"
    format_key: ClassVar[str] = ""


class MixParams(MethodParams):
    """Parameters of what is mixed in."""

    needs: ClassVar[Needs] = {
        "fields": ("files under `prompts` or `texts`", lambda own: own.files),
        "lang": ("files under `prompts` or `texts`", lambda own: own.files),
    }
    prompts: Annotated[list[Annotated[str, Field(min_length=1)]], IS_PATH] = Field(
        default_factory=list,
        description="files of instructions with their answers, in any form in which `prompts:` of a recipe is read: "
        "`messages` or `conversations`, or `instruction`, `input` and `output`",
    )
    texts: Annotated[list[Annotated[str, Field(min_length=1)]], IS_PATH] = Field(
        default_factory=list, description="files of documents, in any form in which `texts:` of a recipe is read"
    )
    fields: dict[str, str] = Field(
        default_factory=dict,
        description="which column of the files holds what, by name or number, e.g. {prompt: question, text: body}; "
        "where both kinds of files are named, `text` and `content` are of documents, `id` of both",
        json_schema_extra={"additionalProperties": {"type": ["string", "integer"]}},
    )
    lang: str = Field("en", description="language of the files")
    kinds: list[Kind] = Field(
        default_factory=lambda: list(KINDS),
        min_length=1,
        description="without files: what of the recipe's own is used, answers that came with the replay half of "
        "`prompts:`, and `texts:`",
    )
    block_tokens: int = Field(512, ge=16, description="longest row of a document, as in `pretraining`")

    @field_validator("fields", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return numbers_as_names(value)

    @field_validator("prompts", "texts")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a file is named twice, and would count twice; name each once")
        return value

    @field_validator("lang")
    @classmethod
    def _of_the_files(cls, value: str) -> str:
        with as_value_error():
            return language(value)

    @model_validator(mode="after")
    def _of_files(self) -> MixParams:
        if self.prompts or not self.texts:
            _Instructions(path="a", fields=self.prompt_fields)
        if self.texts:
            _Documents(path="a", lang=self.lang, fields=self.text_fields)
        return self

    @model_validator(mode="after")
    def _one_source(self) -> MixParams:
        if self.files and set(self.kinds) != set(KINDS):
            raise ValueError(
                "`kinds` is of the recipe's own data, and files are named in their place; drop one of both"
            )
        return self

    @property
    def prompt_fields(self) -> dict[str, str]:
        """Which column of the instruction files holds what."""
        others = TEXT_FIELDS if self.texts else ()
        return {field: column for field, column in self.fields.items() if field not in others}

    @property
    def text_fields(self) -> dict[str, str]:
        """Which column of the files of documents holds what."""
        wanted = (*TEXT_FIELDS, "id") if self.prompts else self.fields
        return {field: column for field, column in self.fields.items() if field in wanted}

    @property
    def files(self) -> bool:
        """Whether the data are its own files, and not the recipe's."""
        return bool(self.prompts or self.texts)


class Mix(Method):
    """Mixing of further data beside a method of pairs: instructions with given answers hold what a chat model could do
    (replay of the common kind), and documents in the target language held formality control, few-shot adaptation and
    document ability in a study of fine-tuning on parallel text (Stap et al. 2024, arXiv 2405.20089).

    Next-token prediction, L = -log P(answer | conversation) for instructions, -log P(document) for texts, each within
    the share of the tokens that the recipe gives to the method.

    What differs from its neighbours: `recovery` trains on answers that the base writes, or on those that came with the
    recipe's prompts, of which half are kept to measure with; `pretraining` trains on the recipe's `texts:`, cleaned,
    and balanced by languages. Here any files can be mixed in, one share holds both kinds, nothing is asked, and
    nothing of the files is held out: what they share with the test sets and suites is found and told all the same. An
    example is made as in those two: with the marker that opens English answers where the graft answers behind it, and
    documents without the chat template.
    """

    name: ClassVar[str] = "mix"
    summary: ClassVar[str] = "given answers of instruction files, and documents, beside another method"
    paper: ClassVar[str] = "the common replay; texts: arXiv 2405.20089"
    cite: ClassVar[tuple[str, ...]] = ("stap-2024-paradox",)
    version: ClassVar[int] = 3
    Params: ClassVar[type[MethodParams]] = MixParams
    consumes: ClassVar[Consumed] = "files"
    params: MixParams

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._given = Recovery(RecoveryParams(answers="reference"))

    @property
    def made_of(self) -> frozenset[str]:
        """What of the recipe's own it uses."""
        return frozenset() if self.params.files else frozenset(self.params.kinds)

    def lacks(self, available: Available) -> str:
        """Say so where there is nothing to mix in."""
        there = {"prompts": available.prompts, "texts": available.texts}
        if self.params.files or any(there[kind] for kind in self.params.kinds):
            return ""
        wanted = " or ".join(f"`{kind}:`" for kind in self.params.kinds)
        return f"nothing to mix in; name files as its parameter `prompts` or `texts`, or add {wanted} to the recipe"

    def check(self, languages: Sequence[str]) -> None:
        """Refuse files that cannot be read, or hold no answer or no document.

        Raises:
            DataError: one is missing, unreadable, or has no row to train on.
        """
        for number, path in enumerate(self.params.prompts):
            rows = self._prompts(number, path, Tally())
            if all(is_blank(prompt.reference or "") for prompt in rows):
                raise DataError(
                    f"{path}: no row has an answer to train on; name its column `output`, or say which it is, `fields: "
                    f"{{output: ...}}`, or take `recovery`, which lets the base answer"
                )
        for number, path in enumerate(self.params.texts):
            if next(self._texts(number, path, Tally()), None) is None:
                raise DataError(f"{path}: no row has a text to train on")

    def prepare(self, inputs: MethodInputs) -> dict[str, Any]:
        """Return the hashes of the files."""
        files = [*self.params.prompts, *self.params.texts]
        return {"files": [file_hash(locate(path, "jsonl", Path()).path) for path in files]} if files else {}

    def _prompts(self, number: int, path: str, tally: Tally) -> Iterator[Prompt]:
        for row in read_prompts(_Instructions(path=path, lang=self.params.lang, fields=self.params.prompt_fields)):
            if isinstance(row, Rejected):
                tally.filters[row.reason] += 1
            else:
                yield replace(row.record, id=f"{number}:{row.record.id}")

    def _texts(self, number: int, path: str, tally: Tally) -> Iterator[Text]:
        for row in read_texts(_Documents(path=path, lang=self.params.lang, fields=self.params.text_fields)):
            if isinstance(row, Rejected):
                tally.filters[row.reason] += 1
            else:
                yield replace(row.record, id=f"{number}:{row.record.id}")

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield conversations with their answers, and documents."""
        yield from self._conversations(inputs, tally)
        yield from self._documents(inputs, tally)

    def known_examples(self, inputs: MethodInputs, generations: Mapping[str, Generation]) -> Iterator[Example]:
        """Yield the conversations: those that are too long are told before anything is trained."""
        yield from self._conversations(inputs, Tally())

    def _conversations(self, inputs: MethodInputs, tally: Tally) -> Iterator[Example]:
        prompts: Iterable[Prompt] = inputs.prompts if "prompts" in self.made_of else ()
        if self.params.prompts:
            prompts = (row for n, path in enumerate(self.params.prompts) for row in self._prompts(n, path, tally))
        rows = iter(prompts)
        while batch := list(islice(rows, _AT_ONCE)):
            for example in self._given.examples(replace(inputs, prompts=batch), {}, tally):
                yield replace(example, id=f"mix:{example.id.removeprefix('recovery:')}")

    def _documents(self, inputs: MethodInputs, tally: Tally) -> Iterator[Example]:
        texts: Iterable[Text] = inputs.texts if "texts" in self.made_of else ()
        if self.params.texts:
            texts = (row for n, path in enumerate(self.params.texts) for row in self._texts(n, path, tally))
        for text in texts:
            tally.filters["kept"] += 1
            yield Example(f"mix:{text.id}", (), (Span(text.text, "text"),), block=self.params.block_tokens)
