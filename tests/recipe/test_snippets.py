"""Recipes that the pages show are read as they stand there, completed with what every recipe has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.strict_yaml import plain_values

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("methods", "objectives", "training", "method", "transllm")
TOP_LEVEL = {"stages", "compare", "grafts", "pairs", "evaluate", "vocabulary", "prompts", "texts", "engine"}
DATA: dict[str, Any] = {
    "name": "shown",
    "pairs": {
        "train": {"path": "train.tsv", "source": "de", "target": "en"},
        "test": {"path": "test.tsv", "source": "de", "target": "en"},
    },
    "prompts": {"path": "prompts.jsonl"},
    "texts": [{"path": "de.txt", "lang": "de"}],
    "evaluate": {"retention": {"suites": ["refusal"]}},
}


def shown(page: str) -> Iterator[dict[str, Any]]:
    """Yield the parts of recipes in a page: blocks with stages, and what a stage may have, each line for itself."""
    for block in re.findall(r"```yaml\n(.*?)```", (DOCS / f"{page}.md").read_text("utf-8"), re.DOTALL):
        if re.search(r"^(stages|compare|grafts):", block, re.MULTILINE):
            values = plain_values(block, page)
            if values.keys() <= TOP_LEVEL:
                yield values
        elif re.match(r"(tuner|train|objective):", block):
            for line in block.splitlines() if block.count("tuner:") > 1 else [block]:
                yield {"stages": [plain_values(line, page)]}


def completed(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a recipe with what it leaves to the reader."""
    stages = [{"name": "translation", "method": "vanilla"}, {"method": "radis"}]
    values = DATA | {"stages": stages} | part | {"pairs": DATA["pairs"] | part.get("pairs", {})}
    if "chain_distillation" in str(part) or "pretraining" in str(part):
        tuned = [{"tuner": {"kind": "lora", "embeddings": "new"}} | stage for stage in values["stages"][:1]]
        values |= {"vocabulary": {"languages": ["de"]}, "stages": [*tuned, *values["stages"][1:]]}
    return values


SHOWN = [pytest.param(part, id=f"{page}-{n}") for page in PAGES for n, part in enumerate(shown(page))]


def test_pages_show_recipes() -> None:
    assert len(SHOWN) >= 8


@pytest.mark.parametrize("part", SHOWN)
def test_what_a_page_shows_is_read(part: dict[str, Any]) -> None:
    try:
        parse_recipe(completed(part), "shown", Path("/data"))
    except UsageError as error:
        pytest.fail(f"{error}: {part}")
