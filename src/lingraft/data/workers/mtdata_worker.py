"""Finds and fetches corpora that mtdata knows, those of OPUS among them. Run by the Python of its environment; imports
nothing of Lingraft.

It reads JSON lines from standard input and writes JSON lines to the file descriptor given as its only argument, so
that nothing a library prints gets between them:

    in   {"folder": path}
    out  {"version": text}                            mtdata's own files are in `$MTDATA`, else `~/.mtdata`
    in   {"find": {"id": text}} or {"find": {"group": text, "name": text, "version": text or null}}
    out  {"datasets": [{"id", "version", "languages": [tag, ...], "url", "hub": how it is named}, ...], "near": [...]}
    in   {"fetch": id, "to": path, "columns": [name, name]}
    out  {"started": true}                            writes gzipped JSON Lines, a pair a line, under these names
    in   {"wait": seconds}
    out  {"bytes": n, "of": n or 0, "rows": n, "ended": bool}

What fails is {"error": sentence}, and the end.
"""

from __future__ import annotations

import difflib
import gzip
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

TRIES = 5
"""Times a download is gone on with after the connection was lost."""
TIMEOUT = (10, 60)
"""Seconds until a server that does not connect, or sends nothing more, is given up."""
PAUSE_SECONDS = 2.0
"""Before each time, and as much more before the next."""
CHUNK = 64 * 1024
"""Bytes that are lost at most where the connection is."""
NEAR = 5


class Fetching:
    """A corpus that is being fetched, in a thread of its own.

    Attributes:
        bytes: of the file that is being downloaded.
        of: how many it has; 0: not known.
        rows: that are written.
        error: why it failed.
    """

    def __init__(self, id_: str, to: Path, columns: list[str]) -> None:
        self.bytes = self.of = self.rows = 0
        self.error: Exception | None = None
        self._ended = threading.Event()
        self._what = (id_, to, columns)
        threading.Thread(target=self._run, daemon=True).start()

    def wait(self, seconds: float) -> dict[str, Any]:
        """Return how far it is, after some seconds or at its end."""
        ended = self._ended.wait(seconds)
        if self.error is not None:
            raise self.error
        return {"bytes": self.bytes, "of": self.of, "rows": self.rows, "ended": ended}

    def _run(self) -> None:
        try:
            self._fetch(*self._what)
        except Exception as error:
            self.error = error
        finally:
            self._ended.set()

    def _fetch(self, id_: str, to: Path, columns: list[str]) -> None:
        from mtdata import cache_dir
        from mtdata.cache import Cache
        from mtdata.entry import DatasetId
        from mtdata.index import INDEX
        from mtdata.parser import Parser

        state = self

        class Resuming(Cache):
            """mtdata's own begins again at every loss, and goes on without a certificate where one is wrong."""

            def download(self, url: str, save_at: Path, timeout: Any = TIMEOUT, entry: Any = None) -> Path:
                import portalocker

                flag = self.get_flag_file(save_at)
                save_at.parent.mkdir(parents=True, exist_ok=True)
                with portalocker.Lock(flag.with_suffix("._lock"), "w", timeout=2 * 60 * 60):
                    if not (flag.exists() and save_at.exists()):
                        download(url, save_at, state)
                        flag.touch()
                return save_at

        entry = INDEX[DatasetId.parse(id_)]
        paths = Resuming(cache_dir).get_entry(entry)
        pairs = Parser(paths, ext=entry.in_ext or None, ent=entry).read_segs(show_pbar=False)
        with gzip.open(to, "wt", encoding="utf-8", compresslevel=3) as out:
            for pair in pairs:
                out.write(json.dumps(dict(zip(columns, pair[:2], strict=True)), ensure_ascii=False) + "\n")
                self.rows += 1
        with to.open("rb+") as written:
            os.fsync(written.fileno())


def download(url: str, to: Path, state: Any) -> None:
    """Write what is at an address to a file, going on where a download before it ended.

    Args:
        url: of the file.
        to: is there only when it is whole.
        state: its `bytes` and `of` say how far it is.

    Raises:
        OSError: the server cannot be reached, says no, or ends before the file does.
    """
    import requests

    part = to.with_name(to.name + ".part")
    for attempt in range(TRIES):
        began = False
        time.sleep(attempt * PAUSE_SECONDS)
        state.bytes, state.of = part.stat().st_size if part.exists() else 0, 0
        asked = {"User-Agent": "lingraft", "Accept-Encoding": "identity"}
        if state.bytes:
            asked["Range"] = f"bytes={state.bytes}-"
        try:
            with requests.get(url, headers=asked, stream=True, timeout=TIMEOUT) as reply:
                if reply.status_code == 416:  # what is there is no beginning of it
                    part.unlink()
                    continue
                if reply.status_code >= 400:
                    raise OSError(f"{url} answers {reply.status_code} {reply.reason}")
                began, goes_on = True, reply.status_code == 206
                state.bytes = state.bytes if goes_on else 0
                state.of = state.bytes + int(reply.headers.get("Content-Length") or 0)
                with part.open("ab" if goes_on else "wb") as out:
                    for chunk in reply.iter_content(CHUNK):
                        out.write(chunk)
                        state.bytes += len(chunk)
            if state.bytes < state.of:
                raise requests.ConnectionError(f"{url} ended after {state.bytes:,} of {state.of:,} bytes")
            part.replace(to)
            return
        except requests.exceptions.SSLError:
            raise
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            if attempt == TRIES - 1 or not began:
                raise OSError(f"{url} cannot be fetched: {_why(error)}") from error
    raise OSError(f"{url} cannot be fetched")


def _why(error: Exception) -> str:
    """Return the innermost reason of what `requests` raises."""
    while isinstance(inner := getattr(error, "reason", error.args[0] if error.args else None), Exception):
        error = inner
    return str(error).rpartition(": ")[2][:150]


def find(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the data sets of an id, or of a name in a group, and names like it where there is none."""
    from mtdata.entry import DatasetId
    from mtdata.index import INDEX

    entries = list(INDEX.get_entries())
    if "id" in wanted:
        found, names = [], {str(entry.did): entry for entry in entries}
        try:
            did = DatasetId.parse(wanted["id"])
        except Exception:  # of its parts, it raises whatever comes
            did = None
        if did is not None and did in INDEX:
            found = [INDEX[did]]
        name = wanted["id"]
        languages = name.split("-")[-2:]
        names = {name: entry for name, entry in names.items() if name.split("-")[-2:] in (languages, languages[::-1])}
    else:
        group = [entry for entry in entries if entry.did.group == wanted["group"]]
        name = wanted["name"].replace("-", "_").lower()
        version = (wanted["version"] or "").replace("-", "").lower()
        found = [entry for entry in group if entry.did.name == name]
        found = [entry for entry in found if not version or entry.did.version == version] or found
        names = {entry.did.name: entry for entry in group}
    datasets = [
        {
            "id": str(entry.did),
            "version": entry.did.version,
            "languages": [str(tag) for tag in entry.did.langs],
            "url": entry.url if isinstance(entry.url, str) else entry.url[0],
            "hub": _of_hub(entry),
        }
        for entry in found
    ]
    near = [] if found else difflib.get_close_matches(name, names, NEAR, 0.6)
    return {"datasets": datasets, "near": near}


def _of_hub(entry: Any) -> str:
    """Return how a recipe names what lies on the Hugging Face hub, whose library is not here; "" of anything else."""
    meta = entry.meta or {}
    if "huggingface.co" not in str(entry.url) or not meta.get("orig_id"):
        return ""
    parts = {"subset": meta.get("config"), "split": meta.get("split")}
    said = " and ".join(f"`{key}: {value}`" for key, value in parts.items() if isinstance(value, str))
    return f"hub:{meta['orig_id']}" + (f" with {said}" if said else "")


def main() -> int:
    """Answer until standard input ends; return the exit code."""
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as out:

        def say(values: dict[str, Any]) -> None:
            out.write(json.dumps(values) + "\n")
            out.flush()

        try:
            settings = json.loads(sys.stdin.readline())
            os.chdir(settings["folder"])  # mtdata runs what is called mtdata*.py where it is started
            import mtdata

            say({"version": mtdata.__version__})
            fetching: Fetching | None = None
            for line in sys.stdin:
                asked = json.loads(line)
                if "find" in asked:
                    say(find(asked["find"]))
                elif "fetch" in asked:
                    fetching = Fetching(asked["fetch"], Path(asked["to"]), asked["columns"])
                    say({"started": True})
                elif fetching is not None:
                    say(fetching.wait(asked["wait"]))
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            say({"error": f"{first[:300]}" if isinstance(error, OSError) else f"{type(error).__name__}: {first[:300]}"})
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
