"""Stands in for the GGUF worker: its "files" are JSON that names a tokenizer and a way to cut words.

Usage: gguf_fake.py SETTINGS FD; SETTINGS is a JSON file with, all of them optional:

    own: what the converter calls the tokenizer's way to cut words (default "own"; null: it knows none)
    splits: ways to cut words that are read letter by letter, where others are read as the tokenizer does
    unknown: ways that llama.cpp does not know
    refuses: {request: reason}
    written: [[prompt ids, written ids, their log-probabilities], ...]
    log: a file that gets a line for each request

`test_gguf_real.py` asks the real worker the same, and compares the fields of its answers.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer


class Fake:
    """Answers as the real worker does."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.file: dict[str, str] = {}
        self.tokenizer: Any = None

    def vocabulary(self, folder: str, names: list[str], out: str) -> dict[str, Any]:
        own = self.settings.get("own", "own")
        files = {}
        for name in dict.fromkeys([*([own] if own is not None else []), *names]):
            files[name] = str(Path(out) / f"{len(files)}.gguf")
            self._write(files[name], folder, name)
        return {"own": own, "files": files}

    def convert(self, folder: str, out: str, type: str, cuts: str, name: str) -> dict[str, Any]:
        assert any(path.suffix == ".safetensors" for path in Path(folder).iterdir())
        self._write(out, folder, cuts, type=type, name=name)
        return {"bytes": Path(out).stat().st_size}

    def _write(self, out: str, folder: str, cuts: str, **more: str) -> None:
        values = {"tokenizer": f"{folder}/tokenizer.json", "cuts": cuts, **more}
        Path(out).write_text(json.dumps(values), "utf-8")

    def open(self, file: str, context: int) -> dict[str, Any]:
        self.file = json.loads(Path(file).read_text("utf-8"))
        if self.file["cuts"] in self.settings.get("unknown", []):
            return {"refused": "llama.cpp cannot read the file"}
        self.tokenizer = Tokenizer.from_file(self.file["tokenizer"])
        return {}

    def ids(self, texts: list[str], prompt: bool) -> dict[str, Any]:
        letters = self.file["cuts"] in self.settings.get("splits", [])
        rows = [list(text) if letters else [text] for text in texts]
        encode = self.tokenizer.encode
        return {"ids": [[one for part in row for one in encode(part, add_special_tokens=prompt).ids] for row in rows]}

    def render(self, conversations: list[Any], variables: dict[str, Any]) -> dict[str, Any]:
        return {"prompts": ["" for _ in conversations]}

    def write(self, prompts: list[list[int]], count: int) -> dict[str, Any]:
        known = {tuple(prompt): written for prompt, written, _ in self.settings["written"]}
        return {"ids": [known[tuple(prompt)] for prompt in prompts]}

    def top(self, rows: list[list[int]]) -> dict[str, Any]:
        known = {
            (*prompt, *written[:number]): (written[number], logprobs[number])
            for prompt, written, logprobs in self.settings["written"]
            for number in range(len(written))
        }
        found = [known[tuple(row)] for row in rows]
        return {"ids": [token for token, _ in found], "logprobs": [value for _, value in found]}


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    fake = Fake(settings)
    print("noise that a library prints on standard output")
    with os.fdopen(int(sys.argv[2]), "w") as out:
        json.loads(sys.stdin.readline())
        out.write(json.dumps({"versions": {}}) + "\n")
        out.flush()
        for line in sys.stdin:
            request = json.loads(line)
            what = request.pop("do")
            if "log" in settings:
                with open(settings["log"], "a", encoding="utf-8") as log:
                    log.write(f"{what}\n")
            reason = settings.get("refuses", {}).get(what)
            out.write(json.dumps({"refused": reason} if reason else getattr(fake, what)(**request)) + "\n")
            out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
