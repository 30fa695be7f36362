"""Recipes from strangers: what they run and send is listed and allowed first, or they are refused in one sentence."""

from __future__ import annotations

import copy
import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import graft, lingraft, model, one_sentence  # noqa: F401  (fixtures)
from lingraft.cli.run import asking
from lingraft.core.errors import UsageError
from lingraft.core.progress import Reporter
from lingraft.decoders.base import DECODERS
from lingraft.engines.base import ENGINES
from lingraft.metrics.base import METRICS
from lingraft.pipeline.run import run
from lingraft.recipe.load import load_recipe, parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.recipe.shipped import shipped_recipes
from lingraft.recipe.trust import acts, open_acts, require_consent
from lingraft.suites.base import SUITES
from processes import HANGING
from recipes_support import HOST, MINIMAL, changed, judged

METRIC, SUITE = "evaluate.translation", "evaluate.retention"


SERVED = {"kind": "openai", "base_url": HOST}
GROWING = {"kind": "lora", "embeddings": "new"}
CARRIED: dict[str, Any] = {
    **MINIMAL,
    "prompts": {"path": "starter:prompts.jsonl"},
    "texts": [{"path": "th.txt", "lang": "th"}],
    "vocabulary": {"languages": ["th"]},
    "stages": [{"method": "radis", "tuner": GROWING}],
}
"""A chat model that is carried to another language, which methods with a translator are about."""


ACTING: dict[str, tuple[dict[str, Any], list[str]]] = {
    "program": (
        changed(MINIMAL, METRIC, {"metrics": [{"kind": "command", "command": "touch PWNED"}]}),
        ["runs the program `touch PWNED` in "],
    ),
    "pickle": (
        changed(MINIMAL, METRIC, {"metrics": [{"kind": "comet", "model": "org/evil"}]}),
        ["unpickles the COMET checkpoint org/evil of the hub, revision whichever is there"],
    ),
    "pinned pickle": (
        changed(MINIMAL, METRIC, {"metrics": [{"kind": "comet", "model": "org/evil", "revision": "a" * 40}]}),
        [f"org/evil of the hub, revision {'a' * 40}, which can run any program"],
    ),
    "local pickle": (
        changed(MINIMAL, METRIC, {"metrics": [{"kind": "comet", "path": "evil.ckpt"}]}),
        ["unpickles the COMET checkpoint /data/evil.ckpt"],
    ),
    "tasks": (
        changed(MINIMAL, SUITE, {"suites": [{"kind": "harness", "tasks": ["evil"], "include": "tasks"}]}),
        ["runs the lm-eval tasks in /data/tasks, which are programs"],
    ),
    "code": (
        changed(MINIMAL, SUITE, {"suites": [{"kind": "humaneval", "run_code": True}]}),
        ["runs Python programs that its models write, in a sandbox without network and files"],
    ),
    "key": (
        changed(MINIMAL, SUITE, judged(key_env="AWS_SECRET_ACCESS_KEY")),
        [
            "sends texts to https://api.example.org",
            "sends the environment variable AWS_SECRET_ACCESS_KEY as a key to https://api.example.org",
        ],
    ),
    "usual key": (
        changed(MINIMAL, SUITE, judged()),
        ["sends texts to https://api", "sends the environment variable OPENAI_API_KEY, where it is set, as a key"],
    ),
    "key to this machine": (
        changed(MINIMAL, SUITE, judged(base_url="http://localhost:8000/v1", key_env="HF_TOKEN")),
        ["sends the environment variable HF_TOKEN as a key to http://localhost:8000"],
    ),
    "open line": (
        changed(MINIMAL, "engine", {"kind": "openai", "base_url": "http://10.0.0.7:8000/v1", "load_grafts": True}),
        ["sends texts to http://10.0.0.7:8000"],
    ),
    "name below localhost": (  # many systems ask the network for it
        changed(MINIMAL, SUITE, judged(base_url="http://evil.localhost:8000/v1")),
        ["sends texts to http://evil.localhost:8000"],
    ),
    "look-alike": (
        changed(
            MINIMAL, "engine", {"kind": "openai", "base_url": "https://аpi.example.org:8443/v1", "load_grafts": True}
        ),
        ["sends texts to https://xn--pi-6kc.example.org:8443", "sends the environment variable OPENAI_API_KEY"],
    ),
    "cluster": (
        changed(MINIMAL, "engine", {"kind": "ray", "address": "ray://10.0.0.7:10001"}),
        ["hands texts and work to the Ray cluster at ray://10.0.0.7:10001, whose answers can run any program here"],
    ),
    "within a cluster of one's own": (
        changed(MINIMAL, "engine", {"kind": "ray", "inner": {"kind": "openai", "base_url": HOST, "load_grafts": True}}),
        ["sends texts to https://api.example.org", "OPENAI_API_KEY"],
    ),
    "guard": (
        changed(MINIMAL, SUITE, {"suites": [{"kind": "refusal", "guard": {"kind": "openai", "base_url": HOST}}]}),
        ["sends texts", "OPENAI_API_KEY"],
    ),
    "translator of the test": (
        changed(CARRIED, "evaluate.translate_test", {"translator": SERVED}),
        ["sends texts", "OPENAI_API_KEY"],
    ),
    "translator of a method": (
        changed(CARRIED, "stages", [{"method": "tcot", "params": {"translator": SERVED}, "tuner": GROWING}]),
        ["sends texts", "OPENAI_API_KEY"],
    ),
    "compared": (
        changed(CARRIED, "compare", [{"method": "tcot", "params": {"translator": SERVED}}]),
        ["sends texts", "OPENAI_API_KEY"],
    ),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own: nothing was allowed before."""
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return tmp_path / "cache"


def made(name: str) -> Recipe:
    return parse_recipe(copy.deepcopy(ACTING[name][0]), "test.yaml", Path("/data"))


@pytest.mark.parametrize("name", ACTING)
def test_what_a_recipe_runs_and_sends_is_listed_and_not_begun(name: str, tmp_path: Path) -> None:
    recipe = made(name)
    found = acts(recipe)
    assert len(found) == len(ACTING[name][1])
    for act, words in zip(found, ACTING[name][1], strict=True):
        assert words in str(act)
        assert act.where
    with pytest.raises(UsageError, match=r"if you trust it with that, give --trust \(from Python: trust=True\)"):
        run(recipe, tmp_path / "run", Reporter(quiet=True))
    assert not (tmp_path / "run").exists()
    require_consent(recipe, trust=True)


RUNNING_CODE = ("code", "computational_accuracy", "humaneval", "syntax_errors")


def test_programs_of_models_are_run_only_where_it_is_said_twice() -> None:
    """By the recipe, in so many words, and by whoever starts it."""
    measured = {"metrics": [{"kind": "computational_accuracy", "run_code": True}]}
    test = {"path": "x.jsonl", "source": "python", "target": "javascript", "task": "code"}
    decoders = [{"kind": "code", "run_code": True, "systems": ["base"]}]
    evaluate = {"code": measured, "decoders": decoders, "retention": {"suites": []}}
    values = {**MINIMAL, "evaluate": evaluate, "pairs": {**MINIMAL["pairs"], "test": [test]}}
    recipe = parse_recipe(values, "<test>", Path("/data"))
    assert [str(act) for act in acts(recipe)] == [
        "runs programs that its models write, in a sandbox without network and files (evaluate.code.metrics.0, "
        "evaluate.decoders.0)"
    ]
    for place in (measured["metrics"][0], decoders[0]):
        del place["run_code"]
        with pytest.raises(UsageError, match="allow that with run_code: true"):
            parse_recipe(values, "<test>", Path("/data"))
        place["run_code"] = True


def test_every_part_that_acts_says_so() -> None:
    """What is registered and acts must be in the list above; a new one is found here."""
    told = {"command", "comet", "harness", "openai", "ray", *RUNNING_CODE}
    for registry in (ENGINES, METRICS, SUITES, DECODERS):
        for name in registry:
            entry: Any = registry.get(name)
            base = next(kind for kind in entry.__mro__ if kind.__module__.endswith((".base", ".metrics", ".suite")))
            assert (entry.acts.__func__ is not base.acts.__func__) == (name in told), name


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_need_no_consent_until_they_are_changed(name: str, tmp_path: Path) -> None:
    assert open_acts(load_recipe(name)) == []
    task = load_recipe(name).pairs.tasks[0]
    command = f'evaluate.{task}.metrics=[{{kind: command, command: "touch PWNED"}}]'
    recipe = load_recipe(name, [command])
    assert "touch PWNED" in str(open_acts(recipe)[0])
    copied = tmp_path / "copy.yaml"
    copied.write_text(shipped_recipes()[name], "utf-8")
    if acts(load_recipe(name)):  # a file may have any content, whatever it resembles
        assert open_acts(load_recipe(str(copied)))


class Terminal(io.StringIO):
    """A stream with a person at it."""

    def isatty(self) -> bool:
        return True


def answered(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, answer: str) -> str:
    """Let a person answer, and return what they were shown."""
    shown = Terminal()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", Terminal(answer))
        patched.setattr(sys, "stderr", shown)
        require_consent(recipe, ask=asking())
    return shown.getvalue()


def test_consent_is_asked_for_once_and_for_the_whole_list(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    recipe = made("key")
    for answer in ("", "\n", "n\n", "yesterday\n"):
        with pytest.raises(UsageError, match="nothing was started"):
            answered(monkeypatch, recipe, answer)
    shown = answered(monkeypatch, recipe, "y\n")
    assert "AWS_SECRET_ACCESS_KEY as a key to https://api.example.org (evaluate.retention.suites.0.judge)" in shown
    assert answered(monkeypatch, recipe, "") == ""
    require_consent(recipe)
    more = changed(ACTING["key"][0], METRIC, {"metrics": [{"kind": "command", "command": "x"}]})
    with pytest.raises(UsageError, match="runs the program"):
        require_consent(parse_recipe(more, "test.yaml", Path("/data")))
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        require_consent(made("usual key"))
    (record,) = (cache / "consent").iterdir()
    record.write_text(record.read_text("utf-8").replace("AWS", "AWT"), "utf-8")
    with pytest.raises(UsageError, match="AWS_SECRET"):
        require_consent(recipe)


def test_a_program_is_allowed_in_its_folder_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`python score.py` is another program elsewhere."""
    recipe = made("program")
    answered(monkeypatch, recipe, "yes\n")
    require_consent(recipe)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="touch PWNED"):
        require_consent(recipe)


def test_what_others_allowed_in_a_shared_cache_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = made("pickle")
    answered(monkeypatch, recipe, "y\n")
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(UsageError, match="unpickles"):
        require_consent(recipe)


def test_what_is_asked_shows_everything_and_obeys_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "true \x1b[8m" + "x" * 2000 + "; rm -r /tmp/precious" + "y" * 2000
    values = changed(MINIMAL, METRIC, {"metrics": [{"kind": "command", "command": command}]})
    shown = answered(monkeypatch, parse_recipe(values, "test.yaml", Path("/data")), "y\n")
    assert "rm -r /tmp/precious" in shown
    assert "\x1b" not in shown


def test_several_processes_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="give --trust"):
        answered(monkeypatch, made("program"), "y\n")


def test_commands_without_a_terminal_need_trust(lingraft: Any, model: Path, tmp_path: Path) -> None:
    mark = tmp_path / "PWNED"
    overrides = [f"model={model}", f'evaluate.translation.metrics=[{{kind: command, command: "touch {mark}"}}]']
    out = ("--out", tmp_path / "run")
    sets = [word for change in overrides for word in ("--set", change)]
    tune = ("tune", "--pairs", "starter:train.de-en.jsonl", "--test", "starter:test.de-en.jsonl", "--from", "de")
    for command in (
        ("run", "demo", *overrides, *out),
        ("preview", "demo", *overrides),
        (*tune, "--to", "en", *sets, *out),
    ):
        one_sentence(lingraft(*command), 2, "runs the program `touch", "give --trust")
        assert not (tmp_path / "run").exists()
    told = lingraft("run", "demo", *overrides, *out, "--dry-run")
    assert told.code == 0, told.err
    first, second, *_ = told.out.splitlines()
    assert first == "Runs and sends (needs your consent: asked once in a terminal, else --trust):"
    assert second.startswith(f"  runs the program `touch {mark}` in ")
    assert not mark.exists()


@pytest.mark.long
def test_evaluation_by_a_recipe_needs_trust(lingraft: Any, graft: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(ACTING["program"][0]), "utf-8")
    sets = ("--set", "pairs.test.0.path=starter:test.de-en.jsonl", "--set", "pairs.test.0.limit=2")
    command = ("evaluate", "--graft", graft, "--recipe", path, *sets, "--out", tmp_path / "run")
    one_sentence(lingraft(*command), 2, "runs the program `touch PWNED`", "give --trust")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_person_is_asked_in_a_real_terminal(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(ACTING["program"][0]), "utf-8")
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "lingraft", "run", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path, env=environment, close_fds=True
    )
    os.close(follower)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(leader, 4096)
    os.write(leader, b"n\n")
    assert process.wait(HANGING) == 2
    assert b"runs the program `touch PWNED` in " in shown
    assert b"nothing was started" in os.read(leader, 4096)
    assert sorted(tmp_path.iterdir()) == [path]
    os.close(leader)
