"""General prompts of several sources: what is asked, by which ids, and what a run says of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError
from lingraft.core.progress import Reporter
from lingraft.data.readers import PromptSource, read_prompts
from lingraft.data.records import Prompt, Rejected
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.prompt_sources import fingerprints, labels, prompts_read, refuse_too_few
from lingraft.pipeline.publish import _prompt_counts
from lingraft.pipeline.questions import check_unstarted
from lingraft.pipeline.sources import fingerprint, open_once
from lingraft.recipe.load import parse_recipe


def source(path: Path, *rows: Any, **options: Any) -> PromptSource:
    """Write rows, texts or whole ones, and return the source that reads them."""
    path.parent.mkdir(exist_ok=True)
    lines = (json.dumps(row if isinstance(row, dict) else {"prompt": row}) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return PromptSource(path=str(path), **options)


def read(*sources: PromptSource) -> list[tuple[int, str]]:
    """Return the number of the source of each row, and its id, or its line and why it is not used."""
    return [
        (number, row.id if isinstance(row, Prompt) else f"{row.line} {row.reason}")
        for number, row in prompts_read(sources, None)
    ]


def test_what_an_earlier_source_asks_is_left_out_and_does_not_count_for_the_limit(tmp_path: Path) -> None:
    first = source(tmp_path / "a.jsonl", "Why is it blue?", "Why is it blue?", "How?")
    system = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How"}]}
    second = source(tmp_path / "b.jsonl", "why is it BLUE", system, "Who?", "Where?", "When?", limit=2)
    kept = [(0, "a:1"), (0, "a:2"), (0, "a:3")]  # within a file nothing is left out, as with one file alone
    assert read(first) == kept
    assert read(first, second) == [*kept, (1, "1 duplicate"), (1, "2 duplicate"), (1, "b:3"), (1, "b:4")]
    assert read(second) == [(0, "b:1"), (0, "b:2")]


def test_an_id_that_an_earlier_source_has_is_told_from_it(tmp_path: Path) -> None:
    rows = [[{"id": "1", "prompt": f"{name} one"}, f"{name} two"] for name in "abc"]
    sources = [source(tmp_path / name / "p.jsonl", *own) for name, own in zip("abc", rows, strict=True)]
    assert [id_ for _, id_ in read(*sources)] == ["1", "p:2", "p/1", "p/p:2", "p/p/1", "p/p/p:2"]
    assert labels(sources) == [one.path for one in sources]
    assert labels([sources[0], PromptSource(path="q.jsonl")]) == ["p", "q"]


def test_one_source_is_identified_as_it_was(tmp_path: Path) -> None:
    one, two = (source(tmp_path / f"{name}.jsonl", f"{name}?") for name in "ab")
    assert fingerprints([one]) == fingerprint(one)
    assert fingerprints([one, two]) == [fingerprint(one), fingerprint(two)]
    assert fingerprints([]) is None
    asking = PromptSource(path=one.path, task="translation")
    assert fingerprints([asking]) == {**fingerprint(one), "task": "translation"}
    assert [row.task for _, row in prompts_read([asking, two], None) if isinstance(row, Prompt)] == ["translation", ""]


def test_each_source_is_opened_and_has_to_give_something(tmp_path: Path) -> None:
    sources = [source(tmp_path / "a.jsonl", "Why?"), source(tmp_path / "b.jsonl", "why")]
    with pytest.raises(DataError, match=r"c\.jsonl"):
        open_once([*sources, PromptSource(path=str(tmp_path / "c.jsonl"))], read_prompts)
    path = sources[1].path
    with pytest.raises(DataError) as caught:
        refuse_too_few(sources, [1, 0], 1, {path: Counter(duplicate=1)}, "rejected.jsonl")
    said = (
        "has no prompt that can be asked: 1 are rejected, most as duplicate (1), see rejected.jsonl; mend it, or drop"
    )
    assert str(caught.value) == f"{path}: {said} it from `prompts`"
    with pytest.raises(DataError) as caught:
        refuse_too_few(sources, [1, 1], 0, {})
    assert str(caught.value) == f"{sources[0].path}, {path}: too few prompts to hold some out; give at least ten"
    refuse_too_few(sources, [1, 1], 1, {})
    refuse_too_few([], [], 0, {})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(model: Path, prompts: Any) -> Any:
    pair = {"source": "de", "target": "en"}
    values = {
        "name": "prompts",
        "model": str(model),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 8, **pair},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 3, **pair},
        },
        "prompts": prompts,
        "evaluate": {"retention": {"suites": [{"kind": "self", "max_new_tokens": 8, "kl_max_new_tokens": 8}]}},
    }
    return parse_recipe(values, "test", Path("/"))


def test_a_run_replays_and_holds_out_prompts_of_all_sources(model: Path, tmp_path: Path) -> None:
    general = source(tmp_path / "general.jsonl", *(f"Tell me {n} things about the sea." for n in range(60)))
    own = source(
        tmp_path / "own.jsonl", *(f"Translate {n} words." for n in range(19)), "tell me 7 things about the sea"
    )
    made = recipe(model, [{"path": general.path}, {"path": own.path}])
    assert check_unstarted(made) == [f"{own.path}: 1 prompts will be rejected as duplicate."]

    def opened(recipe: Any, name: str) -> Data:
        return prepare(Context(recipe, tmp_path / name, Reporter(quiet=True)))

    data = opened(made, "several")
    counts = {}
    for place, half in enumerate((data.replay, data.retention)):
        names = [prompt.id.partition(":")[0] for prompt in half]
        for name, count in Counter(names).items():
            counts.setdefault(name, [0, 0])[place] = count
        assert {*names[:8]} == {"general", "own"}  # whoever takes the first ones has both
    assert data.prompt_counts == counts
    assert [sum(both) for both in counts.values()] == [60, 19]
    assert (data.rows_read[general.path], data.rows_read[own.path]) == (60, 20)
    assert data.counts[own.path] == {"duplicate": 1}
    assert [row for row in data.rejected if isinstance(row, Rejected)] == [Rejected(own.path, 20, "duplicate")]
    (one, two), (three, four) = counts["general"], counts["own"]
    said = f"General prompts for replay and held out, by source: general {one} and {two}; own {three} and {four}."
    assert _prompt_counts(data) == [said]

    alone = opened(recipe(model, {"path": general.path}), "alone")
    assert [prompt for prompt in data.replay if prompt.id.startswith("general")] == list(alone.replay)
    assert [prompt for prompt in data.retention if prompt.id.startswith("general")] == list(alone.retention)
    assert _prompt_counts(alone) == []
    assert "prompts" not in json.loads((alone.folder / "counts.json").read_text("utf-8"))
