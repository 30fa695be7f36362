"""Environments of their own: what is installed in which order, and when one counts as there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lingraft.core.errors import StoreError, UsageError
from lingraft.core.own_environments import OWN_ENVIRONMENTS, OwnEnvironment

PINNED = "third==3 --hash=sha256:ab"
SMALL = OwnEnvironment("small", "Small", "1.0", "a test", (("first==1",), ("second>=2,<3",), (PINNED,)), "import first")


class Steps:
    """Notes what would be run; `fails`: the step that does not work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: str = "") -> None:
        self.run: list[tuple[list[str], str]] = []

        def note(environment: OwnEnvironment, command: Sequence[str]) -> None:
            wanted = environment.folder / "requirements.txt"
            self.run.append((list(command), wanted.read_text("utf-8") if wanted.exists() else ""))
            environment.python.parent.mkdir(parents=True, exist_ok=True)
            environment.python.write_text("", "utf-8")
            if fails and fails in " ".join(command):
                raise StoreError("it does not work")

        monkeypatch.setattr(OwnEnvironment, "_run", note)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path))
    return tmp_path


def test_steps_are_installed_in_order_and_keep_what_came_before(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    steps, said = Steps(monkeypatch), list[str]()
    assert not SMALL.installed()
    assert SMALL.install(said.append) == cache / "environments" / "small-1.0"
    assert SMALL.installed()
    assert said[1:] == ["installing first==1", "installing second>=2,<3", "installing third==3", "trying it"]
    (venv, _), *installs, (check, _) = steps.run
    assert venv == [sys.executable, "-m", "venv", str(SMALL.folder)]
    assert check == [str(SMALL.python), "-c", "import first"]
    assert [wanted for _, wanted in installs] == ["first==1\n", "first==1\nsecond>=2,<3\n", f"{PINNED}\n"]
    assert ["--require-hashes" in command for command, _ in installs] == [False, False, True]


@pytest.mark.parametrize("fails", ["venv", "--require-hashes", "-c"])
def test_what_was_not_finished_is_not_there(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    Steps(monkeypatch, fails)
    with pytest.raises(StoreError):
        SMALL.install(lambda line: None)
    assert not SMALL.installed()
    with pytest.raises(UsageError, match=r"metric small needs an environment of its own, .*`lingraft install small`"):
        SMALL.command(Path("worker.py"), "metric small")


def test_another_versions_requirements_are_not_this_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    Steps(monkeypatch)
    SMALL.install(lambda line: None)
    assert SMALL.command(Path("worker.py"), "it") == [str(SMALL.python), "worker.py"]
    later = OwnEnvironment("small", "Small", "1.0", "a test", (("first==2",),), "import first")
    assert later.folder == SMALL.folder
    assert not later.installed()


@pytest.mark.parametrize("name", OWN_ENVIRONMENTS)
def test_each_step_is_pinned_or_bounded_and_mixes_no_hashes(name: str) -> None:
    one = OWN_ENVIRONMENTS[name]
    assert one.name == name
    for step in one.steps:
        assert len({"--hash=" in line for line in step}) == 1
        assert all("==" in line or "<" in line for line in step)


def test_a_step_that_fails_says_what_and_where_to_begin_again(cache: Path) -> None:
    with pytest.raises(
        StoreError, match=r"^Small could not be installed: .*no.such.*run `lingraft install small` again"
    ):
        SMALL._run([sys.executable, "-c", "import no_such_module"])
    with pytest.raises(StoreError, match="cannot be started"):
        SMALL._run([str(cache / "absent")])
