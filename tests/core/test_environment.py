"""The cache folder of the tests is their own, and what takes long to make is shared with the user's."""

from __future__ import annotations

import os
from pathlib import Path

from lingraft.core.environment import cache_folder
from lingraft.models.files import find_model
from lingraft.models.hashes import hashed_folders
from models_support import save_tiny_model


def test_notes_of_models_that_exist_for_a_test_are_not_the_users(tmp_path: Path) -> None:
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lingraft"
    model = save_tiny_model(tmp_path / "model")
    find_model(str(model))
    assert model.resolve() in hashed_folders()
    assert users.resolve() not in (cache_folder() / "hashes").resolve().parents
    assert (cache_folder() / "models").is_symlink()
