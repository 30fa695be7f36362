"""A run is pushed, used, measured and used offline by commands of their own, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import graft, model  # noqa: F401  (fixtures)
from hub import hub_server, settings

pytestmark = pytest.mark.long


def test_a_graft_goes_to_the_hub_and_comes_from_there(graft: Path, model: Path, tmp_path: Path) -> None:
    with hub_server() as served:
        environment = {**os.environ, **settings(served, tmp_path / "cache"), "HF_HOME": str(tmp_path / "home")}

        def command(*words: object, stdin: str = "", **changes: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "lingraft", *map(str, words)],
                input=stdin,
                env=environment | changes,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        found = json.loads(command("push", graft.parent, "--to", "org/de-en", "--json", "--quiet"))
        name = f"org/de-en@{found['commit']}"
        text = ("--model", model, "--engine", "transformers", "--max-new-tokens", 4, "--from", "de", "--to", "en")
        here = command("translate", "--graft", graft, *text, stdin="Guten Tag.\n")
        assert command("translate", "--graft", "org/de-en", *text, stdin="Guten Tag.\n") == here
        served.repositories["org/de-en"].commit("main", {"README.md": b"gone"})
        served.asked.clear()
        assert command("translate", "--graft", name, *text, stdin="Guten Tag.\n", HF_HUB_OFFLINE="1") == here
        out = tmp_path / "measured"
        recipe = ("--recipe", graft.parent, "--model", model, "--set", "evaluate.retention.suites=[]", "--out", out)
        command("evaluate", "--graft", f"mine={name}", *recipe, "--quiet", HF_HUB_OFFLINE="1")
        assert served.asked == []
        assert f"path: {name}" in (out / "recipe.yaml").read_text()
        (measured,) = (
            one for one in json.loads((out / "scorecard.json").read_text())["systems"] if one["name"] == "mine"
        )
        assert measured["graft"] == name
        merged = json.loads(command("export", "--graft", name, "--model", model, "--out", tmp_path / "m", "--json"))
        assert merged["max_logit_difference"] < 1e-3
