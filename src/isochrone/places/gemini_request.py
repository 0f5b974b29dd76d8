"""A `Request` in the words of `generateContent`, which Vertex AI and the Gemini API share.

What these words cannot say is refused rather than left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from isochrone.errors import BadRequest

from .gemini_schema import to_openapi
from .gemini_settings import GeminiModel, GeminiSettings
from .gemini_thinking import refuse as _refuse
from .gemini_thinking import thinking_of
from .place import Chat, Format, Message, Request, Tool, ToolChoice

Json = dict[str, Any]
NO_SIGNATURE = "skip_thought_signature_validator"
"""What Google lets stand in for the signature of a call that another model made, or that is no longer known (litellm
1.110.2 sends the same)."""
STOPS_MAX = 5


def to_generate(
    request: Request, model: GeminiModel, settings: GeminiSettings, signature: Callable[[str], str | None], *,
    is_vertex: bool = False,
) -> Json:  # fmt: skip
    """The body.

    signature  of a call, by its id;  None: not known
    is_vertex  Vertex AI is asked, which knows more of schemas

    Raises Unsupported for what this model cannot be asked, BadRequest for what nobody can.
    """
    chat = chat_of(request)
    _expect_sayable(request, model)
    body: Json = {
        "contents": _contents(request, chat, model, signature),
        "generationConfig": _config(request, model, is_vertex),
    }
    system = [{"text": m.content} for m in chat.messages if m.role in ("system", "developer") and m.content]
    for name, value in (
        ("systemInstruction", {"parts": system, "role": "user"} if system else None),
        ("tools", [{"functionDeclarations": [_declared(tool) for tool in chat.tools]}] if chat.tools else None),
        ("toolConfig", _tool_config(chat)),
        ("safetySettings", [{"category": name, "threshold": least} for name, least in settings.safety]),
    ):
        if value:
            body[name] = value
    return body


def chat_of(request: Request) -> Chat:
    if not isinstance(request.prompt, Chat):
        _refuse("reads conversations, not a text or tokens to continue", "prompt", "Send messages")
    return request.prompt


def _expect_sayable(request: Request, model: GeminiModel) -> None:
    sampling, chat = request.sampling, chat_of(request)
    is_begun = request.partial is not None and bool(request.partial.text or request.partial.ids)
    for is_asked, what, param in (
        (request.n > 1, "gives one answer at a time here", "n"),
        (request.num_top is not None, "gives no log-probabilities here", "logprobs"),
        (request.echo, "does not give the prompt back", "echo"),
        (bool(request.stop_token_ids), "knows no ids of tokens", "stop_token_ids"),
        (request.ignore_eos, "ends an answer where the model does", "ignore_eos"),
        (bool(sampling.logit_bias), "knows no ids of tokens", "logit_bias"),
        (sampling.min_p != 0.0, "has no min_p", "min_p"),
        (sampling.repetition_penalty != 1.0, "has no repetition penalty", "repetition_penalty"),
        (len(request.stops) > STOPS_MAX, f"takes {STOPS_MAX} stop strings at most", "stop"),
        (request.format is not None and request.format.kind != "json_schema", "has no such grammar", "response_format"),
        (request.format is not None and model.known.schema == "no", "has no schema for this model", "response_format"),
        (bool(chat.tools) and not model.known.tools, "offers no tools to this model", "tools"),
        (is_begun and not model.prefill, "lets this model go on with no answer", "partial"),
        (bool(request.partial and not request.partial.text and request.partial.ids), "knows no ids of tokens",
         "partial"),
    ):  # fmt: skip
        if is_asked:
            _refuse(what, param)


# --- messages ---


def _contents(
    request: Request, chat: Chat, model: GeminiModel, signature: Callable[[str], str | None]
) -> list[Json]:
    """Turns alternate: what one side says in a row becomes one turn, so that parallel results come together."""
    names = {call.id: call.name for message in chat.messages for call in message.tool_calls}
    signs = model.known.signs
    contents: list[Json] = []
    for message in chat.messages:
        parts = _parts(message, names, signature, signs=signs)
        if not parts:
            continue
        role = "model" if message.role == "assistant" else "user"
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        else:
            contents.append({"parts": parts, "role": role})
    if request.partial and request.partial.text:
        contents.append({"parts": [{"text": request.partial.text}], "role": "model"})
    elif contents and contents[-1]["role"] == "model" and not model.prefill:
        _refuse("lets this model go on with no assistant's turn", "messages", "End with a user's message")
    if not contents:
        raise BadRequest("There is nothing to answer.", fix="Send a message.", param="messages")
    return contents


def _parts(
    message: Message, names: dict[str, str], signature: Callable[[str], str | None], *, signs: bool
) -> list[Json]:
    if message.role in ("system", "developer"):
        return []
    if message.role == "tool":
        return [{"functionResponse": _result(message, names)}]
    parts: list[Json] = [{"text": message.content}] if message.content else []
    for index, call in enumerate(message.tool_calls):
        part: Json = {"functionCall": {"id": call.id, "name": call.name, "args": _arguments(call.arguments)}}
        if not call.id:
            del part["functionCall"]["id"]
        known = signature(call.id)
        if known is not None:
            part["thoughtSignature"] = known
        elif signs and index == 0:  # of calls in parallel only the first is signed
            part["thoughtSignature"] = NO_SIGNATURE
        parts.append(part)
    return parts


def _result(message: Message, names: dict[str, str]) -> Json:
    id = message.tool_call_id or ""
    name = names.get(id) or message.name
    if not name:
        raise BadRequest(
            f"A tool's message answers the call {id!r}, and no earlier turn holds that call.",
            fix="Send the assistant's turn with the call before it, or the tool's name with it.",
            param="messages",
        )
    try:
        said = json.loads(message.content)
    except ValueError:
        said = None
    result: Json = {"name": name, "response": said if isinstance(said, dict) else {"output": message.content}}
    return {"id": id} | result if id else result


def _arguments(text: str) -> Json:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        _refuse("takes earlier calls only with arguments that are a JSON object", "messages", "Correct the arguments")
    return value


# --- tools ---


def _declared(tool: Tool) -> Json:
    declared: Json = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    if tool.parameters:
        declared["parametersJsonSchema"] = tool.parameters
    return declared


def _tool_config(chat: Chat) -> Json | None:
    if not chat.tools:
        return None
    config = _calling(chat.tool_choice, is_strict=any(tool.strict for tool in chat.tools))
    return {"functionCallingConfig": config} if config else None


def _calling(choice: ToolChoice, *, is_strict: bool) -> Json | None:
    if choice.mode == "none":
        return {"mode": "NONE"}
    if choice.mode == "required":
        return {"mode": "ANY", "allowedFunctionNames": [choice.name]} if choice.name else {"mode": "ANY"}
    return {"mode": "VALIDATED"} if is_strict else None  # calls, where there are any, fit their schemas


# --- how to answer ---


def _config(request: Request, model: GeminiModel, is_vertex: bool) -> Json:
    sampling = request.sampling
    config: Json = {"temperature": sampling.temperature}
    for name, value in (
        ("topP", sampling.top_p if sampling.top_p < 1.0 else None),
        ("topK", sampling.top_k or None),
        ("maxOutputTokens", _max_tokens(request)),
        ("stopSequences", list(request.stops) or None),
        ("presencePenalty", sampling.presence_penalty or None),
        ("frequencyPenalty", sampling.frequency_penalty or None),
        ("seed", sampling.seed),
        ("thinkingConfig", thinking_of(chat_of(request), model)),
    ):
        if value is not None:
            config[name] = value
    if request.format is not None:
        schema = _schema(request.format)
        config["responseMimeType"] = "application/json"
        if model.known.schema == "json":
            config["responseJsonSchema"] = schema
        else:
            config["responseSchema"] = to_openapi(schema, is_vertex=is_vertex)
    return config


def _max_tokens(request: Request) -> int | None:
    if request.max_tokens is None or request.partial is None:
        return request.max_tokens
    return max(1, request.max_tokens - (request.partial.num_tokens or len(request.partial.text) // 4))


def _schema(form: Format) -> Json:
    try:
        schema = json.loads(form.source)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise BadRequest("The JSON schema is not an object.", fix="Send a JSON schema.", param="response_format")
    return schema


