"""Functions of the Python API on a finished run of a tiny random model, in the main thread and in others."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lingraft as lg
from commands import graft, model  # noqa: F401  (fixtures)
from tiny_runs import values

HOSTILE = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture(scope="module")
def folder(graft: Path) -> Path:
    """Of a finished run."""
    return graft.parent


def test_a_finished_run_is_read_and_shows_itself(folder: Path) -> None:
    run = lg.Run.read(folder)
    assert (run.folder, run.report, run.graft) == (folder, folder / "report.html", folder / "graft")
    assert run.system == "radis"
    assert run.scorecard.run == run.recipe.name == "tiny"
    assert run.verdict in (folder / "report.html").read_text("utf-8").replace("&#39;", "'")
    shown = run._repr_html_()
    assert "Run tiny" in shown
    assert "<td>radis</td>" in shown
    gain = next(row.gain for row in run.scorecard.summary if row.system == "radis")
    assert gain is not None
    assert f"{abs(gain.value):.1f}" in shown


def test_what_is_no_finished_run_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(lg.StoreError, match="holds no finished run"):
        lg.Run.read(tmp_path)
    with pytest.raises(lg.StoreError, match="has no graft"):
        _ = lg.Run(tmp_path).graft


def test_names_of_strangers_are_shown_in_a_notebook_as_text(folder: Path) -> None:
    from lingraft.reporting.notebook import run_fragment

    card = lg.Run.read(folder).scorecard
    card = card.model_copy(update={"run": HOSTILE})
    shown = run_fragment(card, "radis", f"{HOSTILE} gains", HOSTILE)
    assert "<script" not in shown
    assert "\x1b" not in shown
    assert "&lt;script&gt;" in shown


def test_a_comparison_writes_itself(folder: Path, tmp_path: Path) -> None:
    found = lg.compare([lg.Run(folder)], resamples=100)
    assert [row.name for row in found.rows] == ["base", "radis"]
    table = found.to_csv(tmp_path / "table.csv")
    assert table == (tmp_path / "table.csv").read_text("utf-8")
    assert len(table.splitlines()) == 3
    assert {one["name"] for one in json.loads(found.to_json())["systems"]} == {"base", "radis"}
    assert "<table>" in found._repr_html_()
    assert found.sentences[-1].startswith("Gain: mean improvement")
    with pytest.raises(lg.UsageError, match="did you mean 'gain'"):
        found.to_latex(sort="gian")
    with pytest.raises(lg.DataError, match="given twice"):
        lg.compare([folder, str(folder)])


def test_gates_are_verdicts_until_they_are_enforced(folder: Path) -> None:
    verdicts = lg.check_gates(folder, ["gain>=-1000", "gain>=1000"])
    assert [(one.gate.text, one.system, one.holds) for one in verdicts] == [
        ("gain>=-1000", "radis", True),
        ("gain>=1000", "radis", False),
    ]
    with pytest.raises(lg.GateMissedError, match="1 of 2 gates missed: gain>=1000"):
        lg.enforce(verdicts)
    lg.enforce(verdicts[:1])
    with pytest.raises(lg.UsageError, match="there is no gate to check"):
        lg.check_gates(lg.Run(folder))


def test_a_finished_run_is_run_again_in_a_thread_and_does_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "run.json").read_bytes()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(lg.run, str(folder), quiet=True).result()
    assert run == lg.Run(folder)
    assert (folder / "run.json").read_bytes() == before
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Starting" not in captured.err


def test_an_estimate_is_figures_and_the_text_of_a_dry_run(model: Path, tmp_path: Path) -> None:
    from lingraft.recipe.load import parse_recipe

    recipe = parse_recipe(values(model, compare=[]), "test", Path("/"))
    found = lg.estimate(recipe, out=tmp_path / "run")
    assert found.estimate.pairs == 24
    assert str(found).startswith(f"tiny: {model}, engine transformers, output in {tmp_path / 'run'}")
    assert (found.acts, found.open_acts) == ([], [])
    assert not (tmp_path / "run").exists()
    with pytest.raises(lg.UsageError, match="takes no overrides"):
        lg.estimate(recipe, ["seed=2"])


@pytest.mark.parametrize(
    ("method", "overrides", "by"),
    [
        ({}, [], ["classifier"]),
        ({"method": "radis"}, [], ["form"]),
        ({"method": "radis"}, ["evaluate.scales=[0.5]"], ["form"]),
        ({"method": "radis"}, ["evaluate.route=[{by: classifier}]"], ["classifier"]),
        ({}, ["evaluate.route=[]"], []),
        ({}, ["evaluate.route=[{by: form}]"], ["form"]),
    ],
)
def test_tuning_measures_the_graft_switched_on_for_translations(
    method: dict[str, str], overrides: list[str], by: list[str]
) -> None:
    pairs = {"path": "starter:train.de-en.jsonl", "limit": 64}
    recipe = lg.tuning_recipe(
        pairs, "starter:test.de-en.jsonl", source="de", target="en", overrides=overrides, quiet=True, **method
    )
    assert [one.by.kind for one in recipe.evaluate.route] == by
    assert [one.of for one in recipe.routed_systems()] == [method.get("method", "keep")] * len(by)


def test_tuning_keeps_as_the_shipped_recipe_does() -> None:
    pairs = {"path": "starter:train.de-en.jsonl", "limit": 64}
    for _ in range(2):  # what is changed in one recipe is not in the next
        changed = lg.tuning_recipe(
            *(pairs, pairs),
            source="de",
            target="en",
            method="keep",
            overrides=["stages.0.beside.0.params.max_answer_tokens=8"],
            quiet=True,
        )
        assert changed.stages[0].beside[0].params["max_answer_tokens"] == 8
    recipe = lg.tuning_recipe(*(pairs, pairs), source="de", target="en", method="keep", quiet=True)
    (own,), (shipped,) = recipe.stages, lg.load_recipe("keep-de-en").stages
    assert (own.method, own.label, own.beside) == (shipped.method, shipped.label, shipped.beside)
    plans = {plan.name: [[part.method for part in stage.beside] for stage in plan.stages] for plan in recipe.systems()}
    assert plans == {"vanilla": [[]], "keep": [["recovery"]]}
    assert [one.of for one in recipe.routed_systems()] == ["keep"]
    with pytest.raises(lg.UsageError, match=r"unknown method 'kep'; did you mean 'keep'\?"):
        lg.tuning_recipe(*(pairs, pairs), source="de", target="en", method="kep", quiet=True)


def test_what_a_recipe_runs_is_asked_for(model: Path, tmp_path: Path) -> None:
    from lingraft.recipe.load import parse_recipe

    acting = values(model, compare=[])
    acting["evaluate"]["translation"]["metrics"] = [{"kind": "command", "command": "true"}]
    recipe = parse_recipe(acting, "test", tmp_path)
    asked: list[lg.Act] = []
    with pytest.raises(lg.UsageError, match="nothing was started"):
        lg.run(recipe, out=tmp_path / "run", ask=lambda acts: bool(asked.extend(acts)))
    assert [act.what.partition("`")[0] for act in asked] == ["runs the program "]
    with pytest.raises(lg.UsageError, match="from Python: trust=True"):
        next(lg.preview(recipe))
    assert str(lg.estimate(recipe)).startswith("Runs and sends (needs your consent")


def test_a_preview_leaves_the_recipe_as_it_is(model: Path) -> None:
    from lingraft.recipe.load import parse_recipe

    recipe = parse_recipe(values(model), "test", Path("/"))
    before = recipe.model_dump()
    first = next(lg.preview(recipe, rows=1))
    assert first.stage == "vanilla (vanilla)"
    assert 0 < first.supervised < first.tokens
    assert "Translate the following text from German into English." in first.text.plain
    assert recipe.model_dump() == before


def test_files_of_pairs_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("de\ten\nHallo Welt\tHello world\n\tempty\n", "utf-8")
    entry = {"path": str(tmp_path / "a.tsv"), "fields": {"source": "de", "target": "en"}}
    report = lg.check_pairs(entry, source="de", target="en", rejected=tmp_path / "bad.jsonl")
    (item,) = report.files
    assert (item.tally.rows, item.tally.accepted) == (2, 1)
    assert item.to_dict()["rejected"] == {"empty_source": 1}
    assert json.loads((tmp_path / "bad.jsonl").read_text("utf-8"))["line"] == 3
    assert "1 of 2 rows" in str(report.problems()[0])
    assert lg.check_pairs([tmp_path / "a.tsv"], source="de", target="en", max_rejected_share=0.5).problems() == []
    with pytest.raises(lg.UsageError, match="are both 'de'"):
        lg.check_pairs(entry, source="de", target="de")
    with pytest.raises(lg.UsageError, match="cannot be the name"):
        lg.check_pairs("", source="de", target="en")


def test_what_can_be_named_is_listed() -> None:
    assert {"vanilla", "radis"} <= {entry.name for entry in lg.list_entries("methods")}
    assert all(entry.summary for kind in ("engines", "metrics", "recipes") for entry in lg.list_entries(kind))
    with pytest.raises(lg.UsageError, match="did you mean 'methods'"):
        lg.list_entries("method")


def test_a_service_in_a_thread_ends_when_it_is_told(model: Path) -> None:
    until, failed = threading.Event(), []

    def serve() -> None:
        try:
            lg.serve(model=str(model), options=lg.ServeOptions(port=0), until=until, quiet=True)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    until.set()
    thread.join()
    assert failed == []


def test_an_event_loop_of_a_notebook_is_told_to_use_a_thread(model: Path) -> None:
    import asyncio

    async def cell() -> None:
        lg.serve(model=str(model), options=lg.ServeOptions(port=0), quiet=True)

    with pytest.raises(lg.UsageError, match="serve in a thread of its own"):
        asyncio.run(cell())
