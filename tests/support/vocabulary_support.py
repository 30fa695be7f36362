"""Tiny vocabularies over the tiny tokenizers of `builders`: a base on disk, Thai text, and what is learnt from it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

from builders import tiny_llama, tiny_tokenizer
from lingraft.data.records import Text
from lingraft.models.adapter import take_off
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.graft import Direction, GraftInfo, write_info
from lingraft.models.growth import extended
from lingraft.models.loading import LoadedModel, load_model
from lingraft.models.vocabulary import Vocabulary, VocabularyInfo
from lingraft.training.span_trainer import save_adapter
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from lingraft.translation.markers import Markers
from lingraft.vocabulary.learn import learn_vocabulary
from lingraft.vocabulary.settings import VocabularySettings

MARKERS = Markers.for_languages(["th"])
_WORDS = [
    *("ประเทศไทย", "รัฐบาล", "กระทรวงสาธารณสุข", "น้ำท่วม", "เศรษฐกิจ", "ผู้ว่าราชการ", "จังหวัดเชียงใหม่"),
    *("ความร่วมมือ", "วันนี้", "อากาศดี", "นักเรียน", "โรงเรียน", "ที่ดิน", "เดินทาง", "ประชาชน", "ท่าเรือเก่า"),
    *("และกินปลา", "กรุณา", "พัฒนา", "วัคซีน"),
]


def thai_texts(count: int = 40) -> list[Text]:
    """Return documents of Thai words in changing order, with spaces, numbers and a Latin word here and there."""
    texts = []
    for number in range(count):
        words = [_WORDS[(number * 7 + i * i * (1 + number % 5)) % len(_WORDS)] for i in range(24)]
        line = "".join(word + (" " if i % 3 == 2 else "") for i, word in enumerate(words))
        texts.append(Text(f"t{number}", f"{line}\nCOVID-19 {number} {line[40:]}{line[:40]}", "th"))
    return texts


def save_base(
    folder: Path,
    family: str = "smollm2",
    style: str | None = None,
    *,
    tied: bool = True,
    bias: bool = False,
    seed: int = 0,
    scale: float = 1.0,
    hidden: int = 32,
) -> ModelFiles:
    """Write a tiny base with the tokenizer of a family, and return where it is."""
    tokenizer = tiny_tokenizer(family, style)
    model: Any = tiny_llama(tokenizer, seed=seed, hidden=hidden)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    if not tied:
        untie(model, bias=bias)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return find_model(str(folder))


def untie(model: Any, *, bias: bool = False) -> None:
    """Give a model an output head of its own weights."""
    model.config.tie_word_embeddings = False
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(model.lm_head.weight.shape, generator=generator) * 0.1
    model.lm_head.weight = torch.nn.Parameter(weight)
    if bias:
        model.lm_head.bias = torch.nn.Parameter(torch.randn(len(weight), generator=generator))


def load_base(files: ModelFiles) -> LoadedModel:
    """Return a base in memory, in float32 on the CPU."""
    return load_model(files, "fp32", torch.device("cpu"))


def learn(files: ModelFiles, folder: Path, *, texts: list[Text] | None = None, **settings: Any) -> VocabularyInfo:
    """Learn a vocabulary from Thai text: 60 pieces unless `settings` say otherwise."""
    given = thai_texts() if texts is None else texts

    def again() -> Iterator[Text]:
        return iter(given)

    chosen = VocabularySettings.model_validate(
        {"size": 60} | ({"min_count": 2} if settings.get("size") != 0 else {}) | settings
    )
    return learn_vocabulary(files, again, chosen, MARKERS, folder, seed=0)


def make_graft(
    tmp_path: Path,
    embeddings: str = "all",
    *,
    tied: bool = True,
    vocabulary: bool = True,
    hidden: int = 32,
    **settings: Any,
) -> tuple[ModelFiles, Path]:
    """Write a base and a random graft on it that learnt embeddings, with a vocabulary of its own.

    They are made once in a process, and copied."""
    made = _made(embeddings, tied, vocabulary, hidden, tuple(sorted(settings.items())))
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    files, graft = find_model(str(tmp_path / "base")), tmp_path / "graft"
    write_info(
        graft,
        GraftInfo(
            method="tcot",
            instruction="Translate {source}",
            directions=[Direction(source="th", target="en")],
            base_id=str(files.folder),
            base_sha256=files.sha256,
        ),
    )
    return files, graft


@cache
def _made(embeddings: str, tied: bool, vocabulary: bool, hidden: int, settings: tuple[tuple[str, Any], ...]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="lingraft-grafts-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files = save_base(folder / "base", tied=tied, scale=2.0, hidden=hidden)
    loaded, graft = load_base(files), folder / "graft"
    tuner = LoraTuner(LoraTuner.Params(rank=4, embeddings=embeddings))  # type: ignore[arg-type]
    if vocabulary:
        learn(files, folder / "v", **dict(settings))
        with extended(loaded, Vocabulary.of(folder / "v")) as grown:
            shake(tuner.apply(grown.model, TunerInputs(new_ids=grown.new_ids)), graft)
        Vocabulary.of(folder / "v").copy_to(graft)
    else:
        shake(tuner.apply(loaded.model, TunerInputs()), graft)
    return folder


def shake(adapted: Any, graft: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    save_adapter(adapted, graft)
    take_off(adapted)
