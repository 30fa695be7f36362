"""No native code of the hub: the package `kernels`, where it is installed, is not asked for any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASKED = """
import os, sys
from lingraft.core.hub_kernels import keep_out
keep_out()
print(os.environ["USE_HUB_KERNELS"], flush=True)
{then}
"""
QUICK = """
import importlib.util
print(importlib.util.find_spec("kernels") is not None)
try:
    import kernels
except ImportError:
    pass
"""
LIBRARIES = """
import bitsandbytes  # which asks on processors with AVX512-BF16
from transformers.utils import is_kernels_available
from transformers.integrations import hub_kernels
print(is_kernels_available() or hub_kernels._kernels_enabled)
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder with a package `kernels` that says whether it was run."""
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("print('it ran')\n\ndef __getattr__(name):\n    raise ImportError(name)\n")
    information = tmp_path / "kernels-0.17.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.17.0\n")
    return tmp_path


def said(installed: Path, then: str, **environment: str) -> list[str]:
    known = {name: value for name, value in os.environ.items() if name != "USE_HUB_KERNELS"}
    known |= {"PYTHONPATH": os.pathsep.join([str(installed), *sys.path]), **environment}
    command = [sys.executable, "-c", ASKED.format(then=then)]
    return subprocess.run(command, env=known, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[:-1]


def test_the_package_is_not_there_unless_it_is_asked_for(installed: Path) -> None:
    assert said(installed, QUICK) == ["0", "False"]
    assert said(installed, QUICK, USE_HUB_KERNELS="1") == ["1", "True", "it ran"]


IMPORTED = "import lingraft, os, kernels; print(os.environ.get('USE_HUB_KERNELS'))"
ENGINE = "import lingraft.engines.ray, lingraft.engines.ray_pool, lingraft.engines.ray_worker; " + IMPORTED
WORKER = """
import os, sys
from lingraft.engines.ray_pool import worker_process
worker_process()()
print(sys.modules["kernels"], os.environ["USE_HUB_KERNELS"])
"""
COMMAND = """
import os, sys
from lingraft.cli.main import main
sys.argv[1:] = ["--version"]
try:
    main()
except SystemExit:
    print(sys.modules["kernels"], os.environ["USE_HUB_KERNELS"])
"""


@pytest.mark.parametrize(
    ("code", "end"),
    [
        (IMPORTED, ["it ran", "None"]),
        (ENGINE, ["it ran", "None"]),
        (WORKER, ["None 0"]),
        (COMMAND, ["None 0"]),
    ],
)
def test_commands_and_workers_keep_it_out_and_an_import_leaves_it(installed: Path, code: str, end: list[str]) -> None:
    known = {name: value for name, value in os.environ.items() if name != "USE_HUB_KERNELS"}
    known["PYTHONPATH"] = os.pathsep.join([str(installed), *sys.path])
    result = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-len(end) :] == end


def test_nobody_is_told_to_install_what_is_kept_out(capfd: pytest.CaptureFixture[str], installed: Path) -> None:
    warns = "import logging; logging.getLogger('bitsandbytes.backends.cpu.ops').warning('install kernels')"
    said(installed, warns, USE_HUB_KERNELS="1")
    assert "install kernels" in capfd.readouterr().err
    said(installed, warns)
    assert capfd.readouterr().err == ""


@pytest.mark.long
def test_no_library_asks_it(installed: Path) -> None:
    assert said(installed, LIBRARIES) == ["0", "False"]
