"""Ollama's bodies to a `Request`."""

from __future__ import annotations

import msgspec

from isochrone.errors import BadRequest
from isochrone.places.place import Chat, Message, Prompt, Request, Text, Tool, ToolCall

from .limits import Limits
from .ollama_fields import LATEST, ChatFields, CommonFields, GenerateFields, Options, Turn


def chat_request(fields: ChatFields, *, id: str, tenant: str, limits: Limits, dated: bool = False) -> Request:
    """`/api/chat` as a request.  Raises BadRequest."""
    turns = fields.messages or []
    if len(turns) > limits.num_messages:
        raise BadRequest(
            f"There are {len(turns)} messages, and this server takes {limits.num_messages}.",
            fix="Leave out or sum up the oldest.", param="messages",
        )  # fmt: skip
    declared = [tool.function for tool in fields.tools or ()]
    chat = Chat(
        _messages(turns, limits),
        tools=tuple(Tool(one.name, one.description or "", one.parameters, bool(one.strict)) for one in declared),
        template_variables=fields.template_variables(),
    )
    return _request(fields, chat, id=id, tenant=tenant, dated=dated)


def generate_request(fields: GenerateFields, *, id: str, tenant: str, dated: bool = False) -> Request:
    """`/api/generate` as a request.  Raises BadRequest."""
    prompt = fields.prompt or ""
    if not fields.raw:
        system = (Message("system", fields.system),) if fields.system else ()
        chat = Chat((*system, Message("user", prompt)), template_variables=fields.template_variables())
        return _request(fields, chat, id=id, tenant=tenant, dated=dated)
    if fields.system:
        raise BadRequest(
            "system is given, and raw says that the prompt is complete.", fix="Remove one of them.", param="system"
        )
    if fields.think is not None:
        raise BadRequest(
            "think is given, and raw says that no template is used.", fix="Remove one of them.", param="think"
        )
    return _request(fields, Text(prompt), id=id, tenant=tenant, dated=dated)


def _request(fields: CommonFields, prompt: Prompt, *, id: str, tenant: str, dated: bool) -> Request:
    options = fields.options or Options()
    return Request(
        id=id,
        model=fields.model.removesuffix(LATEST),
        tenant=tenant,
        prompt=prompt,
        max_tokens=options.max_tokens(),
        sampling=options.sampling(),
        stops=options.stops(),
        num_top=(fields.top_logprobs or 0) if fields.logprobs else None,
        dated=dated,
        format=fields.format_of(),
    )


def _messages(turns: list[Turn], limits: Limits) -> tuple[Message, ...]:
    messages: list[Message] = []
    unanswered: list[ToolCall] = []  # calls that no tool has answered yet, oldest first
    for index, turn in enumerate(turns):
        if turn.role == "tool":
            messages.append(_result(turn, f"messages[{index}]", unanswered))
            continue
        calls = tuple(
            ToolCall(call.id or f"call_{index}_{at}", call.function.name, _text(call.function.arguments))
            for at, call in enumerate(turn.tool_calls or ())
        )
        unanswered += calls
        if len(unanswered) > limits.num_messages:
            raise BadRequest(
                f"More than {limits.num_messages} calls have no answer.",
                fix="Send the tools' answers, or leave the calls out.", param=f"messages[{index}].tool_calls",
            )  # fmt: skip
        messages.append(Message(turn.role, turn.content or "", tool_calls=calls, reasoning=turn.thinking or ""))
    return tuple(messages)


def _result(turn: Turn, where: str, unanswered: list[ToolCall]) -> Message:
    """A tool's answer, beside the call that it belongs to: many of Ollama's clients name the tool only, or nothing."""
    for call in unanswered:
        if turn.tool_call_id in (None, call.id) and turn.tool_name in (None, call.name):
            unanswered.remove(call)
            return Message("tool", turn.content or "", call.name, tool_call_id=call.id)
    raise BadRequest(
        f"{where} is a tool's answer, and no earlier message makes a call that it could belong to.",
        fix="Send the assistant's message with that call before it.", param=f"{where}.role",
    )  # fmt: skip


def _text(arguments: dict[str, object]) -> str:
    return msgspec.json.encode(arguments).decode()
