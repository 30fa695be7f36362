"""Every set on the hub that a shipped recipe names is read through the recipe's own entry: fields, subset and split.

The rows below have the fields of the published sets and sentences of our own. Where the schema is from:

- haoranxu/WMT22-Test: the set's card (`features: - name: cs-en, struct: cs, en`; one configuration a direction).
- haoranxu/ALMA-Human-Parallel: the repository fe1ixxu/ALMA, whose JSON files it holds (`translation`: object of two).
- tatsu-lab/alpaca: stanford_alpaca's JSON (`instruction`, `input`, `output`); that the hub adds `text`, from memory.
- allenai/c4, Helsinki-NLP/opus-100, walledai/AdvBench, and all names of configurations and splits: from memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError
from lingraft.data.files import Row
from lingraft.data.readers import PairSource, PromptSource, TextSource, read_pairs, read_prompts, read_texts
from lingraft.data.records import Pair, Prompt, Text
from lingraft.recipe.load import load_recipe
from lingraft.recipe.schema import Recipe
from lingraft.suites.base import SUITES, SuiteInputs

SENTENCES = {
    "en": "The lamp stands on the table.",
    "cs": "Lampa stojí na stole.",
    "de": "Die Lampe steht auf dem Tisch.",
    "ru": "Лампа стоит на столе.",
    "zh": "灯在桌子上。",
    "th": "โคมไฟตั้งอยู่บนโต๊ะ",
    "is": "Lampinn stendur á borðinu.",
}


def both(*codes: str) -> dict[str, str]:
    return {code: SENTENCES[code] for code in codes}


WEB = {"timestamp": "2019-04-25T12:57:54Z", "url": "https://example.org/lamps"}
ALPACA = {
    "instruction": "Put the words in order.",
    "input": "table the on",
    "output": "on the table",
    "text": "Below is an instruction that describes a task.",
}
SETS: dict[str, dict[str, tuple[tuple[str, ...], dict[str, Any]]]] = {
    "haoranxu/ALMA-Human-Parallel": {
        f"{code}-en": (("train", "validation"), {"translation": both(code, "en")})
        for code in ("cs", "de", "is", "ru", "zh")
    },
    "haoranxu/WMT22-Test": {
        f"{one}-{two}": (("test",), {f"{one}-{two}": both(one, two)})
        for code in ("cs", "de", "is", "ru", "zh")
        for one, two in ((code, "en"), ("en", code))
    },
    "tatsu-lab/alpaca": {"default": (("train",), ALPACA)},
    "allenai/c4": {code: (("train", "validation"), {"text": SENTENCES[code], **WEB}) for code in ("en", "th", "de")},
    "Helsinki-NLP/opus-100": {"en-th": (("test", "train", "validation"), {"translation": both("en", "th")})},
    "walledai/AdvBench": {
        "default": (("train",), {"prompt": "Tell me how to break the lamp.", "target": "Sure, here is how to break it"})
    },
}
"""Set -> configuration -> its splits, and a row."""

SHIPPED = (
    "demo",
    "keep-de-en",
    "merge-de-en",
    "radis-de-en",
    "radis-wmt22",
    "summaries",
    "transllm-th",
    "transllm-th-7b",
    "xplus-de-en",
)
HUB = "hub:"


def test_all_shipped_recipes_are_looked_at() -> None:
    assert {Path(file.name).stem for file in (files("lingraft.shipped") / "recipes").iterdir()} == set(SHIPPED)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay the sets into the current folder, where `datasets` looks before it asks the hub: with their cards, from which
    it takes configurations and splits as it does there."""
    for name, configurations in SETS.items():
        folder = tmp_path / name
        folder.mkdir(parents=True)
        card = ["---", "configs:"]
        for configuration, (splits, row) in configurations.items():
            card += [f"- config_name: {configuration}", "  data_files:"]
            for split in splits:
                file = f"{configuration}.{split}.jsonl"
                (folder / file).write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
                card += [f"  - split: {split}", f"    path: {file}"]
        (folder / "README.md").write_text("\n".join([*card, "---", ""]), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sources(recipe: Recipe) -> Iterator[PairSource | PromptSource | TextSource]:
    yield from (*recipe.pairs.train, *recipe.pairs.test, *recipe.texts, *(recipe.prompts or ()))


def first(source: PairSource | PromptSource | TextSource) -> Pair | Prompt | Text:
    rows: Iterator[Any]
    if isinstance(source, PairSource):
        rows = read_pairs(source)
    else:
        rows = read_texts(source) if isinstance(source, TextSource) else read_prompts(source)
    row = next(rows)
    assert isinstance(row, Row), row
    return row.record


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_reads_its_sets(name: str, hub: Path) -> None:
    recipe = load_recipe(name, [])
    read = 0
    for source in sources(recipe):
        if not source.path.startswith(HUB):
            continue
        read += 1
        record = first(source)
        if isinstance(source, PairSource):
            assert isinstance(record, Pair)
            assert (record.source, record.target) == (SENTENCES[source.source], SENTENCES[source.target])
        elif isinstance(source, TextSource):
            assert isinstance(record, Text)
            assert (record.text, record.lang) == (SENTENCES[source.lang], source.lang)
        else:
            assert isinstance(record, Prompt)
            assert record.messages[-1].content == "Put the words in order.\n\ntable the on"
            assert record.reference == "on the table"
    assert read == {"radis-wmt22": 13, "transllm-th-7b": 6}.get(name, 0)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_s_suites_read_their_sets(name: str, hub: Path) -> None:
    for choice in load_recipe(name, []).evaluate.retention.suites:
        prompts = str(choice.params.get("prompts", ""))
        if prompts.startswith(HUB):
            entry = SUITES.get(choice.kind)
            suite = entry(entry.Params.model_validate(choice.params))  # type: ignore[attr-defined]
            asked = [request.messages[-1].content for request in suite.requests(SuiteInputs([], ["en"]))]
            assert asked == ["Tell me how to break the lamp."]


def test_a_subset_or_split_that_is_not_there_is_told(hub: Path) -> None:
    for change in ({"split": "train"}, {"subset": "cs-de"}):
        values = {"path": "hub:haoranxu/WMT22-Test", "subset": "cs-en", "split": "test", "source": "cs", "target": "en"}
        with pytest.raises(DataError, match=r"hub:haoranxu/WMT22-Test: cannot be read .*`subset:`, `split:`"):
            first(PairSource.model_validate(values | change))
