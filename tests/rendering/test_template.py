"""Chat templates are examined before they are used: which texts they show, in which form, and how thinking is switched
off. Truth: what transformers renders, and templates whose fault is known."""

from __future__ import annotations

from typing import Any

import pytest

from lingraft.core.errors import ModelError, UsageError
from lingraft.data.records import Example, Message, Span
from lingraft.pipeline.answers import asks
from template_support import HI, library_prompt, prompt_of, renderer_of, turns

PARTS = "{% for part in m.content %}{{ part.text }}{% endfor %}"
TYPED = "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
STRICT = "{% if m.content is string %}{{ raise_exception('a list is wanted') }}{% endif %}" + PARTS
SYSTEM = (Message("system", "Be brief."), *HI)
TALK = (Message("user", "One"), Message("assistant", "Two"), Message("user", "Three"))


# Contents as texts or as lists of parts


@pytest.mark.parametrize(
    ("user", "assistant"),
    [(PARTS, PARTS), (TYPED, "{{ m.content }}"), ("{{ m.content }}", PARTS), (STRICT, STRICT)],
    ids=["all", "user", "assistant", "strict"],
)
def test_contents_are_given_in_the_form_that_the_template_shows(user: str, assistant: str) -> None:
    render = renderer_of(turns(assistant, user))
    plain = renderer_of(turns())
    for messages in (HI, TALK, SYSTEM):
        assert render.prompt_ids(messages) == plain.prompt_ids(messages)
    example = Example("e", TALK, (Span("Four", "reply"),))
    assert render.render(example) == plain.render(example)


def test_texts_stay_texts_where_both_forms_are_shown() -> None:
    render = renderer_of(
        turns(user="{{ m.content }}{% if m.content is not string %}{{ m.content[0].text }}{% endif %}")
    )
    assert render.template.given(HI[0]) == {"role": "user", "content": "Good day to you"}
    assert prompt_of(render) == library_prompt(render)


# Texts that are left out


@pytest.mark.parametrize(
    ("template", "what"),
    [
        (turns(user=""), "the user's messages"),
        (turns("{{ m.content + '' }}", "{% if m.role == 'system' %}{{ m.content }}{% endif %}"), "the user's messages"),
        (turns(assistant=""), "answers"),
        ("{{ bos_token }}", "the user's"),
    ],
    ids=["user", "user, and lists fail", "answer", "all"],
)
def test_a_template_that_leaves_out_what_is_asked_or_answered_is_refused(template: str, what: str) -> None:
    with pytest.raises(ModelError, match=f"leaves out the text of {what}") as caught:
        renderer_of(template)
    assert "\n" not in str(caught.value)


NO_SYSTEM = "{% set messages = messages | rejectattr('role', 'equalto', 'system') | list %}"
LAST_ONLY = "{% set messages = messages[-2:] if messages[-1].role == 'assistant' else messages[-1:] %}"


@pytest.mark.parametrize(
    ("before", "shown", "lost", "what"),
    [
        (NO_SYSTEM, (HI, TALK), SYSTEM, r"leaves out the system message of the turns \[system user\]"),
        (LAST_ONLY, (HI,), TALK, r"leaves out the text of turn 1 of the turns \[user assistant user\]"),
        (LAST_ONLY, (HI,), SYSTEM, "leaves out the system message"),
    ],
    ids=["system", "earlier turns", "system before the last"],
)
def test_conversations_of_which_a_text_would_vanish_are_refused(
    before: str, shown: tuple[tuple[Message, ...], ...], lost: tuple[Message, ...], what: str
) -> None:
    render = renderer_of(turns(before=before))
    for messages in shown:
        assert prompt_of(render, messages) == library_prompt(render, messages)
    for act in (
        lambda: render.prompt_ids(lost),
        lambda: render.render(Example("e", lost, (Span("x", "reply"),))),
        lambda: render.template.check(lost),
    ):
        with pytest.raises(UsageError, match=what) as caught:
            act()
        assert "\n" not in str(caught.value)
    empty = tuple(Message(message.role, "") for message in lost[:-1])
    assert render.prompt_ids((*empty, lost[-1])).ids  # nothing is lost of them


# Templates that fail


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for tool in tools %}{{ tool.name }}{% endfor %}" + turns(), "'NoneType' object is not iterable"),
        ("{{ functions + '.' }}" + turns(), "'functions' is undefined"),
        ("{{ 1 // 0 }}" + turns(), "ZeroDivisionError"),
        ("{{ messages[0]['content']['text'] + 1 }}" + turns(), "."),
        ("{% if %}", "."),
    ],
    ids=["tools", "variable", "arithmetic", "types", "syntax"],
)
def test_a_template_that_fails_whatever_it_is_given_is_told_in_one_true_sentence(template: str, why: str) -> None:
    with pytest.raises(ModelError, match=f"cannot render a message of a user.*{why}") as caught:
        renderer_of(template)
    assert "user and assistant in turn" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_that_fails_at_some_turns_only_says_how() -> None:
    render = renderer_of(turns(before="{% if messages | length > 2 %}{{ tools | length }}{% endif %}"), exact=True)
    assert prompt_of(render) == library_prompt(render)
    with pytest.raises(UsageError, match=r"fails on the turns \[user assistant user\] \(.*NoneType.*recipe"):
        render.prompt_ids(TALK)


def test_a_variable_that_is_given_opens_a_template() -> None:
    template = "{{ functions + '\n' }}" + turns()
    render = renderer_of(template, variables={"functions": "none"})
    assert prompt_of(render) == library_prompt(render, functions="none")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("enable_thinkin", "has no variable 'enable_thinkin'"),
        ("messages", "is set here itself"),
        ("tokenize", "itself"),
    ],
)
def test_variables_that_the_template_does_not_have_are_refused(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        renderer_of(turns(opened="{{ enable_thinking }}"), variables={name: True})


# Thinking


def switched(condition: str, on: str = "", off: str = "<think>\n\n</think>\n\n") -> str:
    """Return a template whose generation prompt closes a block of thoughts under a condition."""
    return turns(opened=f"{{% if {condition} %}}{off}{{% else %}}{on}{{% endif %}}")


@pytest.mark.parametrize(
    ("template", "variables"),
    [
        (switched("enable_thinking is defined and not enable_thinking"), {"enable_thinking": False}),
        (switched("enable_thinking is defined and not enable_thinking", "<think>\n"), {"enable_thinking": False}),
        (switched("thinking is defined and thinking is false", "<think>"), {"thinking": False}),
        (switched("thinking_budget is defined and thinking_budget == 0"), {"thinking_budget": 0}),
        (switched("reasoning_effort is defined and reasoning_effort == 'none'"), {"reasoning_effort": "none"}),
        (
            turns(before="{% set mode = '/no_think' if enable_thinking is false else '/think' %}{{ 'Mode: ' + mode }}"),
            {"enable_thinking": False},
        ),
    ],
    ids=["closes", "opens else", "thinking", "budget", "effort", "system prompt"],
)
def test_thinking_is_switched_off_where_the_template_can(template: str, variables: dict[str, Any]) -> None:
    render = renderer_of(template)
    assert render.template.variables == variables
    assert prompt_of(render) == library_prompt(render, **variables)
    assert prompt_of(render) != library_prompt(render)
    row = render.render(Example("e", HI, (Span("An answer.", "reply"),)))
    assert render.decode_all(row.input_ids) == library_prompt(render, **variables) + "An answer.<|im_end|>"


@pytest.mark.parametrize(
    "template",
    [
        turns(),
        switched("enable_thinking is defined and enable_thinking", "", ""),
        turns(before="{{ 'Reasoning: ' + (reasoning_effort | default('medium')) + '\\n' }}"),
        turns(opened="{% if thinking_budget is defined and thinking_budget == 0 %}<seed:think>{% endif %}"),
        turns(before="{% if enable_thinking is false %}{{ raise_exception('always thinks') }}{% endif %}"),
    ],
    ids=["none", "without effect", "any word", "opens a block", "refused"],
)
def test_what_switches_nothing_off_is_not_set(template: str) -> None:
    render = renderer_of(template)
    assert render.template.variables == {}
    assert prompt_of(render) == library_prompt(render)


def test_a_variable_that_is_given_counts_and_a_graft_is_asked_with_its_own_alone() -> None:
    template = switched("enable_thinking is defined and not enable_thinking")
    render = renderer_of(template)
    given = renderer_of(template, variables={"enable_thinking": True})
    assert given.template.variables == {"enable_thinking": True}
    assert prompt_of(given) == library_prompt(given)
    older = render.asking({})
    assert older.template.variables == {}
    assert prompt_of(older) == library_prompt(render)
    assert render.asking({}) is older
    assert render.asking({"enable_thinking": False}) is render
    assert older.asking({"enable_thinking": False}).prompt_ids(HI) == render.prompt_ids(HI)
    assert (render.identity, older.identity) == ({"template": {"enable_thinking": False}}, {})


def test_kept_answers_depend_on_how_a_model_is_asked() -> None:
    """Not on the code, which may change without changing what is asked."""
    one = renderer_of(turns())
    assert asks(one) == asks(renderer_of(turns()))
    assert asks(one) != asks(renderer_of(turns(before="{{ 'Be brief.' }}")))
