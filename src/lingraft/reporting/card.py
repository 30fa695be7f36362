"""The model card beside a graft: a README that says what it is, what was measured, and how plain PEFT uses it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lingraft.core.errors import DataError, suggestion
from lingraft.core.hub import HubName
from lingraft.core.printable import fence, inline_code, markdown, plain
from lingraft.data.records import Message
from lingraft.evaluation.scorecard import Scorecard, SummaryRow
from lingraft.evaluation.summary_facts import gain_facts, role_facts
from lingraft.language.codes import base_language, language_name
from lingraft.models.architectures import Loading
from lingraft.models.exported_card import asking_lines, front_text, method_tags
from lingraft.reporting import tables
from lingraft.reporting.card_metadata import model_index
from lingraft.reporting.changed import changed_line
from lingraft.reporting.numbers import change_mark, count, decimals_for, interval, number


@dataclass(frozen=True)
class CardContents:
    """Everything the card says.

    Attributes:
        name: title of the card, usually the run's name.
        system: which system of the scorecard the graft is.
        base_model: hub id that plain PEFT loads the base from; empty where none is known.
        license: identifier as the hub knows it, for example "apache-2.0"; empty where it is not known.
        license_more: further keys of the front matter about it.
        directions: (source, target) codes the graft was trained on, or measured on where it was trained on none; the
            first is used in the examples.
        translates: whether it was trained on pairs.
        method: registered name of the method.
        paper: where the method was published.
        messages: the conversation of one translation request, exactly as in training, for the first direction.
        prompt: the same request rendered by the model's chat template, for reference.
        given: the same conversation as the chat template takes it, where that is not texts by role.
        template: variables that the chat template was given in training.
        opening: what stood behind its prompts.
        upon: hash of the adapter that was merged into the base while this one was trained; empty: none.
        loading: how programs open the base.
        delimiter: what ends a translation in the answer; empty when the answer is the translation alone.
        stop: further strings that end generation.
        graft: where the graft lies, as the usage examples write it: a hub id or a folder; empty where it has no id yet.
        params: of the method, by name.
        tuner: its settings, by name.
        training: its settings, by name.
        data_counts: what was counted, in words -> number.
        limits: what a user should know, a sentence each.
        rows: rows of the embeddings to which the base grows for the graft's own tokenizer; 0: it has the base's.
        chains: languages of conversations that go through the translation chain of thought.
        tags: further tags for the hub.
    """

    name: str
    system: str
    base_model: str
    license: str
    directions: Sequence[tuple[str, str]]
    scorecard: Scorecard
    method: str
    messages: Sequence[Message]
    prompt: str
    paper: str = ""
    delimiter: str = ""
    stop: Sequence[str] = ()
    graft: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    tuner: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    data_counts: Mapping[str, int] = field(default_factory=dict)
    limits: Sequence[str] = ()
    rows: int = 0
    chains: Sequence[str] = ()
    translates: bool = True
    tags: Sequence[str] = ()
    given: Sequence[Mapping[str, Any]] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    opening: str = ""
    upon: str = ""
    loading: Loading = field(default_factory=Loading)
    license_more: Mapping[str, str] = field(default_factory=dict)


def render_card(card: CardContents) -> str:
    """Render the model card as Markdown with the hub's YAML front matter.

    Args:
        card: what it says; the numbers come from its scorecard.

    Returns:
        The text of README.md; texts of users and models can open neither HTML nor a table cell nor a code fence.

    Raises:
        DataError: `system` is not in the scorecard, or there is no direction.
    """
    systems = [system.name for system in card.scorecard.systems]
    if card.system not in systems:
        raise DataError(f"the card's system {card.system!r} is not in the scorecard{suggestion(card.system, systems)}")
    if not card.directions:
        raise DataError(f"the card of {card.name!r} names no direction; give at least one (source, target) pair")
    environment = Environment(
        loader=PackageLoader("lingraft.reporting", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else markdown(str(value)),
    )
    environment.filters |= {"inline_code": inline_code, "fence": fence, "plain": plain}
    source, target = card.directions[0]
    return environment.get_template("card.md.j2").render(
        card=card,
        scorecard=card.scorecard,
        front_matter=Markup(front_matter(card)),
        pairs=_pair_names(card.directions),
        summary=_summary(card),
        divergence=role_facts(card.scorecard, "divergence", "kl_from_base"),
        translation=_translation(card),
        general=_general(card),
        changed=changed_line(card.scorecard, card.system),
        settings=[("Method", card.params), ("Tuner", card.tuner), ("Training", card.training)],
        python=python_example(card),
        shell=_shell(card, f"translate --from {shlex.quote(source)} --to {shlex.quote(target)}")
        + " input.txt > output.txt",
        chat=_shell(card, "chat") if card.chains else "",
        chains=", ".join(language_name(code) for code in card.chains),
        count=count,
    )


GRAFT_HERE, BASE_HERE = "path/to/graft", "path/to/base"
"""What the programs of a card say where the reader's own folder has to stand."""


def _shell(card: CardContents, command: str) -> str:
    """Return a command of Lingraft with this graft, which is fetched if it is on the hub."""
    name, _, options = command.partition(" ")
    base = "" if card.base_model else f" --model {BASE_HERE}"
    return f"lingraft {name} --graft {shlex.quote(card.graft or GRAFT_HERE)}{base}{' ' + options if options else ''}"


def front_matter(card: CardContents) -> str:
    """Return the YAML the hub reads, between its two `---` lines."""
    codes = dict.fromkeys(base_language(code) for direction in card.directions for code in direction)
    named = {"base_model": card.base_model} if card.base_model else {}  # the hub refuses what is no id of its own
    tags = ["base_model:adapter:" + card.base_model] if card.base_model else []
    name = card.graft.rpartition("/")[2] if HubName.read(card.graft) else card.name
    index = model_index(card.scorecard, card.system, name)
    values = {
        **named,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "language": list(dict.fromkeys([*codes, *card.chains])),
        **({"license": card.license, **card.license_more} if card.license else {}),
        "tags": list(dict.fromkeys(["translation", "lingraft", *tags, *method_tags(card.method), *card.tags])),
        **({"model-index": index} if index else {}),
    }
    return front_text(values)


def python_example(card: CardContents) -> str:
    """Return a program that translates with nothing but PEFT and Transformers."""
    given = card.given or [message.to_dict() for message in card.messages]
    messages = json.dumps(given, ensure_ascii=False, indent=4)
    cut = f".split({json.dumps(card.delimiter, ensure_ascii=False)})[0]" if card.delimiter else ""
    graft = _named("graft", card.graft, GRAFT_HERE, "the folder of this card, or its repository on the hub")
    base = _named("base", card.base_model, BASE_HERE, "the folder of the base")
    plain = card.loading == Loading()
    if card.rows and card.base_model and plain:  # the graft's own tokenizer tells PEFT how far the base has to grow
        imports = "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer"
        load = (
            "tokenizer = AutoTokenizer.from_pretrained(graft)\nmodel = AutoPeftModelForCausalLM.from_pretrained(graft)"
        )
        names, model = graft, "model"
    else:
        imports = f"from peft import PeftModel\nfrom transformers import {card.loading.kind}, AutoTokenizer"
        load = f"model = {card.loading.kind}.from_pretrained(base{card.loading.arguments()})"
        grow = "\nmodel.resize_token_embeddings(len(tokenizer), mean_resizing=False)" if card.rows else ""
        load = f"tokenizer = AutoTokenizer.from_pretrained({'graft' if card.rows else 'base'})\n{load}{grow}"
        names, model = f"{base}\n{graft}", "PeftModel.from_pretrained(model, graft)"
    return f"""\
{imports}

{names}
{load}
model = {model}.eval()

messages = {messages}
{asking_lines(card.template, card.opening)}
output = model.generate(**inputs, max_new_tokens=256, do_sample=False)
answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
translation = answer{cut}.strip()
print(translation)
"""


def _named(name: str, value: str, placeholder: str, what: str) -> str:
    """Return the line of a program that names a model, or says what the reader has to put there."""
    if value:
        return f"{name} = {json.dumps(value, ensure_ascii=False)}"
    return f'{name} = "{placeholder}"  # {what}'


def _pair_names(directions: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{language_name(source)} to {language_name(target)}" for source, target in directions)


def _shown(card: CardContents) -> list[str]:
    """Return base, the other systems, and the graft last."""
    names = [system.name for system in card.scorecard.systems]
    return [name for name in names if name != card.system] + [card.system]


def _summary(card: CardContents) -> list[list[str]]:
    rows = {row.system: row for row in card.scorecard.summary}
    divergence = role_facts(card.scorecard, "divergence", "kl_from_base")
    out = []
    for name in _shown(card):
        row = rows.get(name) or SummaryRow.model_validate({"system": name})
        gain = row.gain
        facts = gain_facts(gain.metric if gain else "", card.scorecard.translation)
        places = decimals_for(facts, [gain.value]) if gain else 1
        out.append(
            [
                name,
                f"{number(gain.value, places, signed=True)} {facts.title}" if gain else "-",
                interval(gain.ci95 if gain else None, places, signed=True),
                number(row.retention_mean),
                interval(tables.retention_interval(card.scorecard, row)),
                number(row.retention_min),
                number(row.kl_from_base, decimals_for(divergence, [row.kl_from_base or 0.0])),
            ]
        )
    return out


def _translation(card: CardContents) -> list[list[str]]:
    scores = card.scorecard.translation
    base = {(s.test_set, s.direction, s.metric): s for s in scores if s.system == "base"}
    out = []
    for row in (s for s in scores if s.system == card.system):
        reference = base.get((row.test_set, row.direction, row.metric))
        places = decimals_for(row.facts, [row.score, *([reference.score] if reference else [])])
        delta = row.delta
        out.append(
            [
                row.direction,
                f"{row.facts.title} ({row.test_set})",
                count(row.n),
                number(reference.score if reference else None, places),
                f"{number(row.score, places)} {interval(row.ci95, places)}",
                f"{number(delta.value, places, signed=True)} {interval(delta.ci95, places, signed=True)}"
                if delta
                else "-",
                change_mark(row.facts.better, delta.ci95, delta.p_holm) if delta else "-",
            ]
        )
    return out


def _general(card: CardContents) -> list[list[str]]:
    scores = card.scorecard.general
    base = {(s.suite, s.metric): s for s in scores if s.system == "base"}
    out = []
    for row in (s for s in scores if s.system == card.system):
        reference = base.get((row.suite, row.metric))
        places = decimals_for(row.facts, [row.score, *([reference.score] if reference else [])])
        kept = row.retention
        out.append(
            [
                row.suite,
                row.facts.title,
                count(row.n),
                number(reference.score if reference else None, places),
                f"{number(row.score, places)} {interval(row.ci95, places)}",
                f"{number(kept.percent)} {interval(kept.ci95)}" if kept else "-",
            ]
        )
    return out
