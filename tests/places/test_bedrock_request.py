"""What we ask of Converse, held against the service model that the vendor's own client carries."""

import json

import botocore.session
import botocore.validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadRequest, Unsupported
from isochrone.places.bedrock_answer import ConverseAnswer
from isochrone.places.bedrock_frames import Frame
from isochrone.places.bedrock_request import to_converse
from isochrone.places.bedrock_settings import BedrockModel, BedrockSettings, Skills, skills_of
from isochrone.places.place import (
    Chat,
    Format,
    Message,
    Partial,
    Request,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from isochrone.testing.clouds.bedrock_asked import complaint

SERVICE = botocore.session.Session().get_service_model("bedrock-runtime")
SHAPE = SERVICE.operation_model("ConverseStream").input_shape
ALL = Skills(
    any_tool=True, schema="output", cache="1h", cache_tools=True, prefill=True, top_k=("top_k",), effort="output"
)  # fmt: skip
LESS = Skills(any_tool=True, schema="tool", cache="5m", prefill=True, top_k=("a", "b"), effort="field")
WEATHER = Tool("weather", "Says it", {"type": "object", "properties": {"city": {"type": "string"}}}, strict=True)
SCHEMA = Format("json_schema", '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}')

words = st.text(min_size=0, max_size=12)
arguments = st.dictionaries(st.text(max_size=3), st.integers(), max_size=2).map(json.dumps)


@st.composite
def turns(draw):
    """A conversation as agents hold them: calls are answered, and much is blank."""
    messages = [Message("system", draw(words)) for _ in range(draw(st.integers(0, 2)))]
    messages.append(Message("user", "first"))
    for number in range(draw(st.integers(0, 4))):
        messages += [Message("user", draw(words)) for _ in range(draw(st.integers(0, 2)))]
        ids = [f"{draw(st.sampled_from(['call', 'c ü', 'x' * 70]))}{number}{n}" for n in range(draw(st.integers(0, 2)))]
        calls = tuple(ToolCall(id, "weather", draw(arguments)) for id in ids)
        messages.append(Message("assistant", draw(words), tool_calls=calls))
        messages += [Message("tool", draw(words), tool_call_id=id) for id in ids]
        messages.append(Message("user", "and then?"))
    return tuple(messages)


@st.composite
def requests(draw):
    tools = draw(st.sampled_from([(), (WEATHER,)]))
    modes = [ToolChoice("auto"), ToolChoice("none"), ToolChoice("required"), ToolChoice("required", "weather")]
    chat = Chat(
        draw(turns()), tools=tools, tool_choice=draw(st.sampled_from(modes)),
        template_variables=draw(st.sampled_from([{}, {"reasoning_effort": "high"}, {"reasoning_effort": "none"}])),
    )  # fmt: skip
    temperature, top_p = draw(st.sampled_from([0.0, 0.5, 1.0])), draw(st.sampled_from([0.5, 1.0]))
    sampling = Sampling(temperature, draw(st.sampled_from([0, 5])), top_p)
    return Request(
        "r", "m", "t", chat, max_tokens=draw(st.sampled_from([None, 1, 50])), sampling=sampling,
        stops=draw(st.sampled_from([(), ("a", "b")])), format=draw(st.sampled_from([None, SCHEMA])),
        pin_s=draw(st.sampled_from([None, 10.0, 3600.0])), run=draw(st.sampled_from(["", "run"])),
        partial=draw(st.sampled_from([None, Partial("begun "), Partial(" "), Partial("", "thought")])),
    )  # fmt: skip


models = st.builds(
    BedrockModel, st.just("m"), st.just("anthropic.claude"), caches=st.booleans(),
    skills=st.sampled_from([ALL, LESS]), lax_tools=st.just(True),
    latency=st.sampled_from([None, "optimized"]), tier=st.sampled_from([None, "flex"]),
)  # fmt: skip


@given(requests(), models)
def test_whatever_is_asked_fits_the_vendors_model_of_the_service(request, model):
    settings = BedrockSettings((model,), metadata={"who": "{tenant}"}, guardrail=("g", "1"))
    body = to_converse(request, model, settings)
    report = botocore.validate.ParamValidator().validate({"modelId": "m", **body}, SHAPE)
    assert not report.has_errors(), report.generate_report()
    assert complaint(json.loads(json.dumps(body))) is None
    assert json.dumps(body).count('{"cachePoint"') <= 4


def asked(request: Request, skills: Skills = ALL, **more) -> dict:
    model = BedrockModel("m", more.pop("upstream", "anthropic.claude"), skills=skills, **more)
    return to_converse(request, model, BedrockSettings((model,)))


def plain(**more) -> Request:
    return Request("r", "m", "t", more.pop("prompt", Chat((Message("user", "hi"),))), **more)


def test_each_turn_goes_where_converse_wants_it():
    prompt = Chat((
        Message("system", "Be brief."), Message("user", "Weather?"), Message("user", "Please."),
        Message("assistant", "I look.", tool_calls=(ToolCall("t1", "weather", '{"city": "Bern"}'),)),
        Message("tool", "rain", tool_call_id="t1"), Message("developer", "Say it in German."),
    ), tools=(WEATHER,))  # fmt: skip
    body = asked(plain(prompt=prompt))
    assert body["system"] == [{"text": "Be brief."}, {"text": "Say it in German."}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"] == [{"text": "Weather?"}, {"text": "Please."}]
    assert body["messages"][1]["content"][1] == {
        "toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Bern"}}
    }
    assert body["messages"][2]["content"] == [{"toolResult": {"toolUseId": "t1", "content": [{"text": "rain"}]}}]
    assert body["toolConfig"]["toolChoice"] == {"auto": {}} and body["toolConfig"]["tools"][0]["toolSpec"]["strict"]


TOLD = {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "s1"}}}
HIDDEN = {"reasoningContent": {"redactedContent": "c2VjcmV0"}}


def test_thoughts_go_back_in_front_of_their_calls_whether_told_or_hidden():
    calls = tuple(ToolCall(id, "weather", "{}") for id in ("t1", "t2"))
    results = tuple(Message("tool", "rain", tool_call_id=call.id) for call in calls)
    turns = (Message("user", "hi"), Message("assistant", "I look.", tool_calls=calls), *results)
    model = BedrockModel("m", "anthropic.claude", skills=ALL)
    request = plain(prompt=Chat(turns, tools=(WEATHER,)))
    body = to_converse(request, model, BedrockSettings((model,)), {"t1": (TOLD, HIDDEN), "t2": (TOLD,)}.__getitem__)
    kinds = [next(iter(block)) for block in body["messages"][1]["content"]]
    assert kinds == ["reasoningContent", "reasoningContent", "text", "toolUse", "reasoningContent", "toolUse"]
    report = botocore.validate.ParamValidator().validate({"modelId": "m", **body}, SHAPE)
    assert not report.has_errors(), report.generate_report()


def test_of_thoughts_only_those_that_are_signed_or_hidden_are_kept():
    kept = {}
    model = BedrockModel("m", "anthropic.claude", skills=ALL)
    prompt = Chat((Message("user", "hi"),), tools=(WEATHER,))
    answer = ConverseAnswer(plain(prompt=prompt), model, kept.__setitem__)
    signed = [{"text": "Let me "}, {"text": "see."}, {"signature": "s1"}]
    for index, pieces in enumerate((signed, [{"redactedContent": "c2VjcmV0"}], [{"text": "?"}])):
        for piece in pieces:
            tell(answer, "contentBlockDelta", index, delta={"reasoningContent": piece})
        tell(answer, "contentBlockStop", index)
    for index, id in ((3, "t1"), (4, "t2")):
        tell(answer, "contentBlockStart", index, start={"toolUse": {"toolUseId": id, "name": "weather"}})
        tell(answer, "contentBlockStop", index)
    assert kept == {"t1": (TOLD, HIDDEN)}
    assert answer.take().reasoning == "Let me see.?"


def tell(answer, kind, index, **more):
    headers = {":message-type": "event", ":event-type": kind}
    answer.push(Frame(headers, json.dumps({"contentBlockIndex": index, **more}).encode()))


def test_calls_in_a_conversation_that_offers_no_tools_are_explained():
    prompt = Chat((Message("user", "hi"), Message("assistant", "", tool_calls=(ToolCall("t", "old", "{}"),)),
                   Message("tool", "x", tool_call_id="t")))  # fmt: skip
    body = asked(plain(prompt=prompt))
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["old"]
    assert "toolChoice" not in body["toolConfig"]


def test_a_schema_by_a_tool_leaves_room_for_the_callers_tools():
    skills = Skills(any_tool=True, schema="tool")
    tools = (Tool("weather", parameters=WEATHER.parameters),)
    body = asked(plain(prompt=Chat((Message("user", "hi"),), tools=tools), format=SCHEMA), skills)
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["weather", "answer"]
    assert body["toolConfig"]["toolChoice"] == {"any": {}}


def test_marks_for_the_prompt_cache_stand_behind_tools_system_and_the_last_question():
    prompt = Chat((Message("system", "s"), Message("user", "hi")), tools=(WEATHER,))
    point = {"cachePoint": {"type": "default"}}
    body = asked(plain(prompt=prompt, run="r"))
    assert body["system"][-1] == body["toolConfig"]["tools"][-1] == body["messages"][-1]["content"][-1] == point
    assert "cachePoint" not in str(asked(plain(prompt=prompt)))
    assert "cachePoint" not in str(asked(plain(prompt=prompt, run="r"), Skills(), lax_tools=True))


def test_how_much_to_think_is_said_in_the_models_way():
    prompt = Chat((Message("user", "hi"),), template_variables={"reasoning_effort": "high"})
    assert asked(plain(prompt=prompt))["outputConfig"] == {"effort": "high"}
    by_field = asked(plain(prompt=prompt), Skills(effort="field"), fields={"x": 1, "reasoning_effort": "low"})
    assert by_field["additionalModelRequestFields"] == {"x": 1, "reasoning_effort": "high"}
    for effort, said in (("minimal", "low"), ("max", "max")):
        assert asked(plain(prompt=thinking(reasoning_effort=effort)))["outputConfig"] == {"effort": said}


def thinking(**variables) -> Chat:
    return Chat((Message("user", "hi"),), template_variables=variables)


THINKS = {"fields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
ASKED_TO_THINK = [
    ({"reasoning_effort": "high"}, Skills(), {}, False),
    ({"reasoning_effort": "high"}, Skills(), THINKS, False),
    ({"reasoning_effort": "max"}, Skills(effort="field"), {}, False),
    ({"reasoning_effort": "colossal"}, ALL, {}, False),
    ({"thinking_budget": 2048}, ALL, {}, False),
    ({"enable_thinking": True}, Skills(), {}, False),
    ({"enable_thinking": True}, Skills(), THINKS, True),
    ({"enable_thinking": True}, ALL, {}, True),
    ({"enable_thinking": True}, Skills(thinks=True), {}, True),
    ({"enable_thinking": False}, Skills(), {}, True),
    ({"enable_thinking": False}, Skills(thinks=True), {}, False),
    ({"reasoning_effort": "none"}, ALL, {}, True),
    ({"reasoning_effort": "none"}, ALL, THINKS, False),
    ({"reasoning_effort": "none"}, Skills(effort="field", thinks=True), {}, False),
]


@pytest.mark.parametrize(("variables", "skills", "more", "can"), ASKED_TO_THINK)
def test_a_wish_about_thinking_is_kept_or_refused(variables, skills, more, can):
    request = plain(prompt=thinking(**variables))
    if can:
        assert "effort" not in str(asked(request, skills, **more))
    else:
        with pytest.raises(Unsupported):
            asked(request, skills, **more)


def test_strict_goes_to_models_that_can_be_held_and_elsewhere_the_operator_decides():
    prompt = Chat((Message("user", "hi"),), tools=(WEATHER,))
    assert asked(plain(prompt=prompt))["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True
    with pytest.raises(Unsupported, match=r"\(strict\)"):
        asked(plain(prompt=prompt), Skills())
    assert "strict" not in str(asked(plain(prompt=prompt), Skills(), lax_tools=True))
    turns = (*prompt.messages, Message("assistant", "", tool_calls=(ToolCall("t", "weather", "{}"),)),
             Message("tool", "rain", tool_call_id="t"))  # fmt: skip
    told = Chat(turns, tools=(WEATHER,), tool_choice=ToolChoice("none"))
    assert "strict" not in str(asked(plain(prompt=told), Skills()))  # no call can be made


CANNOT = [
    (plain(n=2), ALL, "n"),
    (plain(num_top=1), ALL, "logprobs"),
    (plain(echo=True), ALL, "echo"),
    (plain(prompt=Text("a")), ALL, "prompt"),
    (plain(stop_token_ids=(1,)), ALL, "stop_token_ids"),
    (plain(ignore_eos=True), ALL, "ignore_eos"),
    (plain(sampling=Sampling(logit_bias={1: 2.0})), ALL, "logit_bias"),
    (plain(sampling=Sampling(min_p=0.1)), ALL, "min_p"),
    (plain(sampling=Sampling(repetition_penalty=1.1)), ALL, "repetition_penalty"),
    (plain(sampling=Sampling(presence_penalty=1.0)), ALL, "presence_penalty"),
    (plain(sampling=Sampling(frequency_penalty=1.0)), ALL, "frequency_penalty"),
    (plain(sampling=Sampling(seed=1)), ALL, "seed"),
    (plain(sampling=Sampling(top_k=5)), Skills(), "top_k"),
    (plain(format=Format("regex", "a")), ALL, "response_format"),
    (plain(format=SCHEMA), Skills(), "response_format"),
    (plain(format=Format("json_schema", '{"type": "array"}')), Skills(schema="tool"), "response_format"),
    (plain(partial=Partial("begun")), Skills(), "partial"),
    (plain(prompt=Chat((Message("user", "a"), Message("assistant", "b")))), Skills(), "messages"),
    (plain(prompt=Chat((Message("assistant", "b"),))), ALL, "messages"),
    (plain(prompt=Chat((Message("user", "a"),), tools=(Tool("a"),))), Skills(tools=False), "tools"),
    (plain(prompt=Chat((Message("user", "a"),), tools=(Tool("a"),), tool_choice=ToolChoice("required"))), Skills(),
     "tool_choice"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "skills", "param"), CANNOT, ids=[f"{n}-{c[2]}" for n, c in enumerate(CANNOT)])
def test_what_converse_cannot_say_is_refused_so_that_another_place_is_asked(request_, skills, param):
    with pytest.raises(Unsupported, match=rf"\({param}\)") as refused:
        asked(request_, skills)
    assert refused.value.fix


def test_a_seed_of_a_greedy_answer_changes_nothing():
    assert "seed" not in str(asked(plain(sampling=Sampling(temperature=0.0, seed=1))))


def test_a_schema_that_is_none_is_the_callers_mistake():
    for skills in (ALL, Skills(schema="tool")):
        with pytest.raises(BadRequest):
            asked(plain(format=Format("json_schema", "true")), skills)


@pytest.mark.parametrize(
    ("model", "schema", "prefill", "cache"),
    [
        ("anthropic.claude-3-5-haiku-20241022-v1:0", "tool", True, "5m"),
        ("eu.anthropic.claude-sonnet-4-20250514-v1:0", "tool", True, "5m"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "output", True, "1h"),
        ("us.anthropic.claude-opus-4-6-v1", "output", False, "1h"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-6-v1", "output", False, "1h"),
        ("amazon.nova-pro-v1:0", "tool", False, "5m"),
        ("anthropic.claude-v1", "no", True, "no"),
        ("mistral.mistral-large-2407-v1:0", "tool", False, "no"),
        ("mistral.mistral-large-3-675b-instruct", "output", False, "no"),
        ("openai.gpt-oss-120b-1:0", "output", False, "no"),
        ("somebody.new-model-v1", "no", False, "no"),
    ],
)
def test_what_a_model_understands_is_read_from_its_id(model, schema, prefill, cache):
    skills = skills_of(model)
    assert (skills.schema, skills.prefill, skills.cache) == (schema, prefill, cache)


