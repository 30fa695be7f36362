"""What is wrong in a recipe file is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.load import load_recipe
from lingraft.recipe.strict_yaml import values_and_lines

TEXT = """\
# A recipe of which each line can be wrong.
name: lines
pairs:
  train: {path: train.jsonl, source: de, target: en}
  test:
    - path: test.jsonl
      source: de
      target: en
    - {path: other.jsonl, source: de, target: en}
prompts: {path: prompts.jsonl}
stages:
  - method: radis
    params:
      rationale_weight: 1.0
    beside:
      - {method: recovery, share: 0.3}
    tuner:
      kind: lora
      rank: 8
    train:
      epochs: 1
compare:
  - vanilla
  - method: vanilla
    name: again
    train: {epochs: 2}
engine:
  kind: transformers
  max_batch: 4
evaluate:
  translation:
    metrics:
      - bleu
      - kind: chrf++
  retention:
    suites:
      - self
      - kind: refusal
        max_prompts: 4
  gate:
    - gain>=0
seed: 1
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed: 1", "sed: 1", "unknown key 'sed'; did you mean 'seed'?"),
        ("name: lines", "name: /", "name: "),
        ("train: {path: train.jsonl", "train: {paht: train.jsonl", "pairs.train.0.pa"),
        ("      source: de\n      target: en", "      source: germn\n      target: en", "did you mean 'de'"),
        ("{path: other.jsonl, source: de", "{path: other.jsonl, source: germn", "pairs.test.1.source: "),
        ("  - method: radis", "  - method: radiss", "unknown method 'radiss'"),
        ("      rationale_weight: 1.0", "      rationale_wait: 1.0", "stages.0.params.rationale_wait"),
        ("      rationale_weight: 1.0", "      rationale_weight: no", "stages.0.params.rationale_weight: "),
        ("      rationale_weight: 1.0", "      instructions: [translate]", "{source}"),
        ("share: 0.3", "share: 1.3", "stages.0.beside.0.share: "),
        ("{method: recovery", "{method: recover", "unknown method 'recover'"),
        ("      kind: lora", "      kind: loro", "unknown tuner 'loro'"),
        ("      rank: 8", "      rnk: 8", "unknown key 'stages.0.tuner.rnk'"),
        ("      epochs: 1", "      epochs: 0", "stages.0.train.epochs: "),
        ("  - vanilla", "  - vanila", "unknown method 'vanila'"),
        ("    train: {epochs: 2}", "    train: {epoch: 2}", "compare.1.train.epoch"),
        ("    name: again", "    without: [nothing]", "compare.1: `without` names 'nothing'"),
        ("  kind: transformers", "  kind: transformer", "unknown engine 'transformer'"),
        ("  max_batch: 4", "  max_batch: four", "engine.max_batch: "),
        ("      - bleu", "      - blue", "unknown metric 'blue'"),
        ("      - kind: chrf++", "      - kind: bleu", "two metrics are called 'bleu'"),
        ("        max_prompts: 4", "        max_promts: 4", "unknown key 'evaluate.retention.suites.1.max_promts'"),
        ("    - gain>=0", "    - gain", "gate 'gain'"),
        (
            "  kind: transformers\n  max_batch: 4",
            "  kind: openai",
            "engine 'openai' cannot answer with what is trained",
        ),
        ("  gate:", "  scales: [1]\n  gate:", "no further scale"),
        (
            "    name: again",
            "    tuner: {kind: full}\n    vocabulary: false\n    merge: true",
            "`merge` needs several stages",
        ),
        ("prompts: {path: prompts.jsonl}", "checks: {}", "needs general prompts"),
    ],
)
def test_a_wrong_key_or_value_is_told_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert TEXT.count(old) == 1
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT.replace(old, new), "utf-8")
    number = TEXT[: TEXT.index(old)].count("\n") + 1
    with pytest.raises(UsageError) as caught:
        load_recipe(str(path))
    found = str(caught.value)
    where, _, said = found.partition(": ")
    assert words in said
    within = {  # a section as a whole is wrong, or what needs another
        "      - kind: chrf++": 31,
        "    - gain>=0": 40,
        "    name: again": 24,
        "  kind: transformers\n  max_batch: 4": 27,
        "prompts: {path: prompts.jsonl}": 16,
    }
    assert where == f"{path}, line {within.get(old, number)}", found


def test_the_text_of_the_test_is_right(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(TEXT, "utf-8")
    assert load_recipe(str(tmp_path)).name == "lines"


def test_what_is_missing_is_told_with_the_line_of_what_it_is_missing_in(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT.replace("      target: en\n", ""), "utf-8")
    with pytest.raises(UsageError, match=r"recipe\.yaml, line 6: the key 'pairs\.test\.0\.target' is missing"):
        load_recipe(str(path))
    path.write_text(TEXT.replace("name: lines\n", ""), "utf-8")
    with pytest.raises(UsageError, match=r"recipe\.yaml: the key 'name' is missing"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    "override", ["stages.0.train.epochs=0", "stages.0.train={epochs: 0}", "compare.1={method: vanilla, trian: 1}"]
)
def test_what_an_override_says_has_no_line(tmp_path: Path, override: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT, "utf-8")
    with pytest.raises(UsageError) as caught:
        load_recipe(str(path), [override])
    assert str(caught.value).startswith((f"{path}: stages.0.train.epochs: ", f"{path}: unknown key 'compare.1.trian'"))


def test_an_override_that_is_no_yaml_has_no_line() -> None:
    with pytest.raises(UsageError, match=r"^override 'seed=\[1': not valid YAML: "):
        load_recipe("demo", ["seed=[1"])


def test_lines_of_keys() -> None:
    values, lines = values_and_lines(
        "a.b: {c: 1}\na:\n  b.c: 2\n  d: &d\n    - x: 1\n    - y: 2\ne: *d\nf:\n  <<: {g: 1, h: 2}\n  h: 3\n", "text"
    )
    assert values["f"] == {"g": 1, "h": 3}
    assert lines.of("a.b.c") == 1  # the longest key that fits
    assert lines.of("a.b.z") == 1
    assert lines.of("a.d") == 4
    assert lines.of("a.d.1.y") == 6
    assert lines.of("e.1.y") == 6  # where an alias points
    assert lines.of("a.d.7") == 4
    assert (lines.of("f.g"), lines.of("f.h")) == (9, 10)
    assert lines.of("0.a.d.0.x") == 5  # a single entry without its list
    assert lines.of("nothing") is None
    assert lines.of("") is None
