"""The reference of a recipe's keys."""

from __future__ import annotations

import re
from pathlib import Path

from lingraft.recipe.reference import reference
from lingraft.training.settings import TrainSettings

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"
TEXT = reference()


def test_the_page_is_what_the_program_makes() -> None:
    """`lingraft schema --markdown > docs/recipe.md` brings it up to date."""
    assert PAGE.read_text("utf-8") == TEXT


def test_sections_and_entries_are_explained_key_by_key() -> None:
    for name, field in TrainSettings.model_fields.items():
        (line,) = re.findall(rf"^- \*\*`{name}`\*\* \(.*", _part("## `stages.train`"), re.MULTILINE)
        if isinstance(field.default, str | int | float) and not isinstance(field.default, bool):
            assert f"default `{field.default}`" in " ".join(_part("## `stages.train`").split())
        assert line
    assert "**`rationale_weight`** (number" in _part("### radis")
    assert "**`max_prompts`** (whole number >= 1; default `100`)" in _part("### refusal")
    assert "### scripted" not in TEXT  # a test double


def test_links_lead_to_headings() -> None:
    headings = [line.lstrip("# ") for line in TEXT.splitlines() if line.startswith("#")]
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = set(re.findall(r"\]\(#([^)]*)\)", TEXT))
    assert len(linked) > 15
    assert linked <= anchors
    for file in re.findall(r"\]\(([^)#:]+\.\w+)", TEXT):
        assert (PAGE.parent / file).exists()


def _part(heading: str) -> str:
    return TEXT[TEXT.index(f"\n{heading}") + 3 :].split("\n## ")[0].split("\n### ")[0]
