"""Whether llama.cpp reads text as the tokens that a model was trained on, and under which name of a way to cut words.

GGUF does not hold how a tokenizer cuts text into words, but the name of one of the ways that llama.cpp has built in. A
converter takes the name from the tokens of one text; what is cut otherwise elsewhere would be read as other tokens than
in training, and nobody would be told. So the tokens of many texts are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lingraft.core.errors import ModelError
from lingraft.models.llama_cpp import Converter, LlamaCpp, Opener

KNOWN = ("llama-bpe", "qwen2", "qwen35", "gpt-2", "smollm", "gpt-4o", "tekken", "deepseek-v3", "kimi-k2", "exaone-moe")
"""Ways of llama.cpp that are tried where the converter's own choice does not read text as the tokenizer does: those of
the large families, and those with which combining marks stay in words."""


@dataclass(frozen=True)
class Reading:
    """Texts, and the token ids as which the tokenizer reads them."""

    texts: Sequence[str]
    ids: Sequence[Sequence[int]]

    def different(self, program: LlamaCpp) -> list[int]:
        """Return the numbers of the texts that a program reads otherwise."""
        found = program.ids(self.texts, prompt=False)
        return [number for number, (one, other) in enumerate(zip(self.ids, found, strict=True)) if list(one) != other]


def chosen_cuts(
    converter: Converter, opener: Opener, folder: Path, scratch: Path, reading: Reading, joined: bool
) -> str:
    """Return the name under which llama.cpp reads texts as the tokenizer does; "": the kind of tokenizer has none.

    Args:
        converter: that writes it.
        opener: of programs that read it.
        folder: with configuration and tokenizer.
        scratch: folder for files that may be large.
        reading: texts and their tokens.
        joined: whether the tokenizer cuts words otherwise than its base's, for the message.

    Raises:
        ModelError: there is no such name, or the converter knows neither model nor tokenizer.
    """
    fewest: tuple[int, str, int] | None = None
    tried: set[str] = set()
    for names in ((), KNOWN):
        for name, file in converter.vocabulary(folder, names, scratch).items():
            if name in tried:
                continue
            tried.add(name)
            try:
                with LlamaCpp(opener(), file, 512) as program:
                    different = reading.different(program)
            except ModelError:  # this llama.cpp does not know the name
                continue
            if not different:
                return name
            if fewest is None or len(different) < fewest[0]:
                fewest = len(different), name, different[0]
    if fewest is None:
        raise ModelError("llama.cpp cannot read the tokenizer that its converter writes; export it without --gguf")
    count, name, example = fewest
    why = (
        "its combining marks stay in words, as no way of llama.cpp has it; train with `vocabulary: "
        "{marks_join_letters: false}` for GGUF, or"
        if joined
        else "a GGUF file would be read wrongly, and nobody told;"
    )
    raise ModelError(
        f"llama.cpp reads {count} of {len(reading.texts)} texts as other tokens than the tokenizer does, such as "
        f"{reading.texts[example]!r:.80} (cut as {name or 'its kind'!r}, the nearest of {len(tried)} ways): "
        f"{why} export it without --gguf, for transformers or vLLM"
    )
