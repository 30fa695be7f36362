"""Hashes of values, files and code: equal for equal content, and for nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lingraft.core import errors
from lingraft.core.errors import StoreError
from lingraft.core.hashing import content_hash, file_hash, stable_fraction
from lingraft.store import artefacts as store
from lingraft.store.artefacts import code_hashes, package_hash

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_content_hash_is_that_of_canonical_json() -> None:
    canonical = b'{"a":[1,null,true],"b":{"c":"\xc3\xa4","d":0.5}}'
    value = {"b": {"d": 0.5, "c": "ä"}, "a": [1, None, True]}
    assert content_hash(value) == hashlib.sha256(canonical).hexdigest()


@given(st.dictionaries(st.text(), JSON, max_size=5), st.randoms(use_true_random=False))
def test_content_hash_ignores_the_order_of_keys_only(value: dict[str, object], random: object) -> None:
    keys = list(value)
    random.shuffle(keys)  # type: ignore[attr-defined]
    assert content_hash({key: value[key] for key in keys}) == content_hash(value)
    assert content_hash({**value, "\0more": 1}) != content_hash(value)


def test_content_hash_sees_the_order_of_lists_and_the_type_of_values() -> None:
    values = [[1, 2], [2, 1], [1, "2"], {"1": 2}, "12", [12], [], {}, None, False]
    assert len({content_hash(value) for value in values}) == len(values)


def test_stable_fraction_is_uniform_and_depends_on_every_part() -> None:
    drawn = sorted(stable_fraction("rationale", 1, f"id-{i}") for i in range(4000))
    assert drawn[0] >= 0
    assert drawn[-1] < 1
    # Kolmogorov-Smirnov distance; 1.95 / sqrt(n) is the bound at p = 0.001.
    assert max(abs(value - (i + 0.5) / 4000) for i, value in enumerate(drawn)) < 1.95 / 4000**0.5
    assert len({stable_fraction(*parts) for parts in (("a", 1), ("a", 2), ("b", 1), ("a1",), ("a", "1", ""))}) == 5


def in_a_cell(code: str) -> type:
    """Define a class as a notebook does, whose code stands in no file."""
    names = {"__name__": "no_such_module"}
    exec(code, names)
    return names["Mine"]  # type: ignore[return-value]


def test_code_of_a_notebook_counts_by_what_it_does() -> None:
    body = "    def examples(self, rows):\n        return [row for row in rows if row in {'a', 'b'}]\n"
    cell = f"class Mine:\n    weight = 0.5\n{body}"
    first = code_hashes(in_a_cell(cell))
    assert len(first) == 1
    assert code_hashes(in_a_cell("\n\n" + cell)) == first  # further below
    assert code_hashes(in_a_cell(cell.replace("0.5", "0.6"))) != first
    assert code_hashes(in_a_cell(cell.replace("'b'", "'c'"))) != first
    assert code_hashes(in_a_cell(cell.replace("if row in", "if row not in"))) != first
    inner = cell + "    class Params:\n        least = 1\n"
    assert code_hashes(in_a_cell(inner)) != code_hashes(in_a_cell(inner.replace("least = 1", "least = 2"))) != first


def test_code_that_changes_changes_what_depends_on_it(tmp_path: Path) -> None:
    files = [file_hash(Path(module.__file__)) for module in (store, errors)]
    assert code_hashes(store, store.artefact_path, StoreError) == files  # each file once
    (tmp_path / "inner").mkdir()
    for name in ("a.py", "inner/b.py", "inner/page.html.j2"):
        (tmp_path / name).write_text("x = 1")
    first = package_hash(tmp_path)
    (tmp_path / "inner" / "__pycache__").mkdir()
    (tmp_path / "inner" / "__pycache__" / "b.pyc").write_text("compiled")
    assert package_hash(tmp_path) == first
    for name in ("inner/b.py", "inner/page.html.j2"):
        (tmp_path / name).write_text("x = 2")
        assert package_hash(tmp_path) != first
        (tmp_path / name).write_text("x = 1")
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    assert package_hash(tmp_path) != first
