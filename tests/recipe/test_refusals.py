"""Combinations that cannot work, or of which a part would be ignored: one sentence with its place, in any system."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.load import dump_recipe
from lingraft.recipe.strict_yaml import plain_values
from recipes_support import MINIMAL, parsed

PROMPTS = "prompts: {path: prompts.jsonl}\n"
RANKED = "{path: p.jsonl, source: de, target: en}"
SELF = "{method: recovery, name: b, params: {prompts: self}}"
MIX = "{method: mix, name: a, params: {prompts: [x.jsonl]}}"
AWARE = "{method: language_aware, name: a, params: {languages: [fr]}}"
BOTH = "pairs: {train: [{path: t, source: de, target: en}, {path: u, source: fr, target: de}], "


def values(text: str) -> dict[str, Any]:
    """Return a recipe with what a text changes in the smallest one."""
    given = plain_values(text, "test")
    return copy.deepcopy(MINIMAL) | given | {"pairs": MINIMAL["pairs"] | given.get("pairs", {})}


REFUSED = [
    # a compared system that changes a stage, or leaves one out
    (
        f"stages: [{{method: vanilla}}, {SELF}]\n"
        "compare: [{name: c, in_stages: {b: {params: {prompts: given}}}}]",
        "system 'c', stage 'b': method 'recovery' needs general prompts",
    ),
    (
        f"stages: [{MIX}, {{method: radis}}]\n"
        "compare: [{name: c, in_stages: {a: {params: {prompts: [], kinds: [texts]}}}}]",
        "system 'c', stage 'a': method 'mix': nothing to mix in",
    ),
    (
        f"stages: [{AWARE}, {{method: radis}}]\n"
        "compare: [{name: c, in_stages: {a: {params: {languages: []}}}}]",
        "system 'c', stage 'a': method 'language_aware': no language beside those of de-en",
    ),
    (
        "stages: [{method: vanilla, name: a}]\ncompare: [{name: c, train: {precision: nf4}}]",
        "system 'c', stage 'a': train.precision is nf4, and all systems are trained and measured on one base, in auto",
    ),
    (
        "stages: [{method: vanilla, name: a}, {method: radis}]\n"
        "compare: [{name: c, in_stages: {a: {train: {precision: nf4}}}}]",
        "system 'c', stage 'a': train.precision is nf4",
    ),
    (
        "stages: [{method: vanilla}]\ncompare: [{method: radis, params: {rationale_shar: 1}}]",
        "unknown key 'compare.0.params.rationale_shar'; did you mean 'rationale_share'?",
    ),
    (
        "stages: [{method: vanilla}, {method: vanilla, train: {epochs: 2}}]\n"
        "compare: [{name: c, in_stages: {vanilla: {train: {max_steps: 4}}}}]",
        "compare.0.in_stages.vanilla: 2 stages are called so; give each a `name:` of its own",
    ),
    (
        "stages: [{train: {optimizer: bogus}}]",
        "stages.0.train.optimizer: there is no optimiser 'bogus'; known: adamw_torch, ",
    ),
    # what is not trained on is no direction
    (
        BOTH + "direction_weights: {de-en: 0}}\nstages: [{method: cft}]",
        "method 'cft': its replay is the base's work on the English sides of pairs, and no direction has English",
    ),
    (BOTH + "direction_weights: {fr-de: 0}}\nstages: [{method: language_aware}]", "beside those of de-en"),
    # values
    ("prompts: p.jsonl", "prompts: an entry is a mapping, and 'p.jsonl' is a text; write `{path: p.jsonl}`"),
    ("pairs: {test: t.jsonl}", "pairs.test: an entry is a mapping, and 't.jsonl' is a text; write `{path: t.jsonl}`"),
    ("stages: vanilla", "stages: an entry is a mapping, and 'vanilla' is a text; write `{method: vanilla}`"),
    ("pairs: {direction_weights: {de-en: yes}}", "pairs.direction_weights: true and false"),
    ("pairs: {direction_weights: {de-en: 1e-300}}", "pairs.direction_weights: a number this close to zero"),
    (
        "stages: [{method: language_aware, params: {languages: [no, fr]}}]",
        "languages.0: Input should be a valid string (given: false, as YAML also reads no and off without quotes)",
    ),
    ("stages: [{method: mix, params: {prompts: ['']}}]", "stages.0.params.prompts.0: "),
    ("stages: [{method: mix, params: {prompts: [a, a]}}]", "stages.0.params.prompts: a file is named twice"),
    ("stages: [{method: mix, params: {texts: [a], kinds: [prompts]}}]", "`kinds` is of the recipe's own data"),
    ("stages: [{method: cft, params: {embedder: ''}}]", "stages.0.params.embedder: "),
    ("stages: [{method: relevance, params: {queries: ''}}]", "stages.0.params.queries: "),
    ("stages: [{method: preferences, params: {path: p, source: de, target: de}}]", "source and target are both 'de'"),
    ("stages: [{method: preferences, params: {path: p, source: xx9}}]", "source: unknown language code 'xx9'"),
    (
        "stages: [{method: preferences, params: {path: p, holds: answers, source: de, target: en}}]",
        "stages.0.params: `source` and `target` are languages of translations, and answers have none",
    ),
    ("stages: [{method: self_critique, params: {threshold: 11}}]", "threshold 11: grades are from 1 to 10"),
    ("stages: [{method: self_critique, params: {threshold: 0.5}}]", "threshold 0.5: grades are from 1 to 10"),
    ("stages: [{method: self_critique, params: {teach: preferences, margin: 9.5}}]", "margin 9.5: grades from 1 to 10"),
    ("stages: [{method: self_critique, params: {margin: 3}}]", "`margin` is not looked at with `teach: best`"),
    ("stages: [{method: self_critique, params: {teach: preferences, threshold: 3}}]", "`threshold` is not looked at"),
    (
        "stages: [{method: self_critique, params: {metric: chrf, grade: written}}]",
        "`grade` and `show_reference` are of",
    ),
    ("stages: [{method: self_critique, params: {metric: chrf, show_reference: no}}]", "drop them, or `metric`"),
    ("stages: [{method: self_critique, params: {metric: {}}}]", "a metric has a `kind`"),
    ("stages: [{method: sdft, params: {metric: {kind: 3}}}]", "a metric has a `kind`"),
    ("stages: [{method: sdft, params: {metric: {kind: chrf, name: [1]}}}]", "metric chrf: its `name` is [1]"),
    ("stages: [{method: sdft, params: {epsilon: 2}}]", "`epsilon` is in points of a metric, and there is none"),
    (
        "stages: [{method: seqkd, params: {teacher: {kind: vlm}}}]",
        "unknown engine 'vlm'",
    ),
    (
        "stages: [{method: seqkd, params: {teacher: {kind: openai, base_ur: x}}}]",
        "unknown key 'stages.0.params.teacher.base_ur'; did you mean 'base_url'?",
    ),
    ("stages: [{tuner: {kind: sparse, count: 5, density: 0.1}}]", "`count` and `density` both say how many learn"),
    ("stages: [{tuner: {layers: not all}}]", "stages.0.tuner.layers: `not all` leaves no layers"),
    ("stages: [{tuner: {layers: {by: weight_change, pretrained: ''}}}]", "stages.0.tuner.layers.pretrained: "),
    (
        "stages: [{tuner: {layers: {by: weight_change}}}]",
        "stages.0.tuner.layers: `by: weight_change` compares the base",
    ),
    (
        "stages: [{tuner: {kind: full, layers: first 2}, train: {embedding_learning_rate: 1e-5}}]",
        "train.embedding_learning_rate is for embeddings that learn",
    ),
    ("stages: [{tuner: {targets: []}}]", "stages.0.tuner.targets: "),
    ("stages: [{tuner: {targets: ['']}}]", "stages.0.tuner.targets.0: "),
    (
        "stages: [{method: vanilla, beside: [{method: recovery, share: 0.3, params: {self_prompts: 9}}]}]",
        "stages.0.beside.0.params: `self_prompts` is for prompts that the base writes, and here they are given",
    ),
    (
        "pairs: {train: [], dev_share: 0.1}\nstages: [{method: relevance}]",
        "pairs: dev_share is taken from the training pairs, and there are none",
    ),
    (
        "pairs: {train: [], direction_weights: {de-en: 0.1}}\nstages: [{method: relevance}]",
        "direction_weights: no training pairs are 'de-en', there are none at all; drop it",
    ),
    (
        "engine: scripted\nevaluate: {engine: transformers}\nstages: [{method: self_critique}]",
        "'self_critique' needs the distributions of tokens, and the engine (scripted) gives none: it answers by rule; "
        "take another engine, or set `grade: written`",
    ),
    (
        "vocabulary: {languages: [de]}\nstages: [{upon: g, tuner: {embeddings: new}}]",
        "what is trained `upon` a graft is to be added to others, and grafts with a vocabulary are not added",
    ),
    (
        f"stages: [{{method: preferences, params: {RANKED}, objective: cpo}}]\ncompare: [vanilla]",
        "drop the objective (of a compared system: `objective: []`)",
    ),
    # keys that would do nothing where they stand
    (
        "stages: [{method: vanilla, tuner: {embeddings: new}}]",
        "system 'vanilla', stage 'vanilla': the tuner trains the rows that a vocabulary adds (`embeddings: new`), and",
    ),
    (
        "vocabulary: {languages: [de]}\nstages: [{method: vanilla, tuner: {embeddings: new}}]\n"
        "compare: [{name: c, vocabulary: false}]",
        "system 'c', stage 'vanilla': the tuner trains the rows that a vocabulary adds",
    ),
    (
        "pairs: {train: {path: t, source: de, target: en, weight: 2}}",
        "pairs.train.0.weight: is the share of a training source in a balanced mixture; set `pairs.mixture: balanced`",
    ),
    (
        "pairs: {mixture: balanced, dev: {path: t, source: de, target: en, weight: 2}}",
        "pairs.dev.0.weight: is the share of a training source in a balanced mixture; drop it",
    ),
    (
        "pairs: {mixture: balanced, test: {path: t, source: de, target: en, weight: 2}}",
        "pairs.test.0.weight: is the share of a training source",
    ),
    (
        "pairs: {test: {path: t, source: de, target: en, task: summary, both_directions: true}}",
        "both_directions is of translations, and the task is 'summary'; drop it",
    ),
    (
        "pairs: {test: {path: 'sacrebleu:wmt22', source: de, target: en, both_directions: true}}",
        "the sets of sacreBLEU have each direction by itself; give an entry for each",
    ),
    ("model: smollm2-135m-instruct\nrevision: main", "revision: is of a model of the hub, and 'smollm2-135m-instruct'"),
    (
        "evaluate: {retention: {suites: [refusal]}, precision: fp32}",
        "evaluate.precision: base and grafts are measured as they are trained: stages.0.train.precision, auto; drop it",
    ),
    ("evaluate: {retention: {suites: [refusal]}, stages: true}", "evaluate.stages: measures what a system was before"),
    ("compare: [{name: c, vocabulary: false}]", "compare.0.vocabulary: the recipe has no vocabulary to leave out"),
    ("stages: [{method: radis, params: {top_k: 3}}]", "stages.0.params: `top_k` does nothing without `targets: soft`"),
    ("stages: [{method: seqkd, params: {temperature: 0, top_p: 0.3}}]", "`top_p` does nothing without a `temperature`"),
    (
        "evaluate: {retention: {suites: [refusal]}, translate_test: {languages: [de], instruction: '{source}!'}}",
        "evaluate.translate_test: `instruction` does nothing without an engine as `translator`",
    ),
    (
        PROMPTS + "stages: [{method: vanilla, beside: [{method: mix, share: 0.2, params: {lang: de}}]}]",
        "stages.0.beside.0.params: `lang` does nothing without files under `prompts` or `texts`",
    ),
    (
        "evaluate: {retention: {suites: [{kind: refusal, verdict_tokens: 9}]}}",
        "evaluate.retention.suites.0: `verdict_tokens` does nothing without a `guard`; add that, or leave",
    ),
    ("engine: {kind: openai, api: chat, prompt: text, load_grafts: true}", "`prompt` does nothing without `api: comp"),
    (
        "engine: {kind: openai, chat_prefill: refuse, load_grafts: true}",
        "`chat_prefill` does nothing without `api:",
    ),
    (
        "engine: {kind: openai, grafts: {'*': x}, load_grafts: true}",
        "`load_grafts` does nothing without grafts",
    ),
    (
        "stages: [{train: {schedule: constant, warmup_share: 0.1}}]",
        "`warmup_share` does nothing without a",
    ),
    (
        "vocabulary: {size: 10, max_size: 20, languages: [th]}",
        "`max_size` does nothing without `size: auto`",
    ),
    ("vocabulary: {size: 0, min_count: 3, languages: [th]}", "vocabulary: `min_count` does nothing without pieces to"),
    ("checks: {language_check: false, min_language_probability: 0.5}", "does nothing without `language_check: true`"),
    (
        "evaluate: {retention: {suites: [refusal]}, decoders: [{kind: icl, retriever: bm25, draw: 3}]}",
        "evaluate.decoders.0: `draw` does nothing without something drawn",
    ),
    ("stages: []\ngrafts: [[a, ./a]]", "grafts: a, ./a are one folder twice; name each graft of a sum once"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_cannot_be_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        parsed(values(text))
    said = str(error.value)
    assert words in said
    assert said.startswith("test.yaml: ")
    assert "\n" not in said
    assert "Value error" not in said
    assert said.count("known: ") <= 1


READ = [
    "stages: [{train: {schedule: constant, warmup_share: 0}}]\nchecks: {language_check: false}",
    "stages: [{method: radis, params: {targets: soft, top_k: 3, temperature: 0.7, top_p: 0.9}}]",
    "evaluate: {retention: {suites: [{kind: refusal, guard: scripted, retries: 1}]}, "
    "decoders: [{kind: icl, retriever: bm25, order: random, draw: 3}]}",
    "pairs: {mixture: balanced, train: {path: t, source: de, target: en, weight: 2}}",
    "pairs: {test: {path: t, source: de, target: en, both_directions: true}}",
    PROMPTS + "stages: [{method: vanilla, tuner: {kind: full, layers: first 4}, objective: [kl_base]}]",
    "stages: [{tuner: {kind: sparse, count: 5}}]",
    "stages: [{method: self_critique, params: {threshold: 1}}]",
    "stages: [{method: self_critique, params: {metric: chrf, threshold: 55}}]",
    "stages: [{method: self_critique, params: {metric: chrf, teach: preferences, margin: 20}}]",
    "stages: [{method: sdft, params: {metric: chrf, epsilon: 60}}]",
    f"stages: [{{method: preferences, params: {RANKED}, beside: [{MIX.replace('name: a', 'share: 0.2')}]}}]",
    "stages: [{method: seqkd, params: {teacher: {kind: openai, base_url: 'http://127.0.0.1:1/v1'}}}]",
    "pairs: {dev_share: 0.1, direction_weights: {de-en: 0.5}}\n"
    "stages: [{train: {keep: best, best_by: chrf, patience: 2, max_steps: 9, report_to: [wandb], optimizer: sgd}}]",
    PROMPTS + "stages: [{upon: g, tuner: {kind: ssu, frozen: 0.3}}]\ngrafts: [[a, b], {path: [b, c], name: bc}]",
    "stages: [{tuner: {layers: [first 2, '9-11'], orthogonal: 4, rslora: true}, objective: [l2_init, {kind: spd}]}]",
    "stages: [{method: radis, name: a}, {method: radis, name: b, params: {rationales: before}}]\n"
    "compare: [{name: c, in_stages: {a: {train: {max_steps: 5}, objective: [{kind: eaft, on: both}]}}, tuner: osf}]",
]


@pytest.mark.parametrize("text", READ)
def test_what_is_read_is_written_as_the_same(text: str) -> None:
    recipe = parsed(values(text))
    assert parsed(plain_values(dump_recipe(recipe), "written")) == recipe
