"""What no recipe of others may say or name is refused before anything is done with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import graft, lingraft, model, one_sentence  # noqa: F401  (fixtures)
from lingraft.recipe.shipped import shipped_recipes
from recipes_support import MINIMAL, changed, judged


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own: nothing was allowed before."""
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return tmp_path / "cache"


SUITE = "evaluate.retention"
SHARED = {"mark": "a"}
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "key over http": (
        yaml.safe_dump(changed(MINIMAL, SUITE, judged(base_url="http://evil.example/v1", key_env="MY_KEY"))),
        "the key in MY_KEY is sent only over https or to this machine, and not to http://evil.example/v1",
    ),
    "key to a name below localhost": (
        yaml.safe_dump(changed(MINIMAL, SUITE, judged(base_url="http://evil.localhost/v1", key_env="MY_KEY"))),
        "sent only over https or to this machine, and not to http://evil.localhost/v1",
    ),
    "no key": (
        yaml.safe_dump(changed(MINIMAL, SUITE, judged(key_env="PATH"))),
        "'PATH' is no name of a key: so that no other variable is sent, it must end in KEY or TOKEN",
    ),
    "key in another name": (
        yaml.safe_dump(changed(MINIMAL, "engine", {"kind": "openai", "key_env": "HOME KEY"})),
        "must end in KEY or TOKEN",
    ),
    "key within": (
        yaml.safe_dump(changed(MINIMAL, "engine", {"kind": "ray", "inner": {"kind": "openai", "key_env": "HOME"}})),
        "must end in KEY or TOKEN",
    ),
    "key in the address": (
        yaml.safe_dump(changed(MINIMAL, "engine", {"kind": "openai", "base_url": "https://u:p@evil.example"})),
        "an address may hold no user",
    ),
    "file as an address": (
        yaml.safe_dump(changed(MINIMAL, "engine", {"kind": "openai", "base_url": "file:///etc/passwd"})),
        "is not an address",
    ),
    "objects": ("name: !!python/object/apply:os.system ['touch PWNED']\n", "could not determine a constructor"),
    "bomb": ("a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)), "unfolds to too many values"),
    "endless": ("name: &a [*a]\n", "unfolds to too many values"),
    "deep": ("name: " + "[" * 20_000, "nested too deeply"),
    "huge": ("#" * 300_000, "larger than 250 kB"),
    "bytes": (b"name: \xff\xfe\n", "cannot be read as UTF-8"),
    "number": ("seed: 1" + "0" * 5000 + "\n", "digits"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_recipe_may_say_is_refused(lingraft: Any, tmp_path: Path, name: str) -> None:
    content, words = REFUSED[name]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    for command in ("run", "preview") if name in ("no key", "bomb") else ("run",):
        one_sentence(lingraft(command, path), 2, words)


MODELS = {
    "device": "/dev/zero",
    "memory": "/proc/self/mem",
    "file": "/etc/hostname",
    "up": "../../../../etc",
    "nul": "a\0b",
    "long": "x" * 5000,
    "address": "http://evil.example/model",
    "option": "--upload-pack=touch PWNED",
    "escape": "\x1b[2J/\x9b",
    "pipe": "PIPE",
    "pipe within": "FOLDER",
}


@pytest.mark.parametrize(
    "name",
    [n if n in ("device", "nul", "escape", "pipe within") else pytest.param(n, marks=pytest.mark.long) for n in MODELS],
)
def test_models_of_strange_kinds_are_refused(lingraft: Any, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "config.json")
    given = {"PIPE": str(tmp_path / "pipe"), "FOLDER": str(tmp_path / "folder")}.get(MODELS[name], MODELS[name])
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(shipped_recipes()["demo"]), "model": given}), "utf-8")
    result = lingraft("run", path, "--out", tmp_path / "run")
    one_sentence(result, result.code)
    assert result.code in (1, 2)
    assert not [char for char in result.err if char in "\x1b\x9b\0"]
    assert len(result.err) < 2500
