"""Recipe files that are no recipes: binary, broken, endless, or built to fill the memory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lingraft.core.errors import UsageError
from lingraft.recipe.load import load_recipe
from lingraft.recipe.strict_yaml import plain_values, yaml_text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "a recipe is a YAML mapping"),
        (b"# nothing\n", "not NoneType"),
        (b"- a\n- b\n", "not list"),
        (b"just text", "not str"),
        (b"\x89PNG\r\n\x1a\n\0\0", "cannot be read as UTF-8 text"),
        (b"name: a\0b", "not valid YAML: "),
        (b"name: [a\n", "line 2: not valid YAML: "),
        (b"name: a\n\tpairs: b\n", "line 2: not valid YAML: "),
        (b"name: a\nname: b\n", "line 2: not valid YAML: the key 'name' is given twice"),
        (b"pairs:\n  train: {path: a, path: b}\n", "line 2: not valid YAML: the key 'path' is given twice"),
        (b"name: !!python/object/apply:os.getcwd []\n", "not valid YAML: "),
        (b"name: *nobody\n", "not valid YAML: "),
        (b"a: 1\n---\nb: 2\n", "not valid YAML: "),
        (b"name: 2024-13-45\n", "not valid YAML: "),
        (b"name: !!bool x\n", "not valid YAML: "),
        (b"name: !!timestamp x\n", "not valid YAML: "),
        (b"name: !!int x\n", "not valid YAML: "),
        (b"name: !!binary \xc3\xa4\n", "not valid YAML: "),
        (b"? [a, b]\n: c\n", "not valid YAML: "),
        (b"seed: " + b"9" * 5000, "not valid YAML: "),
        (b"seed: 0x" + b"f" * 5000, "a number of over 400 digits"),
        (b"seed: 0x" + b"f" * 300, "missing"),
        (b"[" * 20_000, "nested too deeply"),
        (b"{a: " * 5_000, "nested too deeply"),
        (b"a: &a [*a]\n", "unfolds to too many values"),
        (b"a: &a {b: *a}\n", "unfolds to too many values"),
        (b"#" * 250_001, "larger than 250 kB"),
        (b"1: 2\n2: 3\n", ""),
        (b"? !!null\n: 1\n", ""),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_one_sentence(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_recipe(str(path))
    message = str(caught.value)
    assert complaint in message
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize(
    "reference", ["[*{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}, *{0}]", "{{<<: [*{0}, *{0}, *{0}, *{0}]}}"]
)
def test_a_small_file_that_unfolds_to_gigabytes_is_refused_at_once(tmp_path: Path, reference: str) -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{i + 1}: &a{i + 1} {reference.format(f'a{i}')}" for i in range(40)]
    with pytest.raises(UsageError, match="unfolds to too many values"):
        plain_values("\n".join(lines), "recipe.yaml")


def test_what_is_not_there_is_said_with_the_nearest_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no recipe 'dem'; did you mean 'demo'"):
        load_recipe("dem")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty is a folder without recipe.yaml"):
        load_recipe("empty")
    for name in ("x" * 5000, "a\0b", "~nobody-of-this-name", ""):
        with pytest.raises(UsageError):
            load_recipe(name)
    with pytest.raises(UsageError, match="larger than 250 kB"):
        load_recipe("/dev/zero")


def test_a_file_with_a_byte_order_mark_and_a_runs_folder_are_read(tmp_path: Path) -> None:
    source = "{path: x.jsonl, source: de, target: en}"
    text = f"\ufeffname: run\npairs: {{train: {source}, test: {source}}}\nevaluate: {{retention: {{suites: []}}}}\n"
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_recipe(str(path)).name == "run"
    assert load_recipe(str(path)) == load_recipe(str(tmp_path))


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_no_text_causes_anything_but_a_refusal(text: str) -> None:
    try:
        values, refused = plain_values(text, "x"), ""
    except UsageError as error:
        values, refused = None, str(error)
    # Numbers that YAML 1.2 reads otherwise than PyYAML have a test of their own.
    differs = re.search(r"0[0-9_]|[0-9]:[0-9]|[0-9.]e[-+]?[0-9]", text, re.IGNORECASE)
    if refused:
        assert refused.startswith("x: ")
    else:
        assert differs or repr(values) == repr(yaml.safe_load(text))  # nan is not itself


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0),
        ("2e-4", 0.0002),
        ("1.5e3", 1500.0),
        ("010", "010"),
        ("08", "08"),
        ("1:30", "1:30"),
        ("0b11", 3),
        ("0x10", 16),
        ("-7", -7),
        ("0", 0),
        ("1_000", 1000),
        (".5", 0.5),
        ("12e3x", "12e3x"),
    ],
)
def test_numbers_are_what_they_look_like(text: str, value: object) -> None:
    assert repr(plain_values(f"key: {text}", "x")) == repr({"key": value})


@pytest.mark.parametrize("value", ["1e5", "010", "1:30", "0b1", "2e-4", "yes", 1e5, 1e22, 5e-4, 1e-7, 8, True, None])
def test_what_is_written_is_read_back_by_both_versions_of_yaml(value: object) -> None:
    text = yaml_text({"key": value})
    assert repr(plain_values(text, "x")) == repr({"key": value}) == repr(yaml.safe_load(text))
