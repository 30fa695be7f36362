"""llama.cpp and its converter themselves, on tiny random models; `make test-gguf` makes their environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import ModelError
from lingraft.core.own_environments import GGUF
from lingraft.core.worker_process import WorkerProcess
from lingraft.models.export import export_graft
from lingraft.models.gguf_export import export_gguf
from lingraft.models.llama_cpp import worker_command
from vocabulary_support import make_graft

pytestmark = pytest.mark.gguf

FAKE = Path(__file__).parents[1] / "support" / "gguf_fake.py"


@pytest.fixture(autouse=True)
def environment() -> None:
    assert GGUF.installed(), "the environment of llama.cpp is not there: run `make test-gguf`"


@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp16", "q8_0"])
def test_a_graft_is_the_same_in_llama_cpp(tmp_path: Path, kind: str) -> None:
    _, graft = make_graft(tmp_path, vocabulary=False, embeddings="none", hidden=64)
    found = export_gguf(graft, tmp_path / "out", None, kind)
    assert (found["texts"], found["cuts"]) == (200, "smollm")
    assert found["written"]["tokens"] > 100
    assert (found["agreement"] is None) is (kind == "fp32")
    if found["agreement"]:
        assert found["agreement"]["same_top_token"] > 0.9
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("Modelfile", "README.md", "lingraft.json", "model.gguf")
    ]
    assert str(tmp_path).encode() not in (tmp_path / "out" / "model.gguf").read_bytes()


@pytest.mark.parametrize("joined", [True, False])
def test_a_vocabulary_passes_where_words_are_cut_as_the_bases_are(tmp_path: Path, joined: bool) -> None:
    _, graft = make_graft(tmp_path, marks_join_letters=joined, hidden=64)
    if joined:
        with pytest.raises(ModelError, match=r"reads \d+ of 200 texts as other tokens .*combining marks stay in words"):
            export_gguf(graft, tmp_path / "out", None, "fp32")
        assert not list(tmp_path.glob("*out*"))
    else:
        assert export_gguf(graft, tmp_path / "out", None, "fp32")["texts"] == 200


def fields(command: Sequence[str], requests: Sequence[Callable[[], dict[str, Any]]]) -> list[Any]:
    process = WorkerProcess(command, {"threads": 1}, label="it", remedy="mend it")
    try:
        found = [process.about, *(process.ask(request()) for request in requests)]
    finally:
        process.close()
    return [{name: type(value) for name, value in answer.items()} for answer in found]


def test_the_stand_in_answers_in_the_same_form(tmp_path: Path) -> None:
    _, graft = make_graft(tmp_path, vocabulary=False, embeddings="none", hidden=64)
    export_graft(graft, tmp_path / "merged", None, "fp32")
    settings = tmp_path / "fake.json"
    known = {"own": None, "written": [[[1, 2, 3], [4], [-1.0]]]}  # the converter does not know a tiny tokenizer
    settings.write_text(json.dumps(known), "utf-8")
    forms = []
    for command in (worker_command(), [sys.executable, str(FAKE), str(settings)]):
        out = tmp_path / f"out{len(forms)}"
        out.mkdir()
        folder, file = str(tmp_path / "merged"), str(out / "model.gguf")
        talk = [[{"role": "user", "content": "Hello"}]]
        writing = [
            lambda folder=folder, out=out: {"do": "vocabulary", "folder": folder, "names": ["smollm"], "out": str(out)},
            lambda folder=folder, file=file: {
                "do": "convert",
                "folder": folder,
                "out": file,
                "type": "f32",
                "cuts": "smollm",
                "name": "m",
            },
        ]
        reading = [
            lambda file=file: {"do": "open", "file": file, "context": 512},
            lambda: {"do": "ids", "texts": ["Hello 12", ""], "prompt": False},
            lambda: {"do": "ids", "texts": ["Hello 12"], "prompt": True},
            lambda talk=talk: {"do": "render", "conversations": talk, "variables": {}},
            lambda: {"do": "write", "prompts": [[1, 2, 3]], "count": 1},
            lambda: {"do": "top", "rows": [[1, 2, 3]]},
        ]
        forms.append(fields(command, writing) + fields(command, reading))
    assert forms[0] == forms[1]
