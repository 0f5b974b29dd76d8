"""What a grammar lets through is what its parser reads: calls of offered tools whose arguments fit, or words."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from isochrone.errors import BadRequest
from isochrone.places.place import Format, Tool
from isochrone.places.reader import as_lark
from isochrone.text.grammar import Matcher, compile_grammar
from isochrone.text.tools import Called, Dialect, Offer, Opening, Said
from isochrone.text.tools.lark import bare, regex
from isochrone.text.tools.pieces import joined
from tests.text.tools.golden import (
    BONN,
    FORCED,
    GEMMA,
    GEMMA_WITH_THOUGHTS,
    HARMONY,
    HERMES,
    LLAMA,
    MISTRAL_LIST,
    MISTRAL_NAMED,
    QWEN_3,
    call,
    tagged,
)  # fmt: skip
from tests.text.tools.vocabulary import END, Bytes, allowed, takes

WEATHER = {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"],
    "additionalProperties": False, "description": "left out of the grammar",
}  # fmt: skip
TOOLS = (Tool("get_weather", "Tells the weather.", WEATHER), Tool("now"))
NUMBER = as_lark(Format("regex", "[0-9]+"))
AUTO, MUST = Offer(TOOLS), Offer(TOOLS, must_call=True)


@dataclass(frozen=True)
class Form:
    """A dialect with answers that its grammar takes: one call, two calls."""

    dialect: Dialect
    one: str
    two: str
    thought: str = ""
    wrong: list[str] = field(default_factory=list)


def _weather(key: str = "arguments") -> str:
    return call(BONN, key=key)


def _now(key: str = "arguments") -> str:
    return call("{}", "now", key)


def _gemma(open: str, close: str, quote: str) -> tuple[str, str]:
    one = f"{open}call:get_weather{{city:{quote}Bonn{quote},days:3}}{close}"
    return one, f"{one}{open}call:now{{}}{close}"


_TO_WEATHER = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
FORMS = {
    "hermes": Form(HERMES, tagged(_weather()), f"{tagged(_weather())}\n{tagged(_now())}"),
    "qwen": Form(QWEN_3, tagged(_weather()), f"{tagged(_weather())}\n{tagged(_now())}", "<think>\nHm.\n</think>\n\n"),
    "llama": Form(LLAMA, _weather("parameters"), f"{_weather('parameters')}; {_now('parameters')}"),
    "forced": Form(FORCED, _weather(), f"{_weather()}\n{_now()}"),
    "mistral list": Form(MISTRAL_LIST, f"[TOOL_CALLS][{_weather()}]", f"[TOOL_CALLS][{_weather()}, {_now()}]"),
    "mistral named": Form(
        MISTRAL_NAMED, f"[TOOL_CALLS]get_weather[ARGS]{BONN}",
        f"[TOOL_CALLS]get_weather[ARGS]{BONN}[TOOL_CALLS]now[ARGS]{{}}",
    ),
    "gemma": Form(GEMMA, *_gemma("<start_function_call>", "<end_function_call>", "<escape>")),
    "gemma 4": Form(
        GEMMA_WITH_THOUGHTS, *_gemma("<|tool_call>", "<tool_call|>", '<|"|>'), "<|channel>thought\nHm.<channel|>"
    ),
    "harmony": Form(
        HARMONY, _TO_WEATHER + BONN, "", "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    ),
}  # fmt: skip
VARIANTS = [(name, marked) for name in FORMS for marked in (True, False)]
SAID = {"harmony": "<|channel|>final<|message|>"}


@cache
def spelling(name: str, marked: bool) -> Bytes:
    """marked  the vocabulary has the marks as control tokens; otherwise ordinary tokens spell them"""
    return Bytes(FORMS[name].dialect.marks if marked else ())


def matcher(name: str, marked: bool, offer: Offer, opening: Opening = "may") -> Matcher:
    tokens = spelling(name, marked)
    source = FORMS[name].dialect.grammar(offer, opening, tokens.token_of)
    assert source is not None
    return compile_grammar("lark", source, tokens.vocabulary())


def taken(name: str, marked: bool, offer: Offer, texts: list[str], opening: Opening = "may") -> list[str]:
    place = matcher(name, marked, offer, opening)
    return [text for text in texts if takes(place, spelling(name, marked).encode(text))]


@pytest.mark.parametrize(("name", "marked"), VARIANTS)
def test_auto_takes_words_and_calls(name: str, marked: bool) -> None:
    form, said = FORMS[name], SAID.get(name, "")
    good = [f"{said}Hi.", form.one, f"{form.thought}{form.one}", f"{form.thought}{said}Hi."]
    good += [form.two] if form.two else []
    assert taken(name, marked, AUTO, good) == good


@pytest.mark.parametrize(("name", "marked"), VARIANTS)
def test_no_tool_but_those_offered_and_no_arguments_but_fitting_ones(name: str, marked: bool) -> None:
    one = FORMS[name].one
    bad = [one.replace("get_weather", "rm"), one.replace("3", "x"), one[: len(one) // 2], one.replace("city", "town")]
    assert taken(name, marked, MUST, [text for text in bad if text != one]) == []


@pytest.mark.parametrize(("name", "marked"), VARIANTS)
def test_required_takes_nothing_but_calls(name: str, marked: bool) -> None:
    form, said = FORMS[name], SAID.get(name, "")
    good = [form.one, f"{form.thought}{form.one}", *([form.two] if form.two else [])]
    assert taken(name, marked, MUST, [*good, "", "Hi.", f"{said}Hi."]) == good


@pytest.mark.parametrize(("name", "marked"), VARIANTS)
def test_one_call_at_a_time_where_that_is_asked(name: str, marked: bool) -> None:
    form = FORMS[name]
    offer = Offer(TOOLS, must_call=True, parallel=False)
    assert taken(name, marked, offer, [form.one, form.two or "x"]) == [form.one]


@pytest.mark.parametrize(("name", "marked"), VARIANTS)
def test_beside_a_format_an_answer_is_calls_or_fits_it(name: str, marked: bool) -> None:
    form, said = FORMS[name], SAID.get(name, "")
    offer = Offer(TOOLS, body=NUMBER)
    assert taken(name, marked, offer, [form.one, f"{said}12", f"{said}Hi."]) == [form.one, f"{said}12"]


@pytest.mark.parametrize(("name", "marked"), VARIANTS)
def test_without_tools_no_form_of_calls_stands_beside_a_format(name: str, marked: bool) -> None:
    said, dialect = SAID.get(name, ""), FORMS[name].dialect
    empty = ["", "<tool_call>", "[TOOL_CALLS][]", "[TOOL_CALLS]", "<start_function_call>", "<|tool_call>"]
    offer = Offer((), body=NUMBER)
    assert taken(name, marked, offer, [f"{said}12", *empty, FORMS[name].one]) == [f"{said}12"]
    assert "call" not in (dialect.grammar(offer, "no", lambda mark: None) or "")


@pytest.mark.parametrize("marked", [True, False])
def test_a_format_binds_what_follows_the_thought(marked: bool) -> None:
    offer = Offer((), body=NUMBER)
    good = ["<think>\n1 < 2\n</think>\n\n12", "12"]
    assert taken("qwen", marked, offer, [*good, "<think>12", "<think>x</think>\n\nx"]) == good
    assert taken("qwen", marked, offer, ["x</think>12", "12"], "open") == ["x</think>12"]
    assert taken("qwen", marked, offer, ["x</think>12", "12"], "no") == ["12"]


@pytest.mark.parametrize(("name", "marked"), VARIANTS)
def test_whatever_is_drawn_under_the_grammar_is_read_as_calls_that_fit(name: str, marked: bool) -> None:
    tokens, rng, num_whole = spelling(name, marked), random.Random(name), 0
    start = matcher(name, marked, MUST, "no")
    for _ in range(12):
        ids = draw(start.copy(), rng)
        parser = FORMS[name].dialect.parser(frozenset({"get_weather", "now"}), "no")
        assert parser is not None
        pieces = joined(parser.push(tokens.text(ids)) + parser.finish())
        if ids and ids[-1] == END:
            num_whole += 1
            thoughts_apart = [piece for piece in pieces if isinstance(piece, Called)]
            assert thoughts_apart and not any(isinstance(piece, Said) for piece in pieces)
            assert all(fits(piece) for piece in thoughts_apart)
    assert num_whole >= 3


def draw(place: Matcher, rng: random.Random) -> list[int]:
    """A random answer, which prefers what brings it to its end."""
    ids: list[int] = []
    while len(ids) < 400:
        if place.is_over:
            return [*ids, END]
        may = allowed(place)
        closing = [id for id in may if id >= END or id in b'"}>]']
        id = rng.choice(closing if closing and rng.random() < 0.5 else may)
        ids.append(id)
        if id == END:
            return ids
        place.push(id)
    return ids


def fits(piece: Called) -> bool:
    arguments: dict[str, Any] = json.loads(piece.arguments)
    if piece.name == "now":
        return arguments == {}
    return isinstance(arguments["city"], str) and isinstance(arguments.get("days", 0), int) and len(arguments) <= 2


def test_a_strict_schema_beyond_a_form_is_refused_by_name_and_another_is_kept_as_far_as_it_goes() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "x+"}}}
    with pytest.raises(BadRequest, match="pattern") as caught:
        GEMMA.grammar(Offer((Tool("f", "", schema, strict=True),)), "no", lambda mark: None)
    assert caught.value.param == "tools"
    assert GEMMA.grammar(Offer((Tool("f", "", schema),)), "no", lambda mark: None)


def test_a_schema_without_its_descriptions_says_the_same() -> None:
    schema = {
        "title": "T", "description": "d", "properties": {"description": {"type": "string", "title": "x"}},
        "anyOf": [{"default": 1, "enum": [{"title": "kept"}]}], "required": ["description"],
    }  # fmt: skip
    assert bare(schema) == {
        "properties": {"description": {"type": "string"}}, "anyOf": [{"enum": [{"title": "kept"}]}],
        "required": ["description"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "text"), [("a/b", "a/b"), (r"a\/b", "a/b"), ("a\nb", "a\nb"), (r"\\/", "\\/"), ("//", "//")]
)
def test_a_regular_expression_may_hold_what_would_end_it(pattern: str, text: str) -> None:
    tokens = Bytes()
    place = compile_grammar("lark", f"start: {regex(pattern)}", tokens.vocabulary())
    assert takes(place, tokens.encode(text))


@pytest.mark.parametrize(
    "form",
    [
        Format("json_schema", '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'),
        Format("regex", r"\{\"a\": [0-9]\}"),
        Format("lark", 'start: "{" pair "}"\npair: "\\"a\\": " /[0-9]/'),
    ],
    ids=lambda form: form.kind,
)
def test_every_kind_of_format_stands_behind_a_thought(form: Format) -> None:
    offer = Offer((), body=as_lark(form))
    assert taken("qwen", True, offer, ['<think>x</think>\n\n{"a": 1}', '{"a": 1}', "x"]) == [
        '<think>x</think>\n\n{"a": 1}', '{"a": 1}',
    ]  # fmt: skip
