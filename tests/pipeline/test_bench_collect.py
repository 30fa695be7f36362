"""Results of benches that are shared and joined: no text, one table, nothing lost, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import lingraft as lg
from benches import publish, row, write_table
from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from lingraft.core.errors import DataError, LingraftError, StoreError, UsageError
from lingraft.data.records import SideBySide
from lingraft.evaluation.compared_run import read_run
from lingraft.evaluation.scoring import Resampling
from lingraft.pipeline import bench_collect, bench_report
from lingraft.pipeline.bench_report import read_contents, refuse_foreign
from lingraft.pipeline.experiment import Experiment
from lingraft.store.files import write_atomic

ASKED = "Der Hund schläft heute den ganzen Tag."
OUTPUTS = SideBySide("news/i0", "de-en", ASKED, "The dog sleeps all day today.", {"base": "Dog sleeps."}).to_json()
FILES = {"README.md", "bench.json", "bench.yaml", "report.html", "rows"}


def bench(folder: Path, levels: dict[str, float], others: tuple[str, ...] = (), **given: Any) -> Path:
    """A bench with rows that are done, name -> level, and others that are run elsewhere."""
    place = {
        key: given.pop(key) for key in [*given] if key in ("base", "base_level", "device", "seed", "asked", "suite")
    }
    for number, (name, level) in enumerate(levels.items()):
        systems = {name: (level, 0.7 - 0.1 * number), f"{name}#2": (level + 0.1, 0.7)}
        publish(folder / "rows" / name, systems, outputs=OUTPUTS + "\n", **place)
    rows = [row(name) for name in levels] + [row(name, "not run", why="on the other machine") for name in others]
    write_table(folder, given.pop("rows", rows), reference=given.pop("reference", next(iter(levels), "")), **given)
    its = [{"name": name} for name in levels] + [{"name": one, "run": False, "why": "elsewhere"} for one in others]
    text = yaml.safe_dump({"name": "small", "recipe": f"{folder}/recipe.yaml", "rows": its}, sort_keys=False)
    (folder / "bench.yaml").write_text(text, "utf-8")
    return folder


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_report, "HOW", Resampling(200, 1))


@pytest.fixture
def gpu(tmp_path: Path) -> Path:
    return bench(tmp_path / "gpu", {"vanilla": 13.0, "radis": 14.0}, ("eaft", "dear"), device="cuda")


@pytest.fixture
def cpu(tmp_path: Path) -> Path:
    return bench(tmp_path / "cpu", {"eaft": 12.0}, ("vanilla", "radis"), base_level="10.01")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def statuses(folder: Path) -> dict[str, str]:
    return {one["name"]: one["status"] for one in lg.BenchResult.read(folder).rows}


def test_rows_of_two_machines_are_one_table(gpu: Path, cpu: Path, tmp_path: Path) -> None:
    found = lg.collect([gpu, cpu], tmp_path / "out", quiet=True)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES
    assert statuses(out) == {"vanilla": "done", "radis": "done", "eaft": "done", "dear": "not run"}
    assert [one.get("bench") for one in found.rows] == ["gpu", "gpu", "cpu", None]
    assert [one["why"] for one in found.rows] == ["", "", "", "on the other machine"]
    for name in ("vanilla", "radis", "eaft"):
        assert {path.name for path in (out / "rows" / name).iterdir()} == {"run.json", "scorecard.json", "items.jsonl"}
    file = yaml.safe_load((out / "bench.yaml").read_text("utf-8"))
    assert file["recipe"] == "recipe.yaml"
    assert [(one["name"], one.get("run", True)) for one in file["rows"]] == [
        *(("vanilla", True), ("radis", True), ("eaft", True)),
        ("dear", False),
    ]

    shown = read_contents(out)
    (section,) = shown.sections
    assert section.frontier is not None
    gains = {one.name: one.gain.value for one in section.frontier.rows if one.gain}
    for name, place in (("vanilla", gpu), ("radis", gpu), ("eaft", cpu)):  # each against the base of its own machine
        card = read_run(place / "rows" / name, name).scorecard
        own = [summary.gain.value for summary in card.summary if summary.gain]
        assert gains[name] == pytest.approx(sum(own) / len(own), abs=1e-9)
    notes = "\n".join(shown.notes)
    assert "eaft: the base answered differently than in vanilla (news de-en quality)" in notes
    assert "Collected from several benches: vanilla, radis of gpu (on cuda); eaft of cpu (on cpu)." in notes
    page = (out / "report.html").read_text("utf-8")
    assert "Collected from several benches" in page
    assert "recipe.yaml --out NEW" not in page


def test_neither_a_text_nor_a_path_is_in_any_file(gpu: Path, cpu: Path, tmp_path: Path) -> None:
    table = json.loads((gpu / "bench.json").read_text("utf-8"))
    table["rows"][1] |= {"set": {"stages.0.params.prompts": f"{tmp_path}/prompts one.jsonl"}}
    choice = {"key": "k", "value": 1, "candidates": [{"value": 1, "why": f"cannot read {tmp_path}/x.tsv"}]}
    table["rows"][0] |= {"choice": choice}
    (gpu / "bench.json").write_text(json.dumps(table), "utf-8")
    other = json.loads((cpu / "bench.json").read_text("utf-8"))
    other["rows"][2] |= {"set": {"stages.0.params.prompts": f"{tmp_path}/elsewhere/prompts one.jsonl"}}  # the same
    (cpu / "bench.json").write_text(json.dumps(other), "utf-8")
    lg.collect([gpu, cpu], tmp_path / "out", quiet=True)
    for name, data in contents(tmp_path / "out").items():
        for secret in (ASKED, "The dog sleeps", "Dog sleeps", str(tmp_path), str(tmp_path.parent), "/home"):
            assert secret.encode() not in data, (name, secret)
    rows = lg.BenchResult.read(tmp_path / "out").rows
    assert rows[1]["set"] == {"stages.0.params.prompts": "prompts one.jsonl"}
    assert rows[0]["choice"]["candidates"][0]["why"] == "cannot read x.tsv"


def test_collected_rows_are_compared_as_any_other(gpu: Path, cpu: Path, tmp_path: Path, lingraft: Any) -> None:
    out = tmp_path / "out"
    shown = lingraft("collect", gpu, cpu, "--out", out)
    assert shown.code == 0
    assert [line.split()[0] for line in shown.out.splitlines()] == [
        *("row", "vanilla", "vanilla", "radis", "radis", "eaft", "eaft", "dear")
    ]
    assert f"Report: {out / 'report.html'}" in shown.err
    whole = lg.compare([gpu / "rows" / "vanilla", gpu / "rows" / "radis"], resamples=200)
    mixed = lg.compare([out / "rows" / "vanilla", gpu / "rows" / "radis"], resamples=200)
    assert mixed.to_json() == whole.to_json()
    printed = lingraft("compare", out / "rows" / "radis", out / "rows" / "eaft", "--resamples", 200)
    assert (printed.code, "eaft" in printed.out) == (0, True)
    watched = lingraft("watch", out, "--once")
    assert (watched.code, "eaft" in watched.out) == (0, True)
    sheet = ("--systems", "base,radis", "--out", tmp_path / "sheet")
    one_sentence(lingraft("sheet", "export", out / "rows" / "radis", *sheet), 1, "was collected without its texts")
    one_sentence(lingraft("gate", out / "rows" / "radis", "--gate", "gain>=0"), 2, "was collected without its texts")


def test_results_grow_over_days(gpu: Path, cpu: Path, tmp_path: Path) -> None:
    once = tmp_path / "once"
    lg.collect([gpu, cpu], once, quiet=True)
    out = tmp_path / "out"
    lg.collect(gpu, out, quiet=True)
    first = contents(out)
    lg.collect([out, cpu], out, quiet=True)  # in place
    grown = contents(out)
    assert {name: data for name, data in first.items() if name.startswith("rows/")}.items() <= grown.items()
    without = ("bench.yaml", "report.html")  # which show the file that each began with
    assert {name: data for name, data in grown.items() if name not in without} == {
        name: data for name, data in contents(once).items() if name not in without
    }
    lg.collect([gpu, cpu], out, quiet=True)  # the same rows from where they were run
    assert contents(out).keys() == grown.keys()
    lg.collect([out], tmp_path / "copy", quiet=True)
    assert statuses(tmp_path / "copy") == statuses(out)
    assert {path.name for path in tmp_path.iterdir()} == {"gpu", "cpu", "once", "out", "copy"}
    assert {path.name for path in out.iterdir()} == FILES


def test_the_tables_of_equal_tokens_go_along(tmp_path: Path) -> None:
    gpu = bench(tmp_path / "gpu", {"vanilla": 13.0, "radis": 14.0})
    publish(gpu / "tokens" / "radis", {"radis": (13.5, 0.7), "radis#2": (13.5, 0.7)}, outputs=OUTPUTS + "\n")
    rows = [
        {**row("vanilla"), "status": "as configured"},
        {**row("radis"), "run": "tokens/radis"},
        row("late", "to do"),
    ]
    equal = {"reference": "vanilla", "tokens": 5000, "tolerance": 0.1, "rows": rows}
    write_table(gpu, [row("vanilla"), row("radis"), row("late", "to do")], equal_tokens=equal)
    cpu = bench(tmp_path / "cpu", {"eaft": 12.0})
    found = lg.collect([gpu, cpu], tmp_path / "out", quiet=True)
    second = found.equal_tokens
    assert (second["reference"], second["tokens"], second["tolerance"]) == ("vanilla", 5000, 0.1)
    assert [(one["name"], one["status"], one.get("run")) for one in second["rows"]] == [
        ("vanilla", "as configured", "rows/vanilla"),
        ("radis", "done", "tokens/radis"),
        ("late", "to do", None),
    ]
    shown = read_contents(tmp_path / "out")
    assert [section.title for section in shown.sections] == ["Rows", "Rows at equal tokens"]
    assert "Not in the table of equal tokens: eaft." in shown.notes
    assert (tmp_path / "out" / "tokens" / "radis" / "items.jsonl").is_file()

    shutil.copytree(gpu, tmp_path / "copy")
    again = lg.collect([gpu, tmp_path / "copy"], tmp_path / "twice", quiet=True)
    assert again.equal_tokens == second
    write_table(tmp_path / "copy", [row("vanilla")], equal_tokens={**equal, "tokens": 6000})
    with pytest.raises(DataError, match=r"second tables of other tokens \(6,000 as vanilla; 5,000 as vanilla\)"):
        lg.collect([gpu, tmp_path / "copy"], tmp_path / "no", quiet=True)


OTHERS: list[tuple[dict[str, Any], type[LingraftError], str]] = [
    ({"base": "1" * 64}, DataError, "eaft and vanilla have different bases"),
    ({"asked": "other"}, DataError, "row 'eaft' of .*cpu was asked other questions in news de-en than row 'vanilla'"),
    ({"suite": "exam"}, DataError, "row 'eaft' of .*cpu was asked other questions in quiz than row 'vanilla'"),
    ({"seed": "9"}, DataError, "row 'eaft' of .*cpu has the seed 9, and row 'vanilla' of .*gpu 1"),
    (
        {"rows": [row("eaft", set={"a": 1}), row("vanilla", "not run", set={"b": 1})]},
        DataError,
        "row 'vanilla' changes the recipe otherwise in .*cpu than in .*gpu",
    ),
    ({"rows": [row("eaft"), row("Vanilla", "to do")]}, DataError, "'vanilla', but for the case of letters"),
    ({"rows": [row("../eaft")]}, StoreError, r"'\.\./eaft' is no name of a row"),
    ({"rows": [row("eaft\n")]}, StoreError, "is no name of a row"),
    ({"rows": [row("été")]}, StoreError, "'été' is no name of a row"),
    ({"rows": [{**row("eaft"), "run": "../gpu/rows/vanilla"}]}, StoreError, "is outside of its folder"),
    ({"rows": [{**row("eaft"), "run": ""}]}, StoreError, "the row 'eaft' is done and has no run"),
    ({"rows": [row("eaft"), row("eaft")]}, StoreError, "has the row 'eaft' twice"),
    ({"rows": [row("gone")]}, StoreError, "row 'gone': .* holds no finished run"),
]


@pytest.mark.parametrize(("other", "kind", "said"), OTHERS)
def test_what_is_no_part_of_the_same_bench_is_refused(
    gpu: Path, tmp_path: Path, other: dict[str, Any], kind: type[LingraftError], said: str
) -> None:
    cpu = bench(tmp_path / "cpu", {"eaft": 12.0}, **other)
    with pytest.raises(kind, match=said) as caught:
        lg.collect([gpu, cpu], tmp_path / "out", quiet=True)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"gpu", "cpu"}


def test_other_trainings_are_refused(gpu: Path, tmp_path: Path) -> None:
    once = tmp_path / "once"
    publish(once / "rows" / "eaft", {"eaft": (12.0, 0.7)})
    write_table(once, [row("eaft")])
    with pytest.raises(DataError, match="the rows of once were trained with the seeds 1, and those of gpu with 1, 2"):
        lg.collect([gpu, once], tmp_path / "out", quiet=True)


def test_a_row_that_was_run_twice_is_one_row_where_its_results_are_the_same(gpu: Path, tmp_path: Path) -> None:
    shutil.copytree(gpu, tmp_path / "copy")
    assert len(lg.collect([gpu, tmp_path / "copy"], tmp_path / "out", quiet=True).rows) == 4
    other = bench(tmp_path / "other", {"radis": 14.2})
    with pytest.raises(
        DataError, match=r"row 'radis' was run in .*gpu and in .*other, with other results; make it `run: false`"
    ):
        lg.collect([gpu, other], tmp_path / "no", quiet=True)
    with pytest.raises(DataError, match="row 'radis' was run in"):  # also where its texts are gone
        lg.collect([tmp_path / "out", other], tmp_path / "no", quiet=True)


def test_nothing_finished_or_nothing_there_is_refused(gpu: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row is finished; collect when one is"):
        lg.collect([write_table(tmp_path / "new", [row("eaft", "to do")])], tmp_path / "out", quiet=True)
    with pytest.raises(StoreError, match="holds no bench with a finished row"):
        lg.collect([tmp_path / "nowhere"], tmp_path / "out", quiet=True)
    with pytest.raises(UsageError, match="give the folder of a bench"):
        lg.collect([], tmp_path / "out", quiet=True)
    with pytest.raises(UsageError, match="is given twice"):
        lg.collect([gpu, tmp_path / "x" / ".." / "gpu"], tmp_path / "out", quiet=True)


def foreign(out: Path) -> None:
    out.mkdir()
    (out / "README.md").write_text("mine", "utf-8")


def lost(out: Path) -> None:
    lg.collect([bench(out.parent / "other", {"last": 11.0})], out, quiet=True)


def replaced(out: Path) -> None:
    lost(out)
    shutil.copytree(out / "rows" / "last", out / "rows" / "vanilla")


def linked(out: Path) -> None:
    (out.parent / "place").mkdir()
    out.mkdir()
    (out / "rows").symlink_to(out.parent / "place")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (foreign, "README.md was not written by `lingraft collect`: --out NEW"),
        (lost, "holds the row 'last', which would be lost; name .* among the folders, too, or give --out NEW"),
        (lambda out: out.write_text("mine", "utf-8"), "is a file; give a new folder"),
        (lambda out: bench(out, {"vanilla": 13.0}), "holds a bench with its texts"),
        (linked, "rows/vanilla is not what `lingraft collect` would write there"),
    ],
)
def test_what_is_in_the_way_is_left_alone(gpu: Path, tmp_path: Path, make: Callable[[Path], Any], said: str) -> None:
    out = tmp_path / "out"
    make(out)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=said):
        lg.collect([gpu], out, quiet=True)
    assert contents(tmp_path) == before


def test_a_folder_within_another_is_refused(gpu: Path, tmp_path: Path) -> None:
    for out in (gpu / "results", gpu / "rows" / "new"):
        with pytest.raises(UsageError, match=r"lies in .*gpu, which is collected; give a folder elsewhere"):
            lg.collect([gpu], out, quiet=True)
    with pytest.raises(UsageError, match=r"gpu lies in --out"):
        lg.collect([gpu], tmp_path, quiet=True)
    with pytest.raises(UsageError, match="holds a bench with its texts"):
        lg.collect([gpu], gpu, quiet=True)


def test_names_of_folders_stay_apart(tmp_path: Path) -> None:
    first = bench(tmp_path / "a" / "bänch", {"vanilla": 13.0})
    second = bench(tmp_path / "b" / "bänch", {"eaft": 12.0})
    found = lg.collect([first, second], tmp_path / "out", quiet=True)
    assert [one["bench"] for one in found.rows] == ["a/bänch", "b/bänch"]
    grown = lg.collect([tmp_path / "out", first, second], tmp_path / "out", quiet=True)
    assert grown.rows == found.rows
    publish(first / "rows" / "later", {"later": (11.0, 0.7), "later#2": (11.0, 0.7)})
    write_table(first, [row("vanilla"), row("later")])
    third = bench(tmp_path / "c" / "bänch", {"last": 11.0})
    lg.collect([tmp_path / "out", first], tmp_path / "out", quiet=True)  # keeps its name
    grown = lg.collect([tmp_path / "out", third], tmp_path / "out", quiet=True)
    assert [one["bench"] for one in grown.rows] == ["a/bänch", "b/bänch", "a/bänch", "bänch"]
    fourth = bench(tmp_path / "d" / "bänch", {"more": 11.0})
    grown = lg.collect([tmp_path / "out", fourth], tmp_path / "out", quiet=True)
    assert [one["bench"] for one in grown.rows][-1] == "d/bänch"


def test_a_bench_file_is_carried_as_it_is_but_for_paths_and_never_with_texts(gpu: Path, tmp_path: Path) -> None:
    text = "# mine\nname: small\nrecipe: /data\nrows:\n- {name: vanilla, set: {a: '/mnt/x y/z.tsv'}} # at /mnt/b/c\n"
    (gpu / "bench.yaml").write_text(text, "utf-8")
    lg.collect([gpu], tmp_path / "out", quiet=True)
    left = "# mine\nname: small\nrecipe: data\nrows:\n- {name: vanilla, set: {a: 'z.tsv'}} # at c\n"
    assert (tmp_path / "out" / "bench.yaml").read_text("utf-8") == left
    (gpu / "bench.yaml").write_text(f"{text}# {ASKED}\n", "utf-8")
    with pytest.raises(DataError, match=r"gpu/bench\.yaml holds a text of the data \('Der Hund schläft heu'\.\.\.\)"):
        lg.collect([gpu], tmp_path / "no", quiet=True)
    assert not (tmp_path / "no").exists()


def test_no_bench_and_no_run_goes_on_in_results(gpu: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lg.collect([gpu], out, quiet=True)
    with pytest.raises(UsageError, match="holds results that were collected without their texts"):
        refuse_foreign(out)
    refuse_foreign(gpu)
    with pytest.raises(UsageError, match="holds results that were collected without their texts"):
        Experiment(lg.load_recipe("demo")).refuse_other(out / "rows" / "radis")


class _Killed(BaseException):
    pass


def test_whenever_it_is_killed_the_folder_can_be_read_and_the_same_command_ends_it(
    gpu: Path, cpu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(folder: Path) -> None:  # the page itself takes long, and is one file of two
        for name in ("README.md", "report.html"):
            write_atomic(folder / name, (folder / "bench.json").read_bytes())

    monkeypatch.setattr(bench_collect, "write_report", page)
    before, want = tmp_path / "before", tmp_path / "want"
    lg.collect([gpu], before, quiet=True)
    shutil.copytree(before, want)
    lg.collect([want, cpu], want, quiet=True)
    ended, real, number = False, os.replace, 0
    while not ended:
        out = tmp_path / f"out-{number}"
        shutil.copytree(before, out)
        count = iter(range(1000))

        def replace(source: Any, target: Any, stop: int = number, count: Any = count, out: Path = out) -> None:
            if Path(target).is_relative_to(out) and ".partial" not in str(target) and next(count) == stop:
                raise _Killed
            real(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("lingraft.store.publishing.shutil.rmtree", lambda *_, **__: None)  # nobody tidies up
            patch.setattr(Path, "replace", lambda self, target: (replace(self, target), Path(target))[1])
            try:
                lg.collect([out, cpu], out, quiet=True)
                ended = True
            except _Killed:
                pass
        assert statuses(out).items() >= {"vanilla": "done", "radis": "done"}.items()
        assert not [note for note in read_contents(out).notes if "left out" in note]
        lg.collect([out, cpu], out, quiet=True)
        assert contents(out) == contents(want)
        number += 1
    assert number > 5
