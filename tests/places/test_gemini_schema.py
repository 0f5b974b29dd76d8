"""Older Gemini models are held to a schema as Google's own client says it, or the schema is refused."""

import json

import pytest
from google.genai import Client, types
from google.genai._transformers import t_schema
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import Unsupported
from isochrone.places.gemini_request import to_generate
from isochrone.places.gemini_schema import to_openapi
from isochrone.places.gemini_settings import GeminiModel, GeminiSettings
from isochrone.places.place import Chat, Format, Message, Request

VERTEX = Client(vertexai=True, project="p", location="eu", http_options=types.HttpOptions(base_url="http://[::1]:9"))
GEMINI = Client(api_key="AIza", http_options=types.HttpOptions(base_url="http://[::1]:9"))
WORDS = st.sampled_from(["town", "snake_case", "A b"])


def maybe(**words):
    return st.fixed_dictionaries({}, optional=words)


LEAVES = st.one_of(
    maybe(minLength=st.integers(0, 9), pattern=WORDS, format=st.just("date-time"), default=WORDS, title=WORDS).map(
        lambda more: {"type": "string", **more}
    ),
    st.lists(WORDS, min_size=1, max_size=2, unique=True).map(lambda values: {"type": "string", "enum": values}),
    WORDS.map(lambda value: {"type": "string", "const": value}),
    maybe(minimum=st.integers(0, 9), maximum=st.integers(9, 99), description=WORDS).map(
        lambda more: {"type": "integer", **more}
    ),
    st.just({"type": "boolean"}),
    st.just({"$ref": "#/$defs/Thing"}),
)


def inner(schemas):
    properties = st.dictionaries(WORDS, schemas, max_size=3)
    objects = st.builds(
        lambda names, closed, more: {"type": "object", "properties": names, **closed, **more},
        properties, maybe(additionalProperties=st.just(False)), maybe(description=WORDS, minProperties=st.just(1)),
    )  # fmt: skip
    arrays = st.builds(
        lambda items, more: {"type": "array", "items": items, **more}, schemas,
        maybe(minItems=st.integers(0, 2), maxItems=st.integers(2, 9), title=WORDS),
    )  # fmt: skip
    either = st.builds(lambda one, other: {"anyOf": [one, other]}, arrays, objects)
    return st.one_of(objects, arrays, either, objects.map(lambda schema: {"anyOf": [schema, {"type": "null"}]}))


SCHEMAS = st.recursive(LEAVES, inner, max_leaves=6)
THING = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "string"}}, "required": ["a"]}


def by_google(schema, client):
    """As the SDK converts it, in the spelling of the wire."""
    schema = t_schema(client, json.loads(json.dumps(schema)))  # it changes what it is given
    return json.loads(schema.model_dump_json(by_alias=True, exclude_unset=True, exclude_none=True))


def plain(value):
    """Numbers as JSON compares them; Google's client writes limits as floats, and these in a spelling of its own."""
    if isinstance(value, dict):
        return {{"any_of": "anyOf"}.get(key, key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@given(SCHEMAS, st.sampled_from([VERTEX, GEMINI]))
def test_a_schema_is_said_as_googles_own_client_says_it(schema, client):
    whole = {"type": "object", "properties": {"it": schema}, "$defs": {"Thing": THING}}
    assert plain(to_openapi(whole, is_vertex=client is VERTEX)) == plain(by_google(whole, client))


def test_further_properties_are_said_where_they_can_be_and_refused_elsewhere():
    closed = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    assert to_openapi(closed)["additionalProperties"] is False
    for further, said in (({"type": "integer"}, {"type": "INTEGER"}), (True, True)):
        schema = closed | {"additionalProperties": further}
        assert to_openapi(schema, is_vertex=True)["additionalProperties"] == said
        with pytest.raises(Unsupported, match="additionalProperties"):
            to_openapi(schema)
        with pytest.raises(ValueError, match="additionalProperties"):
            by_google(schema, GEMINI)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}),
        ({"type": "null"}, {"type": "NULL"}),
        ({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
         {"anyOf": [{"type": "STRING"}, {"type": "ARRAY", "items": {"type": "STRING"}}]}),
        ({"$schema": "x", "type": "string", "examples": ["a"], "$comment": "y"}, {"type": "STRING"}),
        ({"description": "Ours.", "anyOf": [{"type": "string", "description": "Theirs."}]},
         {"type": "STRING", "description": "Ours."}),
    ],
)  # fmt: skip
def test_what_googles_client_cannot_read_is_said_all_the_same(schema, said):
    assert to_openapi(schema) == said


NESTED = {"type": "string"}
for _ in range(40):
    NESTED = {"type": "array", "items": NESTED}
LAUGHS = {"$defs": {"l0": {"type": "string"}}, "$ref": "#/$defs/l30"} | {}
for number in range(1, 31):
    LAUGHS["$defs"][f"l{number}"] = {"anyOf": [{"$ref": f"#/$defs/l{number - 1}"}] * 2}
CANNOT = [
    {"allOf": [{"type": "string"}]}, {"not": {"type": "string"}}, {"type": "string", "contentEncoding": "base64"},
    {"type": "array", "prefixItems": [{"type": "string"}]}, {"type": "integer", "enum": [1, 2]}, {"const": 3},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]}, {"oneOf": [{"type": "object"}, {"type": "object"}]},
    {"type": "object", "properties": {"a": True}}, {"type": "object", "patternProperties": {"a": {}}},
    {"$ref": "https://example.com/schema"}, {"$ref": "#/$defs/missing"}, {"$defs": {"a": {"$ref": "#/$defs/a"}},
     "$ref": "#/$defs/a"}, {"properties": {"a": {"$ref": "#/properties/a"}}}, NESTED, LAUGHS,
    {"minLength": 1, "anyOf": [{"type": "string", "minLength": 2}]}, {"type": "text"}, {"type": 3}, {"items": [{}]},
    {"type": "array", "uniqueItems": True}, {"exclusiveMinimum": 1}, {"multipleOf": 2},
]  # fmt: skip


@pytest.mark.parametrize("schema", CANNOT)
def test_what_cannot_be_said_is_refused_and_never_left_out(schema):
    with pytest.raises(Unsupported, match="response_format"):
        to_openapi(schema, is_vertex=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "properties", "items", "anyOf", "oneOf", "$ref", "enum", "const", "a",
                         "additionalProperties"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["type", "properties", "anyOf", "items", "$ref"]), JSON, max_size=4))
def test_whatever_comes_is_said_or_refused(schema):
    try:
        json.dumps(to_openapi(schema, is_vertex=True))
    except Unsupported as refused:
        assert refused.fix


def test_each_model_gets_the_schema_in_the_field_that_it_knows():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}
    form = Format("json_schema", json.dumps(schema))

    def config(id, **more):
        model = GeminiModel(id)
        request = Request("r", id, "t", Chat((Message("user", "hi"),)), format=form)
        return to_generate(request, model, GeminiSettings((model,)), lambda id: None, **more)["generationConfig"]

    newer = config("gemini-2.5-flash")
    assert newer["responseJsonSchema"] == schema and "responseSchema" not in newer
    older = config("gemini-2.0-flash", is_vertex=True)
    assert older["responseSchema"] == to_openapi(schema, is_vertex=True) and "responseJsonSchema" not in older
    with pytest.raises(Unsupported):
        config("gemini-2.0-flash")
