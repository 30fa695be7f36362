"""What a program that a model wrote can reach: ten ways out, limits, the canary, and the refusal."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lingraft.core import canary, sandbox
from lingraft.core.sandbox import BOX, Ending, Limits, SandboxError, Step, World, memory_below, python, python_world

HERE = sandbox.refusal()
shut_in = pytest.mark.skipif(bool(HERE), reason=HERE)


def attempt(code: str, limits: Limits | None = None, **env: str) -> Ending:
    """Run Python code in the sandbox; say how it ended."""
    known = python_world()
    world = World(known.binds, known.links, env)
    step = Step((python(), "-I", "-S", "-B", "attempt.py"), limits or Limits())
    return sandbox.run({"attempt.py": code}, [step], world)[-1]


def caught(code: str) -> str:
    """Run code that is to fail with an exception; return the exception's last line."""
    ending = attempt(code)
    assert ending.returncode == 1, ending
    return ending.stderr.strip().splitlines()[-1]


@shut_in
def test_a_program_runs_and_says_what_it_says() -> None:
    ending = attempt("import sys\nprint('grüß')\nprint('so', file=sys.stderr)\nsys.exit(3)")
    assert (ending.returncode, ending.stdout, ending.stderr, ending.why) == (3, "grüß\n", "so\n", "")
    assert not ending.well
    assert 0 < ending.cpu_seconds < 5


@shut_in
def test_no_server_of_this_machine_and_no_network_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "Error" in caught(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)")
    assert "unreachable" in caught("import socket\nsocket.create_connection(('192.0.2.1', 80), 5)")


@shut_in
def test_a_fork_bomb_is_bounded_and_ended() -> None:
    bomb = (
        "import os\nfor n in range(1000):\n try:\n  if os.fork() == 0:\n   while True: pass\n"
        " except OSError:\n  break\nprint(n)"
    )
    ending = attempt(bomb, Limits(processes=8))
    assert ending.returncode == 0  # it ends when its first process does, and all others with it
    assert int(ending.stdout.split()[0]) < 8


@shut_in
def test_a_file_of_ten_gigabytes_is_not_written() -> None:
    assert "too large" in caught(
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nopen('big', 'wb').truncate(10 * 1024**3)"
    )
    parts = "for n in range(40):\n open(f'part{n}', 'wb').write(bytes(8 * 1024**2))"
    assert "No space left" in caught(parts)  # of the folder as a whole


@shut_in
def test_no_home_directory_and_nothing_of_the_user_is_seen(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine", "utf-8")
    seen = attempt(f"import os\nfor place in {[str(Path.home()), str(tmp_path), '/etc/passwd', '/proc', '/sys']!r}:\n"
                   " print(os.path.isdir(place) and sorted(os.listdir(place)))\nprint(os.listdir('/box'))")  # fmt: skip
    *places, own = seen.stdout.splitlines()
    home = json.loads(places[0].replace("'", '"').replace("False", "[]"))
    # Above an interpreter of the user's own there are its folders, and nothing else within.
    assert set(home) <= {part.split("/")[len(Path.home().parts) - 1] for part in _below_home()}
    assert places[1:] == ["False"] * 4
    assert own == "['attempt.py']"


def _below_home() -> list[str]:
    home = str(Path.home()).rstrip("/")
    return [place[1:] for place in python_world().binds if place.startswith(home + "/")]


@shut_in
def test_nothing_but_the_box_can_be_written_to() -> None:
    places = ["/", "/usr/lib", "/dev", os.path.dirname(os.__file__), "/tmp", BOX]
    code = (
        f"import os\nfor p in {places!r}:\n try:\n  os.mkdir(p + '/x' + p.replace('/', '_'))\n"
        "  print(p)\n except OSError: pass"
    )
    assert attempt(code).stdout.split() == ["/tmp", BOX]  # one and the same folder


@shut_in
@pytest.mark.parametrize("body", ["while True: pass", "import time; time.sleep(3600)"])
def test_what_does_not_end_is_ended(body: str) -> None:
    limits = Limits(cpu_seconds=1) if "while" in body else Limits(wall_seconds=0.5)
    ending = attempt(body, limits)
    assert ending.why == "time"
    assert ending.returncode < 0


@shut_in
def test_signals_reach_no_process_outside() -> None:
    own = os.getpid()
    code = f"import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nprint(os.getppid())\nos.kill({own}, 0)"
    ending = attempt(code)  # process 1 of its world takes no signal from within
    assert ending.stdout == "1\n"
    assert "No such process" in ending.stderr
    assert "No such process" in caught("import os\nos.kill(-1, 9)")  # there is nobody else


@shut_in
def test_symlinks_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret", "utf-8")
    for target in (str(secret), "/proc/1/root/etc/passwd", "../../../../etc/shadow", "/dev/fd/0"):
        assert "No such file" in caught(f"import os\nos.symlink({target!r}, 'link')\nopen('link').read()")


@shut_in
def test_no_secret_of_the_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    known = {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONHASHSEED", "LC_CTYPE"}
    assert set(attempt("import os\nprint(*os.environ)").stdout.split()) <= known
    assert attempt("import os\nprint(os.environ['ONE'])", ONE="1").stdout == "1\n"


@shut_in
def test_threads_count_as_processes() -> None:
    code = (
        "import threading\ngo = threading.Event()\nstarted = 0\ntry:\n for n in range(100):\n"
        "  threading.Thread(target=go.wait, daemon=True).start()\n  started += 1\n"
        "except RuntimeError: pass\nprint(started)"
    )
    assert 2 <= int(attempt(code, Limits(processes=6)).stdout) <= 5


@shut_in
def test_the_scorecard_of_the_run_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scorecard.json").write_text("{}", "utf-8")
    bound = list(python_world().binds)  # of these nothing is the user's
    walk = (
        f"import os\nfor folder, folders, names in os.walk('/'):\n"
        f" folders[:] = [one for one in folders if os.path.join(folder, one) not in {bound!r}]\n print(names)"
    )
    seen = attempt(walk).stdout
    assert "attempt.py" in seen
    assert "scorecard.json" not in seen
    assert "No such file" in caught(f"open({str(tmp_path / 'scorecard.json')!r})")


@shut_in
def test_memory_is_bounded_for_one_process_and_for_all_together() -> None:
    assert "MemoryError" in caught("bytearray(1024**3)")
    shared = (
        "import mmap, time\nm = mmap.mmap(-1, 300 * 1024**2)\n"
        "for i in range(0, len(m), 4096): m[i] = 1\ntime.sleep(600)"
    )
    ending = attempt(shared, Limits(memory_mb=128, address_space=False))  # which no limit of a process counts
    assert ending.why == "memory"


@shut_in
def test_no_right_is_regained() -> None:
    code = (
        "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        "print(os.getuid(), c.unshare(0x10000000), c.unshare(0x40000000), c.mount(b'x', b'/box', b'tmpfs', 0, None))\n"
        "print(c.ptrace(16, 1, 0, 0), c.syscall(250, 3, -3, 0))"
    )
    assert attempt(code).stdout.split()[:5] == ["65534", "-1", "-1", "-1", "-1"]
    assert "not permitted" in caught("import os\nos.setuid(0)")


@shut_in
def test_output_without_end_is_cut() -> None:
    ending = attempt("for n in range(300_000): print('a line of output')")
    assert len(ending.stdout) == sandbox.OUTPUT
    assert ending.well


@shut_in
def test_steps_share_a_folder_and_end_with_the_first_that_fails() -> None:
    first, second = "open('left', 'w').write('by the first')", "print(open('left').read())"
    codes = (first, second, "raise SystemExit(4)", "print(5)")
    steps = [Step((python(), "-I", "-S", "-c", code)) for code in codes]
    endings = sandbox.run({}, steps, python_world())
    assert [ending.returncode for ending in endings] == [0, 0, 4]
    assert endings[1].stdout == "by the first\n"
    # A process left behind by one step is gone before the next begins.
    leave = "import os, time\nif os.fork() == 0:\n os.setsid(); time.sleep(3600)"
    steps = [Step((python(), "-I", "-S", "-c", code)) for code in (leave, "import os; os.kill(-1, 0)")]
    assert "No such process" in sandbox.run({}, steps, python_world())[-1].stderr


@shut_in
def test_a_program_that_there_is_not_is_said_to_be_missing() -> None:
    ending = sandbox.run({}, [Step(("/usr/bin/nothing",))], python_world())[-1]
    assert (ending.returncode, ending.stderr) == (127, "/usr/bin/nothing: No such file or directory\n")


@shut_in
def test_files_lie_in_the_box_alone() -> None:
    for name in ("../up", "/etc/x", "a/b", "", ".."):
        with pytest.raises(ValueError, match="plain name"):
            sandbox.run({name: "x"}, [Step((python(), "-c", ""))], python_world())


@shut_in
def test_nothing_goes_on_when_the_caller_is_killed(tmp_path: Path) -> None:
    code = (
        "from lingraft.core.sandbox import *\n"
        "run({}, [Step((python(), '-c', 'import time; time.sleep(3600)'))], python_world())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    while not _grandchildren(process.pid):
        assert process.poll() is None
    within = _grandchildren(process.pid)
    process.kill()
    process.wait()
    while any(_alive(pid) for pid in within):
        time.sleep(0.01)  # a hang fails the test by its time limit


def _grandchildren(pid: int) -> list[int]:
    """Return the processes four below: the enclosed program."""
    found = [pid]
    for _ in range(4):
        found = [int(name) for name in os.listdir("/proc") if name.isdecimal() and _parent(name) in found]
    return found


def _parent(name: str) -> int:
    try:
        return int(Path("/proc", name, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _alive(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@shut_in
def test_memory_of_grandchildren_counts() -> None:
    hold = "x = bytearray(50_000_000); print(1); input()"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {hold!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert memory_below(os.getpid()) > 50_000_000
        process.communicate(b"\n")


def test_the_canary_says_what_is_open_where_nothing_is_shut(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        outside = {
            "port": server.getsockname()[1], "paths": [str(tmp_path)], "root": ["box"], "variables": [],
            "bound": [str(tmp_path)], "memory": 1024, "file_size": 1024, "processes": 2,
        }  # fmt: skip
        (tmp_path / "canary.json").write_text(json.dumps(outside), "utf-8")
        done = subprocess.run(
            [sys.executable, "-I", str(canary.__file__)], cwd=tmp_path, capture_output=True, check=True
        )
    leaks = set(json.loads(done.stdout))
    assert leaks >= {
        "a server on this machine", "files of the user", "other folders", "other processes", "the environment",
        "the rights of another user", f"writing to {'/' if os.getuid() == 0 else tmp_path}", "more memory than allowed",
        "larger files than allowed", "more processes than allowed",
    }  # fmt: skip
    Path("/canary").rmdir() if os.getuid() == 0 else None


@shut_in
def test_where_namespaces_are_refused_nothing_runs_and_it_is_said(tmp_path: Path) -> None:
    """Within the sandbox there are no namespaces any more, as in many containers."""
    spec: dict[str, object] = {name: {} for name in ("binds", "links", "env", "files")} | {
        "place": "/tmp",
        "disk": 1,
        "output": 1,
        "steps": [],
    }
    driver = (
        "import json, os, subprocess, sys\nspec = json.load(open('spec.json'))\nspec['parent'] = os.getpid()\n"
        "done = subprocess.run([sys.executable, '-I', '-S', 'enclosure.py'], input=json.dumps(spec).encode(), "
        "capture_output=True)\nprint(done.stdout.decode(), done.stderr.decode())"
    )
    files = {"driver.py": driver, "spec.json": json.dumps(spec)}
    files["enclosure.py"] = Path(sandbox.__file__).with_name("enclosure.py").read_text("utf-8")
    ending = sandbox.run(files, [Step((python(), "-I", "-S", "-B", "driver.py"))], python_world())[-1]
    refused = json.loads(ending.stdout)["refused"]
    assert refused.startswith("unshare: "), refused


def test_the_refusal_is_one_sentence_and_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.refusal.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    try:
        said = sandbox.refusal()
        assert said.startswith("programs that a model wrote are run on Linux alone")
        assert said.count(". ") == 0
        with pytest.raises(SandboxError, match="on Linux alone"):
            sandbox.run({}, [Step((python(), "-c", "print(1)"))], python_world())
    finally:
        sandbox.refusal.cache_clear()


def test_an_open_sandbox_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.refusal.cache_clear()
    monkeypatch.setattr(sandbox, "probe", lambda: ["the network", "files of the user"])
    try:
        assert "open to them: the network, files of the user" in sandbox.refusal()
        with pytest.raises(SandboxError, match="cannot be shut in"):
            sandbox.run({}, [Step((python(), "-c", "print(1)"))], python_world())
    finally:
        sandbox.refusal.cache_clear()
