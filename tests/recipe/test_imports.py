"""What is only read imports no library that computes: commands that look something up answer at once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from processes import HANGING

HEAVY = ("torch", "transformers", "peft", "datasets", "matplotlib", "pyarrow", "sacrebleu", "vllm", "ray", "lm_eval")

LISTS = (
    "methods",
    "tuners",
    "objectives",
    "decoders",
    "deciders",
    "suites",
    "engines",
    "metrics",
    "mergers",
    "recipes",
)

READ_ALL = """
from lingraft.recipe.load import dump_recipe, load_recipe
from lingraft.recipe.shipped import shipped_recipes
for name in shipped_recipes():
    dump_recipe(load_recipe(name))
"""

REGISTRIES = """
from lingraft.decoders.base import DECODERS
from lingraft.engines.base import ENGINES
from lingraft.merging.base import MERGERS
from lingraft.methods.base import METHODS
from lingraft.metrics.base import METRICS
from lingraft.suites.base import SUITES
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.tuners import TUNERS
for registry in (DECODERS, ENGINES, MERGERS, METHODS, METRICS, OBJECTIVES, SUITES, TUNERS):
    for name in registry:
        registry.get(name).Params.model_json_schema()
"""


def command(*arguments: str) -> str:
    """Return a program that gives a command line, whose exit is not the program's."""
    return f"""
import contextlib, sys
from lingraft.cli.main import main
sys.argv = {["lingraft", *arguments]!r}
with contextlib.suppress(SystemExit):
    main()
"""


def completed(words: str) -> str:
    """Return a program that does what a shell asks for when the tab key is hit behind some words."""
    place = {"COMP_WORDS": f"lingraft {words}", "COMP_CWORD": str(len(words.split(" ")))}
    environment = {"_LINGRAFT_COMPLETE": "complete_bash", **place}
    return f"import os\nos.environ |= {environment!r}\n{command()}"


PROGRAMS = {
    "the package": "import lingraft",
    "what reads recipes": "import lingraft.recipe.load, lingraft.recipe.files, lingraft.recipe.trust",
    "all recipes": READ_ALL,
    "all registries": REGISTRIES,
    "--help": command("--help"),
    **{f"list {kind}": command("list", kind) for kind in LISTS},
    **{" ".join(words): command(*words, "demoo") for words in (["run"], ["run", "--dry-run"], ["preview"])},
    "list": command("list"),
    "list methods radis": command("list", "methods", "radis"),
    "show": command("show", "transllm-th-7b"),
    "schema": command("schema"),
    "init": command("init"),
    **{f"{words}TAB": completed(words) for words in ("run ", "list ", "list engines ", "tune --method ")},
}
FORKS = """
import json, os, sys, tempfile, traceback

heavy, programs = json.loads(sys.argv[1])

def imported():
    return [name for name in heavy if name in sys.modules]

import lingraft.cli.main
found = {"the command line": imported()}
for name, program in programs.items():
    with tempfile.TemporaryFile() as told:
        if (child := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            try:
                exec(compile(program, name, "exec"), {"__name__": "__main__"})
                os.write(told.fileno(), json.dumps(imported()).encode())
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.waitpid(child, 0)
        told.seek(0)
        found[name] = json.loads(told.read() or b'["it has not ended"]')
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, list[str]]:
    """What each program has imported, by forks of a process that has imported the command line and nothing else."""
    given = json.dumps([HEAVY, PROGRAMS])
    done = subprocess.run(
        [sys.executable, "-c", FORKS, given], capture_output=True, text=True, timeout=HANGING, check=True
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("program", ["the command line", *PROGRAMS])
def test_reading_imports_nothing_that_computes(imported: dict[str, list[str]], program: str) -> None:
    assert imported[program] == []


def test_a_recipe_that_is_not_there_is_said_without_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lingraft", "run", "demoo"], capture_output=True, text=True, timeout=HANGING
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lingraft: there is no recipe 'demoo'; did you mean 'demo'?\n"
