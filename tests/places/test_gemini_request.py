"""What we send is what Google's own client sends, wherever both can say it."""

import base64
import json
import re

import pytest
from google import genai
from google.genai import types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.errors import BadConfig, Unsupported
from isochrone.places.gemini import Gemini
from isochrone.places.gemini_request import NO_SIGNATURE, to_generate
from isochrone.places.gemini_settings import GeminiModel, GeminiSettings
from isochrone.places.gemini_thinking import thinking_of
from isochrone.places.place import Chat, Format, Message, Request, Sampling, Tool, ToolCall, ToolChoice
from isochrone.places.vertex import Vertex

FLASH, PRO, LITE, LEVELLED = "gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite", "gemini-3-flash"
SCHEMA = {"type": "object", "properties": {"snake_case": {"type": "string"}}, "required": ["snake_case"]}
STAND_IN = base64.urlsafe_b64decode(NO_SIGNATURE + "=" * (-len(NO_SIGNATURE) % 4))
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
        "model": draw(st.sampled_from([FLASH, PRO, LITE, LEVELLED])),
        "thinking": draw(st.sampled_from(["unsaid", "off", "budget", "minimal", "low", "medium", "high"])),
        "budget": draw(st.integers(1, 9999)),
        "blocks": draw(st.booleans()),
        "tier": draw(st.sampled_from([None, "flex", "priority"])),
        "labels": draw(st.dictionaries(st.sampled_from(["team", "app"]), st.just("edge"), max_size=2)),
        "signed": draw(st.booleans()),
    }


def ours(meaning, *, vertexai):
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
    thinking = {"off": {"enable_thinking": False}, "budget": {"thinking_budget": meaning["budget"]}, "unsaid": {}}.get(
        meaning["thinking"], {"enable_thinking": True, "reasoning_effort": meaning["thinking"]}
    )
    sampling = Sampling(
        meaning["temperature"], meaning["top_k"], meaning["top_p"], seed=meaning["seed"],
        presence_penalty=meaning["presence"],
    )  # fmt: skip
    request = Request(
        "r", meaning["model"], "t",
        Chat(tuple(messages), tools=tools, tool_choice=choice, template_variables=thinking),
        max_tokens=meaning["max_tokens"], sampling=sampling, stops=tuple(meaning["stops"]),
        format=Format("json_schema", json.dumps(SCHEMA)) if meaning["has_schema"] else None,
    )  # fmt: skip
    safety = (("HARM_CATEGORY_HARASSMENT", "BLOCK_ONLY_HIGH"),) if meaning["blocks"] else ()
    model = GeminiModel(meaning["model"])
    settings = GeminiSettings(
        (model,), url="http://127.0.0.1:9", safety=safety, tier=meaning["tier"], labels=meaning["labels"]
    )
    place = Vertex("v", settings, location="eu", key="k") if vertexai else Gemini("g", settings, key="k")
    sign = (lambda id: signature_of(meaning, id).decode()) if meaning["signed"] else (lambda id: None)
    return to_generate(request, model, settings, sign, is_vertex=vertexai) | place._further()


def signature_of(meaning, id):
    """As the wire carries it."""
    return base64.b64encode(f"signed:{id}".encode())


def google_signature(meaning, id, index):
    """What a user of the SDK keeps with a call: the bytes; what stands in for them is for the first of calls alone."""
    if meaning["signed"]:
        return f"signed:{id}".encode()
    return STAND_IN if meaning["model"] == LEVELLED and index == 0 else None


def google_thinking(meaning):
    """By hand, from what each model is documented to take."""
    asked, levelled = meaning["thinking"], meaning["model"] == LEVELLED
    if asked == "off":
        return types.ThinkingConfig(include_thoughts=False, thinking_budget=0)
    if asked == "unsaid":
        return types.ThinkingConfig(include_thoughts=True)
    if levelled:
        tokens = meaning["budget"]
        by_budget = "MINIMAL" if tokens <= 1024 else "MEDIUM" if tokens <= 8192 else "HIGH"
        return types.ThinkingConfig(
            include_thoughts=True, thinking_level=by_budget if asked == "budget" else asked.upper()
        )
    efforts = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
    tokens = efforts.get(asked, max(meaning["budget"], {FLASH: 0, PRO: 128, LITE: 512}[meaning["model"]]))
    return types.ThinkingConfig(include_thoughts=True, thinking_budget=tokens)


def google_contents(meaning):
    """As a user of the SDK writes them: a turn a side."""
    sides = []
    for number, (question, answer, calls) in enumerate(meaning["turns"]):
        made, results = [types.Part(text=answer)] if answer else [], []
        for index, (args, result) in enumerate(calls):
            id = f"call_{number}_{index}"
            call = types.FunctionCall(id=id, name="weather", args=args)
            made.append(types.Part(function_call=call, thought_signature=google_signature(meaning, id, index)))
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


def google_config(meaning, *, vertexai):
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
        thinking_config=google_thinking(meaning),
        service_tier=meaning["tier"] if not vertexai else None,
        labels=(meaning["labels"] or None) if vertexai else None,
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
        config = google_config(meaning, vertexai=vertexai)
        client.models.generate_content(model=meaning["model"], contents=google_contents(meaning), config=config)
    except ConnectionAbortedError:
        pass  # it was about to be sent, which is all that is asked
    client.close()
    return camel(bodies[0])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(meanings(), st.booleans())
def test_our_body_is_the_sdks_body_for_the_same_meaning(monkeypatch, meaning, vertexai):
    if meaning["thinking"] == "off" and meaning["model"] in (PRO, LEVELLED):
        with pytest.raises(Unsupported, match="thinking"):  # Google offers no word for it
            ours(meaning, vertexai=vertexai)
        return
    assert ours(meaning, vertexai=vertexai) == sent_by_google(meaning, monkeypatch, vertexai=vertexai)


@pytest.mark.parametrize(
    ("model", "variables"),
    [
        ("gemini-2.0-flash", {"reasoning_effort": "low"}), ("gemini-2.0-flash", {"enable_thinking": True}),
        (FLASH, {"reasoning_effort": "colossal"}), (FLASH, {"persona": "pirate"}), (PRO, {"thinking_budget": 0}),
        (LEVELLED, {"reasoning_effort": "none"}),
    ],
)  # fmt: skip
def test_a_wish_about_thinking_that_has_no_words_is_refused(model, variables):
    with pytest.raises(Unsupported):
        thinking_of(Chat((Message("user", "hi"),), template_variables=variables), GeminiModel(model))


def test_the_operators_word_holds_where_the_caller_says_nothing():
    def of(thinking, **variables):
        chat = Chat((Message("user", "hi"),), template_variables=variables)
        return thinking_of(chat, GeminiModel(FLASH, thinking=thinking))

    assert of(512) == {"includeThoughts": True, "thinkingBudget": 512}
    assert of(0) == of("none") == {"includeThoughts": False, "thinkingBudget": 0}
    assert of(0, enable_thinking=True) == {"includeThoughts": True}
    assert of(0, reasoning_effort="max") == {"includeThoughts": True, "thinkingBudget": 24576}
    assert of(-1) == {"includeThoughts": True, "thinkingBudget": -1}
    with pytest.raises(BadConfig, match="always"):
        GeminiSettings((GeminiModel(PRO, thinking=0),))
