"""BLEU, spBLEU, chrF, chrF++ and TER: sacreBLEU's own objects with its signatures, resampled on their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from lingraft.core.errors import UsageError
from lingraft.core.packages import install_command
from lingraft.data.records import Pair
from lingraft.language.codes import bleu_tokenizer
from lingraft.metrics.base import CorpusMetric, Metric
from lingraft.statistics.items import sacrebleu_aggregation
from lingraft.statistics.metric_facts import Better

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU

POST = "Post 2018, A Call for Clarity in Reporting BLEU Scores"


class _SacreBLEU(CorpusMetric):
    """Adapter to a sacreBLEU metric through the methods that `sacrebleu.significance` itself uses."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self.aggregation = sacrebleu_aggregation(metric)

    def statistics(self, hypotheses: Sequence[str], pairs: Sequence[Pair]) -> np.ndarray:
        extracted = self._metric._extract_corpus_statistics(hypotheses, reference_streams(pairs))
        return np.asarray(extracted, dtype=np.float64)

    def signature(self, resamples: int, seed: int) -> str:
        signature = self._metric.get_signature()
        signature.update("bs", resamples)
        signature.update("seed", seed)
        return str(signature.format())


def reference_streams(pairs: Sequence[Pair]) -> list[list[str]]:
    """Return references as sacreBLEU wants them: one list of segments per reference.

    Where segments have different numbers of references, as many are used as every segment has: a score whose number
    of references changes from segment to segment is hard to compare with any other.
    """
    count = 1 + min(len(pair.references) for pair in pairs)
    return [[(pair.target, *pair.references)[index] for pair in pairs] for index in range(count)]


class Bleu(Metric):
    """BLEU with the tokeniser of the target language."""

    name: ClassVar[str] = "bleu"
    summary: ClassVar[str] = "sacreBLEU BLEU with the target language's tokeniser"
    paper: ClassVar[str] = f"Papineni et al. 2002; {POST}"
    label: str = "BLEU"
    decimals: int | None = 1
    cite: tuple[str, ...] = ("papineni-2002-bleu", "post-2018-call")

    class Params(Metric.Params):
        """Of BLEU."""

        tokenize: Literal["auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"] = Field(
            "auto",
            description="sacreBLEU's tokeniser; auto, by script: zh, ja-mecab, ko-mecab, char (Thai, Lao, Khmer, "
            "Burmese, Tibetan), else 13a",
        )

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        wanted = self.params.tokenize
        return _SacreBLEU(_bleu(bleu_tokenizer(target_lang) if wanted == "auto" else wanted))


_MODULES = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}
"""Of sacreBLEU's tokenizers that are packages of their own."""


def _bleu(tokenizer: str) -> BLEU:
    from sacrebleu.metrics import BLEU

    try:
        # force: hypotheses are detokenised here; the warning about " ." would only disturb the output
        return BLEU(tokenize=tokenizer, force=True)
    except (RuntimeError, ImportError) as error:
        raise UsageError(
            f"BLEU needs sacreBLEU's tokenizer {tokenizer!r}, which is not installed; "
            f"run `{install_command(_MODULES[tokenizer])}` or use chrf++"
        ) from error


class SpBleu(Metric):
    """BLEU on SentencePiece pieces, the same for all languages (FLORES)."""

    name: ClassVar[str] = "spbleu"
    summary: ClassVar[str] = "sacreBLEU BLEU on the SentencePiece pieces of FLORES, for any language"
    paper: ClassVar[str] = "Goyal et al. 2022, FLORES-101 (arXiv 2106.03193); NLLB 2022 (arXiv 2207.04672)"
    label: str = "spBLEU"
    decimals: int | None = 1
    cite: tuple[str, ...] = ("goyal-2022-flores", "post-2018-call")

    class Params(Metric.Params):
        """Of spBLEU."""

        tokenizer: Literal["flores200", "flores101"] = Field("flores200", description="SentencePiece model")

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        from sacrebleu.metrics import BLEU

        tokenizer = self.params.tokenizer
        try:
            return _SacreBLEU(BLEU(tokenize=tokenizer, force=True))
        except ImportError as error:
            raise UsageError(
                f"spBLEU needs sentencepiece; run `{install_command('sentencepiece')}` or use chrf++"
            ) from error
        except (OSError, SystemExit) as error:  # no network, no such address; sacreBLEU exits on a bad certificate
            raise UsageError(
                f"sacreBLEU cannot fetch the SentencePiece model of {tokenizer} ({str(error)[:120]}); with a network "
                f"run it once, or copy the model from another machine's ~/.sacrebleu/models, or use chrf++"
            ) from error


class Chrf(Metric):
    """Character n-gram F-score."""

    name: ClassVar[str] = "chrf"
    summary: ClassVar[str] = "sacreBLEU chrF: character n-gram F-score"
    paper: ClassVar[str] = f"Popović 2015; {POST}"
    label: str = "chrF"
    decimals: int | None = 1
    cite: tuple[str, ...] = ("popovic-2015-chrf",)

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        from sacrebleu.metrics import CHRF

        return _SacreBLEU(CHRF())


class ChrfPlusPlus(Metric):
    """chrF with word bigrams."""

    name: ClassVar[str] = "chrf++"
    summary: ClassVar[str] = "sacreBLEU chrF++: chrF with words and word bigrams; the headline"
    paper: ClassVar[str] = f"Popović 2017; {POST}"
    label: str = "chrF++"
    decimals: int | None = 1
    cite: tuple[str, ...] = ("popovic-2017-chrfpp",)
    role: str = "headline"

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        from sacrebleu.metrics import CHRF

        return _SacreBLEU(CHRF(word_order=2))


class Ter(Metric):
    """Translation edit rate."""

    name: ClassVar[str] = "ter"
    summary: ClassVar[str] = "sacreBLEU TER: edits per reference word"
    paper: ClassVar[str] = f"Snover et al. 2006; {POST}"
    label: str = "TER"
    better: Better = "lower"
    decimals: int | None = 1
    cite: tuple[str, ...] = ("snover-2006-study",)

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        from sacrebleu.metrics import TER

        tokenizer = bleu_tokenizer(target_lang)
        if tokenizer == "char":
            raise UsageError(
                f"TER cannot be measured for {target_lang!r}: it counts words, and none of its tokenisers splits a "
                f"language written without spaces other than Chinese and Japanese; use chrf++"
            )
        spaceless = tokenizer in {"zh", "ja-mecab"}
        return _SacreBLEU(TER(normalized=spaceless, asian_support=spaceless))
