"""Hostile chat templates: refused for what they would do, by counting; honest ones render as in transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from jinja2.exceptions import TemplateError

from attacks import default_and_long, sentence
from builders import FAMILIES, tiny_tokenizer
from lingraft.core.errors import ModelError
from lingraft.rendering.bounded import TooMuch, render
from template_support import renderer_of, tokenizer_of, turns

START = "{% set ns = namespace(x='ab', y=[1]) %}{% for i in range(60) %}"
TOO_MUCH = {
    "loops within loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops that leave all out": "{% for a in range(999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "filters that leave all out": "{% for a in range(9999) %}{{ range(99999)|rejectattr('x')|list }}{% endfor %}",
    "doubled text": START + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "added text": START + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "replaced text": START + "{% set ns.x = ns.x|replace('a', 'aaaa') %}{% endfor %}",
    "replaced text by a method": START + "{% set ns.x = ns.x.replace('a', 'aaaa') %}{% endfor %}",
    "joined text": START + "{% set ns.x = ns.x.join([ns.x, ns.x]) %}{% endfor %}",
    "nested list written": START + "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.y }}",
    "nested list compared": START + "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.y == ns.y }}",
    "repeated text": "{{ 'a' * 10**9 }}",
    "huge number": "{% set n = messages|length + 9 %}{{ (n ** 99) ** 99 }}",
    "wide by a filter": "{{ 'a'|center(10**9) }}",
    "wide by %": "{{ '%1000000000d' % 1 }}",
    "wide by % and an argument": "{{ '%*d' % (10**9, 1) }}",
    "wide by format": "{{ '{:>1000000000}'.format(1) }}",
    "wide by format and an argument": "{{ '{:{}}'.format(1, 10**9) }}",
    "wide by a filter of format": "{{ '%1000000000d'|format(1) }}",
    "wide by a method": "{{ 'a'.rjust(10**9) }}",
    "zeros": "{{ '1'.zfill(10**9) }}",
    "a number of many digits": "{{ 1.5|round(10**9, 'floor') }}",
    "wide JSON": "{{ [1]|tojson(indent=10**9) }}",
    "indented": "{{ 'a'|indent(10**9) }}",
    "many slices": "{{ range(9)|slice(10**9)|list }}",
    "forked macro": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "long template in a loop": "{% for a in range(99999) %}" + "x" * 100_000 + "{% endfor %}",
    "long template": "x" * 300_000,
    "long block": "{% set a %}{% for x in range(99999) %}{{ 'y' * 99 }}{% endfor %}{% endset %}{{ a }}",
}
FAILS = {
    "endless macro": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "a file": "{% include '/etc/passwd' %}",
    "classes": "{{ messages.__class__.__mro__ }}",
    "division": "{{ 1 // 0 }}",
    "lorem ipsum": "{{ lipsum(10**9) }}",
    "bytes": "{{ 'a'.encode() }}",
    "tabs": "{{ 'a'.expandtabs(10**9) }}",
    "open": "{% for",
    "deep": "{{ " + "(" * 50_000,
}
WORST = {"loops that leave all out", "doubled text", "nested list written", "wide by format", "forked macro"}


def rendered(source: str) -> str:
    return render(source, {"messages": [{"role": "user", "content": "Why?"}], "add_generation_prompt": True})


@pytest.mark.parametrize("source", default_and_long(TOO_MUCH, WORST))
def test_too_much_is_refused_by_counting(source: str) -> None:
    with pytest.raises(TooMuch):
        rendered(source)


@pytest.mark.parametrize("source", default_and_long(FAILS))
def test_what_fails_fails_without_reaching_the_machine(source: str) -> None:
    with pytest.raises(Exception) as caught:
        rendered(source)
    assert isinstance(caught.value, Exception)


@pytest.mark.parametrize("source", default_and_long(TOO_MUCH | FAILS, WORST))
def test_a_model_with_such_a_template_is_refused_in_one_sentence(source: str) -> None:
    with pytest.raises(ModelError) as caught:
        renderer_of(source + turns())
    sentence(caught.value)


HONEST: dict[str, Any] = {
    "plain": turns(),
    "trimmed": turns("{{ m['content'] | trim }}", "{{ m['content'].strip() }}"),
    "namespace": turns(
        before="{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    ),
    "sliced": turns(
        before="{% for m in messages[::-1] if m.role == 'user' %}{{ loop.index }}{{ m.role ~ '!' }}{% endfor %}"
    ),
    "JSON": turns(
        before="{{ messages | map(attribute='role') | list | tojson }}{{ {'b': 1, 'a': [2]} | tojson(indent=2) }}"
    ),
    "macro": turns(before="{% macro f(x) %}<{{ x | upper }}>{% endmacro %}{{ f('a') }}{{ f(messages | length) }}"),
    "marked for training": turns("{% generation %}{{ m.content }}{% endgeneration %}"),
    "controls": turns(before="{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.role }}{% endfor %}"),
    "chosen": turns(
        before="{{ (messages | selectattr('role', 'equalto', 'user') | list | length) }}{{ '%s-%d' % ('a', 3) }}"
    ),
    "numbers that are no widths": turns(
        before="{{ 'a b'|truncate(2000) }}{{ 'x'|int(99999) }}{{ [1, 5000]|select('lt', 2000)|list }}"
    ),
    "padded": turns(before="{{ 'a'.rjust(4) ~ 'b'.center(5) ~ '7'.zfill(3) ~ (2.0).is_integer() }}"),
    "printed": turns(before="{{ [1, {'a': 'b'}]|pprint }}{{ {'id': 'x'}|xmlattr }}"),
    "split": turns("{{ m.content.split('</think>')[-1].lstrip('\\n') }}"),
}


@pytest.mark.parametrize("source", default_and_long(HONEST))
def test_what_honest_templates_render_is_unchanged(source: str) -> None:
    tokenizer = tokenizer_of(source)
    roles = ("system", "user", "assistant", "user")
    given = {"messages": [{"role": role, "content": f" {role}?\n"} for role in roles], "add_generation_prompt": True}
    expected = tokenizer.apply_chat_template(given["messages"], tokenize=False, add_generation_prompt=True)
    assert render(source, {**tokenizer.special_tokens_map, "tools": None, "documents": None, **given}) == expected


CONVERSATIONS = ("u", "su", "uau", "suaua", "uu", "a", "suuaas")
TOOL = {
    "name": "f",
    "description": "It's <é>",
    "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
}


def outcome(render_it: Callable[[], str]) -> str | None:
    """Return a rendering, None where the template refuses."""
    try:
        return render_it()
    except (TemplateError, TypeError):
        return None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("opened", [True, False])
def test_published_templates_render_as_in_transformers(family: str, opened: bool) -> None:
    tokenizer = tiny_tokenizer(family)
    roles = {"s": "system", "u": "user", "a": "assistant"}
    given = {**tokenizer.special_tokens_map, "documents": None, "add_generation_prompt": opened}
    given["date_string"] = "26 Jul 2024"  # which templates take before the day that it is
    shown = 0
    for letters in CONVERSATIONS:
        messages = [
            {"role": roles[one], "content": f" {i} <b>\n'{one}'</think>\n\nü "} for i, one in enumerate(letters)
        ]
        for tools in (None, [{"type": "function", "function": TOOL}]):
            expected = outcome(
                lambda messages=messages, tools=tools: tokenizer.apply_chat_template(
                    messages, tools, tokenize=False, add_generation_prompt=opened, date_string=given["date_string"]
                )
            )
            found = outcome(
                lambda messages=messages, tools=tools: render(
                    tokenizer.chat_template, {**given, "messages": messages, "tools": tools}
                )
            )
            assert found == expected
            shown += expected is not None
    assert shown >= 4


def test_long_conversations_are_no_attack() -> None:
    messages = [{"role": ("user", "assistant")[i % 2], "content": "Why? " * 200} for i in range(1000)]
    text = render(turns(), {"messages": messages, "add_generation_prompt": True})
    assert text.count("<|im_start|>") == 1001
