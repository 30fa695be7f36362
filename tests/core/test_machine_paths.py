"""Paths of a machine in what is handed on: only their last part stays, and nothing else changes."""

from __future__ import annotations

import pytest

from lingraft.core.machine_paths import paths_in, values_without_paths, without_paths


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/u/data/train.tsv", "train.tsv"),
        ("/mnt", "mnt"),
        ("/data/", "data"),
        ("~/data/train.tsv", "train.tsv"),
        ("~u/train.tsv", "train.tsv"),
        ("file:///home/u/a.txt", "a.txt"),
        ("C:\\Users\\u\\train.tsv", "train.tsv"),
        ("python /home/u/score.py --model=/mnt/models/x {input}", "python score.py --model=x {input}"),
        ("command|python '/home/My Name/score.py' -v|bs:1", "command|python 'score.py' -v|bs:1"),
        ("questions:/srv/q.jsonl|greedy", "questions:q.jsonl|greedy"),
        ("pairs: {train: /mnt/a.tsv, test: [/mnt/b.tsv]}", "pairs: {train: a.tsv, test: [b.tsv]}"),
        ('{"path": "/mnt/two words/a.tsv"}', '{"path": "a.tsv"}'),
        ("/home/ü/データ.tsv", "データ.tsv"),
        ("cannot open /tmp/x/y; see (/tmp/z/w)", "cannot open y; see (w)"),
    ],
)
def test_of_a_path_the_last_part_stays(text: str, left: str) -> None:
    assert without_paths(text) == left
    assert without_paths(left) == left


@pytest.mark.parametrize(
    "text",
    [
        "https://aclanthology.org/2020.x/",
        "url = {https://arxiv.org/abs/2410.13944}, year = 2024",
        "org/model@main",
        "starter:train.de-en.jsonl",
        "row:vanilla",
        "radis/tear",
        "rows/vanilla/recipe.yaml",
        "nats/token, words / s, 1/2, n/a, and/or, </s>",
        "KL(base||system) nats/token|base answers, temperature:1",
        "lid:py3langid-0.4.0|min_letters:10|shorter:script",
        "about ~5/6 of it",
        "",
    ],
)
def test_what_is_no_path_stays(text: str) -> None:
    assert without_paths(text) == text


def test_paths_with_blanks_are_found_where_they_are_known() -> None:
    known = ["/home/My Name", "/home/My Name/data one/a b.tsv"]
    assert without_paths("path: /home/My Name/data one/a b.tsv  # mine", known) == "path: a b.tsv  # mine"
    assert without_paths("see /home/My Name/other/x.tsv", known) == "see x.tsv"
    assert without_paths("see /home/My Names", known) == "see My Names"


def test_values_lose_paths_at_any_depth_and_numbers_stay() -> None:
    value = {"/a/b": [1, 2.5, None, True, {"path": "/mnt/a/x y.tsv", "other": ("/mnt/a/c",)}]}
    assert list(paths_in(value)) == ["/mnt/a/x y.tsv", "/mnt/a/c"]
    assert not list(paths_in(["/usr/bin/python /home/u/s.py", "/bin/x '/a/b c'", "/bin/x -v", "/data", "a/b", 3]))
    shown = values_without_paths(value, paths_in(value))
    assert shown == {"b": [1, 2.5, None, True, {"path": "x y.tsv", "other": ["c"]}]}
