"""What we send is what Google's own client sends, wherever both can say it."""

import json
import re

from google import genai
from google.genai import types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.places.gemini_request import to_generate
from isochrone.places.gemini_settings import GeminiModel, GeminiSettings
from isochrone.places.place import Chat, Format, Message, Request, Sampling, Tool, ToolCall, ToolChoice

MODEL = "gemini-2.5-flash"
SCHEMA = {"type": "object", "properties": {"snake_case": {"type": "string"}}, "required": ["snake_case"]}
OPAQUE = {"args", "response", "parametersJsonSchema", "responseJsonSchema"}
WORDS = st.text("abc é\n{\"_", min_size=1, max_size=12)
ARGUMENTS = st.dictionaries(st.sampled_from(["town", "snake_case"]), st.integers(0, 9) | WORDS, max_size=2)
TURNS = st.lists(
    st.tuples(WORDS, WORDS | st.none(), st.lists(st.tuples(ARGUMENTS, ARGUMENTS | WORDS), max_size=2)), max_size=3
)


@st.composite
def meanings(draw):
    """One meaning, in words of neither side."""
    return {
        "system": draw(st.lists(WORDS, max_size=2)),
        "turns": draw(TURNS),
        "last": draw(WORDS),
        "tools": draw(st.sampled_from(["none", "auto", "required", "named", "off", "strict"])),
        "temperature": draw(st.sampled_from([0.0, 0.5, 1.0])),
        "top_p": draw(st.sampled_from([0.5, 0.9])),
        "top_k": draw(st.integers(1, 40)),
        "seed": draw(st.integers(0, 99)),
        "max_tokens": draw(st.integers(1, 999)),
        "stops": draw(st.lists(WORDS, min_size=1, max_size=5)),
        "presence": draw(st.sampled_from([0.5, -1.0])),
        "has_schema": draw(st.booleans()),
        "budget": draw(st.integers(1, 9999)),
        "blocks": draw(st.booleans()),
    }


def ours(meaning):
    messages = [Message("system", text) for text in meaning["system"]]
    for number, (question, answer, calls) in enumerate(meaning["turns"]):
        ids = [f"call_{number}_{index}" for index in range(len(calls))]
        made = tuple(ToolCall(id, "weather", json.dumps(args)) for id, (args, _) in zip(ids, calls, strict=True))
        messages += [Message("user", question), Message("assistant", answer or "", tool_calls=made)]
        for id, (_, result) in zip(ids, calls, strict=True):
            said = json.dumps(result) if isinstance(result, dict) else result
            messages.append(Message("tool", said, tool_call_id=id))
    messages.append(Message("user", meaning["last"]))
    kind = meaning["tools"]
    tools = (Tool("weather", "Of a town.", SCHEMA, strict=kind == "strict"),) if kind != "none" else ()
    mode = {"required": "required", "named": "required", "off": "none"}.get(kind, "auto")
    choice = ToolChoice(mode, "weather" if kind == "named" else None)
    thinking = {"thinking_budget": meaning["budget"]}
    sampling = Sampling(
        meaning["temperature"], meaning["top_k"], meaning["top_p"], seed=meaning["seed"],
        presence_penalty=meaning["presence"],
    )  # fmt: skip
    request = Request(
        "r", MODEL, "t",
        Chat(tuple(messages), tools=tools, tool_choice=choice, template_variables=thinking),
        max_tokens=meaning["max_tokens"], sampling=sampling, stops=tuple(meaning["stops"]),
        format=Format("json_schema", json.dumps(SCHEMA)) if meaning["has_schema"] else None,
    )  # fmt: skip
    safety = (("HARM_CATEGORY_HARASSMENT", "BLOCK_ONLY_HIGH"),) if meaning["blocks"] else ()
    model = GeminiModel(MODEL)
    return to_generate(request, model, GeminiSettings((model,), safety=safety), lambda id: None)


def google_contents(meaning):
    """As a user of the SDK writes them: a turn a side."""
    sides = []
    for number, (question, answer, calls) in enumerate(meaning["turns"]):
        made, results = [types.Part(text=answer)] if answer else [], []
        for index, (args, result) in enumerate(calls):
            id = f"call_{number}_{index}"
            made.append(types.Part(function_call=types.FunctionCall(id=id, name="weather", args=args)))
            response = result if isinstance(result, dict) else {"output": result}
            results.append(
                types.Part(function_response=types.FunctionResponse(id=id, name="weather", response=response))
            )
        sides += [("user", [types.Part(text=question)]), ("model", made), ("user", results)]
    sides.append(("user", [types.Part(text=meaning["last"])]))
    contents = []
    for role, parts in sides:
        if parts and contents and contents[-1].role == role:
            contents[-1].parts.extend(parts)
        elif parts:
            contents.append(types.Content(role=role, parts=parts))
    return contents


def google_config(meaning):
    kind = meaning["tools"]
    declared = types.FunctionDeclaration(name="weather", description="Of a town.", parameters_json_schema=SCHEMA)
    mode = {"required": "ANY", "named": "ANY", "off": "NONE", "strict": "VALIDATED"}.get(kind)
    calling = types.FunctionCallingConfig(mode=mode, allowed_function_names=["weather"] if kind == "named" else None)
    safety = types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_ONLY_HIGH")
    return types.GenerateContentConfig(
        system_instruction=meaning["system"] or None,
        temperature=meaning["temperature"],
        top_p=meaning["top_p"],
        top_k=meaning["top_k"],
        seed=meaning["seed"],
        max_output_tokens=meaning["max_tokens"],
        stop_sequences=meaning["stops"],
        presence_penalty=meaning["presence"],
        response_mime_type="application/json" if meaning["has_schema"] else None,
        response_json_schema=SCHEMA if meaning["has_schema"] else None,
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=meaning["budget"]),
        tools=[types.Tool(function_declarations=[declared])] if kind != "none" else None,
        tool_config=types.ToolConfig(function_calling_config=calling) if mode else None,
        safety_settings=[safety] if meaning["blocks"] else None,
    )


def camel(value):
    """Google takes either spelling of a field's name, and its client mixes them."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {re.sub("_([a-z])", lambda m: m[1].upper(), name): inner for name, inner in value.items()}
    return {name: inner if name in OPAQUE else camel(inner) for name, inner in named.items()}


def sent_by_google(meaning, monkeypatch, *, vertexai):
    """The body that the SDK gives to its transport."""
    where = {"vertexai": True, "project": "p", "location": "eu"} if vertexai else {"api_key": "AIza"}
    client = genai.Client(**where, http_options=types.HttpOptions(base_url="http://127.0.0.1:9"))
    bodies = []

    def send(http_request, *more, **options):
        bodies.append(json.loads(json.dumps(http_request.data)))
        raise ConnectionAbortedError

    monkeypatch.setattr(client._api_client, "_request", send)
    try:
        client.models.generate_content(model=MODEL, contents=google_contents(meaning), config=google_config(meaning))
    except ConnectionAbortedError:
        pass  # it was about to be sent, which is all that is asked
    client.close()
    return camel(bodies[0])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(meanings(), st.booleans())
def test_our_body_is_the_sdks_body_for_the_same_meaning(monkeypatch, meaning, vertexai):
    assert ours(meaning) == sent_by_google(meaning, monkeypatch, vertexai=vertexai)
