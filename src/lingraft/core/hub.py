"""The Hugging Face hub: names of what lies there, and its files, fetched into the hub's cache.

All that is fetched as files goes through `from_hub`: no program is among them, and what cannot be had is said in one
sentence. Address, cache, token and offline mode are those of the library `huggingface_hub`: `HF_ENDPOINT`, `HF_HOME`,
`HF_TOKEN` or `hf auth login`, `HF_HUB_OFFLINE`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lingraft.core.errors import ModelError, first_line
from lingraft.core.validation import HUB_ID

COMMIT = "[0-9a-f]{40}"
_REVISION = "[A-Za-z0-9][A-Za-z0-9._/-]*"
_NETWORK = re.compile("Connect|Timeout|Network|Protocol|Read|Write|Proxy")
"""In the names of what HTTP libraries raise where there is no connection."""
LOG_IN = "log in (`hf auth login`, or HF_TOKEN)"


@dataclass(frozen=True)
class HubName:
    """A repository of the hub, perhaps at a revision: `org/name`, `org/name@revision`.

    Attributes:
        repository: `org/name`.
        revision: branch, tag or commit; None: the newest.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def read(cls, text: str) -> HubName | None:
        """Return what a text names; None where it can be no repository."""
        found = re.fullmatch(f"({HUB_ID})(?:@({_REVISION}))?", text)
        return cls(found[1], found[2]) if found else None

    @property
    def is_pinned(self) -> bool:
        """Whether it names one commit, whose files never change."""
        return self.revision is not None and re.fullmatch(COMMIT, self.revision) is not None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


def from_hub(
    name: HubName,
    wanted: Sequence[str],
    left: Sequence[str] = (),
    *,
    instead: str = "give a local folder",
    newest: bool = True,
    whole: Callable[[Path], bool] = lambda folder: True,
) -> Path:
    """Return the folder of a repository in the hub's cache, its files fetched if needed.

    Offline, or where the hub cannot be reached, it is what was fetched before, if that is whole.

    Args:
        name: of the repository; a commit that was fetched before is not asked for again.
        wanted: patterns of the files that are fetched; none of pickles, unless the user has agreed to open one.
        left: patterns of those of them that are not.
        instead: what else the user can do, for the message.
        newest: whether the hub is asked for the newest files of a branch; else those at hand do.
        whole: says of a folder whether nothing is missing.

    Raises:
        ModelError: no such repository or revision, not for this user, not whole, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    def fetched(at_hand: bool) -> Path:
        return Path(
            snapshot_download(
                name.repository,
                revision=name.revision,
                local_files_only=at_hand,
                allow_patterns=list(wanted),
                ignore_patterns=list(left) or None,
            )
        )

    if name.is_pinned or not newest:
        # Not at hand, or in part: the hub is asked, and says what is wrong with the name.
        with suppress(OSError, ValueError):
            if (known := fetched(at_hand=True)).is_dir() and whole(known):
                return known
    try:
        found = fetched(at_hand=False)
    except Exception as error:  # of whichever HTTP library the client of this version uses; they share no base
        reason, remedy = why_not(error, name)
        raise ModelError(f"cannot fetch {str(name)!r} from the hub ({reason}); {remedy}, or {instead}") from error
    if not found.is_dir() or not any(found.iterdir()) or not whole(found):
        lacking = f"it has none of what is read: {', '.join(wanted[:3])}"
        raise ModelError(f"cannot fetch {str(name)!r} from the hub ({lacking}); check the name, or {instead}")
    return found


def commit_of(folder: Path) -> HubName | None:
    """Return the repository, and its commit, of which a folder is the hub's cached copy; None of any other folder."""
    parts = folder.absolute().parts
    for place, part in enumerate(parts[:-2]):
        found = re.fullmatch(r"models--([^/]+?)--([^/]+)", part)
        if found and parts[place + 1] == "snapshots" and re.fullmatch(COMMIT, parts[place + 2]):
            return HubName("/".join(found.groups()), parts[place + 2])
    return None


def why_not(error: BaseException, name: HubName) -> tuple[str, str]:
    """Return why the hub's client failed, and what the user can do.

    Args:
        error: that it raised.
        name: of the repository.
    """
    from huggingface_hub import constants, errors

    causes = [error]
    while (inner := causes[-1].__cause__) is not None and len(causes) < 8:
        causes.append(inner)

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in causes)

    statuses = [getattr(getattr(one, "response", None), "status_code", None) for one in causes]
    if is_a(errors.OfflineModeIsEnabled) or (is_a(errors.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE):
        return "it is not on this machine, and HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"
    if is_a(errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{name.repository}"
        return "it is gated", f"accept its terms at {page} and {LOG_IN}"
    if is_a(errors.RevisionNotFoundError):
        return f"it has no revision {name.revision!r}", "name a branch, a tag or a whole commit hash of it"
    if is_a(errors.RepositoryNotFoundError):
        return "there is none of that name, or it is private", f"check the name, or {LOG_IN} if it is private"
    if 401 in statuses or 403 in statuses:
        return f"the hub refuses: {_of_server(causes)}", f"check the name and your rights, and {LOG_IN}"
    if is_a(errors.HFValidationError):
        return first_line(error), "check the name"
    if any(statuses):
        return f"the hub answers: {_of_server(causes)}", "try again later"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return f"its files cannot be written: {error.strerror}", "make room, set HF_HOME to another place"
    if is_a(errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) or _NETWORK.search(
        type(causes[-1]).__name__
    ):
        at = f"{constants.ENDPOINT} cannot be reached: {first_line(causes[-1], 200)}"
        return f"it is not on this machine, and {at}", "check the network"
    return first_line(error), "check the name and the network"


def _of_server(causes: Sequence[BaseException]) -> str:
    """Return what the hub said, where it said anything, and else the status."""
    said = (str(getattr(one, "server_message", None) or "").strip() for one in causes)
    return next((text.splitlines()[0][:300].rstrip(".") for text in said if text), first_line(causes[0], 300))
