"""Chat templates render as transformers renders them, within bounds, and say what is wrong in types."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from typing import Any

import jinja2
import pytest

from isochrone.errors import BadModel, BadRequest
from isochrone.text import ChatTemplate
from isochrone.text.growth import may_outgrow_fuel
from tests.text.templates import ALL

NAMED = {"bos_token": "<s>", "eos_token": "</s>"}
TODAY = datetime(2026, 2, 3, 4, 5, 6)
TOOL = {
    "type": "function",
    "function": {"name": "wetter", "description": "Wie wird's in \"Zürich\"? <b>&", "parameters": {"type": "object",
                 "properties": {"ort": {"type": "string"}, "tage": {"type": "integer", "default": 3}}}},
}  # fmt: skip
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": {
    "name": "wetter", "arguments": {"ort": "Zürich", "tage": 2, "x": [1.5, None, True]}}}]}  # fmt: skip
TALKS: dict[str, list[dict[str, Any]]] = {
    "one question": [{"role": "user", "content": "What is the capital of France?"}],
    "with system": [
        {"role": "system", "content": "  Be brief.\n"},
        {"role": "user", "content": " Hi 🙂 <b>&amp;</b> "},
        {"role": "assistant", "content": "<think>\nhm, \nwell\n</think>\n\nHello, \"you\"."},
        {"role": "user", "content": "你好\n\nWhy?"},
    ],
    "with tools": [
        {"role": "user", "content": "Wetter?"}, CALL, {"role": "tool", "content": "sunny"},
        {"role": "tool", "content": {"grad": 21}}, {"role": "assistant", "content": "Sunny."},
    ],
    "with parts": [{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image"}]}],
    "out of turn": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
    "without content": [{"role": "user", "content": None}, {"role": "assistant"}],
    "nothing": [],
}  # fmt: skip


class Refused(Exception):
    pass


def as_transformers(source: str, **context: Any) -> str:
    """The environment of transformers' apply_chat_template."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    template = _compile_jinja_template(source)
    template.environment.globals["strftime_now"] = TODAY.strftime
    template.globals["strftime_now"] = TODAY.strftime
    try:
        return str(template.render(**NAMED, documents=None, **context))
    except (jinja2.TemplateError, TypeError, AttributeError) as error:
        raise Refused(str(error)) from error


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("tools", [None, [TOOL]], ids=["no tools", "tools"])
@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", ALL)
def test_a_template_renders_as_under_transformers(name, talk, tools, prompt):
    ours = ChatTemplate(ALL[name], NAMED, now=lambda: TODAY, apart=False)
    try:
        want = as_transformers(ALL[name], messages=TALKS[talk], tools=tools, add_generation_prompt=prompt)
    except Refused:
        with pytest.raises(BadRequest):
            ours.render(TALKS[talk], tools, prompt)
    else:
        assert ours.render(TALKS[talk], tools, prompt) == want


@pytest.mark.parametrize("name", ["macro", "sets"])
def test_a_process_apart_renders_the_same(name, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    assert may_outgrow_fuel(ALL[name])
    apart, here = (ChatTemplate(ALL[name], NAMED, now=lambda: TODAY, apart=apart) for apart in (True, False))
    assert apart.render(TALKS["with tools"], [TOOL]) == here.render(TALKS["with tools"], [TOOL])
    refusing = "{% set x = [messages, 1] %}{{ raise_exception('not today') }}"
    with pytest.raises(BadRequest, match="not today"):
        ChatTemplate(refusing).render(TALKS["one question"])


@pytest.mark.parametrize("name", ["chatml", "headers", "instructions", "tools_xml", "turns", "parts"])
def test_the_templates_of_the_families_in_use_need_no_process_apart(name):
    assert not may_outgrow_fuel(ALL[name])


@pytest.mark.parametrize(
    "expression",
    ["[x, x]", "x + x", "y + x", "x[0] + x[0]", "x1 + x2", "x.0 + x.0", "(x) + (x)", "{'a': x, 'b': x}", "x * 2", "x+x",
     "dict(a=x, b=x)", "namespace(a=x, b=x)", "x|chain(x)", "'a' + x + x", "[[x], '']", "x|zip(x)"],
)  # fmt: skip
def test_no_way_to_double_a_list_goes_unseen(expression):
    assert may_outgrow_fuel(f"{{% set x = {expression} %}}")
    assert may_outgrow_fuel(f"{{%- macro f(x) -%}}{{{{ f({expression}) }}}}{{% endmacro %}}")


def test_variables_of_the_request_reach_the_template():
    template = ChatTemplate(ALL["tools_xml"], NAMED)
    assert template.render(TALKS["one question"], variables={"enable_thinking": False}).endswith("</think>\n\n")
    assert template.render(TALKS["one question"]).endswith("assistant\n")


def test_the_clock_of_the_machine_is_used_unless_another_is_given():
    assert ChatTemplate("{{ strftime_now('%Y') }}").render([]) >= "2025"
    assert ChatTemplate("{{ strftime_now('%d.%m.') }}", now=lambda: TODAY).render([]) == "03.02."


def test_what_a_template_refuses_is_the_callers_to_change():
    with pytest.raises(BadRequest, match="must take turns") as refusal:
        ChatTemplate(ALL["instructions"], NAMED).render(TALKS["out of turn"])
    assert (refusal.value.param, refusal.value.status) == ("messages", 400)


@pytest.mark.parametrize("source", ["{% if", "{{ messages", "{% for m in messages %}", "{% nonsense %}", "{{ 1 + }}"])
def test_a_template_that_is_not_valid_is_a_bad_model(source):
    with pytest.raises(BadModel, match="not valid"):
        ChatTemplate(source)


HOSTILE = {
    "loops": "{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "doubling": "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "captures": "{% macro f(s, n) %}{% set t %}{{ s }}{{ s }}{% endset %}{{ f(t, n - 1) if n else t }}{% endmacro %}"
    "{{ f('xxxxxxxx', 60) }}",
    "repeating": "{{ 'x' * 1000000000 }}",
    "replacing": "{{ ('a' * 100000) | replace('a', 'b' * 100000) | length }}",
    "recursion": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "range": "{{ range(1000000000) | list | length }}",
    "lists": "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"
    "{{ ns.s | join | length }}",
    "nesting": "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
    "{{ ns.s }}",
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([[x, x]]) }}{% endfor %}",
    "chain": "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s|chain(ns.s) %}{% endfor %}"
    "{{ ns.s | join | length }}",
    "indent": "{{ messages | tojson(indent=1000000000) }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_with_an_error_in_bounded_memory(name, monkeypatch):
    import resource

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((BadModel, BadRequest)):
        ChatTemplate(HOSTILE[name]).render(TALKS["one question"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("source", ["{% include '/etc/passwd' %}", "{% import '/etc/passwd' as p %}{{ p }}",
                                    "{% extends '/etc/passwd' %}", "{{ messages.__class__.__mro__[1] }}",
                                    "{{ ''.__class__.__base__.__subclasses__() }}", "{{ open('/etc/passwd') }}",
                                    "{{ raise_exception.__globals__['json'] }}", "{{ strftime_now.__closure__[0] }}",
                                    "{{ cycler.__init__.__globals__.os }}"])  # fmt: skip
def test_a_template_reaches_no_file_and_no_python(source):
    with pytest.raises((BadModel, BadRequest)):
        print(ChatTemplate(source).render(TALKS["one question"]))


@pytest.mark.parametrize("change", ["messages.append(1)", "messages.extend(messages)", "messages[0].pop('role')",
                                    "messages.copy().append(1)", "messages[0].update({'role': 'x'})",
                                    "messages[0].content.insert(0, 1)", "(messages|attr('clear'))()"])  # fmt: skip
def test_a_template_cannot_change_what_it_is_given(change):
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    with pytest.raises(BadModel, match="may only read"):
        ChatTemplate(f"{{{{ {change} }}}}", apart=False).render(messages)
    assert messages == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]


def test_long_conversations_and_long_messages_have_fuel_enough():
    talk = [{"role": ("user", "assistant")[i % 2], "content": "word " * 200} for i in range(2000)]
    assert len(ChatTemplate(ALL["tools_xml"], NAMED).render(talk, [TOOL])) > 2_000_000
    long = [{"role": "user", "content": "x" * 5_000_000}]
    assert len(ChatTemplate(ALL["headers"], NAMED).render(long)) > 5_000_000


def test_messages_that_nest_without_end_are_refused():
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises((BadModel, BadRequest)):
        ChatTemplate("{{ messages | tojson }}").render([{"role": "user", "content": deep}])


def test_a_source_of_absurd_size_is_not_read():
    with pytest.raises(BadModel, match="characters"):
        ChatTemplate("x" * (1 << 21))


def test_the_real_models_template_writes_its_dialogue(smollm2):
    assert smollm2.chat_template is not None
    text = ChatTemplate(smollm2.chat_template, smollm2.named_tokens).render(TALKS["one question"])
    assert text == as_transformers(smollm2.chat_template, messages=TALKS["one question"], add_generation_prompt=True)
    ids = smollm2.encode(text, add_special=False)
    assert ids[0] == smollm2.token_to_id("<|im_start|>")
    assert smollm2.decode(ids, skip_special=False) == text
    assert json.dumps(text).count("<|im_end|>") == 2
