"""GGUF exports with a stand-in for llama.cpp: what is compared, what is refused, and that nothing is left then.

`test_gguf_real.py` does it with the real one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lingraft.core.errors import EngineError, ModelError, UsageError
from lingraft.models import gguf_export
from lingraft.models.architectures import open_weights
from lingraft.models.cuts import KNOWN
from lingraft.models.export import export_graft
from lingraft.models.gguf_agreement import expected
from lingraft.models.gguf_export import export_gguf
from lingraft.models.graft import graft_renderer, read_info, write_info
from lingraft.models.llama_cpp import Opener
from lingraft.models.reading_texts import COUNT, HARD, reading_texts
from vocabulary_support import make_graft

FAKE = Path(__file__).parents[1] / "support" / "gguf_fake.py"


def fake(tmp_path: Path, **settings: Any) -> Opener:
    path = tmp_path / "fake.json"
    path.write_text(json.dumps({"log": str(tmp_path / "asked.log"), **settings}), "utf-8")
    return lambda: [sys.executable, str(FAKE), str(path)]


def asked(tmp_path: Path) -> list[str]:
    path = tmp_path / "asked.log"
    return path.read_text("utf-8").split() if path.exists() else []


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the graft writes in transformers: prompts, what follows, and its log-probabilities."""
    folder = tmp_path_factory.mktemp("exact")
    files, graft = make_graft(folder)
    export_graft(graft, folder / "merged", None, "fp32")
    renderer = graft_renderer(files, graft)
    conversations = gguf_export._conversations(read_info(graft))
    found = expected(open_weights(folder / "merged", dtype=torch.float32).eval(), renderer, conversations)
    return [
        [prompt, written, [logits.log_softmax(-1)[number, token].item() for number, token in enumerate(written)]]
        for prompt, written, logits in zip(found.prompts, found.written, found.logits, strict=True)
    ]


@pytest.fixture
def made(tmp_path: Path, written: list[Any]) -> tuple[Path, list[Any]]:
    """A graft with a vocabulary of its own, and what it writes."""
    return make_graft(tmp_path)[1], written


def test_what_llama_cpp_reads_and_writes_alike_is_written(made: tuple[Path, list[Any]], tmp_path: Path) -> None:
    graft, written = made
    told = {"stop": ["\nNote:"], "chat": "tcot", "base_id": "org/base"}
    write_info(graft, read_info(graft).model_copy(update=told))
    found = export_gguf(graft, tmp_path / "out", str(tmp_path / "base"), "q8_0", fake(tmp_path, written=written))
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["Modelfile", "README.md", "lingraft.json", "model.gguf"]
    assert json.loads((out / "model.gguf").read_text("utf-8"))["type"] == "q8_0"
    assert asked(tmp_path) == [
        *("vocabulary", "open", "ids", "convert", "open", "ids", "ids", "ids", "render", "ids", "write"),
        *("convert", "open", *["top"] * sum(bool(ids) for _, ids, _ in written)),
    ]
    tokens = sum(len(ids) for _, ids, _ in written)
    assert (found["texts"], found["cuts"], found["dtype"]) == (COUNT, "own", "q8_0")
    assert found["written"] == {"prompts": len(written), "tokens": tokens, "ties": 0}
    assert found["agreement"]["same_top_token"] == 1.0
    assert found["agreement"]["mean_difference"] < 1e-4
    assert 'PARAMETER stop """\nNote:"""' in (out / "Modelfile").read_text("utf-8")
    card = (out / "README.md").read_text("utf-8")
    for text in (gguf_export.NO_CHAIN, gguf_export.OTHER_PROMPTS, "ollama create", "100.0 %", "library_name: gguf"):
        assert text in card
    assert str(tmp_path) not in card + (out / "Modelfile").read_text("utf-8")


@pytest.mark.long
def test_float32_is_what_was_compared(made: tuple[Path, list[Any]], tmp_path: Path) -> None:
    found = export_gguf(made[0], tmp_path / "out", None, "fp32", fake(tmp_path, written=made[1]))
    assert found["agreement"] is None
    assert json.loads((tmp_path / "out" / "model.gguf").read_text("utf-8"))["type"] == "f32"
    assert asked(tmp_path).count("convert") == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"own": None}, "llama-bpe"),
        ({"splits": ["own"]}, "llama-bpe"),
        ({"splits": ["own", "llama-bpe"], "unknown": ["qwen2"]}, "qwen35"),
        ({"own": ""}, ""),
    ],
)
def test_a_way_to_cut_words_that_reads_all_texts_alike_is_named(
    made: tuple[Path, list[Any]], tmp_path: Path, settings: dict[str, Any], name: str
) -> None:
    found = export_gguf(made[0], tmp_path / "out", None, "fp32", fake(tmp_path, written=made[1], **settings))
    assert found["cuts"] == name


@pytest.mark.parametrize("joined", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_vocabulary_that_llama_cpp_splits_otherwise_is_refused_before_anything_long(
    tmp_path: Path, joined: bool
) -> None:
    _, graft = make_graft(tmp_path, marks_join_letters=joined)
    every = ["own", *KNOWN]
    with pytest.raises(
        ModelError, match=r"reads \d+ of 200 texts as other tokens .*such as '.*export it without"
    ) as told:
        export_gguf(graft, tmp_path / "out", None, "fp32", fake(tmp_path, splits=every))
    assert ("combining marks stay in words" in str(told.value)) is joined
    assert "convert" not in asked(tmp_path)
    assert not list(tmp_path.glob("*out*"))


def another(written: list[Any], change: Any) -> list[Any]:
    return [[prompt, *change(ids, values)] for prompt, ids, values in written]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ids, values: ([*ids[:2], ids[2] + 1, *ids[3:]], values), "writes something else .* the token 3"),
        pytest.param(
            *(lambda ids, values: (ids[:5], values), "writes something else .* the token 6"), marks=pytest.mark.long
        ),
        pytest.param(
            *(lambda ids, values: (ids, [value - 3 for value in values]), r"in q8_0 .* differ by 3 nats"),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *(lambda ids, values: (ids, [float("nan")] * len(values)), r"in q8_0 .* differ by nan nats"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_model_that_writes_or_predicts_something_else_is_not_kept(
    made: tuple[Path, list[Any]], tmp_path: Path, change: Any, told: str
) -> None:
    with pytest.raises(ModelError, match=told):
        export_gguf(made[0], tmp_path / "out", None, "q8_0", fake(tmp_path, written=another(made[1], change)))
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("what", ["vocabulary", pytest.param("convert", marks=pytest.mark.long)])
def test_what_the_converter_cannot_write_is_said(tmp_path: Path, what: str) -> None:
    _, graft = make_graft(tmp_path)
    opener = fake(tmp_path, refuses={what: "the converter knows no model of the kind X"})
    with pytest.raises(ModelError, match=r"cannot be written as GGUF: .*of the kind X; export it without --gguf"):
        export_gguf(graft, tmp_path / "out", None, "fp32", opener)
    assert not list(tmp_path.glob("*out*"))


def test_what_can_be_refused_is_refused_before_a_process_starts(tmp_path: Path, monkeypatch: Any) -> None:
    _, graft = make_graft(tmp_path)
    with pytest.raises(UsageError, match="no type 'q4' of GGUF to export in; choose one of fp32, bf16, fp16, q8_0"):
        export_gguf(graft, tmp_path / "out", None, "q4")
    monkeypatch.setenv("LINGRAFT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match=r"export --gguf needs an environment of its own.*`lingraft install gguf`"):
        export_gguf(graft, tmp_path / "out", None, "q8_0")
    write_info(graft, read_info(graft).model_copy(update={"stop": ['"""']}))
    with pytest.raises(UsageError, match='holds """, which a Modelfile of Ollama cannot'):
        export_gguf(graft, tmp_path / "out", None, "q8_0", fake(tmp_path))
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="there exists already"):
        export_gguf(graft, tmp_path / "there", None, "q8_0", fake(tmp_path))
    assert asked(tmp_path) == []


def test_a_process_that_ends_is_an_error_of_its_own(tmp_path: Path) -> None:
    _, graft = make_graft(tmp_path)
    with pytest.raises(EngineError, match="GGUF environment's process ended"):
        export_gguf(graft, tmp_path / "out", None, "fp32", lambda: [sys.executable, "-c", "pass"])
    assert not list(tmp_path.glob("*out*"))


def test_texts_are_many_hard_and_of_the_languages() -> None:
    for languages in (["th", "en"], ["de"], ["yo", "am"], []):
        texts = reading_texts(languages, composed=False)
        assert len(set(texts)) == len(texts) == COUNT
        assert texts == reading_texts(languages, composed=False)
        assert set(HARD) <= set(texts)
    assert sum("\u0e00" < text[0] < "\u0e7f" for text in reading_texts(["th"], composed=False)) > 60
    assert all("e\u0301" not in text for text in reading_texts(["fr"], composed=True))
