"""The card is parsed as Markdown and YAML, and its Python example is run on a tiny model with a real adapter."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lingraft.core.errors import DataError
from lingraft.core.printable import fence, inline_code
from lingraft.data.records import Message
from lingraft.reporting.card import CardContents, front_matter, python_example, render_card
from lingraft.reporting.card_metadata import problems_of
from lingraft.reporting.contents import ReportContents
from poison import poisoned

POISON = "<script>alert(1)</script> | ``` `x` [a](http://b) *c* _d_ # $e$ \\ ![i](j)\n# heading\n\n```\n</pre>"


@pytest.fixture
def card(contents: ReportContents) -> CardContents:
    return CardContents(
        name="de-en-zh-radis",
        system="radis",
        base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
        directions=[("de", "en"), ("en", "zh-CN")],
        scorecard=contents.scorecard,
        method="radis",
        messages=[Message("user", 'Translate from German to English:\n"Guten Tag."')],
        prompt="<|im_start|>user\nTranslate<|im_end|>\n<|im_start|>assistant\n",
        paper="arXiv 2410.13944",
        delimiter="\n\n",
        stop=["\n\n", "<|im_end|>"],
        graft="train-radis-5e6f7a8b",
        params={"rationale_weight": 1.0, "filters": ["echo", "looping"]},
        tuner={"kind": "lora", "rank": 16},
        training={"epochs": 1.0, "learning_rate": 2e-4},
        data_counts={"training pairs": 2000, "rationales kept": 1712},
        limits=["A model of 135M parameters shows the mechanism, not quality."],
    )


def test_a_graft_trained_upon_another_says_upon_which(card: CardContents) -> None:
    text = render_card(dataclasses.replace(card, upon="ab" * 32))
    assert text.count("ab" * 32) == 2
    said = " ".join(text.split())
    assert f"another adapter, with the hash `{'ab' * 32}`, was merged into the base. It does not hold" in said
    assert f"- Trained upon an adapter with sha256 `{'ab' * 32}` (`upon_sha256` in `lingraft.json`)" in said
    assert "upon" not in render_card(card)


def parse(text: str) -> tuple[dict[str, object], list]:
    """Return the front matter and the Markdown tokens of the rest."""
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), MarkdownIt("commonmark").enable("table").parse(body)


def flat(tokens: list) -> list[str]:
    kinds = []
    for token in tokens:
        kinds.append(token.type)
        kinds += [
            child.type for child in token.children or [] if child.type not in {"text", "text_special", "softbreak"}
        ]
    return kinds


def test_front_matter(card: CardContents) -> None:
    head, _ = parse(render_card(card))
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert head["library_name"] == "peft"
    assert head["language"] == ["de", "en", "zh"]
    assert head["license"] == "apache-2.0"
    assert {"translation", "lingraft", "radis"} <= set(head["tags"])  # type: ignore[call-overload]


def test_each_method_is_a_tag_and_an_unknown_licence_none(card: CardContents) -> None:
    head, _ = parse(render_card(dataclasses.replace(card, method="tcot > radis+recovery", license="", graft="me/it")))
    assert head["tags"][-3:] == ["tcot", "radis", "recovery"]  # type: ignore[index]
    assert "license" not in head
    assert "lingraft translate --graft me/it --from de --to en" in render_card(dataclasses.replace(card, graft="me/it"))
    other = {"license_name": "gemma", "license_link": "https://ai.google.dev/gemma/terms"}
    head, _ = parse(render_card(dataclasses.replace(card, license="other", license_more=other)))
    assert {key: head[key] for key in ("license", *other)} == {"license": "other", **other}


def test_the_model_index_is_what_the_hubs_library_reads(card: CardContents) -> None:
    text = render_card(card)
    head, _ = parse(text)
    assert problems_of(head) == []
    data = ModelCard(text).data
    assert data.model_name == card.name
    results = data.eval_results
    found = {(one.dataset_type, one.dataset_config, one.metric_type, one.metric_config): one for one in results}
    rows = [row for row in card.scorecard.translation if row.system == "radis" and row.facts.better]
    assert len(rows) > 3
    for row in rows:
        one = found[row.test_set, row.direction, row.metric, None]
        assert (one.metric_value, one.metric_args["n"]) == (pytest.approx(row.score, abs=1e-4), row.n)
        assert one.metric_args["ci95"] == pytest.approx(row.ci95, abs=1e-4)
        assert one.metric_args["change_from_base"] == pytest.approx(row.delta.value, abs=1e-4)  # type: ignore[union-attr]
    kept = [row for row in card.scorecard.general if row.system == "radis" and row.retention]
    assert kept
    for row in kept:
        one = found[row.suite, None, "retention", row.metric]
        assert one.metric_value == pytest.approx(row.retention.percent, abs=1e-4)  # type: ignore[union-attr]
        assert f"95 % interval [{row.retention.ci95[0]:.1f}, " in one.metric_name  # type: ignore[union-attr]
    assert found["all", None, "gain", None].metric_name == "chrF++ over the base, 95 % interval [+3.8, +5.4]"
    assert found["all", None, "retention", None].metric_value == pytest.approx(88.4, abs=0.1)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"base_model": "/home/me/model"}, "`base_model` cannot be '/home/me/model'"),
        ({"base_model": ["org/a", "b c"]}, "`base_model` cannot be 'b c'"),
        ({"language": "German"}, "`language` cannot be 'German'"),
        ({"license": "My Own"}, "`license` cannot be 'My Own'"),
        ({"tags": ["a", "a"]}, "the tag 'a' is there twice"),
        ({"model-index": [{"name": "x", "results": [{"task": {}, "dataset": {}, "metrics": []}]}]}, "dataset.type"),
        ({"model-index": [{"name": "x"}]}, "`model-index` cannot be read"),
    ],
)
def test_what_the_hub_would_not_take_is_known_before(values: dict[str, object], problem: str) -> None:
    assert any(problem in one for one in problems_of(values))


@pytest.mark.parametrize("rows", [0, 768])
def test_a_card_without_hub_ids_says_what_the_reader_has_to_put_there(card: CardContents, rows: int) -> None:
    text = render_card(dataclasses.replace(card, base_model="", graft="", rows=rows, chains=["th"]))
    head, _ = parse(text)
    assert "base_model" not in head
    assert not [tag for tag in head["tags"] if "base_model" in tag]  # type: ignore[attr-defined]
    assert 'base = "path/to/base"  # the folder of the base' in text
    assert 'graft = "path/to/graft"  # the folder of this card' in text
    for command in ("translate", "chat"):
        assert f"lingraft {command} --graft path/to/graft --model path/to/base" in text
    assert ("resize_token_embeddings(len(tokenizer)" in text) == bool(rows)
    known = render_card(dataclasses.replace(card, graft="", rows=rows))
    assert ("AutoPeftModelForCausalLM.from_pretrained(graft)" in known) == bool(rows)
    assert "resize_token_embeddings" not in known


def test_front_matter_holds_any_text(card: CardContents) -> None:
    hostile = dataclasses.replace(card, license='x"\n---\n: {[', method=POISON, base_model="a: b # c")
    head = yaml.safe_load(front_matter(hostile).strip("-"))
    assert (head["license"], head["base_model"]) == ('x"\n---\n: {[', "a: b # c")
    assert POISON in head["tags"]


def test_tables_hold_the_numbers(card: CardContents) -> None:
    _, tokens = parse(render_card(card))
    cells = [
        "".join(child.content for child in token.children or [])
        for before, token in itertools.pairwise(tokens)
        if before.type in {"td_open", "th_open"}
    ]
    for shown in ("+4.6 chrF++", "[+3.8, +5.4]", "88.4", "[82.9, 93.5]", "0.147", "71.3 [65.8, 76.4]", "better"):
        assert shown in cells
    headers = [token.type for token in tokens].count("th_open")
    assert headers == 7 + 7 + 6
    rows = Counter(token.type for token in tokens)
    # Three header rows; three systems; six translation rows and five general rows of the graft's system.
    assert rows["tr_open"] == 3 + 3 + 6 + 5


def test_hostile_text_stays_text(card: CardContents) -> None:
    hostile = dataclasses.replace(
        poisoned(card),
        directions=card.directions,
        system=poisoned(card.system),
        base_model=POISON,
        name=card.name + POISON,
        prompt=POISON,
        limits=[POISON.replace("\n", " ")],
        messages=[Message("user", POISON)],
    )
    text = render_card(hostile)
    _, clean = parse(render_card(card))
    body = MarkdownIt("commonmark").enable("table").parse(text[text.index("\n---\n", 4) + 5 :])
    assert flat(body) == flat(clean)
    assert not {"html_inline", "html_block", "link_open", "image"} & set(flat(body))


def test_unknown_system_and_missing_direction(card: CardContents) -> None:
    with pytest.raises(DataError, match="'radix' is not in the scorecard; did you mean 'radis'"):
        render_card(dataclasses.replace(card, system="radix"))
    with pytest.raises(DataError, match="names no direction"):
        render_card(dataclasses.replace(card, directions=[]))


@pytest.mark.parametrize("text", ["a`b", "```\ncode\n```", "`````", ""])
def test_fence_is_longer_than_what_it_holds(text: str) -> None:
    tokens = MarkdownIt().parse(fence(text))
    assert [token.type for token in tokens] == ["fence"]
    assert tokens[0].content.rstrip("\n") == text.rstrip()


@pytest.mark.parametrize("value", ["\n\n", "a|b", "`", "<s>", "plain text", {"k": ["`|`"]}, 2e-4, "", " x "])
def test_inline_code_reads_back(value: object) -> None:
    table = f"| a | b |\n|---|---|\n| {inline_code(value)} | x |"
    inline = [t for t in MarkdownIt("commonmark").enable("table").parse(table) if t.type == "inline"][2]
    assert [child.type for child in inline.children or []] == ["code_inline"]
    content = inline.children[0].content  # type: ignore[index]
    assert content == value or yaml.safe_load(content) == value


def test_shell_example_quotes_its_arguments(card: CardContents) -> None:
    text = render_card(dataclasses.replace(card, graft="my runs/it's"))
    line = next(line for line in text.splitlines() if line.startswith("lingraft translate"))
    assert shlex.split(line)[:8] == ["lingraft", "translate", "--graft", "my runs/it's", "--from", "de", "--to", "en"]


def test_python_example_runs_with_plain_peft(card: CardContents, tmp_path: Path) -> None:
    vocabulary = {
        word: index for index, word in enumerate(["<eos>", "<unk>", "user", "Guten", "Tag", ".", "a", "b", "c"])
    }
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=0,
            initializer_range=0.6,  # large, so that a random model does not repeat one word
        )
        base = LlamaForCausalLM(config)
        base.save_pretrained(tmp_path / "base")
        adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
        adapted.save_pretrained(tmp_path / "graft")
    tokenizer.save_pretrained(tmp_path / "base")

    messages = [Message("user", "Guten Tag .")]
    ids = torch.tensor([[vocabulary[word] for word in ("user", "Guten", "Tag", ".")]])
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "graft"
    ).eval()
    with torch.no_grad():
        for _ in range(256):
            ids = torch.cat([ids, again(ids).logits[:, -1:].argmax(-1)], dim=1)
    answer = tokenizer.decode(ids[0, 4:], skip_special_tokens=True)
    words = list(dict.fromkeys(answer.split(" ")))
    assert len(words) >= 3, "the tiny model says too little to cut"
    delimiter = words[-1]  # the word that appears last: there is text before it

    example = dataclasses.replace(
        card,
        base_model=str(tmp_path / "base"),
        graft=str(tmp_path / "graft"),
        messages=messages,
        delimiter=f" {delimiter}",
    )
    code = re.search(r"```python\n(.*?)```", render_card(example), flags=re.DOTALL)
    assert code is not None
    assert code[1].strip() == python_example(example).strip()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code[1], "card", "exec"), {})
    expected = answer.split(f" {delimiter}")[0].strip()
    assert expected
    assert printed.getvalue().strip() == expected
