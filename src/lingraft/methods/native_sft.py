"""Fine-tuning on prompts and answers in the other language: the baseline of the chain of thought."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from lingraft.data.records import Example
from lingraft.methods.base import MethodInputs, MethodParams
from lingraft.methods.base_native import NativeParams, NativeReplay, TranslatedPrompt


class NativeSFTParams(NativeParams):
    """Parameters of fine-tuning on translated prompts and answers."""

    targets: Literal["hard"] = Field("hard", description="the base wrote in English: it has no distributions for these")


class NativeSFT(NativeReplay):
    """Direct fine-tuning in the target language: question and answer of `tcot`, without the English between them. The
    baseline that reviewers of TransLLM (Geng et al. 2024, arXiv 2405.13923) asked for (multilingual SFT on translated
    data).

    Departures: as for `tcot`; with the same parameters the translated texts are the same.
    """

    name: ClassVar[str] = "native_sft"
    summary: ClassVar[str] = "fine-tuning on translated prompts and answers, without English between them"
    paper: ClassVar[str] = "the common baseline (arXiv 2405.13923 has the data)"
    cite: ClassVar[tuple[str, ...]] = ("geng-2024-transllm",)
    Params: ClassVar[type[MethodParams]] = NativeSFTParams
    chat: ClassVar[Literal["direct", "tcot"] | None] = "direct"

    def example(self, carried: TranslatedPrompt, inputs: MethodInputs) -> Example:
        """Return question and answer in the other language."""
        return Example(f"native_sft:{carried.prompt.id}", carried.messages, (carried.written,))
