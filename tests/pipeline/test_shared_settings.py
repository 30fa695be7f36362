"""What rows of one bench have the same: told by contents, not by where files lie or which version wrote it down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lingraft.pipeline.shared_settings import differing_setting, shared_settings
from lingraft.store.files import write_sealed


def noted(folder: Path, contents: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """The settings of a run whose folder notes this."""
    folder.mkdir()
    train = {"path": f"{folder}/train one.tsv", "name": folder.name, "source": "de", **changes.pop("train", {})}
    pairs = {"train": [train], "test": [{"path": f"{folder}/test.tsv"}]}
    recipe = {"pairs": pairs, "prompts": {"path": "starter:prompts.jsonl"}, "model": str(folder), **changes}
    write_sealed(folder / "experiment.json", {"recipe": recipe, "contents": contents or {}, "base_sha256": "0"})
    return shared_settings(folder)


def test_files_are_known_by_their_contents_wherever_they_lie(tmp_path: Path) -> None:
    one, other = (noted(tmp_path / name, {"pairs.train.0.path": "c0ffee"}) for name in ("here", "there"))
    assert one == other
    assert str(tmp_path) not in str(one)
    assert differing_setting(one, noted(tmp_path / "changed", {"pairs.train.0.path": "decaf"})) == "pairs.train.0.path"
    assert differing_setting(one, noted(tmp_path / "untold")) == "pairs.train.0.path"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"train": {"limit": 5}}, "pairs.train.0.limit"),
        ({"train": {"source": "fr"}}, "pairs.train.0.source"),
        ({"prompts": {"path": "starter:other.jsonl"}}, "prompts.path"),
        ({"evaluate": {"translation": {"max_new_tokens": 8}}}, "evaluate.translation.max_new_tokens"),
        ({"model": "elsewhere"}, ""),
        ({"train": {"new_in_this_version": True}}, ""),
        ({"train": {"fields": {}}}, ""),
    ],
)
def test_what_differs_is_named_by_its_key(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    contents = {"pairs.train.0.path": "c0ffee"}
    one = noted(tmp_path / "one", contents, evaluate={"translation": {"max_new_tokens": 4}})
    other = noted(tmp_path / "two", contents, **{"evaluate": {"translation": {"max_new_tokens": 4}}, **changes})
    assert differing_setting(one, other) == differing_setting(other, one) == key


def test_what_is_not_known_differs_from_nothing(tmp_path: Path) -> None:
    assert shared_settings(tmp_path) == {}
    assert differing_setting({}, noted(tmp_path / "one")) == ""
