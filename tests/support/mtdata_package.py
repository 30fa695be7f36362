"""Stands in for the package mtdata beside Lingraft's own worker: an index of a few corpora on a server of the test.

`place` copies the worker into a folder and writes the package beside it, where the worker's Python finds it first.
`test_corpora_real.py` asks the worker with mtdata itself.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lingraft.data.corpora import WORKER

FILES = {
    "__init__.py": "from pathlib import Path\n__version__ = '0.0'\ncache_dir = Path(__file__).parent / 'cache'\n",
    "entry.py": """
from dataclasses import dataclass

@dataclass(frozen=True)
class DatasetId:
    group: str
    name: str
    version: str
    langs: tuple

    @classmethod
    def parse(cls, text):
        group, name, version, *langs = text.split("-")
        return cls(group, name, version, tuple(langs))

    def __str__(self):
        return "-".join((self.group, self.name, self.version, *self.langs))

class Entry:
    in_ext = "txt"

    def __init__(self, did, url):
        self.did, self.url = did, url
        self.meta = {"orig_id": "org/set", "config": "de-en", "split": None} if "huggingface.co" in url else None
""",
    "index.py": """
import json
from pathlib import Path
from mtdata.entry import DatasetId, Entry

class Index(dict):
    def get_entries(self):
        return self.values()

known = json.loads((Path(__file__).parent / "known.json").read_text())
INDEX = Index((DatasetId.parse(id_), Entry(DatasetId.parse(id_), url)) for id_, url in known.items())
""",
    "cache.py": """
class Cache:
    def __init__(self, root):
        self.root = root

    def get_flag_file(self, file):
        return file.with_name(file.name + "._valid")

    def get_entry(self, entry):
        return self.download(entry.url, self.root / str(entry.did), entry=entry)
""",
    "parser.py": """
class Parser:
    def __init__(self, path, ext=None, ent=None):
        self.path = path

    def read_segs(self, show_pbar=True):
        for line in self.path.read_text("utf-8").splitlines():
            yield line.split("\\t")
""",
}
"""Only what the worker uses, with mtdata's own names."""


def place(folder: Path, known: str) -> Sequence[str]:
    """Write worker and package into a folder, and return the command that starts them.

    Args:
        folder: is made.
        known: ids and addresses of corpora, as JSON.
    """
    package = folder / "mtdata"
    package.mkdir(parents=True)
    for name, text in {**FILES, "known.json": known}.items():
        (package / name).write_text(text, "utf-8")
    return [sys.executable, str(shutil.copy(WORKER, folder))]
