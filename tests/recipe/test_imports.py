"""What is only read imports no library that computes: commands that look something up answer at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from processes import HANGING

HEAVY = ("torch", "transformers", "peft", "datasets", "matplotlib", "pyarrow", "sacrebleu", "vllm", "ray", "lm_eval")

LISTS = ("methods", "tuners", "objectives", "decoders", "suites", "engines", "metrics", "mergers", "recipes")

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


@pytest.mark.parametrize(
    "program",
    [
        "import lingraft",
        "import lingraft.recipe.load, lingraft.recipe.files, lingraft.recipe.trust",
        READ_ALL,
        REGISTRIES,
        command("--help"),
        *(command("list", kind) for kind in LISTS),
        *(command(*words, "demoo") for words in (["run"], ["run", "--dry-run"], ["preview"])),
        command("list"),
        command("list", "methods", "radis"),
        command("show", "transllm-th-7b"),
        command("schema"),
        command("init"),
        *(completed(words) for words in ("run ", "list ", "list engines ", "tune --method ")),
    ],
)
def test_reading_imports_nothing_that_computes(program: str) -> None:
    ending = f"import sys\nprint('imported:', *(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{ending}"], capture_output=True, text=True, timeout=HANGING, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported:"


def test_a_recipe_that_is_not_there_is_said_without_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lingraft", "run", "demoo"], capture_output=True, text=True, timeout=HANGING
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lingraft: there is no recipe 'demoo'; did you mean 'demo'?\n"
