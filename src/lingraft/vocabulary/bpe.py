"""Continued BPE training: the merges that a tokenizer would have learnt next, had it seen more text of a language.

Merges are learnt over the base's own tokens, so that every added piece is reached through the base's pieces (Purason,
Chizhov, Yamshchikov and Fishel 2025, arXiv 2512.03989). Two departures: characters come first, for byte-level BPE would
learn pieces that end in the middle of a Thai letter; and pieces longer than a cap are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lingraft.language.measures import in_script_of, letter_count
from lingraft.vocabulary.tokenizer_spec import Addition, TokenizerSpec, new_pieces

COVERAGE = 0.9995
"""Share of the characters that get a piece of their own; SentencePiece's default `character_coverage`."""
MIN_COUNT = 2
_FIRST = 0x10000  # the base's tokens stand as characters from here on: none is white space or a surrogate


def count_words(spec: TokenizerSpec, texts: Iterable[str], lang: str) -> Counter[str]:
    """Return how often each word in the script of a language occurs, by its spelling inside of the tokenizer.

    Words with Latin letters are left out where the language has another script: so English is read as before.

    Args:
        spec: how the base's tokenizer cuts texts into words.
        texts: in the language.
        lang: language code.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for text in texts:
        counts.update(spec.words(text))
    latin = in_script_of("a", lang)
    return Counter(
        {
            spelt: count
            for (text, spelt), count in counts.items()
            if letter_count(text) and in_script_of(text, lang) and (latin or not any(map(_is_ascii_letter, text)))
        }
    )


def _is_ascii_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def learn_additions(
    spec: TokenizerSpec, words: Mapping[str, int], size: int, max_characters: int, min_count: int = MIN_COUNT
) -> list[Addition]:
    """Return up to `size` new pieces with their merges, the most useful first; the same for the same words.

    Args:
        spec: of the base's tokenizer.
        words: spelling -> count.
        size: most pieces to add.
        max_characters: of a piece, a space before it not counted.
        min_count: occurrences that a piece of several characters needs.
    """
    found = _characters(spec, words, size)
    room = size - len(new_pieces(found))
    if room > 0:
        found += _merges(spec, found, words, room, max_characters, min_count)
    return _reached(spec, found)


def first_pieces(additions: Sequence[Addition], size: int) -> list[Addition]:
    """Return the additions that make the first `size` pieces."""
    taken: list[Addition] = []
    pieces = 0
    for addition in additions:
        pieces += addition.new
        if pieces > size:
            break
        taken.append(addition)
    return taken


def _characters(spec: TokenizerSpec, words: Mapping[str, int], size: int) -> list[Addition]:
    """Return what makes one token of each character that the base has none for."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in spec.text_of(word) or "":
            counts[character] += count
    base, known = spec.bpe().model, {*spec.vocab, *spec.added}
    left = COVERAGE * sum(counts.values())
    additions: list[Addition] = []
    merges = set(spec.merges)
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if left <= 0 or count < MIN_COUNT or character == " ":
            continue
        left -= count
        spelt = spec.spell(character)
        if spelt in known and not spec.by_bytes:
            continue
        parts = [token.value for token in base.tokenize(spelt)] if spec.by_bytes else []
        steps = [] if spec.by_bytes else [Addition(spelt)]
        product = parts[0] if parts else spelt
        for part in parts[1:]:
            pair, product = (product, part), product + part
            if pair not in merges:
                steps.append(Addition(product, pair, product not in known))
        if len(new_pieces([*additions, *steps])) > size:
            break
        merges.update(step.pair for step in steps if step.pair)
        known.update(step.product for step in steps)
        additions += steps
    return additions


def _merges(
    spec: TokenizerSpec,
    characters: Sequence[Addition],
    words: Mapping[str, int],
    room: int,
    max_characters: int,
    min_count: int,
) -> list[Addition]:
    """Return merges of whole characters that make up to `room` new pieces."""
    runs = _runs(spec, characters, words)
    tokens = sorted({token for run in runs for token in run})
    code = {token: chr(_FIRST + i) for i, token in enumerate(tokens)}
    token_of = {character: token for token, character in code.items()}
    coded = {"".join(map(code.__getitem__, run)): count for run, count in runs.items()}
    asked = room + room // 4 + 64
    while True:
        learnt = _train(coded, len(tokens) + asked, min_count)
        found = _translated(spec, characters, learnt, token_of, room, max_characters)
        if len(new_pieces(found)) >= room or len(learnt) < asked:
            return found
        asked *= 2  # too many of them were too long, or there already


def _runs(spec: TokenizerSpec, characters: Sequence[Addition], words: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    """Return the tokens of the words with their counts, cut where a token is part of a character or a bare byte."""
    model = spec.bpe(characters).model
    runs: Counter[tuple[str, ...]] = Counter()
    whole: dict[str, bool] = {}
    for word, count in words.items():
        tokens = [token.value for token in model.tokenize(word)]
        for token in tokens:
            if token not in whole:
                whole[token] = spec.text_of(token) is not None
        for good, group in groupby(tokens, whole.__getitem__):
            run = tuple(group)
            if good and len(run) > 1:
                runs[run] += count
    return runs


def _train(words: Mapping[str, int], size: int, min_count: int) -> list[tuple[str, str]]:
    """Return the merges of a fresh BPE over these words; of pairs that occur equally often the lower one is first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()

    def lines() -> Iterator[str]:
        for word, count in words.items():
            for begin in range(0, count, 1000):
                yield " ".join([word] * min(1000, count - begin))

    tokenizer.train_from_iterator(
        lines(), trainers.BpeTrainer(vocab_size=size, min_frequency=min_count, show_progress=False)
    )
    return [(one, other) for one, other in json.loads(tokenizer.to_str())["model"]["merges"]]


def _translated(
    spec: TokenizerSpec,
    characters: Sequence[Addition],
    learnt: Sequence[tuple[str, str]],
    token_of: Mapping[str, str],
    room: int,
    max_characters: int,
) -> list[Addition]:
    """Return learnt merges over the tokenizer's own tokens, without too long pieces and what is built on them."""
    known = {*spec.vocab, *spec.added, *new_pieces(characters)}
    merges = spec.merges | {addition.pair for addition in characters if addition.pair}
    additions: list[Addition] = []
    too_long: set[str] = set()
    for one, other in learnt:
        first, second = ("".join(map(token_of.__getitem__, part)) for part in (one, other))
        product = first + second
        text = spec.text_of(product) or ""
        if one in too_long or other in too_long or len(text.strip(" ")) > max_characters:
            too_long.add(one + other)
            continue
        if (first, second) in merges:
            continue
        room -= product not in known
        if room < 0:
            break
        additions.append(Addition(product, (first, second), product not in known))
        merges.add((first, second))
        known.add(product)
    return additions


def _reached(spec: TokenizerSpec, additions: list[Addition]) -> list[Addition]:
    """Return the additions without pieces that their own text does not lead to, and without what needs these.

    A merge that leads to a piece of the base can let the base's own merges take a part away from a later one.
    """
    while True:
        model = spec.bpe(additions).model
        lost = {piece for piece in new_pieces(additions) if [token.value for token in model.tokenize(piece)] != [piece]}
        if not lost:
            return additions
        additions = [
            addition
            for addition in additions
            if addition.product not in lost and not lost.intersection(addition.pair or ())
        ]
