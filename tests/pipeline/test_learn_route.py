"""A decider for a graft that is trained already: what it learns from, what is measured, where it is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

import lingraft as lg
from chain_grafts import base, make_graft  # noqa: F401  (fixture)
from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from hub import Hub, hub  # noqa: F401  (fixture)
from lingraft.data.labelled_requests import read_labelled
from lingraft.data.readers import PromptFile, read_prompts
from lingraft.data.records import Prompt, Rejected
from lingraft.data.sampling import split_prompts
from lingraft.routing.classifier import ClassifierDecider
from lingraft.routing.stored import read_route

PAIRS = {"path": "starter:train.de-en.jsonl", "source": "de", "target": "en", "limit": 24}
SMALL = {"max_examples": 24}


@pytest.fixture
def graft(base: Path, tmp_path: Path) -> Path:
    return make_graft(base, tmp_path / "graft", "direct")


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    """Every tenth request of the package's, of each route."""
    path = tmp_path / "requests.jsonl"
    rows = [
        {"kind": one.kind, "route": one.route, "messages": [message.to_dict() for message in one.messages]}
        for one in read_labelled("starter:routing.jsonl")[::10]
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def test_a_graft_gets_a_decider_that_chats_and_service_use(graft: Path, requests: Path) -> None:
    weights = (graft / "adapter_model.safetensors").read_bytes()
    found = lg.route(graft, PAIRS, params=SMALL, requests=requests, quiet=True)
    assert (graft / "adapter_model.safetensors").read_bytes() == weights
    decider, stored = read_route(graft, "classifier")
    assert stored.facts == found.facts
    assert found.facts["translations"] >= 24
    labelled = read_labelled(str(requests))
    with lg.open_graft(graft, route="classifier", quiet=True) as opened:
        router: Any = (opened.loaded(), opened.router())[1]
        wrong = [one for one in labelled if router.route(one.messages) != one.route]
    of_graft = [one for one in labelled if one.route == "graft"]
    missed = sum(one.route == "graft" for one in wrong)
    assert found.errors["error"].percent == pytest.approx(100 * len(wrong) / len(labelled))
    ends = scipy.stats.binomtest(missed, len(of_graft)).proportion_ci(method="wilson")
    row = found.errors["to_base"]
    assert (row.low, row.high, row.n) == (pytest.approx(100 * ends.low), pytest.approx(100 * ends.high), len(of_graft))
    assert not {path.name for path in graft.iterdir()} - {
        *("adapter_config.json", "adapter_model.safetensors", "README.md", "lingraft.json"),
        *("route-classifier.json", "route-classifier.safetensors"),
    }
    again = lg.route(graft, PAIRS, params=SMALL, requests=requests, quiet=True)
    assert again.to_dict() == found.to_dict()
    assert read_route(graft, "classifier")[0].learnt()["weights"].tolist() == decider.learnt()["weights"].tolist()


def test_it_learns_from_the_half_of_the_prompts_that_a_run_replays(
    graft: Path, requests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    learn = ClassifierDecider.learn

    def learning(self: ClassifierDecider, lessons: lg.Lessons, inputs: lg.RouteInputs) -> dict[str, Any]:
        seen.append(lessons)
        return learn(self, lessons, inputs)

    monkeypatch.setattr(ClassifierDecider, "learn", learning)
    lg.route(graft, {**PAIRS, "both_directions": True}, params=SMALL, requests=requests, seed=5, quiet=True)
    rows = read_prompts(PromptFile(path="starter:prompts.jsonl"))
    prompts: list[Prompt] = [row.record for row in rows if not isinstance(row, Rejected)]
    assert list(seen[0].prompts) == split_prompts(prompts, 5).replay
    assert len(seen[0].pairs) == 48
    assert {(one.source_lang, one.target_lang) for one in seen[0].pairs} == {("de", "en"), ("en", "de")}
    assert len({one.id for one in seen[0].pairs}) == 48


def test_two_files_of_one_name_are_both_learnt_from(
    graft: Path, requests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[lg.Lessons] = []

    def learning(self: ClassifierDecider, lessons: lg.Lessons, inputs: lg.RouteInputs) -> dict[str, Any]:
        seen.append(lessons)
        raise lg.DataError("enough")

    monkeypatch.setattr(ClassifierDecider, "learn", learning)
    files = [tmp_path / name / "pairs.tsv" for name in ("one", "two")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        lines = [
            f"Das ist der Satz mit der Zahl {number}{i}.\tThis is sentence number {number}{i}.\n" for i in range(9)
        ]
        file.write_text("source\ttarget\n" + "".join(lines), "utf-8")
    with pytest.raises(lg.DataError, match="enough"):
        lg.route(graft, files, source="de", target="en", requests=requests, quiet=True)
    assert len({one.id for one in seen[0].pairs}) == 18
    assert not list(graft.glob("route-*"))


def test_a_copy_gets_it_and_the_graft_of_the_hub_stays(
    graft: Path, requests: Path, hub: Hub, base: Path, tmp_path: Path, lingraft: Any
) -> None:
    hub.add("org/graft", {path.name: path.read_bytes() for path in graft.iterdir()})
    words = ["--by", "form", "--param", 'wordings=["Übersetze: {source}"]', "--requests", requests, "--model", base]
    one_sentence(lingraft("route", "org/graft", *words), 2, "graft of the hub", "--out")
    done = lingraft("route", "org/graft", *words, "--out", tmp_path / "copy")
    assert done.code == 0, done.err
    assert f"lingraft serve --graft {tmp_path / 'copy'} --route form" in done.out
    assert read_route(tmp_path / "copy", "form")[1].params == {"wordings": ["Übersetze: {source}"]}
    assert (tmp_path / "copy" / "adapter_config.json").read_bytes() == (graft / "adapter_config.json").read_bytes()
    with lg.open_graft(tmp_path / "copy", model=base, route="form", quiet=True) as opened:
        assert opened.loaded()
    one_sentence(lingraft("route", graft, *words, "--out", tmp_path / "copy"), 2, "exists already")
    assert not list(graft.glob("route-*"))


def test_a_place_that_cannot_be_written_is_told_before_anything_is_learnt(
    graft: Path, requests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise AssertionError("learnt")

    monkeypatch.setattr(ClassifierDecider, "learn", none)
    (tmp_path / "file").write_text("")
    with pytest.raises(lg.StoreError):
        lg.route(graft, PAIRS, params=SMALL, requests=requests, out=tmp_path / "file" / "copy", quiet=True)
    (graft / ".partial").write_text("in the way")
    with pytest.raises(lg.StoreError):
        lg.route(graft, PAIRS, params=SMALL, requests=requests, quiet=True)


def test_what_decides_nothing_by_itself_has_no_errors(graft: Path) -> None:
    found = lg.route(graft, by="caller", quiet=True)
    assert found.errors == {}
    assert str(found) == f"{graft}: decider 'caller'"


def test_what_cannot_be_learnt_is_said_before_a_model_is_loaded(
    graft: Path, base: Path, tmp_path: Path, lingraft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("lingraft.pipeline.learn_route.load_model", none)
    one_sentence(lingraft("route", graft), 2, "learns from pairs, and there are none")
    languages = ("--from", "de", "--to", "en")
    one_sentence(lingraft("route", graft, *languages), 2, "--pairs, --from and --to belong together")
    one_sentence(lingraft("route", graft, "--fields", "source=a"), 2, "there is no")
    one_sentence(lingraft("route", graft, "--by", "nothing"), 2, "unknown decider 'nothing'")
    one_sentence(lingraft("route", graft, "--param", "l2=-1"), 2, "l2")
    one_sentence(lingraft("route", graft, "--pairs", tmp_path / "none.tsv", *languages), 1, "there is no such file")
    swapped = tmp_path / "swapped.tsv"
    text = (
        "Das Wetter ist heute sehr schön, und wir gehen in den Park\tThe weather is very nice today, we go to the park"
    )
    swapped.write_text("target\tsource\n" + "".join(f"{text} {i}.\n" for i in range(30)), "utf-8")
    done = lingraft("route", graft, "--pairs", swapped, *languages)
    assert done.code == 1
    assert "swapped.tsv" in done.err
    few = tmp_path / "few.tsv"
    few.write_text("source\ttarget\nGuten Tag, wie geht es dir?\tHello, how are you?\n", "utf-8")
    one_sentence(lingraft("route", graft, "--pairs", few, *languages), 1, "fewer than 8 training pairs")
    chained = make_graft(base, tmp_path / "chained", "tcot")
    one_sentence(lingraft("route", chained, "--pairs", few, *languages), 2, "cannot be routed to")
    assert not list(graft.glob("route-*"))
