"""Learnt vocabularies: lossless in every family of tokenizers, reached, the same each time, and English as before."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from builders import FAMILIES, tiny_tokenizer, token_bytes
from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Text
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.loading import load_renderer
from lingraft.models.vocabulary import FILE, tokenizer_files
from lingraft.vocabulary.bpe import count_words, learn_additions
from lingraft.vocabulary.learn import learn_vocabulary
from lingraft.vocabulary.settings import VocabularySettings
from lingraft.vocabulary.tokenizer_spec import TokenizerSpec, new_pieces
from vocabulary_support import MARKERS, learn, save_base, thai_texts

PLAIN = (
    "The weather is nice today, so we'll walk to the old harbour; it's only 12 minutes (3.5 km) away.\n\n",
    "Das Wetter ist heute schön: größer, süßer, Äpfel für 3,50 €!",
    "def add(a, b):\n    return a + b\n\nprint(add(2, 3))  # 5\n\n\n\tTabs  and   spaces    too.\n",
    "1234567 0.5e-3 1️⃣ 👩‍👩‍👧‍👦 ❤️ ok❤️ 🇹🇭 x² ½",
    "Сегодня хорошая погода. 今天天气很好。",
)
THAI = "วันนี้อากาศดี เราจึงเดินทางไปโรงเรียนเก่าที่จังหวัดเชียงใหม่ ๑๒๓ ฿5 COVID-19 น้ำท่วมฯ\nกรุณา ก็ ๆ"


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return save_base(tmp_path / "base")


def ids(tokenizer: object, text: str) -> list[int]:
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_any_text_is_given_back_and_what_is_not_thai_is_read_as_before(tmp_path: Path, family: str) -> None:
    files = save_base(tmp_path / "base", family)
    info = learn(files, tmp_path / "v")
    base, grown = load_renderer(files).tokenizer, AutoTokenizer.from_pretrained(tmp_path / "v")
    assert info.pieces == 60
    assert info.tokens == len(base) + 60 + 3
    assert info.tokens + info.reserved == len(grown) == info.rows
    before = base.get_vocab()
    assert {token: grown.get_vocab()[token] for token in before} == before
    for text in (*PLAIN, THAI, *(text.text for text in thai_texts(3))):
        found = ids(grown, text)
        assert grown.decode(found, clean_up_tokenization_spaces=False) == text
        assert b"".join(token_bytes(grown, number) for number in found).decode().strip(" ") == text.strip(" ")
    assert len(ids(grown, THAI)) < 0.8 * len(ids(base, THAI))
    for text in PLAIN:
        assert ids(grown, text) == ids(base, text)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_piece_is_reached_and_is_whole_text_within_a_word(tmp_path: Path, family: str) -> None:
    files = save_base(tmp_path / "base", family)
    info = learn(files, tmp_path / "v", max_piece_characters=6)
    grown = AutoTokenizer.from_pretrained(tmp_path / "v")
    merging = json.loads(grown.backend_tokenizer.to_str())["model"]
    merges = {(one, other): rank for rank, (one, other) in enumerate(merging["merges"])}
    for number in range(info.base_tokens, info.base_tokens + info.pieces):
        piece = grown.convert_ids_to_tokens(number)
        assert greedy(piece, merges, set(merging["vocab"])) == [piece]
        if len(token_bytes(grown, number)) > 3:  # characters may be made of two steps
            text = token_bytes(grown, number).decode()
            assert " " not in text[1:]
            assert len(text.strip()) <= 6
        assert not any(byte < 0x80 and chr(byte).isalpha() for byte in token_bytes(grown, number))
    used = Counter(number for text in thai_texts() for number in ids(grown, text.text))
    assert sum(number in used for number in range(info.base_tokens, info.tokens - 3)) >= 0.6 * info.pieces


def greedy(word: str, merges: dict[tuple[str, str], int], vocab: set[str]) -> list[str]:
    """BPE as in its paper (Sennrich et al., arXiv 1508.07909): the merge learnt first, until none is left."""
    parts = [part for c in word for part in ([c] if c in vocab else [f"<0x{byte:02X}>" for byte in c.encode()])]
    while True:
        pairs = [(merges[pair], i) for i, pair in enumerate(pairwise(parts)) if pair in merges]
        if not pairs:
            return parts
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@pytest.mark.parametrize("family", ["smollm2", "llama3", "llama2", "gemma2"])
def test_words_are_encoded_as_plain_bpe_would(tmp_path: Path, family: str) -> None:
    learn(save_base(tmp_path / "base", family), tmp_path / "v")
    grown = AutoTokenizer.from_pretrained(tmp_path / "v")
    model = json.loads(grown.backend_tokenizer.to_str())["model"]
    merges = {(one, other): rank for rank, (one, other) in enumerate(model["merges"])}
    spec = TokenizerSpec(tiny_tokenizer(family))
    for text in thai_texts(4):
        for _, word in spec.words(text.text):
            if not spec.by_bytes and word.startswith("\u2581"):
                continue  # a tokenizer that puts a space in front would put another
            expected = greedy(word, merges, set(model["vocab"]))
            assert [token.value for token in grown.backend_tokenizer.model.tokenize(word)] == expected


def test_merges_are_those_of_plain_bpe_where_the_base_knows_characters_alone() -> None:
    # A base without merges: continued training is training, which the library does by itself.
    alphabet = sorted({c for text in thai_texts() for c in text.text if c.isalpha()} | set("\u2581ัิี่้์็ุู"))
    vocab = {piece: i for i, piece in enumerate(["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet])}
    base = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    spec = TokenizerSpec(PreTrainedTokenizerFast(tokenizer_object=base))
    words = {"กรุณา": 9, "กรุง": 7, "กรด": 4, "ณา": 5, "ดง": 3}
    found = [addition.pair for addition in learn_additions(spec, words, 6, 16)]
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    lines = [" ".join([word] * count) for word, count in words.items()]
    letters = len({c for word in words for c in word})
    plain.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=letters + 6, show_progress=False))
    assert [list(pair) for pair in found if pair] == json.loads(plain.to_str())["model"]["merges"]


def test_byte_level_pieces_are_whole_characters_first(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "v", size=200)
    grown = AutoTokenizer.from_pretrained(tmp_path / "v")
    common = Counter(c for text in thai_texts() for c in text.text if "\u0e00" < c < "\u0e7f").most_common(20)
    assert all(len(ids(grown, character)) == 1 for character, _ in common)


def test_the_same_texts_give_the_same_files(files: ModelFiles, tmp_path: Path) -> None:
    one = learn(files, tmp_path / "one")
    two = learn(files, tmp_path / "two", texts=thai_texts()[::-1])
    assert one == two
    assert [path.read_bytes() for path in tokenizer_files(tmp_path / "one")] == [
        path.read_bytes() for path in tokenizer_files(tmp_path / "two")
    ]
    assert str(tmp_path) not in "".join(path.read_text("utf-8") for path in (tmp_path / "one").iterdir())


def test_marks_join_letters_only_where_asked(files: ModelFiles, tmp_path: Path) -> None:
    learn(files, tmp_path / "joined", size=200)
    learn(files, tmp_path / "cut", size=200, marks_join_letters=False)
    joined, cut = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("joined", "cut"))
    words = [word for word, _ in joined.backend_tokenizer.pre_tokenizer.pre_tokenize_str("น้ำท่วมที่นี่")]
    assert len(words) == 1
    assert len(cut.backend_tokenizer.pre_tokenizer.pre_tokenize_str("น้ำท่วมที่นี่")) > 4
    assert len(ids(joined, THAI)) < len(ids(cut, THAI))
    assert joined.decode(ids(joined, "हिन्दी में")) == "हिन्दी में"


def test_markers_are_single_control_tokens_that_leave_spaces_alone(files: ModelFiles, tmp_path: Path) -> None:
    info = learn(files, tmp_path / "v")
    grown = AutoTokenizer.from_pretrained(tmp_path / "v")
    assert info.marker_tokens() == MARKERS
    numbers = [grown.convert_tokens_to_ids(token) for token in MARKERS.tokens]
    assert numbers == list(range(info.tokens - 3, info.tokens))
    assert set(numbers) <= set(grown.all_special_ids) | set(grown.added_tokens_decoder)
    assert all(grown.added_tokens_decoder[number].special for number in numbers)
    text = "<EN> a b <RESPONSE> c\n<TH> ดี "
    assert grown.decode(ids(grown, text)) == text
    assert grown.decode(ids(grown, text), skip_special_tokens=True) == " a b  c\n ดี "


@pytest.mark.parametrize("family", ["smollm2", "llama2", "qwen3"])
def test_size_0_adds_markers_alone_and_reads_no_texts(tmp_path: Path, family: str) -> None:
    files = save_base(tmp_path / "base", family)
    info = learn(files, tmp_path / "v", size=0, texts=[])
    assert (info.pieces, info.merges, info.fertility) == (0, 0, [])
    assert info.tokens == info.base_tokens + 3
    base, grown = load_renderer(files).tokenizer, AutoTokenizer.from_pretrained(tmp_path / "v")
    assert all(ids(grown, text) == ids(base, text) for text in (*PLAIN, THAI))


def test_auto_stops_where_doubling_gains_little_and_says_what_it_saw(files: ModelFiles, tmp_path: Path) -> None:
    said: list[str] = []
    sizes = []
    for gain in (0.01, 0.9):
        settings = VocabularySettings(min_gain=gain, min_count=2, max_size=1000)
        info = learn_vocabulary(
            files, lambda: iter(thai_texts()), settings, MARKERS, tmp_path / str(gain), seed=0, say=said.append
        )
        sizes.append(info.pieces)
    assert sizes[0] > 0
    assert sizes[1] == 0
    assert "tokens per character with the base's" in said[0]
    assert said[-1] == "Vocabulary: 0 pieces are added"


def test_fertility_is_measured_on_lines_that_were_not_learnt_from(files: ModelFiles, tmp_path: Path) -> None:
    info = learn(files, tmp_path / "v")
    (row,) = info.fertility
    assert (row.lang, row.unit) == ("th", "character")
    assert row.after < row.before
    lines = {line for text in thai_texts() for line in text.text.split("\n")}
    assert 0 < row.sample < 0.3 * sum(len(line.replace(" ", "")) for line in lines)
    german = [Text(f"d{i}", f"Das Haus Nummer {i} ist sehr schön und hat viele Fenster", "de") for i in range(60)]
    english = [Text("e", "Never learnt from", "en")]
    both = learn(files, tmp_path / "two", texts=[*thai_texts(), *german, *english])
    assert [(one.lang, one.unit) for one in both.fertility] == [("de", "word"), ("th", "character")]


def test_rows_are_padded_and_never_fewer_than_the_bases(files: ModelFiles, tmp_path: Path) -> None:
    info = learn(files, tmp_path / "v", pad_multiple=64)
    assert info.rows % 64 == 0
    assert info.tokens <= info.rows < info.tokens + 64
    assert info.base_rows == info.base_tokens
    written = json.loads((tmp_path / "v" / FILE).read_text("utf-8"))
    assert written["schema"] == "lingraft.vocabulary/1"


def test_too_little_text_is_said_in_one_sentence(files: ModelFiles, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no texts in another language than English"):
        learn(files, tmp_path / "v", texts=[Text("e", "English", "en")])
    with pytest.raises(DataError, match="no texts in lo"):
        learn(files, tmp_path / "v", languages=("th", "lo"))
    with pytest.raises(DataError, match="no more than one line of text in th"):
        learn(files, tmp_path / "v", texts=[Text("t", "สวัสดี\nสวัสดี", "th")])


def test_other_kinds_of_tokenizers_are_refused(tmp_path: Path) -> None:
    files = save_base(tmp_path / "base")
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("</s>", -9.0)], unk_id=0))
    template = tiny_tokenizer().chat_template
    PreTrainedTokenizerFast(tokenizer_object=unigram, chat_template=template, eos_token="</s>").save_pretrained(
        files.folder
    )
    with pytest.raises(UsageError, match=r"of kind Unigram, and only BPE .* can be extended; choose another base"):
        learn(find_model(str(files.folder)), tmp_path / "v")


def test_english_words_in_the_text_give_no_pieces() -> None:
    spec = TokenizerSpec(tiny_tokenizer())
    words = count_words(spec, ["COVID-19 ของประเทศไทย 2563 ประเทศไทย"] * 3, "th")
    assert all(spec.text_of(word).strip() == "ประเทศไทย" or "ของ" in spec.text_of(word) for word in words)  # type: ignore[union-attr]
    assert new_pieces(learn_additions(spec, count_words(spec, ["COVID COVID"] * 9, "th"), 9, 16)) == []
