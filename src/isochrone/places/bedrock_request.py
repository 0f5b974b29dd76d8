"""A `Request` in the words of Converse.

What Converse cannot say is refused rather than left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from isochrone.errors import BadRequest

from .bedrock_settings import BedrockModel, BedrockSettings, Skills
from .bedrock_thinking import Recall, effort_of, expect_thoughts, recall_nothing
from .bedrock_thinking import refuse as _refuse
from .place import Chat, Format, Message, Request, Tool

ANSWER_TOOL = "answer"
"""The tool whose input is the answer, where a schema is enforced by a call."""
_TOOL_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_METADATA_OTHER = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]")

Json = dict[str, Any]


def to_converse(
    request: Request, model: BedrockModel, settings: BedrockSettings, recall: Recall = recall_nothing
) -> Json:
    """The body.  Raises Unsupported for what this model cannot be asked, BadRequest for what nobody can."""
    chat = _chat(request)
    skills = model.known
    _expect_sayable(request, skills)
    tools = _tool_config(request, chat, model)
    caches = skills.cache != "no" and (model.caches or bool(request.run) or request.pin_s is not None)
    point = _cache_point(request, skills) if caches else None
    body: Json = {"messages": _messages(request, chat, skills, recall), "inferenceConfig": _inference(request)}
    expect_thoughts(body["messages"], model)
    system = [{"text": text} for text in _system_texts(chat)]
    if point:
        _mark(system, body["messages"], tools if skills.cache_tools else None, point)
    fields = _model_fields(request, model)
    for name, value in (
        ("system", system),
        ("toolConfig", tools),
        ("additionalModelRequestFields", fields),
        ("outputConfig", _output_config(request, chat, model)),
        ("performanceConfig", {"latency": model.latency} if model.latency else None),
        ("serviceTier", {"type": model.tier} if model.tier else None),
        ("guardrailConfig", _guardrail(settings)),
        ("requestMetadata", _metadata(request, settings)),
    ):
        if value:
            body[name] = value
    if request.stops and "claude" in model.name:
        body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]
    return body


def answers_by_tool(request: Request, model: BedrockModel) -> bool:
    """Whether the answer comes as the input of `ANSWER_TOOL`."""
    return request.format is not None and model.known.schema == "tool" and not _must_call(_chat(request))


def callable_tools(request: Request) -> frozenset[str]:
    """Names of the tools that the caller lets the model call now; a call of another is no answer."""
    chat = _chat(request)
    return frozenset() if chat.tool_choice.mode == "none" else frozenset(tool.name for tool in chat.tools)


def _chat(request: Request) -> Chat:
    if not isinstance(request.prompt, Chat):
        _refuse("reads conversations, not a text or tokens to continue", "prompt", "Send messages")
    return request.prompt


def _expect_sayable(request: Request, skills: Skills) -> None:
    sampling = request.sampling
    for is_asked, what, param in (
        (request.n > 1, "gives one answer at a time", "n"),
        (request.num_top is not None, "gives no log-probabilities", "logprobs"),
        (request.echo, "does not give the prompt back", "echo"),
        (bool(request.stop_token_ids), "knows no ids of tokens", "stop_token_ids"),
        (request.ignore_eos, "ends an answer where the model does", "ignore_eos"),
        (bool(sampling.logit_bias), "knows no ids of tokens", "logit_bias"),
        (sampling.min_p != 0.0, "has no min_p", "min_p"),
        (sampling.repetition_penalty != 1.0, "has no repetition penalty", "repetition_penalty"),
        (sampling.presence_penalty != 0.0, "has no presence penalty", "presence_penalty"),
        (sampling.frequency_penalty != 0.0, "has no frequency penalty", "frequency_penalty"),
        (sampling.seed is not None and sampling.temperature > 0.0, "draws with a seed of its own", "seed"),
        (sampling.top_k > 0 and not skills.top_k, "has no top_k for this model", "top_k"),
        (request.format is not None and request.format.kind != "json_schema", "has no such grammar", "response_format"),
        (request.format is not None and skills.schema == "no", "has no JSON schema for this model", "response_format"),
        (bool(request.partial and request.partial.text) and not skills.prefill, "lets this model go on with no answer",
         "partial"),
    ):  # fmt: skip
        if is_asked:
            _refuse(what, param)


def _inference(request: Request) -> Json:
    sampling = request.sampling
    config: Json = {"temperature": sampling.temperature}
    if sampling.top_p < 1.0:
        config["topP"] = sampling.top_p
    if request.max_tokens is not None:
        config["maxTokens"] = max(1, request.max_tokens - _num_partial(request))
    if request.stops:
        config["stopSequences"] = list(request.stops)
    return config


def _num_partial(request: Request) -> int:
    partial = request.partial
    if partial is None:
        return 0
    return partial.num_tokens or len(partial.ids) or len(partial.text) // 4


def _model_fields(request: Request, model: BedrockModel) -> Json:
    fields: Json = json.loads(json.dumps(model.fields))
    skills = model.known
    if request.sampling.top_k > 0:
        *path, last = skills.top_k
        at = fields
        for step in path:
            at = at.setdefault(step, {})
        at[last] = request.sampling.top_k
    effort = effort_of(_chat(request), model)
    if effort and skills.effort == "field":
        fields["reasoning_effort"] = effort  # the caller's word comes before the operator's
    return fields


def _output_config(request: Request, chat: Chat, model: BedrockModel) -> Json:
    config: Json = {}
    effort = effort_of(chat, model)
    if effort and model.known.effort == "output":
        config["effort"] = effort
    if request.format is not None and model.known.schema == "output":
        _schema(request.format)
        config["textFormat"] = {
            "type": "json_schema",
            "structure": {"jsonSchema": {"name": ANSWER_TOOL, "schema": request.format.source}},
        }
    return config


def _schema(form: Format) -> Json:
    try:
        schema = json.loads(form.source)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise BadRequest(
            "The JSON schema is not an object.", fix="Send a JSON schema.", param="response_format"
        ) from None
    return schema


# --- tools ---


def _must_call(chat: Chat) -> bool:
    return bool(chat.tools) and chat.tool_choice.mode == "required"


def _tool_config(request: Request, chat: Chat, model: BedrockModel) -> Json | None:
    """Tools are told even where none may be called, if the conversation holds calls: Amazon refuses it otherwise."""
    skills = model.known
    by_tool = answers_by_tool(request, model)
    offered = chat.tools if chat.tool_choice.mode != "none" or _has_calls(chat) else ()
    specs = [_tool_spec(tool, model, may_call=chat.tool_choice.mode != "none") for tool in offered] or _remembered(chat)
    if by_tool:
        specs.append(_answer_spec(request))
    if not specs:
        return None
    if not skills.tools:
        _refuse("offers no tools to this model", "tools")
    choice = _tool_choice(chat, skills, by_tool)
    return {"tools": specs, "toolChoice": choice} if choice else {"tools": specs}


def _tool_choice(chat: Chat, skills: Skills, by_tool: bool) -> Json | None:
    may_call = bool(chat.tools) and chat.tool_choice.mode != "none"
    if by_tool:
        return {"any": {}} if may_call else {"tool": {"name": ANSWER_TOOL}}
    if not _must_call(chat):
        return {"auto": {}} if may_call else None
    if not skills.any_tool:
        _refuse("cannot make this model call a tool", "tool_choice")
    return {"tool": {"name": chat.tool_choice.name}} if chat.tool_choice.name else {"any": {}}


def _tool_spec(tool: Tool, model: BedrockModel, *, may_call: bool) -> Json:
    """`strict` goes to models with structured output.  Others promise nothing of their calls: refused, unless the
    operator has said that such calls will do (`lax_tools`), or none can be made."""
    spec: Json = {"name": tool.name, "inputSchema": {"json": tool.parameters or {"type": "object", "properties": {}}}}
    if tool.description:
        spec["description"] = tool.description
    if tool.strict and model.known.schema == "output":
        spec["strict"] = True
    elif tool.strict and may_call and not model.lax_tools:
        _refuse(
            f"does not hold calls of {model.name} to their schemas", "strict",
            "Leave strict out, ask another place, or set lax_tools for this one",
        )  # fmt: skip
    return {"toolSpec": spec}


def _answer_spec(request: Request) -> Json:
    assert request.format is not None
    schema = _schema(request.format)
    if schema.get("type") != "object":
        _refuse("holds this model only to schemas of objects", "response_format", "Wrap the value in an object")
    if any(tool.name == ANSWER_TOOL for tool in _chat(request).tools):
        _refuse(f"answers by a tool named {ANSWER_TOOL} here, and the request has one", "tools", "Rename it")
    return {
        "toolSpec": {
            "name": ANSWER_TOOL,
            "description": "Give the answer to the user.",
            "inputSchema": {"json": schema},
        }
    }


def _has_calls(chat: Chat) -> bool:
    return any(message.tool_calls or message.role == "tool" for message in chat.messages)


def _remembered(chat: Chat) -> list[Json]:
    """Tools called earlier in a conversation that offers none now."""
    names = {call.name for message in chat.messages for call in message.tool_calls}
    return [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in sorted(names)]


# --- messages ---


def _system_texts(chat: Chat) -> list[str]:
    """Wherever they stand: Converse keeps what the operator says apart from the turns."""
    return [m.content for m in chat.messages if m.role in ("system", "developer") and m.content.strip()]


def _messages(request: Request, chat: Chat, skills: Skills, recall: Recall) -> list[Json]:
    """Turns alternate: neighbours of one side become one turn, and blank texts, which are refused, are left out."""
    turns: list[Json] = []
    for message in chat.messages:
        blocks = _blocks(message, recall)
        if not blocks:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    begun = request.partial.text.rstrip() if request.partial else ""
    if begun:
        _begin(turns, begun)
    elif turns and turns[-1]["role"] == "assistant" and not skills.prefill:
        _refuse("lets this model go on with no assistant's turn", "messages", "End with a user's message")
    if not turns or turns[0]["role"] != "user":
        _refuse("wants a conversation that a user begins", "messages", "Put a user's message first")
    return turns


def _begin(turns: list[Json], text: str) -> None:
    """The answer's beginning, as a turn that the model goes on with.  One that ends in a space is refused."""
    if turns and turns[-1]["role"] == "assistant" and "text" in turns[-1]["content"][-1]:
        last = turns[-1]["content"][-1]
        last["text"] += text
    else:
        turns.append({"role": "assistant", "content": [{"text": text}]})


def _blocks(message: Message, recall: Recall) -> list[Json]:
    if message.role in ("system", "developer"):
        return []
    if message.role == "tool":
        content = [{"text": message.content}] if message.content.strip() else []
        return [{"toolResult": {"toolUseId": _tool_id(message.tool_call_id or ""), "content": content}}]
    blocks: list[Json] = [{"text": message.content}] if message.content.strip() else []
    for index, call in enumerate(message.tool_calls):
        thoughts = [*recall(call.id)]
        blocks = blocks + thoughts if index else thoughts + blocks  # a turn begins with what was thought
        use = {"toolUseId": _tool_id(call.id), "name": call.name, "input": _input(call.arguments)}
        blocks.append({"toolUse": use})
    return blocks


def _tool_id(id: str) -> str:
    """The id, or a stand-in for one that Amazon's pattern does not let through."""
    return id if _TOOL_ID.fullmatch(id) else "call_" + hashlib.sha256(id.encode()).hexdigest()[:32]


def _input(arguments: str) -> Json:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        _refuse("takes earlier calls only with arguments that are a JSON object", "messages", "Correct the arguments")
    return value


# --- prompt cache, guardrail, metadata ---


def _cache_point(request: Request, skills: Skills) -> Json:
    wants_long = request.pin_s is not None and request.pin_s > 300.0
    point = {"type": "default", "ttl": "1h"} if wants_long and skills.cache == "1h" else {"type": "default"}
    return {"cachePoint": point}


def _mark(system: list[Json], messages: list[Json], tools: Json | None, point: Json) -> None:
    """Three of the four marks that a request may hold; prefixes shorter than the model's minimum are just not kept."""
    if tools:
        tools["tools"].append(point)
    if system:
        system.append(point)
    for message in reversed(messages):
        if message["role"] == "user":
            message["content"].append(point)
            return


def _guardrail(settings: BedrockSettings) -> Json | None:
    if settings.guardrail is None:
        return None
    identifier, version = settings.guardrail
    return {"guardrailIdentifier": identifier, "guardrailVersion": version}


def _metadata(request: Request, settings: BedrockSettings) -> dict[str, str]:
    words = {"{id}": request.id, "{run}": request.run, "{tenant}": request.tenant, "{model}": request.model}
    metadata = {}
    for key, template in settings.metadata.items():
        value = template
        for mark, word in words.items():
            value = value.replace(mark, word)
        metadata[key] = _METADATA_OTHER.sub("_", value)[:256]
    return metadata
