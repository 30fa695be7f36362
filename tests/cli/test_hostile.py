"""Hostile input at the command line: exit code 1 or 2 and one sentence; signals end the work cleanly."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from commands import graft, lingraft, model, one_sentence  # noqa: F401  (fixtures)
from lingraft.data import files
from models_support import save_tiny_model
from processes import HANGING

ROW = json.dumps({"source": "Das Wetter ist heute schön.", "target": "The weather is fine today."}) + "\n"

CONTENTS: dict[str, bytes] = {
    "zeros.jsonl": b"\0" * 100,
    "words.jsonl": b"Das ist kein JSON\n" * 3,
    "deep.jsonl": b"[" * 100_000,
    "half.jsonl.gz": gzip.compress(ROW.encode() * 99)[:-20],
    "no.jsonl.gz": b"plain",
    "bomb.jsonl.gz": gzip.compress(ROW.encode() * 60_000, 9),
    "deep.json": b"[" * 100_000,
    "open.csv": b'source,target\n"' + b"x" * 200_000,
    "utf16.tsv": "source\ttarget\nJa\tYes\n".encode("utf-16"),
    "laughs.tmx": b'<!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><tmx><body><tu>&b;</tu></body></tmx>',
    "encoding.tmx": b'<?xml version="1.0" encoding="utf-7"?><tmx/>',
}


@pytest.mark.parametrize("name", CONTENTS)
def test_hostile_files_of_pairs(lingraft: Any, model: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENTS[name])
    one_sentence(lingraft("check", path, "--from", "de", "--to", "en"), 1, name)
    if name == "bomb.jsonl.gz":
        return  # once is slow enough
    one_sentence(lingraft("preview", "demo", f"model={model}", f"pairs.train.0.path={path}"), 1, name)
    tune = ("tune", "--model", model, "--test", "starter:test.de-en.jsonl", "--from", "de", "--to", "en")
    one_sentence(lingraft(*tune, "--pairs", path, "--out", tmp_path / "run"), 1, name)
    if name != "open.csv":  # one long prompt
        good = ("--pairs", "starter:train.de-en.jsonl", "--prompts", path)
        one_sentence(lingraft(*tune, *good, "--out", tmp_path / "run"), 2 if name.endswith("tmx") else 1, name)
    assert not (tmp_path / "run" / "scorecard.json").exists()


def test_pipes_and_devices(
    lingraft: Any,
    graft: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "PIPE_PATIENCE", 0.2)
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    translate = ("translate", "--graft", graft, "--from", "de", "--to", "en")
    one_sentence(lingraft("check", pipe, "--from", "de", "--to", "en"), 1, "nobody writes")
    one_sentence(lingraft(*translate, pipe), 1, "nobody writes")
    one_sentence(lingraft("run", pipe), 1, "nobody writes")
    one_sentence(lingraft("run", "demo", f"prompts.path={pipe}", "--out", tmp_path / "a"), 1, "is a pipe")
    one_sentence(lingraft("check", "/dev/zero", "--from", "de", "--to", "en"), 1, "device")
    one_sentence(lingraft(*translate, "/dev/zero"), 1, "more than 100 MB")
    one_sentence(lingraft(*translate, tmp_path), 2, "is a folder")
    one_sentence(lingraft(*translate, stdin="a" * 1_000_001), 1, "line 1 has more than 1,000,000")


def test_translate_takes_what_is_odd_but_text(lingraft: Any, graft: Path) -> None:
    text = "\ufeffJa\0nein\r\n\u2028\n\x85 a\n" + "😀" * 50 + "\n"
    arguments = ("translate", "--graft", graft, "--from", "de", "--to", "en", "--max-new-tokens", "2", "--json")
    result = lingraft(*arguments, stdin=text)
    assert result.code == 0, result.err
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == [0, 1, 2, 3]


def test_hostile_grafts(lingraft: Any, graft: Path, tmp_path: Path) -> None:
    info = json.loads((graft / "lingraft.json").read_text("utf-8"))
    changes = [b"[" * 100_000, b"\xff", b"null", json.dumps({**info, "stop": [1e999]}).encode(), b"9" * 5000]
    for content in changes:
        for path in graft.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "lingraft.json").write_bytes(content)
        translate = ("translate", "--graft", tmp_path, "--from", "de", "--to", "en")
        one_sentence(lingraft(*translate, stdin="Ja"), 1, "lingraft.json is damaged")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "lingraft", *map(str, arguments)]


def test_names_that_are_no_text_and_outputs_that_are_full(lingraft: Any, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/pairs-\xff.jsonl"))
    odd.write_text(ROW, "utf-8")
    for name, said in ((odd, "name of a data file"), ("", "FILES is empty; give a name or a path")):
        one_sentence(lingraft("check", name, "--from", "de", "--to", "en"), 2, said)
        one_sentence(
            lingraft("run", "demo", f"pairs.train.0.path={name}", "--out", tmp_path / "run"), 2, "train.0.path"
        )
    with open("/dev/full", "wb") as full:
        refused = subprocess.run(command("--version"), stdout=full, stderr=subprocess.PIPE, text=True)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "a file cannot be written: the disk is full; free some space and run again" in refused.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_work_with_one_sentence(tmp_path: Path, signum: int, code: int) -> None:
    os.mkfifo(tmp_path / "pairs.jsonl")
    line = command("check", tmp_path / "pairs.jsonl", "--from", "de", "--to", "en")
    # Jobs in the background of a shell inherit that SIGINT is ignored.
    heeds = partial(signal.signal, signum, signal.SIG_DFL)
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, preexec_fn=heeds) as process:
        with (tmp_path / "pairs.jsonl").open("w") as pipe:  # returns when the command has opened it too
            pipe.write(ROW)
            pipe.flush()
            process.send_signal(signum)
            assert process.wait(HANGING) == code
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1].endswith("; the same command begins anew")


def test_a_damaged_model_is_one_sentence(lingraft: Any, tmp_path: Path) -> None:
    broken = save_tiny_model(tmp_path / "model")
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        whole = (broken / name).read_bytes()
        (broken / name).write_bytes(whole[: len(whole) // 2])
        result = lingraft("run", "demo", f"model={broken}", "pairs.train.0.limit=4", "--out", tmp_path / name)
        one_sentence(result, 1, str(broken))
        (broken / name).write_bytes(whole)
