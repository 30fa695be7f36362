"""`lg.merge` and `lingraft merge`: what comes out is used as any other graft or model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lingraft as lg
from lingraft.cli.main import app
from lingraft.core.errors import ModelError, UsageError
from lingraft.models.files import find_model
from lingraft.models.graft import Direction, GraftInfo, read_info, write_info
from lingraft.models.loading import load_model
from models_support import with_adapter
from vocabulary_support import save_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), scale=2.0).folder


@pytest.fixture(scope="module")
def grafts(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two grafts of one base; the second ends its translations at a note."""
    folders = []
    for name, stop in (("one", []), ("two", ["Note:"])):
        folder = tmp_path_factory.mktemp("grafts") / name
        files = find_model(str(base))
        with_adapter(load_model(files, "fp32").model, seed=len(folders)).save_pretrained(folder)
        info = GraftInfo(
            method=name,
            instruction="Translate into {target_name}: {source}",
            stop=stop,
            directions=[Direction(source="de", target="en")],
            base_id=str(base),
            base_sha256=files.sha256,
        )
        write_info(folder, info)
        folders.append(str(folder))
    return folders


def command(*words: str) -> None:
    app(["merge", "--quiet", *words], standalone_mode=False)


def test_a_merged_graft_translates_and_says_what_it_is_made_of(
    grafts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    ties = ("--kind", "ties", "--param", "density=0.5", "--param", "weights=[1,2]", "--out", str(out))
    command(*grafts, *ties, "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["form"], found["kind"], found["of"]) == ("graft", "ties", grafts)
    info = read_info(out)
    assert info.method == "ties(one & two)"
    assert info.params["density"] == 0.5
    assert info.stop == ["Note:"]
    with lg.open_graft(out, quiet=True) as merged, lg.open_graft(grafts[0], quiet=True) as first:
        given = ["Das Haus ist alt.", "Guten Tag!"]
        texts = [[one.text for one in graft.translate(given, max_new_tokens=12)] for graft in (merged, first)]
    assert len(texts[0]) == 2
    command(*grafts, *ties)  # stays as it is
    assert str(out) in capsys.readouterr().out
    with pytest.raises(UsageError, match="exists already; give a new folder"):
        lg.merge(grafts, out, kind="ties", quiet=True)


def test_strength_half_is_half_way_and_one_is_the_graft_itself(base: Path, grafts: list[str], tmp_path: Path) -> None:
    texts = {}
    for strength in (1.0, 0.5):
        out = tmp_path / str(strength)
        lg.merge(grafts[0], out, params={"strength": strength}, quiet=True)
        with lg.open_graft(out, quiet=True) as graft:
            texts[strength] = [one.text for one in graft.translate(["Das Haus ist alt."], max_new_tokens=12)]
    with lg.open_graft(grafts[0], quiet=True) as graft:
        assert texts[1.0] == [one.text for one in graft.translate(["Das Haus ist alt."], max_new_tokens=12)]


def test_a_model_of_its_own_is_given_as_the_base(grafts: list[str], tmp_path: Path) -> None:
    out = tmp_path / "model"
    found = lg.merge([*grafts, "base"], out, kind="linear", checkpoint=True, dtype="bf16", quiet=True)
    assert found["form"] == "checkpoint"
    with lg.open_graft(model=out, quiet=True) as opened:
        assert opened.translate(["Guten Tag!"], source="de", target="en", max_new_tokens=8)[0].text is not None
    again = lg.merge(
        [out, "base"], tmp_path / "again", checkpoint=True, base=read_info(Path(grafts[0])).base_id, quiet=True
    )
    assert again["form"] == "checkpoint"


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"kind": "tees"}, UsageError, "unknown merger 'tees'; did you mean 'ties'?"),
    ({"params": {"strenth": 1}}, UsageError, "unknown key 'merger linear.strenth'; did you mean 'strength'?"),
    ({"params": {"weights": [1, 2, 3]}}, UsageError, "weights: there are 3 of them for 2 models"),
    ({"kind": "slerp", "models": ["0", "1", "base"]}, UsageError, "slerp merges 1 to 2 models, and there are 3"),
    ({"models": ["base"]}, UsageError, "there is nothing to merge"),
    ({"models": ["0", "0"]}, UsageError, "is given twice; give it once"),
    ({"dtype": "bf16"}, UsageError, "a graft holds whole layers in float32; drop the type"),
    ({"dtype": "int4", "checkpoint": True}, UsageError, "there is no type 'int4'"),
    ({"models": ["0", "nowhere/to/be/found"]}, ModelError, "nowhere/to/be/found"),
]


@pytest.mark.parametrize(("changes", "kind", "complaint"), REFUSED)
def test_what_cannot_be_merged_is_refused_in_one_sentence(
    grafts: list[str], tmp_path: Path, changes: dict[str, Any], kind: type[Exception], complaint: str
) -> None:
    options = {"models": ["0", "1"], **changes}
    models = [grafts[int(one)] if one.isdigit() else one for one in options.pop("models")]
    with pytest.raises(kind) as caught:
        lg.merge(models, tmp_path / "out", quiet=True, **options)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_models_alone_do_not_say_what_their_base_is(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of these is a graft, which would say what its base is"):
        lg.merge([base], tmp_path / "out", checkpoint=True, quiet=True)
    with pytest.raises(UsageError, match="is not of the form NAME=VALUE"):
        command(str(base), "--param", "strength", "--out", str(tmp_path / "out"))
    with pytest.raises(UsageError, match="--param strength= is given twice"):
        command(str(base), "--param", "strength=1", "--param", "strength=2", "--out", str(tmp_path / "out"))
