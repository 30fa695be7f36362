"""The pages of the documentation site: all of them are in its contents, links lead somewhere, every name is there."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import yaml

import lingraft

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "site" / "pages.py"
spec = importlib.util.spec_from_file_location("site_pages", SCRIPT)
assert spec is not None
assert spec.loader is not None
site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site") / "site"
    site.main(made)
    return Path(made)


def test_every_page_is_in_the_contents_and_the_contents_name_no_other(folder: Path) -> None:
    nav = yaml.safe_load((folder / "mkdocs.yml").read_text("utf-8"))["nav"]

    def files(part: object) -> list[str]:
        if isinstance(part, str):
            return [part]
        inner = part.values() if isinstance(part, dict) else part
        return [file for one in inner for file in files(one)]  # type: ignore[attr-defined]

    assert sorted(files(nav)) == sorted(file.name for file in (folder / "pages").glob("*.md"))


def test_links_within_the_site_lead_to_files_of_it(folder: Path) -> None:
    count = 0
    for page in (folder / "pages").glob("*.md"):
        for target in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text())):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
            count += 1
    assert count > 100


def test_a_link_to_no_file_is_refused_and_code_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text("[a](../README.md#install) `x`\n```\n[b](nowhere.md)\n```\n")
    (tmp_path / "README.md").touch()
    assert site.site_links(page) == "[a](index.md#install) `x`\n```\n[b](nowhere.md)\n```\n"
    page.write_text("[b](nowhere.md)")
    with pytest.raises(SystemExit, match=r"docs/page.md: there is no nowhere.md"):
        site.site_links(page)


def test_every_command_and_every_public_name_has_its_place(folder: Path) -> None:
    commands = (folder / "pages" / "commands.md").read_text("utf-8")
    for path in (ROOT / "src" / "lingraft" / "cli").glob("*.py"):
        for option in re.findall(r'typer\.Option\(\s*"(--[a-z-]+)"', path.read_text("utf-8")):
            assert f"`{option}" in commands, option
    functions, classes = site.public_names()
    known = set(functions) | set(classes)
    for name in lingraft.__all__:
        value = getattr(lingraft, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert f"{value.__module__}.{value.__qualname__}" in known
