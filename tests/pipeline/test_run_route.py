"""Systems that route, in a whole run of a tiny model: whose answers they give, what is measured, and what is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import ModelError, UsageError
from lingraft.data.labelled_requests import read_labelled
from lingraft.evaluation.scorecard import Scorecard
from lingraft.models.files import find_model
from lingraft.pipeline.dry_run import estimate
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.routing.base import DECIDERS
from lingraft.routing.stored import read_route
from tiny_runs import QUIET, values

ROUTES = [
    {"name": "by-form", "by": "form"},
    {"by": {"kind": "classifier", "max_examples": 16}},
    {"name": "by-caller", "by": "caller"},
]
SUITE = {"kind": "self", "max_prompts": 4, "max_new_tokens": 6, "kl_max_new_tokens": 6}


def recipe(model: Path, **changes: Any) -> Recipe:
    made = values(model, compare=[], **changes)
    made["stages"][0] |= {"method": "vanilla", "params": {}}
    made["prompts"]["limit"] = 40
    made["evaluate"]["retention"] = {"suites": [SUITE]}
    made["evaluate"].setdefault("route", ROUTES)
    made["evaluate"]["decoders"] = [{"kind": "direct", "systems": ["by-form"]}]
    return parse_recipe(made, "test", Path("/"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    llama = tiny_llama(tokenizer, seed=3)
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.mul_(3)
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    run(recipe(model), root, QUIET)
    return root


def routes(root: Path, name: str) -> dict[str, str]:
    (path,) = root.glob(f"routing-{name}-????????/routes.json")
    found: dict[str, str] = json.loads(path.read_text("utf-8"))
    return found


@pytest.mark.parametrize("name", ["by-form", "vanilla-route", "by-caller"])
def test_each_answer_is_that_of_the_model_it_was_sent_to(finished: Path, name: str) -> None:
    sent = routes(finished, name)
    lines = [json.loads(line) for line in (finished / "outputs.jsonl").read_text("utf-8").splitlines()]
    keys = {"test.de-en/": "test0-de-en/", "self/": "self/"}
    seen = set()
    for one in lines:
        prefix = next(start for start in keys if one["id"].startswith(start))
        route = sent[one["id"].replace(prefix, keys[prefix], 1)]
        assert one["outputs"][name] == one["outputs"]["vanilla" if route == "graft" else "base"], one["id"]
        seen.add((prefix, route))
    if name != "vanilla-route":
        assert seen - {("self/", "graft")} == {("test.de-en/", "graft"), ("self/", "base")}


def test_nothing_is_asked_again(finished: Path) -> None:
    manifests = [json.loads(path.read_text("utf-8")) for path in finished.glob("decode-*-*/manifest.json")]
    again = [one["facts"] for one in manifests if "route" in one["stage"] or "by-" in one["stage"]]
    assert again
    assert {one["tokens"] for one in again} == {0}
    assert all(one["taken_over"] == one["requests"] for one in again)


def test_what_went_to_the_base_is_kept_whole_and_the_errors_are_measured(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    form = next(row for row in card.summary if row.system == "by-form")
    assert (form.retention_mean, form.kl_from_base) == (100.0, 0.0)
    trained = next(row for row in card.summary if row.system == "vanilla")
    assert form.gain is not None
    assert trained.gain is not None
    assert form.gain.value == trained.gain.value
    rows = {(row.system, row.metric): row for row in card.general if row.suite == "routing"}
    assert {system for system, _ in rows} == {"by-form", "vanilla-route"}
    labelled = read_labelled("starter:routing.jsonl")
    for name in ("by-form", "vanilla-route"):
        sent = routes(finished, name)
        wrong = [one for one in labelled if sent[f"routes.json/{one.id}"] != one.route]
        assert rows[name, "error"].score == pytest.approx(100 * len(wrong) / len(labelled))
        of_base = [one for one in labelled if one.route == "base"]
        assert rows[name, "to_graft"].n == len(of_base)
        assert rows[name, "to_graft"].score == pytest.approx(100 * sum(one in wrong for one in of_base) / len(of_base))
        assert rows[name, "typos_graft"].diagnostic
    assert rows["by-form", "error"].versus["vanilla-route"]
    described = next(system for system in card.systems if system.name == "by-form")
    assert described.parts == "vanilla for translations, else base"
    report = (finished / "report.html").read_text("utf-8")
    assert "Sent to the wrong model" in report
    to_graft, to_base = (rows["by-form", f"to_{side}"].score for side in ("graft", "base"))
    assert (
        "by-form answers as vanilla where its decider (form) sees a request for a translation, and as the base "
        f"otherwise. Of {len(labelled)} requests in words that it was not built for, {to_graft:.0f} % of those for the "
        f"base go to vanilla and {to_base:.0f} % of those for vanilla go to the base."
    ) in report
    assert "by-caller answers as vanilla where its decider (caller) sees a request for a translation" in report
    assert "just as much" in report
    assert "vanilla-route" in (finished / "graft" / "README.md").read_text("utf-8")


def test_the_deciders_go_out_with_the_graft_and_fit_its_base_alone(finished: Path, model: Path, tmp_path: Path) -> None:
    graft = finished / "graft"
    names = {path.name for path in graft.glob("route-*")}
    assert names == {"route-form.json", "route-caller.json", "route-classifier.json", "route-classifier.safetensors"}
    decider, stored = read_route(graft, "classifier", find_model(str(model)).sha256)
    assert decider.learnt()["weights"].ndim == 1
    assert stored.facts["translations"] > 16
    with pytest.raises(ModelError, match="another hash"):
        read_route(graft, "classifier", "0" * 64)
    copy = shutil.copytree(graft, tmp_path / "graft")
    with (copy / "route-classifier.safetensors").open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(ModelError, match="damaged"):
        read_route(copy, "classifier")
    (copy / "route-classifier.json").unlink()
    with pytest.raises(UsageError, match="holds no decider 'classifier'"):
        read_route(copy, "classifier")


def test_a_killed_run_goes_on_to_the_same_bytes(finished: Path, model: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "run")
    gone = [path for path in root.iterdir() if path.name.startswith(("route-", "routing-", "decode-vanilla-route"))]
    before = {path.name: {one.name: one.read_bytes() for one in path.glob("rout*")} for path in gone}
    assert before
    for path in gone:
        shutil.rmtree(path)
    run(recipe(model), root, QUIET)
    assert {name: {one.name: one.read_bytes() for one in (root / name).glob("rout*")} for name in before} == before
    scores = [Scorecard.read(folder / "scorecard.json").general for folder in (root, finished)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ([{"of": "radis"}], r"evaluate\.route\.0\.of: no trained or given graft is called 'radis'"),
        ([{"by": "classifer"}], r"unknown decider 'classifer'; did you mean 'classifier'"),
        ([{"by": {"kind": "form", "l2": 1}}], r"unknown key 'evaluate\.route\.0\.by\.l2'"),
        ([{"by": {"kind": "form", "wordings": ["Translate."]}}], r"has no \{source\}"),
        ([{"by": "form"}, {"by": "caller"}], "two systems are called 'vanilla-route'"),
        ([{"name": "vanilla"}], "two systems are called 'vanilla'"),
        ([{"name": "a"}, {"name": "b"}], "keeps one decider of a kind"),
    ],
)
def test_what_cannot_be_is_refused_when_the_recipe_is_read(model: Path, route: list[Any], message: str) -> None:
    made = values(model, compare=[])
    made["stages"][0] |= {"method": "vanilla", "params": {}}
    made["evaluate"]["route"] = route
    with pytest.raises(UsageError, match=message):
        parse_recipe(made, "test", Path("/"))


def test_a_classifier_without_prompts_is_refused_when_the_recipe_is_read(model: Path) -> None:
    made = values(model, compare=[])
    made["stages"][0] |= {"method": "vanilla", "params": {}}
    made["evaluate"] |= {"route": [{"by": "classifier"}], "retention": {"suites": ["refusal"]}}
    for prompts in (None, {"path": "starter:prompts.mt_if.jsonl", "task": "translation"}):
        made["prompts"] = prompts
        with pytest.raises(
            UsageError, match=r"route\.0\.by: .*learns from the run's training pairs and general prompts"
        ):
            parse_recipe(made, "test", Path("/"))


def test_every_decider_is_listed_with_what_it_is() -> None:
    assert set(DECIDERS) == {"form", "classifier", "caller"}


def test_a_decoder_over_a_route_has_each_request_decided(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    own = next(system for system in card.systems if system.name == "by-form/direct")
    assert (own.weights, own.decoder) == ("by-form", "direct")
    scores = {(row.system, row.metric): row.score for row in card.translation}
    assert all(
        scores["by-form/direct", metric] == score for (name, metric), score in scores.items() if name == "by-form"
    )
    assert len(routes(finished, "by-form~direct-drafts")) == 6
    assert set(routes(finished, "by-form~direct-drafts").values()) == {"graft"}
    assert "by-form/direct" not in {row.system for row in card.general if row.suite == "routing"}


def test_a_dry_run_shows_what_routes_read(model: Path) -> None:
    lines = {line.stage: line for line in estimate(recipe(model)).lines}
    assert lines["route by-form"].tokens == lines["route by-form"].hours == lines["decode by-form/direct"].tokens == 0
    read = lines["route vanilla-route"]
    assert read.tokens > 322 * 10
    assert read.hours > 0
    assert read.note == "the answers of vanilla and of the base, by classifier; tokens are read"


def test_what_answers_the_suites_itself_takes_no_route(model: Path) -> None:
    made = values(model, compare=[])
    made["stages"][0] |= {"method": "vanilla", "params": {}}
    made["evaluate"] |= {"route": [{"by": "form"}], "decoders": [{"kind": "pivot", "systems": ["vanilla-route"]}]}
    made["evaluate"]["decoders"][0]["languages"] = ["de"]
    with pytest.raises(UsageError, match=r"systems: the decoder 'pivot' answers the suites, too, .*name 'vanilla' in"):
        parse_recipe(made, "test", Path("/"))


@pytest.mark.long
def test_steps_go_to_both_models_and_nothing_is_judged_twice(model: Path, tmp_path: Path) -> None:
    judge = {"kind": "scripted", "rules": [{"answer": "Rating: [[4]]"}]}
    suite = {"kind": "refusal", "max_prompts": 3, "max_new_tokens": 6, "guard": judge}
    tear = {"kind": "tear", "systems": ["vanilla-route"], "accept": "always"}
    made = values(model, compare=[])
    made["stages"][0] |= {"method": "vanilla", "params": {}}
    made["prompts"]["limit"] = 40
    made["evaluate"] |= {"route": [{"by": "form"}], "decoders": [tear], "retention": {"suites": [suite]}}
    run(parse_recipe(made, "test", Path("/")), tmp_path / "run", QUIET)
    root = tmp_path / "run"
    assert set(routes(root, "vanilla-route~tear-drafts").values()) == {"graft"}
    assert set(routes(root, "vanilla-route~tear-estimate").values()) == {"base"}
    judged = {
        path.parent.name: json.loads(path.read_text("utf-8"))["facts"] for path in root.glob("judge-*/manifest.json")
    }
    again = [made for name, made in judged.items() if "vanilla-route" in name]
    assert again
    assert all(one["taken_over"] == one["requests"] for one in again)
    scores = {(row.system, row.metric): row.score for row in Scorecard.read(root / "scorecard.json").general}
    assert all(scores["vanilla-route", metric] == score for (name, metric), score in scores.items() if name == "base")
