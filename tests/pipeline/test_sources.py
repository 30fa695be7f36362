"""What the identity of a run's data depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.data.readers import PairSource
from lingraft.pipeline.sources import fingerprint


def test_a_file_that_is_not_given_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No path stands for none: whatever it is, it may come into being, and all that was made would be stale."""
    (tmp_path / "train.jsonl").write_text("{}")
    source = PairSource(path=str(tmp_path / "train.jsonl"), source="de", target="en")
    looked: list[Path] = []

    def watched(path: Path) -> bool:
        looked.append(path)
        return path.exists()

    monkeypatch.setattr(Path, "is_file", watched)
    monkeypatch.setattr(Path, "is_dir", watched)
    found = fingerprint(source)
    assert set(looked) == {tmp_path / "train.jsonl"}
    assert found["path"][0] == "train.jsonl"
    assert not found.get("target_path")
