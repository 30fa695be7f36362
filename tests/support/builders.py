"""Tiny tokenizers and models, trained and built in the process: no download, the same on every run.

A tokenizer is a *style* (how text becomes tokens) joined with a *family* (chat template and control tokens). The styles
are those of the models people use:

| style | as in | peculiarity |
|---|---|---|
| gpt2 | SmolLM2 | byte-level BPE, one digit per token, GPT-2's split |
| llama3 | Llama-3, Qwen2.5 | byte-level BPE, tiktoken-like split: punctuation takes following newlines along |
| sentencepiece | Llama-2, Mistral v0.2 | a space before every stretch of text, byte fallback, no pre-tokenisation |
| metaspace | Mistral v0.3 | the same, with the space before the first stretch only |
| gemma | Gemma-2 | spaces become U+2581, none is put in front; runs of newlines are tokens |
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATES = Path(__file__).parent / "chat_templates"

CORPUS = (
    "Translate the following sentence from German to English. Keep the meaning, the tone and the punctuation.",
    "The weather is nice today, so we will walk to the old harbour and eat fish; it's only 12 minutes away.",
    "Das Wetter ist heute schön, deshalb gehen wir zum alten Hafen und essen Fisch; es sind nur 12 Minuten.",
    "You are a helpful assistant. You do not know everything, and you say so when you don't.",
    'Explanation:\n\n1. "schön" is an adjective here.\n2. The verb takes the second position.\n\n- It\'s literal.\n',
    "user assistant system model INST SYS im_start im_end start_header_id eot_id start_of_turn end_of_turn",
    "今天天气很好,所以我们走到老港口去吃鱼。请把下面的句子翻译成英文。",
    "วันนี้อากาศดี เราจึงเดินไปท่าเรือเก่าและกินปลา กรุณาแปลประโยคต่อไปนี้เป็นภาษาอังกฤษ",
    "Сегодня хорошая погода, поэтому мы идём в старый порт. Переведите следующее предложение.",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))  # 5\n\n\n\tTabs  and   spaces    too.\n",
)

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Family:
    """A chat template (`chat_templates/<name>.jinja`) with the control tokens it needs.

    `strip_right`: control tokens that take the white space after them along (Phi-3). `unmarked`: added tokens that
    are not flagged as special (Qwen3's think tags).
    """

    name: str
    style: str
    eos: str
    bos: str | None = None
    control: tuple[str, ...] = ()
    strip_right: tuple[str, ...] = ()
    unmarked: tuple[str, ...] = ()


_HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>")
_PHI3 = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
FAMILIES = {
    family.name: family
    for family in (
        Family("llama2", "sentencepiece", "</s>", "<s>"),
        Family("llama3", "llama3", "<|eot_id|>", "<|begin_of_text|>", _HEADERS),
        Family("llama32", "llama3", "<|eot_id|>", "<|begin_of_text|>", _HEADERS),
        Family("mistral_v02", "sentencepiece", "</s>", "<s>"),
        Family("mistral_v03", "metaspace", "</s>", "<s>", ("[INST]", "[/INST]")),
        Family("qwen25", "llama3", "<|im_end|>", None, ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
        Family("qwen3", "llama3", "<|im_end|>", None, ("<|im_start|>", "<|im_end|>"), (), ("<think>", "</think>")),
        Family("gemma2", "gemma", "<eos>", "<bos>", ("<start_of_turn>", "<end_of_turn>")),
        Family("smollm2", "gpt2", "<|im_end|>", "<|im_start|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
        Family(
            "phi3", "sentencepiece", "<|endoftext|>", "<s>", (), ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
        ),
    )
}
STYLES = ("gpt2", "llama3", "sentencepiece", "metaspace", "gemma")


def _byte_level(style: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=style == "llama3"))
    split: pre_tokenizers.PreTokenizer
    if style == "gpt2":
        steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    else:
        split = pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), behavior="isolated")
        steps = [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def _sentence_piece(style: str) -> Tokenizer:
    # SentencePiece learns no token across words, yet splits nothing in use: train with the split, keep the merges only.
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    lines = [line.replace("\n", " ").replace("\t", " ") for line in CORPUS]  # these stay single bytes
    common = Counter("".join(lines).replace(" ", "\u2581"))
    # Rare characters stay bytes. (The trainer's own limit breaks ties differently on each run.)
    alphabet = sorted({*string.ascii_letters, *string.digits, *(char for char, count in common.items() if count > 2)})
    trained.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=700, initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False
        ),
    )
    learned = json.loads(trained.to_str())["model"]
    spaces = ["\u2581" * 2, "\u2581" * 4]
    pieces = [*(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"], *spaces]
    merges = [*map(tuple, learned["merges"]), ("\u2581", "\u2581"), ("\u2581" * 2, "\u2581" * 2)]
    vocab = {piece: i for i, piece in enumerate(["<unk>", *dict.fromkeys(pieces)])}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    decoding = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if style == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    elif style == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    if style != "gemma":
        decoding.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(decoding)
    tokenizer.add_special_tokens([AddedToken("<unk>", normalized=False)])
    if style == "gemma":
        tokenizer.add_tokens([AddedToken("\n" * count, normalized=False) for count in (2, 3)])
    return tokenizer


@cache
def _trained(style: str) -> str:
    build = _byte_level if style in ("gpt2", "llama3") else _sentence_piece
    return str(build(style).to_str())


def tiny_tokenizer(family: str = "smollm2", style: str | None = None) -> PreTrainedTokenizerFast:
    """Return a tokenizer of about 700 tokens with the chat template and control tokens of `family`.

    Args:
        family: a key of `FAMILIES`.
        style: one of `STYLES`; the family's own when None.
    """
    kind = FAMILIES[family]
    style = style or kind.style
    tokenizer = Tokenizer.from_str(_trained(style))
    if style == "llama3" and family.startswith("qwen"):
        tokenizer.normalizer = normalizers.NFC()
    start = [] if kind.bos is None else [kind.bos]
    control = list(dict.fromkeys([*start, kind.eos, *kind.control]))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, rstrip=True) for token in kind.strip_right])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in kind.unmarked])
    offsets = processors.ByteLevel(trim_offsets=True)  # as GPT-2 and Llama-3: offsets without the space before a word
    if kind.bos is not None and family not in ("smollm2", "phi3"):  # those two put no BOS in front of plain text
        number = tokenizer.token_to_id(kind.bos)
        opening = processors.TemplateProcessing(
            single=f"{kind.bos} $A", pair=f"{kind.bos} $A {kind.bos} $B", special_tokens=[(kind.bos, number)]
        )
        tokenizer.post_processor = processors.Sequence([offsets, opening])
    else:
        tokenizer.post_processor = offsets
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=kind.bos,
        eos_token=kind.eos,
        unk_token="<unk>" if tokenizer.token_to_id("<unk>") is not None else None,
        chat_template=(TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8"),
        clean_up_tokenization_spaces=False,
    )


def with_markers(tokenizer: PreTrainedTokenizerFast, *markers: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer with control tokens added, as an extended vocabulary has them."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(markers)})
    return tokenizer


def tiny_llama(
    vocab: int | PreTrainedTokenizerFast, *, seed: int = 0, hidden: int = 32, layers: int = 2, tied: bool = True
) -> LlamaForCausalLM:
    """Return a random Llama in float32, ready to use (evaluation mode), that knows all tokens of a tokenizer.

    Args:
        vocab: number of tokens, or the tokenizer.
        seed: of the weights; the global random state is left as it was.
        hidden: width; a multiple of 8.
        layers: number of layers.
        tied: whether the output head shares the weights of the embeddings.
    """
    config = LlamaConfig(
        vocab_size=vocab if isinstance(vocab, int) else len(vocab),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None if isinstance(vocab, int) else vocab.eos_token_id,
        pad_token_id=None,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def token_bytes(tokenizer: PreTrainedTokenizerFast, token_id: int) -> bytes:
    """Return what one token stands for, from its spelling in the vocabulary alone (no decoder, no offsets)."""
    token = str(tokenizer.convert_ids_to_tokens(token_id))
    if token_id in tokenizer.added_tokens_decoder:
        return token.encode()
    if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
        return bytes([int(token[3:5], 16)])
    if isinstance(tokenizer.backend_tokenizer.decoder, decoders.ByteLevel):
        return bytes(_BYTE_OF_CHARACTER[character] for character in token)
    return token.replace("\u2581", " ").encode()


def _byte_of_character() -> dict[str, int]:
    """Return GPT-2's table: printable Latin-1 bytes are themselves, the rest follow from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(moved)}


_BYTE_OF_CHARACTER = _byte_of_character()
