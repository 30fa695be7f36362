"""The shipped requests by which routing is measured: distinct, of both routes, and nothing that may be learnt from."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.resources import files
from typing import Any

from lingraft.data.records import Prompt

STARTER = files("lingraft.shipped") / "starter"
TURNS = ("user", "assistant")


def rows(name: str = "routing.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (STARTER / name).read_text(encoding="utf-8").splitlines()]


def normalised(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def test_rows_are_whole_and_counted_in_the_readme() -> None:
    found = rows()
    stated = re.search(r"^\| `routing.jsonl` \| (\d+) \|", (STARTER / "README.md").read_text("utf-8"), re.MULTILINE)
    assert stated is not None
    assert int(stated[1]) == len(found)
    assert [row["id"] for row in found] == [f"routing-{number:03d}" for number in range(1, len(found) + 1)]
    for row in found:
        assert set(row) == {"id", "kind", "route", "messages"}
        assert row["route"] in ("graft", "base")
        prompt = Prompt.from_dict({"id": row["id"], "messages": row["messages"]})
        assert [one.role for one in prompt.messages] == [TURNS[number % 2] for number in range(len(prompt.messages))]
        assert prompt.messages[-1].role == "user"
        assert all(one.content == one.content.strip() != "" for one in prompt.messages)


def test_both_routes_and_all_kinds_are_well_filled() -> None:
    routes = Counter(row["route"] for row in rows())
    assert min(routes.values()) >= 0.4 * len(rows())
    assert min(Counter((row["kind"], row["route"]) for row in rows()).values()) >= 4


def test_requests_repeat_neither_one_another_nor_what_may_be_learnt_from() -> None:
    asked = [normalised("".join(one["content"] for one in row["messages"])) for row in rows()]
    assert len(set(asked)) == len(asked)
    last = {normalised(row["messages"][-1]["content"]) for row in rows()}
    prompts = {normalised(row["messages"][-1]["content"]) for row in rows("prompts.jsonl")}
    pairs = {
        normalised(row[side])
        for code in ("de", "th")
        for row in rows(f"train.{code}-en.jsonl")
        for side in ("source", "target")
    }
    assert not last & prompts
    assert not [text for text in last if any(len(part) > 15 and part in text for part in pairs)]
