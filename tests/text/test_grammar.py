"""Grammars end: too large, too deep, too costly, or not supported, each is a sentence; what compiles masks exactly."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.errors import BadGrammar
from isochrone.testing.runtime import FakeTokens
from isochrone.text.grammar import Vocabulary, compile_grammar

pytest.importorskip("llguidance")

VOCABULARY = Vocabulary(FakeTokens(112), 120)  # rows of logits are padded beyond the tokens
TOKENS = VOCABULARY.tokenizer


def schema(value, text=None):
    return compile_grammar("json_schema", text or json.dumps(value), VOCABULARY)


def allowed(matcher):
    return set(np.flatnonzero(np.unpackbits(matcher.mask().view(np.uint8), bitorder="little")).tolist())


def accepts(matcher, text):
    """Whether this is a whole answer: forced tokens as they are forced, the others one letter each."""
    matcher = matcher.copy()
    while text:
        token = (matcher.forced() or TOKENS.encode(text[0]))[0]
        piece = TOKENS.decode([token])
        if token not in allowed(matcher) or not text.startswith(piece):
            return False
        matcher.push(token)
        text = text[len(piece) :]
    return 0 in allowed(matcher)


@pytest.mark.parametrize(
    "keyword, value",
    [
        ("not", {"not": {"type": "string"}}),
        ("if, then", {"if": {"type": "string"}, "then": {}}),
        ("uniqueItems", {"type": "array", "uniqueItems": True}),
        ("contains", {"type": "array", "contains": {}}),
        ("dependentRequired", {"type": "object", "dependentRequired": {"a": ["b"]}}),
        ("propertyNames", {"propertyNames": {"pattern": "a"}}),
        ("$dynamicRef", {"$dynamicRef": "#a"}),
        ("unevaluatedProperties", {"unevaluatedProperties": False}),
        ("format", {"type": "string", "format": "no-such-format"}),
        ("oneOf", {"oneOf": [{"type": "string"}, {"type": "string", "minLength": 2}]}),
        ("$ref", {"$ref": "https://example.com/other.json"}),
        ("$ref", {"properties": {"a": {"items": {"$ref": "file:///etc/passwd"}}}}),
        ("x-guidance", {"type": "object", "properties": {"a": {"x-guidance": {"lenient": True}}}}),
        ("multipleOf", {"type": "integer", "multipleOf": 999_983}),
        ("multipleOf", {"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]}),
        ("multipleOf", {"multipleOf": 1e-30}),
        ("multipleOf", {"multipleOf": 0}),
    ],
)
def test_a_keyword_that_cannot_be_kept_is_refused_by_name(keyword, value):
    with pytest.raises(BadGrammar) as refused:
        schema(value)
    assert refused.value.keyword == keyword and keyword.split(",")[0] in refused.value.message and refused.value.fix


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "no JSON"),
        ('{"minimum": NaN}', "no JSON"),
        ('{"minimum": ' + "1" * 5000 + "}", "no JSON"),
        ("[]", "no object"),
        ("3", "no object"),
        ('{"items":' * 70 + "{}" + "}" * 70, "deeper than 64"),
        ('{"items":' * 6000 + "{}" + "}" * 6000, "deeper than 64"),
        ('{"enum": ["' + "x" * 70_000 + '"]}', "bytes"),
        ('{"type": "str"}', "str"),
        ("false", "no object"),
        ('{"enum": []}', "Unsatisfiable"),
    ],
)
def test_a_schema_that_is_none_is_refused(text, words):
    with pytest.raises(BadGrammar, match=words):
        schema(None, text)


HOSTILE = {
    "nested repetitions": ("regex", "((x{1,100}){1,100}){1,100}"),
    "states without end": ("regex", ".*a.{200}"),
    "letters of all scripts": ("regex", r"\p{L}{1,500}\p{Lu}{1,500}"),
    "alternatives alike": ("regex", "(a|a|a)*b"),
    "ambiguous": ("lark", 'start: a\na: a a | "x" | ""'),
    "left recursion": ("lark", "start: start start | /a*/ | /b*/"),
    "nothing derives": ("lark", "start: start"),
    "5,000 rules": ("lark", "start: " + " | ".join(f"r{i}" for i in range(3000)) + "\n"
                    + "\n".join(f'r{i}: "{i}"' for i in range(3000))),
    "references that double": ("json_schema", json.dumps({
        "$defs": {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(200)}
        | {"d200": {"type": "string"}}, "$ref": "#/$defs/d0",
    })),
    "products of alternatives": ("json_schema", json.dumps({
        "allOf": [{"anyOf": [{"type": "object", "properties": {f"p{i}{j}": {}}} for j in range(8)]} for i in range(12)]
    })),
    "patterns that must all hold": ("json_schema", json.dumps({
        "allOf": [{"type": "string", "pattern": f"^.*{letter}.{{30}}$"} for letter in "abcdef"]
    })),
    "a pattern of repetitions": ("json_schema", json.dumps(
        {"type": "string", "pattern": "^(([a-z]{1,50}){1,50}){1,50}$"}
    )),
    "a million letters": ("json_schema", json.dumps({"type": "string", "minLength": 10**6})),
    "a reference to itself": ("json_schema", json.dumps({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})),
    "numbers without bounds": ("json_schema", json.dumps({"type": "number", "minimum": -1e300, "maximum": 9.87e299})),
}  # fmt: skip


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_grammar_ends_in_an_answer_or_in_a_sentence(name):
    kind, source = HOSTILE[name]
    try:
        matcher = compile_grammar(kind, source, VOCABULARY)
        for step in range(100):
            tokens = matcher.forced() or sorted(allowed(matcher) - {0})[-1 - step % 2 :]
            if matcher.is_over or not tokens:
                return
            matcher.push(tokens[0])
    except BadGrammar as error:
        assert error.message and error.fix and "\n" not in error.message


@given(st.text(max_size=60), st.sampled_from(["json_schema", "regex", "lark"]))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_grammar_or_is_refused(text, kind):
    try:
        compile_grammar(kind, text, VOCABULARY).mask()
    except BadGrammar as error:
        assert error.fix


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["type", "properties", "items", "enum", "const", "allOf", "anyOf", "$ref", "pattern", "minimum",
                         "multipleOf", "required", "additionalProperties", "$defs", "maxItems"]) | st.text(max_size=4),
        inner, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_schema_or_is_refused(value):
    try:
        schema(value).mask()
    except BadGrammar as error:
        assert error.fix


def test_insignificant_white_space_is_fixed():
    matcher = schema({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}},
                      "required": ["a"], "additionalProperties": False})  # fmt: skip
    assert accepts(matcher, '{"a": [1, 2]}')
    for other in ('{"a":[1,2]}', '{ "a": [1, 2]}', '{"a": [1, 2]} ', '{"a":  [1, 2]}', '\n{"a": [1, 2]}'):
        assert not accepts(matcher, other)


def test_a_place_can_be_copied_and_gone_back_to():
    matcher = compile_grammar("regex", "name(true|false)+", VOCABULARY)
    tokens = matcher.forced()
    assert TOKENS.decode(tokens) == "name"
    for token in tokens:
        matcher.push(token)
    before, copy = allowed(matcher), matcher.copy()
    for token in TOKENS.encode("truefalse"):
        matcher.push(token)
    assert 0 in allowed(matcher) and 0 not in allowed(copy)
    matcher.pop(2)
    assert allowed(matcher) == allowed(copy) == before
    with pytest.raises(BadGrammar):
        matcher.push(TOKENS.encode("x")[0])


def test_a_vocabulary_without_an_end_token_takes_no_grammar():
    with pytest.raises(BadGrammar, match="ends an answer"):
        compile_grammar("regex", "a", Vocabulary(FakeTokens(97, eos_ids=()), 97))


def spelled(words):
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return {TOKENS.decode([int(token)]) for token in np.flatnonzero(bits)}


@pytest.mark.parametrize(
    "value, so_far, closers",
    [
        ({"type": "string"}, '"abc', {'"'}),
        ({"type": "string", "minLength": 9}, '"abc', None),
        ({"type": "array", "items": {"type": "string"}}, "[", {"]"}),
        ({"type": "array", "items": {"type": "integer"}}, "[12", {"]"}),
        ({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True}, "{", {"}"}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "", {'"'}),
        ({"type": "integer", "minimum": 1000}, "1", None),
        ({"type": "integer"}, "12", {""}),
        ({"type": "string", "format": "email"}, '"abc', {"@"}),
        ({"type": "string", "format": "time"}, '"12:30:00.25', {"Z"}),
        ({"type": "string", "pattern": "^[a-z]+[.]com$"}, '"abc', {"."}),
    ],
)
def test_towards_its_limit_a_value_may_only_be_closed_where_it_can_be(value, so_far, closers):
    matcher = schema(value)
    for token in TOKENS.encode(so_far, add_special=False):
        matcher.push(token)
    pieces = spelled(matcher.closing_mask())
    if closers is None:
        assert pieces == spelled(matcher.mask()) and len(pieces) > 1
    else:
        assert {piece[:1] for piece in pieces} == closers


def test_only_json_is_closed():
    matcher = compile_grammar("regex", '[a-z"]+', VOCABULARY)
    assert np.array_equal(matcher.closing_mask(), matcher.mask())
