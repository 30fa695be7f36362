"""What is published: the wheel holds the whole package, the source distribution all that belongs to it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from distribution import ROOT, build, in_source, in_wheel, metadata, missing, relative_links


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution and the wheel."""
    return build(tmp_path_factory.mktemp("built"))


def test_the_wheel_holds_all_that_the_package_reads(built: tuple[Path, Path]) -> None:
    source, wheel = built
    assert missing(source, wheel) == []
    found = in_wheel(wheel)
    for name in (
        *("py.typed", "shipped/recipes/demo.yaml", "shipped/starter/train.de-en.jsonl", "suites/refusal_keywords.txt"),
        *("suites/judge_prompts.json", "reporting/templates/report.html.j2", "reporting/references.bib"),
        *("evaluation/scorecard.schema.json", "metrics/workers/comet_worker.py", "models/workers/gguf_worker.py"),
        "data/workers/mtdata_worker.py",
    ):
        assert f"lingraft/{name}" in found
    for name in (
        "tests/support/distribution.py",
        "docs/guide.md",
        "docs/images/report.png",
        "constraints.txt",
        "benchmarks/common.py",
    ):
        assert name in in_source(source)


def test_a_file_that_the_build_forgets_is_seen(built: tuple[Path, Path], tmp_path: Path) -> None:
    source, wheel = built
    poorer = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(poorer, "w") as part:
        for name in whole.namelist():
            if name != "lingraft/shipped/recipes/demo.yaml":
                part.writestr(name, whole.read(name))
    assert missing(source, poorer) == ["the wheel lacks lingraft/shipped/recipes/demo.yaml"]


def test_links_of_the_description_lead_into_the_repository(built: tuple[Path, Path]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    repository = project["urls"]["Repository"]
    text = metadata(built[1])
    readme = (ROOT / "README.md").read_text("utf-8")
    local = relative_links(readme)
    assert local
    assert relative_links(text) == []
    assert "Description-Content-Type: text/markdown" in text
    for name in local:
        assert (ROOT / name.partition("#")[0]).exists(), name
        kind = "raw" if re.search(rf"!\[[^\]]*\]\({re.escape(name)}\)", readme) else "blob"
        assert f"({repository}/{kind}/main/{name})" in text
    assert all(url.startswith(repository) for key, url in project["urls"].items() if key in ("Repository", "Changelog"))


def test_extras_and_versions_agree() -> None:
    """Extras that messages name exist, and what is cited is what is built."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    sources = (path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = {extra for text in sources for extra in re.findall(r"lingraft\[(\w+)\]", text)}
    assert named
    assert named <= set(project["optional-dependencies"])
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]
    assert {reference["identifiers"][0]["value"] for reference in cited["references"]} == {
        "arXiv:2410.13944",
        "arXiv:2405.13923",
    }


def test_native_windows_is_told_in_one_sentence() -> None:
    """No module of POSIX alone is imported before the sentence; the modules are missing as they are there."""
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('resource', 'fcntl', 'termios', 'pwd', 'grp')))\n"
        "from lingraft.cli.main import main\n"
        "sys.platform = 'win32'\n"
        "sys.argv = ['lingraft', 'list', 'recipes']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "lingraft: Lingraft runs on Linux and macOS, not on Windows itself; install it in the Windows Subsystem for "
        "Linux (`wsl --install`) and run it there\n"
    )
