"""Names of the hub, and what is fetched from there, against a stand-in of its HTTP interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from hub import Hub, hub
from lingraft.core.errors import ModelError
from lingraft.core.hub import HubName, commit_of, from_hub

__all__ = ["hub"]
FILES = {"config.json": b"{}", "model.safetensors": b"w" * 3000, "model.bin": b"pickle", "old/model.safetensors": b"x"}
WANTED, LEFT = ["*.json", "*.safetensors"], ["*/*"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", HubName("org/name")),
        ("org/name@main", HubName("org/name", "main")),
        ("org/na.me-1_2@refs/pr/3", HubName("org/na.me-1_2", "refs/pr/3")),
        ("name", None),
        ("a/b/c", None),
        ("./org/name", None),
        ("org/name@", None),
        ("org/name@-x", None),
        ("/org/name", None),
        ("org/name@a b", None),
    ],
)
def test_names(text: str, expected: HubName | None) -> None:
    assert HubName.read(text) == expected
    assert expected is None or str(expected) == text


def test_what_is_asked_for_is_fetched_and_nothing_else(hub: Hub) -> None:
    commit = hub.add("org/a", FILES)
    folder = from_hub(HubName("org/a"), WANTED, LEFT)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert commit_of(folder) == HubName("org/a", commit)
    assert commit_of(folder / "config.json") == HubName("org/a", commit)
    assert commit_of(folder.parent) is None


def test_a_branch_is_asked_for_anew_and_a_commit_never_again(hub: Hub) -> None:
    first = hub.add("org/a", FILES)
    from_hub(HubName("org/a"), WANTED)
    second = hub.repositories["org/a"].commit("main", {**FILES, "config.json": b'{"new": 1}'})
    assert (from_hub(HubName("org/a"), WANTED) / "config.json").read_bytes() == b'{"new": 1}'
    hub.asked.clear()
    assert (from_hub(HubName("org/a", first), WANTED) / "config.json").read_bytes() == b"{}"
    assert from_hub(HubName("org/a"), WANTED, newest=False).name == second
    assert hub.asked == []


def test_offline_it_is_what_was_fetched_before(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/a", FILES)
    online = from_hub(HubName("org/a"), WANTED)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert from_hub(HubName("org/a"), WANTED) == online
    with pytest.raises(ModelError, match=r"not on this machine, and HF_HUB_OFFLINE is set\); unset HF_HUB_OFFLINE"):
        from_hub(HubName("org/b"), WANTED)
    assert hub.asked == []


def test_what_is_there_in_part_is_fetched_whole(hub: Hub) -> None:
    commit = hub.add("org/a", FILES)
    from_hub(HubName("org/a"), ["config.json"])

    def whole(folder: Path) -> bool:
        return (folder / "model.safetensors").is_file()

    assert whole(from_hub(HubName("org/a", commit), WANTED, whole=whole))
    hub.add("org/b", {"model.bin": b"pickle"})
    with pytest.raises(
        ModelError, match=r"\(it has none of what is read: \*\.json, \*\.safet.*; check the name, or give"
    ):
        from_hub(HubName("org/b"), WANTED)


def gate(hub: Hub) -> None:
    hub.repositories["org/a"].gated = True


def nothing(hub: Hub) -> None:
    return


FAILURES: dict[str, tuple[HubName, Callable[[Hub], object], str]] = {
    "unknown": (
        HubName("org/none"),
        nothing,
        "none of that name, or it is private); check the name, or log in (`hf auth",
    ),
    "revision": (HubName("org/a", "v9"), nothing, "it has no revision 'v9'); name a branch, a tag or a whole commit"),
    "gated": (HubName("org/a"), gate, "it is gated); accept its terms at http://127.0.0.1:"),
    "broken": (HubName("org/a"), lambda hub: hub.broken.update({"org/a": 500}), "try again later"),
    "no id": (HubName("org/a--b"), nothing, "check the name"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_cannot_be_had_is_one_sentence(hub: Hub, failure: str) -> None:
    hub.add("org/a", FILES)
    name, change, complaint = FAILURES[failure]
    change(hub)
    with pytest.raises(ModelError) as caught:
        from_hub(name, WANTED, instead="take another")
    assert str(caught.value).startswith(f"cannot fetch {str(name)!r} from the hub (")
    assert complaint in str(caught.value)
    assert str(caught.value).endswith(", or take another")
    assert "\n" not in str(caught.value)


def test_a_token_that_is_not_taken_and_a_hub_that_is_away(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/a", FILES)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(ModelError, match=r"the hub refuses: .*Invalid credentials.*log in"):
        from_hub(HubName("org/a"), WANTED)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:1 cannot be reached: .*; check the network, or give"):
        from_hub(HubName("org/a"), WANTED)


def test_a_private_one_needs_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/a", FILES, private=True)
    assert from_hub(HubName("org/a"), WANTED).is_dir()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelError, match="or it is private"):
        from_hub(HubName("org/a", "main"), ["*.bin"], newest=True)
