"""The programming languages in which a model's code is run: file, compiler, interpreter, and what they need to be seen.

Each is found on this machine; none is fetched. Everything runs in the sandbox, compilers too: what they are given was
written by a model.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import get_args

from lingraft.core.code_languages import NAMES, CodeLanguage
from lingraft.core.errors import UsageError, suggestion
from lingraft.core.sandbox import BOX, Ending, Limits, Step, World, python, python_world, run, system_world

_COMPILING = Limits(cpu_seconds=30, wall_seconds=300, memory_mb=1024, address_space=False, processes=48)
_VIRTUAL = Limits(address_space=False, processes=48)  # machines of Java and JavaScript, with threads of their own


@dataclass(frozen=True)
class Toolchain:
    """How one language is run.

    Attributes:
        language: which.
        file: name of the program's file.
        steps: what is run, one after another: compilers first, the program last.
        world: what they need beside the program.
    """

    language: str
    file: str
    steps: tuple[Step, ...]
    world: World

    def run(self, program: str) -> Execution:
        """Compile and run a program, in the sandbox.

        Raises:
            SandboxError: the system does not shut programs in.
        """
        return Execution(run({self.file: program}, self.steps, self.world), len(self.steps))


@dataclass(frozen=True)
class Execution:
    """What came of a program. `endings`: of the steps begun; `steps`: how many there are."""

    endings: list[Ending]
    steps: int

    @property
    def built(self) -> bool:
        """Whether it got past the compilers (for Python and JavaScript: whether it could be read)."""
        return len(self.endings) == self.steps

    @property
    def last(self) -> Ending:
        """The ending of the last step begun."""
        return self.endings[-1]


def missing_toolchain(language: str) -> str:
    """Return what this machine lacks to run a language, in one sentence with the remedy; empty if nothing.

    Raises:
        UsageError: no such language.
    """
    if language not in get_args(CodeLanguage):
        raise UsageError(f"unknown programming language {language!r}{suggestion(language, get_args(CodeLanguage))}")
    wanted = {"python": (), "java": ("javac", "java"), "cpp": ("g++", "as", "ld"), "javascript": ("node",)}[language]
    lacking = [name for name in wanted if shutil.which(name) is None]
    if not lacking:
        return ""
    return f"{NAMES[language]} is run by {' and '.join(lacking)}, which this machine lacks; install it"


@cache
def toolchain(language: str) -> Toolchain:
    """Return how a language is run here.

    Raises:
        UsageError: no such language, or this machine lacks what runs it.
    """
    if lacking := missing_toolchain(language):
        raise UsageError(lacking)
    return {"python": _python, "java": _java, "cpp": _cpp, "javascript": _javascript}[language]()


def _found(name: str) -> str:
    return os.path.realpath(shutil.which(name) or name)


def _with(world: World, places: Mapping[str, str], **env: str) -> World:
    kept = {place: here for place, here in places.items() if os.path.exists(here)}
    return replace(world, binds={**world.binds, **kept}, env={**world.env, **env})


_CHECK = "import sys; compile(open(sys.argv[1], encoding='utf-8').read(), sys.argv[1], 'exec')"


def _python() -> Toolchain:
    flags = (python(), "-I", "-S", "-B", "-W", "ignore")
    read = Step((*flags, "-c", _CHECK, "program.py"), Limits())
    return Toolchain("python", "program.py", (read, Step((*flags, "program.py"))), python_world())


def _javascript() -> Toolchain:
    node = _found("node")
    prefix = os.path.dirname(os.path.dirname(node))
    places = {place: place for place in (node, *([] if prefix == "/usr" else [f"{prefix}/lib"]))}
    argv = (node, "--max-old-space-size=256")
    steps = (Step((*argv, "--check", "program.js"), _VIRTUAL), Step((*argv, "program.js"), _VIRTUAL))
    return Toolchain("javascript", "program.js", steps, _with(system_world(), places))


def _cpp() -> Toolchain:
    compiler = _found("g++")
    prefix = os.path.dirname(os.path.dirname(compiler))
    folders = {f"{place}/{name}" for place in (prefix, "/usr") for name in ("lib", "lib64", "libexec", "include")}
    # Under the names by which the compiler looks for them; they may be links.
    places = {f"/usr/bin/{name}": _found(name) for name in ("as", "ld")} | {place: place for place in folders}
    known = system_world()
    new = {place: here for place, here in places.items() if place not in (*known.binds, *known.links)}
    world = _with(known, {**new, compiler: compiler})
    build = Step((compiler, "-std=c++17", "-O0", "-w", "-o", f"{BOX}/program", "program.cpp"), _COMPILING)
    return Toolchain("cpp", "program.cpp", (build, Step((f"{BOX}/program",), Limits())), world)


def _java() -> Toolchain:
    compiler, machine = _found("javac"), _found("java")
    homes = {Path(program).parent.parent for program in (compiler, machine)}
    places = {str(home): str(home) for home in homes}
    for home in homes:  # Debian keeps the settings elsewhere and links to them
        for link in (*home.glob("conf/**/*"), *home.glob("lib/*"), *home.glob("lib/*/*")):
            real = os.path.realpath(link)
            if link.is_symlink() and real.startswith("/etc/") and os.path.isfile(real):
                places[real] = real
    # Its libraries are found relative to the program by /proc, which the sandbox does not have.
    libraries = ":".join(f"{home}/lib:{home}/lib/server:{home}/lib/jli" for home in sorted(homes))
    world = _with(system_world(), places, LD_LIBRARY_PATH=libraries)
    flags = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx256m")
    # A class may have any name; the one with `main` is told by the file, which Java runs from its source.
    build = Step((compiler, *(f"-J{flag}" for flag in flags), "-nowarn", "-d", BOX, "Main.java"), _COMPILING)
    return Toolchain("java", "Main.java", (build, Step((machine, *flags, "-cp", BOX, "Main"), _VIRTUAL)), world)


def versions_of(language: str) -> str:
    """Return what runs a language, for signatures: the first line that it says of itself."""
    if language == "python":
        return f"Python {sys.version.split()[0]}"
    program = {"java": "javac", "cpp": "g++", "javascript": "node"}[language]
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=60, check=False)
    except OSError:
        return ""
    return " ".join((done.stdout or done.stderr).decode("utf-8", "replace").splitlines()[0].split())
