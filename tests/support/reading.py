"""Short ways to read pairs and prompts in tests, and what was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lingraft.data.files import Row
from lingraft.data.readers import PairSource, PromptSource, TextSource, read_pairs, read_prompts, read_texts
from lingraft.data.records import Pair, Prompt, Rejected, Text

SENTENCES = [
    ("Guten Morgen!", "Good morning!"),
    ('Sie sagte: "Nein, danke."', 'She said: "No, thank you."'),
    ("Grüße aus Köln\u2028an alle", "Greetings from Cologne, to all"),
]


def source(path: Path | str, **options: Any) -> PairSource:
    return PairSource(**{"path": str(path), "source": "de", "target": "en", **options})


def pairs(path: Path | str, **options: Any) -> list[Row[Pair] | Rejected]:
    return list(read_pairs(source(path, **options)))


def good(rows: list[Row[Pair] | Rejected]) -> list[Pair]:
    return [row.record for row in rows if isinstance(row, Row)]


def sides(rows: list[Row[Pair] | Rejected]) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in good(rows)]


def bad(rows: list[Any]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, Rejected)]


def prompts(path: Path, **options: Any) -> list[Row[Prompt] | Rejected]:
    return list(read_prompts(PromptSource(path=str(path), **options)))


def texts(path: Path, **options: Any) -> list[Row[Text] | Rejected]:
    return list(read_texts(TextSource(**{"path": str(path), "lang": "th", **options})))


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
