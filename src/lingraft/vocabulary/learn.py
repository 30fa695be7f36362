"""Learning a vocabulary: further pieces for the base's tokenizer from texts, and the markers, as a folder of files."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer
from transformers import AutoConfig, PreTrainedTokenizerBase

from lingraft.core.errors import DataError, ModelError
from lingraft.core.hashing import stable_fraction, text_hash
from lingraft.data.records import Text
from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language, is_spaceless
from lingraft.models.files import ModelFiles, load_tokenizer
from lingraft.models.vocabulary import FILE, Fertility, VocabularyInfo, tokenizer_files, tokenizer_hash
from lingraft.store.files import write_atomic, write_json
from lingraft.translation.markers import Markers
from lingraft.vocabulary.bpe import count_words, first_pieces, learn_additions
from lingraft.vocabulary.settings import VocabularySettings
from lingraft.vocabulary.tokenizer_spec import Addition, TokenizerSpec, new_pieces, reserved

__all__ = ["VocabularySettings", "learn_vocabulary"]

HELD_OUT = 20
"""One line in so many is not learnt from, and shows what the pieces are worth."""
HELD_OUT_CHARACTERS = 300_000
SMALLEST = 500
_PROBES = (
    "The quick brown fox, 1234.5 km; it's 'fine'!\n\n  def f(x):\n\treturn x**2",
    "Größe, naïve cafés, Łódź; привет, мир. Γειά σου",
    "วันนี้อากาศดี เราจึงเดินไปท่าเรือเก่าและกินปลา ๑๒๓",
    "नमस्ते दुनिया, வணக்கம் السلام عليكم שלום 你好世界 こんにちは 안녕하세요",
    "👩‍👩‍👧‍👦 ❤️ 1️⃣ <EN> <|im_end|> </s>",
)


@dataclass(frozen=True)
class _Sample:
    """Lines of a language: to learn from, and to measure with."""

    lang: str
    learnt: list[str]
    held_out: list[str]

    @property
    def unit(self) -> Literal["word", "character"]:
        return "character" if is_spaceless(self.lang) else "word"

    @property
    def units(self) -> int:
        """Words, or characters that are not white space, of the lines to measure with."""
        words = (word for line in self.held_out for word in line.split())
        return sum(map(len, words)) if self.unit == "character" else sum(1 for _ in words)

    def fertility(self, tokenizer: Tokenizer) -> float:
        """Return tokens per unit."""
        encoded = tokenizer.encode_batch_fast(self.held_out, add_special_tokens=False)
        return sum(map(len, encoded)) / self.units


def learn_vocabulary(
    files: ModelFiles,
    texts: Callable[[], Iterator[Text]],
    settings: VocabularySettings,
    markers: Markers,
    folder: Path,
    *,
    seed: int,
    say: Callable[[str], None] | None = None,
) -> VocabularyInfo:
    """Write a vocabulary that extends a base's tokenizer, and return its manifest.

    Args:
        files: the base.
        texts: gives the texts, as often as it is called; not called where only markers are added.
        settings: size, languages and first values of the new rows.
        markers: whose tokens are added.
        folder: to write into.
        seed: of the choice of texts and of random rows.
        say: is told what each size is worth.

    Raises:
        UsageError: the base's tokenizer cannot be extended.
        DataError: there is too little text in one of the languages.
        ModelError: the tokenizer does not survive being written and read.
    """
    say = say or (lambda text: None)
    tokenizer = load_tokenizer(files.folder)
    config: Any = AutoConfig.from_pretrained(files.folder, trust_remote_code=False)
    base_rows = int(config.get_text_config().vocab_size)
    spec = TokenizerSpec(tokenizer, marks_join_letters=settings.marks_join_letters and settings.size != 0)
    if spec.size > base_rows:
        raise ModelError(f"{files.name} has {base_rows} embeddings for {spec.size} tokens; copy the model anew")
    samples = [] if settings.size == 0 else _samples(texts, settings, seed)
    additions = _additions(spec, tokenizer, samples, settings, say)
    known = spec.extended(additions, markers.tokens)["model"]["vocab"]
    tokens = 1 + max(known.values())
    rows = max(base_rows, settings.pad_multiple * math.ceil(tokens / settings.pad_multiple))
    # Every row has a token: programs that fit the embeddings to the tokenizer's length then find them as they are.
    spare = reserved(known, rows - tokens)
    _write_tokenizer(tokenizer, spec.extended(additions, (*markers.tokens, *spare)), folder)
    written = _checked(tokenizer, spec, additions, markers, spare, folder)
    info = VocabularyInfo(
        base_sha256=files.sha256,
        base_tokens=spec.size,
        base_rows=base_rows,
        tokens=tokens,
        reserved=len(spare),
        rows=rows,
        pieces=len(new_pieces(additions)),
        merges=sum(addition.pair is not None for addition in additions),
        markers=markers.to_dict(),
        init=settings.init,
        pad_multiple=settings.pad_multiple,
        cuts_as_base=spec.cuts_as_base,
        seed=seed,
        sha256=tokenizer_hash(folder),
        fertility=[
            Fertility(
                lang=sample.lang,
                unit=sample.unit,
                before=round(sample.fertility(tokenizer.backend_tokenizer), 4),
                after=round(sample.fertility(written.backend_tokenizer), 4),
                sample=sample.units,
            )
            for sample in samples
        ],
    )
    write_atomic(folder / FILE, info.model_dump_json(by_alias=True, indent=2) + "\n")
    return info


def _samples(texts: Callable[[], Iterator[Text]], settings: VocabularySettings, seed: int) -> list[_Sample]:
    """Return the lines of each language, a random part of the texts where there are more than asked for.

    A line is held out by its own hash, so that a line that occurs twice is on one side.

    Raises:
        DataError: too little text.
    """
    chosen = {base_language(code) for code in settings.languages}
    sizes: Counter[str] = Counter()
    for text in texts():
        lang = base_language(text.lang)
        if lang in chosen or (not chosen and lang != "en"):
            sizes[lang] += len(text.text)
    lacking = sorted(chosen - set(sizes))
    if lacking or not sizes:
        raise DataError(
            f"vocabulary: there are no texts in {lacking[0] if lacking else 'another language than English'} to learn "
            f"from; give some under `texts:`, or set `vocabulary.size` to 0"
        )
    share = settings.sample_characters / len(sizes)
    lines: dict[str, list[str]] = {lang: [] for lang in sorted(sizes)}
    for text in texts():
        lang = base_language(text.lang)
        if lang in lines and stable_fraction("vocabulary", seed, text.id) * sizes[lang] < share:
            lines[lang] += [line for line in text.text.split("\n") if not is_blank(line)]
    return [_held_out(lang, found) for lang, found in lines.items()]


def _held_out(lang: str, lines: Sequence[str]) -> _Sample:
    hashes = [text_hash("vocabulary", line) for line in lines]
    if len(set(hashes)) < 2:
        raise DataError(f"vocabulary: there is no more than one line of text in {lang} to learn from; give more")
    kept = {value for value in hashes if value % HELD_OUT == 0} or {min(hashes)}
    kept = kept if len(kept) < len(set(hashes)) else {min(hashes)}
    learnt = [line for line, value in zip(lines, hashes, strict=True) if value not in kept]
    measured: list[str] = []
    room = HELD_OUT_CHARACTERS
    for line, value in zip(lines, hashes, strict=True):
        if value in kept and room > 0:
            measured.append(line)
            room -= len(line)
    return _Sample(lang, learnt, measured)


def _additions(
    spec: TokenizerSpec,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[_Sample],
    settings: VocabularySettings,
    say: Callable[[str], None],
) -> list[Addition]:
    """Return the pieces to add."""
    if not samples:
        return []
    words: Counter[str] = Counter()
    for sample in samples:
        words.update(count_words(spec, sample.learnt, sample.lang))
    largest = settings.max_size if settings.size == "auto" else settings.size
    additions = learn_additions(spec, words, largest, settings.max_piece_characters, settings.min_count)
    found = len(new_pieces(additions))
    if settings.size != "auto":
        if found < largest:
            say(f"Vocabulary: the texts give {found:,} pieces, fewer than the {largest:,} asked for")
        return additions
    sizes = [0]
    while sizes[-1] < found:
        sizes.append(min(found, max(SMALLEST, 2 * sizes[-1])))
    before = {sample.lang: sample.fertility(tokenizer.backend_tokenizer) for sample in samples}
    say(f"Vocabulary: {_shown(samples, before)} with the base's {spec.size:,} tokens")
    best, last = 0, before
    for size in sizes[1:]:
        now = _measured(spec, first_pieces(additions, size), samples)
        gain = 1 - math.exp(sum(math.log(now[lang] / last[lang]) for lang in now) / len(now))
        say(f"Vocabulary: {_shown(samples, now)} with {size:,} more, {gain:.1%} fewer tokens than the row before")
        if gain < settings.min_gain:
            break
        best, last = size, now
    say(f"Vocabulary: {best:,} pieces are added")
    return first_pieces(additions, best)


def _measured(spec: TokenizerSpec, additions: Sequence[Addition], samples: Sequence[_Sample]) -> dict[str, float]:
    tokenizer = Tokenizer.from_str(json.dumps(spec.extended(additions)))
    return {sample.lang: sample.fertility(tokenizer) for sample in samples}


def _shown(samples: Sequence[_Sample], values: Mapping[str, float]) -> str:
    return ", ".join(f"{sample.lang} {values[sample.lang]:.3f} tokens per {sample.unit}" for sample in samples)


def _write_tokenizer(base: PreTrainedTokenizerBase, spec: Mapping[str, Any], folder: Path) -> None:
    """Write the base's tokenizer files with another description, in a class that takes the description as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in tokenizer_files(folder):
        path.unlink()
    base.save_pretrained(folder)
    write_atomic(folder / "tokenizer.json", json.dumps(spec, ensure_ascii=False) + "\n")
    # A class of its own, such as LlamaTokenizer, would build its steps anew; what follows says where the base lay.
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text("utf-8"))
    for key in ("added_tokens_decoder", "is_local", "local_files_only", "name_or_path", "backend", "auto_map"):
        values.pop(key, None)
    write_json(path, {**values, "tokenizer_class": "PreTrainedTokenizerFast"})


def _checked(
    base: PreTrainedTokenizerBase,
    spec: TokenizerSpec,
    additions: Sequence[Addition],
    markers: Markers,
    spare: Sequence[str],
    folder: Path,
) -> PreTrainedTokenizerBase:
    """Return the tokenizer as it is read from the folder.

    Raises:
        ModelError: it is not the one that was to be written.
    """
    written = load_tokenizer(folder)
    expected = Tokenizer.from_str(json.dumps(spec.extended(additions, (*markers.tokens, *spare))))
    ids = written.get_vocab()
    texts = [*_PROBES, *markers.tokens, f"a{markers.english}b", "".join(new_pieces(additions)[:50])]
    odd = [token for token, number in base.get_vocab().items() if ids.get(token) != number]
    odd += [text for text in texts if written.backend_tokenizer.encode(text).ids != expected.encode(text).ids]
    odd += [token for token in markers.tokens if len(expected.encode(token, add_special_tokens=False).ids) != 1]
    if odd or sorted(ids.values())[-1] != len(written) - 1 or written.chat_template != base.chat_template:
        raise ModelError(
            f"the extended tokenizer in {folder} is not read back as it was written"
            f"{f' (see {odd[0][:40]!r})' if odd else ''}; choose another base"
        )
    return written
