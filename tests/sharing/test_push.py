"""A run is pushed to a stand-in of the hub by the hub's own client, and used from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, constants

import lingraft as lg
from commands import graft, lingraft, model, one_sentence  # noqa: F401  (fixtures)
from hub import TOKEN, Hub, hub  # noqa: F401  (fixture)
from lingraft.models.graft import read_info
from lingraft.models.graft_names import locate_graft
from lingraft.models.graft_seal import check_seal
from lingraft.store.artefacts import listing

GRAFT = {"adapter_config.json", "adapter_model.safetensors", "lingraft.json", "README.md"}
NUMBERS = {f"results/{name}" for name in ("run.json", "scorecard.json", "items.jsonl")}


@pytest.fixture
def run(graft: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "somebody" / "a run"
    shutil.copytree(graft, folder / "graft")
    for path in filter(Path.is_file, graft.parent.iterdir()):
        shutil.copyfile(path, folder / path.name)
    return folder


def front_of(card: bytes) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.decode().split("---\n")[1])
    return found


def test_what_is_pushed_is_the_graft_its_card_and_its_results_in_one_commit(run: Path, hub: Hub, model: Path) -> None:
    found = lg.push(run, "org/de-en", base_model="org/base", license="mit", quiet=True)
    files = hub.files("org/de-en")
    assert {*files} == {*GRAFT, "scorecard.json", "report.html", *NUMBERS, ".gitattributes"}
    assert found.files == {name: len(data) for name, data in files.items() if name != ".gitattributes"}
    assert found.url == f"{hub.url}/org/de-en"
    assert found.commit == hub.repositories["org/de-en"].refs["main"]
    assert hub.repositories["org/de-en"].messages == ["initial commit", "Lingraft: run tiny"]
    assert files["adapter_model.safetensors"] == (run / "graft" / "adapter_model.safetensors").read_bytes()
    assert found.notes == []
    for name, data in files.items():
        for secret in (TOKEN, str(run), str(model), str(run.parent)):
            assert secret.encode() not in data, (name, secret)
    page = files["report.html"].decode()
    row = json.loads((run / "outputs.jsonl").read_text("utf-8").splitlines()[0])
    word = max((word for word in str(row).split() if word.isascii() and word.isalpha()), key=len)
    assert word in (run / "report.html").read_text("utf-8")
    for text in (word, "recipe.yaml", 'id="items"', "pairs:"):
        assert text not in page
    assert 'id="translation"' in page
    assert json.loads(files["scorecard.json"])["base"]["id"] == model.name

    folder = locate_graft(f"org/de-en@{found.commit}")
    check_seal(folder)
    assert read_info(folder).base_id == "org/base"
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    assert read_info(run / "graft").base_id == ""  # the run is as it was


def test_the_card_is_valid_and_tells_all_results_with_their_intervals(run: Path, hub: Hub) -> None:
    lg.push(run, "org/de-en", base_model="org/base", license="mit", quiet=True)
    text = hub.files("org/de-en")["README.md"].decode()
    front, data = front_of(text.encode()), ModelCard(text).data
    assert (front["base_model"], front["license"], front["library_name"]) == ("org/base", "mit", "peft")
    assert front["tags"] == ["translation", "lingraft", "base_model:adapter:org/base", "radis"]
    card = lg.Run.read(run).scorecard
    by_metric = {(one.dataset_type, one.metric_type): one for one in data.eval_results}
    (chrf,) = (row for row in card.translation if row.system == "radis" and row.metric == "chrf++")
    told = by_metric[chrf.test_set, "chrf++"]
    assert told.metric_value == round(chrf.score, 4)
    assert told.metric_args["ci95"] == [round(bound, 4) for bound in chrf.ci95]
    assert told.metric_name.startswith("chrF++, 95 % interval [")
    (summary,) = (row for row in card.summary if row.system == "radis")
    assert by_metric["all", "gain"].metric_value == round(summary.gain.value, 4)
    assert 'graft = "org/de-en"\n' in text
    assert 'base = "org/base"\n' in text
    assert "\nlingraft translate --graft org/de-en --from de --to en input.txt > output.txt" in text
    assert "path/to/" not in text


def test_a_base_without_a_name_is_told(run: Path, hub: Hub) -> None:
    found = lg.push(run, "org/de-en", dry_run=True, quiet=True)
    front = front_of(found.card.encode())
    assert not {"base_model", "license"} & front.keys()
    assert [note.partition(",")[0] for note in found.notes] == [
        "the card names no base",
        "the licence of the base is not known here",
    ]
    assert "--graft org/de-en --model path/to/base" in found.card
    assert hub.asked == []


def test_what_was_edited_by_hand_stays_and_an_older_cards_faults_go(run: Path, hub: Hub) -> None:
    card = run / "graft" / "README.md"
    older = card.read_text().replace("- radis\n", "- radis > vanilla+recovery\n- mine\n", 1)
    older = older.replace("tags:\n", "license: other\nwidget: [{text: Hallo}]\ntags:\n", 1)
    older = older.replace(
        "lingraft translate --graft path/to/graft", "hf download me/x --local-dir x\nlingraft translate --graft x"
    )
    card.write_text(older.replace("## Limits\n", "## Limits\n\n- Mine.\n"))
    info = read_info(run / "graft")
    changed = info.model_copy(update={"method": "radis > vanilla+recovery"})
    (run / "graft" / "lingraft.json").write_text(changed.model_dump_json(by_alias=True, indent=2) + "\n")
    reseal(run)
    found = lg.push(run, "org/de-en", dry_run=True, quiet=True)
    front = front_of(found.card.encode())
    assert front["tags"] == ["translation", "lingraft", "mine", "radis", "vanilla", "recovery"]
    assert "license" not in front
    assert front["widget"] == [{"text": "Hallo"}]
    assert "- Mine.\n" in found.card
    assert "hf download" not in found.card
    assert "\nlingraft translate --graft org/de-en --model path/to/base --from" in found.card


def reseal(run: Path) -> None:
    """Let a run have published its graft as it is now."""
    from lingraft.store.files import read_sealed, write_sealed

    record = read_sealed(run / "run.json")
    assert record is not None
    record["published"]["graft"] = listing(run / "graft")
    write_sealed(run / "run.json", record)


def test_texts_go_along_only_if_asked(run: Path, hub: Hub, model: Path) -> None:
    found = lg.push(run, "org/with", with_outputs=True, quiet=True)
    files = hub.files("org/with")
    assert {"outputs.jsonl", "items.jsonl"} <= {*files}
    assert files["outputs.jsonl"] == (run / "outputs.jsonl").read_bytes()
    assert b'id="items"' in files["report.html"]
    assert str(model).encode() not in files["report.html"]
    assert "texts of your test sets and what the models wrote go along" in found.notes
    again = lg.push(run, "org/with", quiet=True)
    assert again.removed == ["items.jsonl", "outputs.jsonl"]
    assert "outputs.jsonl" not in hub.files("org/with")
    same = lg.push(run, "org/with", quiet=True)
    assert (same.commit, same.removed) == (again.commit, [])


def test_a_branch_is_made_and_what_another_graft_left_goes(run: Path, hub: Hub) -> None:
    before = hub.add(
        "org/de-en", {"lingraft.json": b"{}", "vocabulary.json": b"{}", "photo.png": b"p", "LICENSE": b"l"}
    )
    found = lg.push(run, "org/de-en", branch="v2", quiet=True)
    assert hub.repositories["org/de-en"].refs == {"main": before, "v2": found.commit}
    assert found.removed == ["vocabulary.json"]
    assert {"photo.png", "LICENSE"} <= {*hub.files("org/de-en", "v2")}
    check_seal(locate_graft("org/de-en@v2"))


def unfinished(run: Path) -> None:
    (run / "run.json").unlink()


def flipped(name: str) -> Callable[[Path], None]:
    def flip(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        data[len(data) // 2] ^= 1
        (run / name).write_bytes(bytes(data))

    return flip


def without_front_matter(run: Path) -> None:
    (run / "graft" / "README.md").write_text("# Mine\n")


def with_a_path(run: Path) -> None:
    card = run / "graft" / "README.md"
    card.write_text(card.read_text() + f"\nIt lies in {run.resolve()}.\n")


def with_an_odd_tag(run: Path) -> None:
    card = run / "graft" / "README.md"
    text = card.read_text().replace("language:\n- de\n- en\n", "language: [German]\n", 1)
    card.write_text(text.replace("tags:\n", "tags:\n- ''\n", 1))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "unfinished": (unfinished, "holds no finished run"),
    "weights": (
        flipped("graft/adapter_model.safetensors"),
        "safetensors is not the one that the run published",
    ),
    "description": (
        flipped("graft/lingraft.json"),
        "lingraft.json is not the one that the run published; run",
    ),
    "scorecard": (flipped("scorecard.json"), "scorecard.json is not the one that the run published"),
    "report": (flipped("report.html"), "report.html is not the one that the run published"),
    "added": (lambda run: (run / "graft" / "x.bin").write_bytes(b"x"), "x.bin is not the one that the run published"),
    "missing": (lambda run: (run / "graft" / "adapter_config.json").unlink(), "adapter_config.json is missing"),
    "no card": (lambda run: (run / "graft" / "README.md").unlink(), "README.md is missing; copy it from"),
    "no front matter": (without_front_matter, "the card begins with no front matter"),
    "a path": (with_a_path, "a path of this machine; take it out, and push again"),
    "odd": (with_an_odd_tag, "the hub would not take the card: `language` cannot be 'German'; `tags` cannot be ''"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_not_as_it_was_published_is_refused_before_anything_is_sent(run: Path, hub: Hub, fault: str) -> None:
    change, complaint = REFUSED[fault]
    change(run)
    with pytest.raises(lg.LingraftError) as caught:
        lg.push(run, "org/de-en", quiet=True)
    assert complaint in str(caught.value)
    assert hub.asked == []


def test_what_the_hub_refuses_is_one_sentence(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/public", {"README.md": b""})
    hub.add("org/llama", {"model.safetensors": b"w", "README.md": b""})
    cases = [
        (
            "org/public",
            {"private": True},
            "is public; make it private on its page, or push without --private",
        ),
        (
            "org/llama",
            {},
            "org/llama holds something else, with the weights model.safetensors; push",
        ),
        ("other/x", {}, "cannot push to 'other/x' (the hub refuses: .*under the namespace \"other\""),
    ]
    for name, options, complaint in cases:
        with pytest.raises(lg.LingraftError) as caught:
            lg.push(run, name, quiet=True, **options)
        first, _, rest = complaint.partition(".*")
        assert first in str(caught.value)
        assert rest in str(caught.value)
        assert "\n" not in str(caught.value)
    assert {*hub.files("org/public")} == {"README.md"}
    hub.broken["/commit/"] = 412
    with pytest.raises(lg.LingraftError, match="somebody else has pushed there meanwhile; push again"):
        lg.push(run, "org/public", quiet=True)
    hub.broken = {"/validate-yaml": 500}
    with pytest.raises(lg.LingraftError, match="try again later"):
        lg.push(run, "org/public", quiet=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(lg.LingraftError, match="HF_HUB_OFFLINE is set"):
        lg.push(run, "org/public", quiet=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(lg.LingraftError, match="nobody is logged in to the hub; log in"):
        lg.push(run, "org/public", quiet=True)
    with pytest.raises(lg.UsageError, match="'name' is no name of the hub; give the owner and the name"):
        lg.push(run, "name", quiet=True)


def test_private(run: Path, hub: Hub) -> None:
    lg.push(run, "org/mine", private=True, quiet=True)
    assert hub.repositories["org/mine"].private
    lg.push(run, "org/mine", private=True, quiet=True)


def test_the_command(run: Path, hub: Hub, lingraft: Any) -> None:
    plan = lingraft("push", run, "--to", "org/de-en", "--dry-run")
    assert plan.code == 0, plan.err
    size = (run / "graft" / "adapter_model.safetensors").stat().st_size
    assert f"{size:>14,}  adapter_model.safetensors\n" in plan.out
    assert "bytes to org/de-en, branch main; nothing was sent" in plan.out
    assert "\n---\nlibrary_name: peft\n" in plan.out
    assert "Note: the card names no base" in plan.err
    assert hub.asked == []
    done = lingraft("push", run, "--to", "org/de-en", "--branch", "v1", "--json", "--quiet")
    assert done.code == 0, done.err
    commit = json.loads(done.out)["commit"]
    assert commit == hub.repositories["org/de-en"].refs["v1"]
    told = lingraft("push", run, "--to", "org/de-en", "--branch", "v1", "--quiet")
    assert told.out == f"{hub.url}/org/de-en\nCommit {commit}: lingraft translate --graft org/de-en@{commit}\n"
    one_sentence(lingraft("push", run, "--to", "de-en"), 2, "no name of the hub")
