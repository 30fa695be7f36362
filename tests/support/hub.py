"""A stand-in for the Hugging Face hub: the part of its HTTP interface that its own client uses for models.

Files above `LARGE` bytes go by LFS, as on the hub. It holds everything in memory, and notes what it was asked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants

LARGE = 1000
TOKEN = "hf_of_the_stand_in"
ORGANISATION = "org"
"""The only one whose repositories the token may write."""


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repository:
    """Files by commit, and where branches and tags stand."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, ref: str, files: dict[str, bytes], message: str = "") -> str:
        listed = sorted((name, git_hash(data)) for name, data in files.items())
        oid = hashlib.sha1(json.dumps([listed, len(self.commits), message]).encode()).hexdigest()
        self.commits[oid] = files
        self.refs[ref] = oid
        self.messages.append(message)
        return oid

    def find(self, revision: str) -> str | None:
        return self.refs.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """What lies on the stand-in.

    Attributes:
        url: its address.
        asked: method and path of each request.
        broken: path of a request -> the status that it is answered with.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: dict[str, int] = field(default_factory=dict)
    url: str = ""

    def add(self, name: str, files: dict[str, bytes], **state: Any) -> str:
        """Put a repository there, and return its commit."""
        self.repositories[name] = Repository(**state)
        return self.repositories[name].commit("main", dict(files), "initial commit")

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[str(repository.find(revision))]


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Serve an empty hub on this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        return

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        for place, status in self.hub.broken.items():
            if place in path:
                return self._send(status, {"error": "the stand-in is broken"})
        for method, pattern, handle in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split("|"):
                return handle(self, *found.groups(), body)
        return self._send(404, {"error": f"no such address: {self.command} {path}"})

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, status: int, value: Any, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def _knows(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _open(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """Return a repository and a commit of it, or answer as the hub does where they are not to be had."""
        repository = self.hub.repositories.get(name)
        if self.headers.get("Authorization") and not self._knows:
            self._send(
                401, {"error": "Invalid credentials"}, X_Error_Message="Invalid credentials in Authorization header"
            )
        elif repository is None or (repository.private and not self._knows):
            self._send(404 if self._knows else 401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        elif repository.gated:
            self._send(403, {"error": "gated"}, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif (commit := repository.find(revision)) is None:
            self._send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        else:
            return repository, commit
        return None

    def _may_write(self, name: str) -> bool:
        if not self._knows:
            self._send(401, {"error": "Invalid username or password."})
        elif not name.startswith(f"{ORGANISATION}/"):
            said = f'You don\'t have the rights to create a model under the namespace "{name.partition("/")[0]}"'
            self._send(403, {"error": said}, X_Error_Message=said)
        return self._knows and name.startswith(f"{ORGANISATION}/")

    # What the client asks

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if not self._may_write(name):
            return None
        if name in self.hub.repositories:
            return self._send(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=private)
        return self._send(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def info(self, name: str, revision: str | None, body: bytes) -> None:
        if opened := self._open(name, revision or "main"):
            repository, commit = opened
            listed = [{"rfilename": path} for path in sorted(repository.commits[commit])]
            values = {"_id": "1", "id": name, "modelId": name, "sha": commit, "private": repository.private}
            self._send(200, {**values, "tags": [], "siblings": listed, "downloads": 0, "likes": 0})

    def tree(self, name: str, revision: str, body: bytes) -> None:
        if opened := self._open(name, revision):
            repository, commit = opened
            self._send(200, [_entry(path, data) for path, data in sorted(repository.commits[commit].items())])

    def refs(self, name: str, body: bytes) -> None:
        if opened := self._open(name, "main"):
            known = [
                {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": at} for ref, at in opened[0].refs.items()
            ]
            self._send(200, {"branches": known, "tags": [], "converts": []})

    def branch(self, name: str, branch: str, body: bytes) -> None:
        if not self._may_write(name) or not (opened := self._open(name, "main")):
            return None
        repository, commit = opened
        if branch in repository.refs:
            return self._send(409, {"error": "Reference already exists"})
        repository.refs[branch] = commit
        return self._send(200, {})

    def validate(self, body: bytes) -> None:
        """Answer like the hub, as far as its rules are published: a front matter, and what may stand in it."""
        content = json.loads(body)["content"]
        wrong: list[str] = []
        try:
            values = yaml.safe_load(content.split("---")[1]) if content.startswith("---") else {}
        except yaml.YAMLError as error:
            wrong, values = [f"YAML is invalid: {error}"], {}
        for base in [values.get("base_model") or []]:
            wrong += [
                f'"base_model" with value "{one}" is not valid. Use a model id from https://hf.co/models.'
                for one in ([base] if isinstance(base, str) else base)
                if not re.fullmatch(r"[\w.-]+/[\w.-]+", one)
            ]
        for result in (one for index in values.get("model-index") or [] for one in index["results"]):
            for part in ("task", "dataset"):
                wrong += (
                    [] if result.get(part, {}).get("type") else [f'"model-index[0].results[0].{part}.type" is required']
                )
            wrong += [] if result["dataset"].get("name") else ['"model-index[0].results[0].dataset.name" is required']
            wrong += [
                "a metric has no value" for one in result["metrics"] if not isinstance(one.get("value"), float | int)
            ]
        errors = [{"message": one} for one in wrong]
        self._send(400 if wrong else 200, {"errors": errors, "warnings": []} if wrong else {"warnings": []})

    def preupload(self, name: str, revision: str, body: bytes) -> None:
        if not self._may_write(name) or not (opened := self._open(name, revision)):
            return
        have = opened[0].commits[opened[1]]
        files = []
        for one in json.loads(body)["files"]:
            large = one["size"] > LARGE or one["path"].endswith(".safetensors")
            oid = _content_id(one["path"], have[one["path"]]) if one["path"] in have else None
            mode = "lfs" if large else "regular"
            files.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._send(200, {"files": files})

    def batch(self, name: str, body: bytes) -> None:
        if not self._may_write(name):
            return
        objects = []
        for one in json.loads(body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}
            objects.append({**one, **({} if one["oid"] in self.hub.objects else {"actions": actions})})
        self._send(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str, body: bytes) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._send(400, {"error": "these bytes have another hash"})
        self.hub.objects[oid] = body
        return self._send(200, {})

    def commit(self, name: str, revision: str, body: bytes) -> None:
        if not self._may_write(name) or not (opened := self._open(name, revision)):
            return None
        repository, parent = opened
        files, message = dict(repository.commits[parent]), ""
        for item in map(json.loads, body.splitlines()):
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, parent):
                    return self._send(412, {"error": "A commit has happened since. Please refresh and try again."})
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(revision, files, message)
        done = {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "hookOutput": ""}
        return self._send(200, done)

    def resolve(self, name: str, revision: str, path: str, body: bytes) -> None:
        if not (opened := self._open(name, revision)):
            return None
        repository, commit = opened
        data = repository.commits[commit].get(path)
        if data is None:
            return self._send(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        return self._send(200, data, ETag=f'"{_content_id(path, data)}"', X_Repo_Commit=commit)


def _entry(path: str, data: bytes) -> dict[str, Any]:
    """Return what the hub lists of a file: one of LFS is known by its sha256, any other by git's hash."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
    if len(data) > LARGE or path.endswith(".safetensors"):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
    return entry


def _content_id(path: str, data: bytes) -> str:
    entry = _entry(path, data)
    return str(entry.get("lfs", entry)["oid"])


_NAME = r"([^/]+/[^/]+)"
_ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", f"/api/models/{_NAME}/tree/([^/]+)", _Handler.tree),
    ("GET", f"/api/models/{_NAME}/refs", _Handler.refs),
    ("GET", f"/api/models/{_NAME}(?:/revision/(.+))?", _Handler.info),
    ("POST", f"/api/models/{_NAME}/branch/(.+)", _Handler.branch),
    ("POST", f"/api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    ("POST", f"/api/models/{_NAME}/commit/(.+)", _Handler.commit),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/lfs/([0-9a-f]{64})", _Handler.upload),
    ("GET|HEAD", f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The stand-in as what the library takes for the hub, with an empty cache, and with the right to write."""
    with hub_server() as served:
        for name, value in settings(served, tmp_path / "hub").items():
            monkeypatch.setenv(name, value)
        # What the library has read from the environment when it was imported.
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield served


def settings(served: Hub, cache: Path) -> dict[str, str]:
    """Return the environment of a process that takes the stand-in for the hub."""
    return {
        "HF_ENDPOINT": served.url,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
    }
