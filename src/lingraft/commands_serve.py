"""What `lingraft serve` does; `cli_serve.py` declares it."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path

from lingraft.decoding.tcot import Caps
from lingraft.errors import UsageError
from lingraft.progress import Reporter

KEY = "LINGRAFT_API_KEY"


@dataclass(frozen=True)
class ServeOptions:
    """Where to serve, under which name, and how to answer. `waiting`: requests that may wait for the one served."""

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = ""
    caps: Caps = field(default_factory=Caps)
    temperature: float = 0.0
    waiting: int = 16


def serve_command(graft: Path | None, model: str | None, options: ServeOptions, quiet: bool) -> None:
    """Serve a graft, or a base, until SIGINT or SIGTERM. The key of clients is $LINGRAFT_API_KEY, if set.

    Raises:
        LingraftError: a package is missing, the address cannot be had, or the model or graft cannot be used.
    """
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"`lingraft serve` needs {' and '.join(missing)}: pip install 'lingraft[serve]'")
    from lingraft.decoding.opened import opened
    from lingraft.engines.wire import is_loopback
    from lingraft.serving.answers import Answerer
    from lingraft.serving.api import Api
    from lingraft.serving.desk import Desk
    from lingraft.serving.server import bound, serve

    reporter = Reporter(quiet)
    key = os.environ.get(KEY, "").strip()
    local = is_loopback(options.host)
    with bound(options.host, options.port) as socket, opened(graft, model) as (loaded, markers):
        desk = Desk(options.waiting)
        try:
            answerer = Answerer(loaded, markers, options.caps, temperature=options.temperature)
            name = options.name or _name(graft) or loaded.files.name
            api = Api(answerer, name, desk, key=key, local_only=local and not key, log=reporter.say)
            if not (local or key):
                reporter.say(f"Note: whoever reaches {options.host} may ask; set {KEY} to a secret", always=True)
            host, port = socket.getsockname()[:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            how = "without chain" if markers is None else f"in English, {', '.join(markers.languages)}"
            reporter.say(f"{name} answers {how} at http://{address}/v1; Ctrl-C ends.")
            serve(api.app(), desk, socket)
        finally:
            desk.close()
        reporter.say("Ended.")


def _name(graft: Path | None) -> str:
    """Return the name of a graft's folder; that of its run where the folder is only called "graft"."""
    if graft is None:
        return ""
    folder = graft.resolve()
    return folder.parent.name if folder.name == "graft" and folder.parent.name else folder.name
