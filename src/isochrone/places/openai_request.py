"""A request in the body that OpenAI-compatible servers read: a chat, or a text or tokens to continue."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from isochrone.errors import ContextTooLong, Unsupported

from .estimate import CHARS_PER_TOKEN
from .openai_flavours import Flavour
from .place import Chat, Format, Message, Partial, Request, Sampling, Text, TokenIds, Tool

CHAT_PATH, TEXT_PATH = "/chat/completions", "/completions"
PLAIN = Sampling()


def to_body(request: Request, upstream: str, flavour: Flavour) -> tuple[str, bytes]:
    """(path, body).  Raises Unsupported, which names what this server does not take."""
    body: dict[str, Any] = {"model": upstream, "stream": True, "stream_options": {"include_usage": True}}
    is_chat = isinstance(request.prompt, Chat)
    if isinstance(request.prompt, Chat):
        body |= _chat(request.prompt, request.partial, flavour)
    else:
        body |= _text(request.prompt, request.partial, flavour)
    if (num_left := _num_left(request)) is not None:
        body[flavour.limit if is_chat else "max_tokens"] = num_left
    elif not is_chat:
        body["max_tokens"] = TEXT_TOKENS_MAX
    if request.n != 1:
        body["n"] = request.n
    if request.stops:
        body["stop"] = list(request.stops)
    body |= _sampling(request, flavour)
    body |= _scores(request, is_chat=is_chat)
    if request.format is not None:
        body |= _format(request.format, flavour, is_chat=is_chat)
    return CHAT_PATH if is_chat else TEXT_PATH, msgspec.json.encode(body)


TEXT_TOKENS_MAX = 1024
"""For a text whose sender sets no limit: these servers stop after 16 tokens when nothing is said."""


def _num_left(request: Request) -> int | None:
    partial = request.partial
    if request.max_tokens is None or partial is None:
        return request.max_tokens
    num_said = partial.num_tokens or len(partial.ids) or (len(partial.text) + len(partial.reasoning)) // CHARS_PER_TOKEN
    if request.max_tokens <= num_said:
        raise ContextTooLong(
            f"max_tokens is {request.max_tokens}, and as many are answered already.", fix="Nothing is left to ask.",
            param="max_tokens",
        )  # fmt: skip
    return request.max_tokens - num_said


def _chat(chat: Chat, partial: Partial | None, flavour: Flavour) -> dict[str, Any]:
    turns = [_turn(message) for message in chat.messages]
    out: dict[str, Any] = {"messages": turns}
    if partial is not None and (partial.text or partial.reasoning):
        if flavour.prefill is None or partial.reasoning:
            raise _refused(flavour, "an answer that was begun elsewhere", "partial")
        turns.append({"role": "assistant", "content": partial.text})
        out |= flavour.prefill
    elif not chat.add_generation_prompt:
        out[_field(flavour, "add_generation_prompt")] = False
    if chat.template_variables:
        out[_field(flavour, "chat_template_kwargs")] = chat.template_variables
    if chat.tools and chat.tool_choice.mode != "none":
        out["tools"] = [_tool(tool) for tool in chat.tools]
        name = chat.tool_choice.name
        if name is not None:
            out["tool_choice"] = {"type": "function", "function": {"name": name}}
        elif chat.tool_choice.mode == "required":
            out["tool_choice"] = "required"
        if not chat.parallel_tool_calls:
            out["parallel_tool_calls"] = False
    return out


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        turn["reasoning_content"] = message.reasoning
    if message.tool_calls:
        turn["content"] = message.content or None
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return turn


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _text(prompt: Text | TokenIds, partial: Partial | None, flavour: Flavour) -> dict[str, Any]:
    if isinstance(prompt, TokenIds):
        if "ids" not in flavour.abilities:
            raise _refused(flavour, "a prompt of token ids", "prompt")
        if partial is not None and partial.text and not partial.ids:
            raise _refused(flavour, "words behind a prompt of token ids", "partial")
        return {"prompt": [*prompt.ids, *(partial.ids if partial else ())]}
    if "text" not in flavour.abilities:
        raise _refused(flavour, "a text to continue", "prompt")
    out: dict[str, Any] = {"prompt": prompt.text + (partial.text if partial else "")}
    if not prompt.add_special:
        out[_field(flavour, "add_special_tokens")] = False
    return out


def _sampling(request: Request, flavour: Flavour) -> dict[str, Any]:
    sampling = request.sampling
    out: dict[str, Any] = {
        name: getattr(sampling, name)
        for name in ("presence_penalty", "frequency_penalty", "top_p", "seed")
        if getattr(sampling, name) != getattr(PLAIN, name)
    }
    out["temperature"] = sampling.temperature
    if sampling.logit_bias:
        out["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    for name in ("top_k", "min_p", "repetition_penalty"):
        if getattr(sampling, name) != getattr(PLAIN, name):
            out[_field(flavour, name)] = getattr(sampling, name)
    if request.stop_token_ids:
        out[_field(flavour, "stop_token_ids")] = list(request.stop_token_ids)
    if request.ignore_eos:
        out[_field(flavour, "ignore_eos")] = True
    return out


def _scores(request: Request, *, is_chat: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"echo": True} if request.echo else {}
    if request.num_top is None:
        return out
    if request.echo:
        raise Unsupported(
            "Log-probabilities of a prompt (echo) are given by our own engines only.", fix="Leave out echo or logprobs."
        )
    if is_chat:
        return out | {"logprobs": True, "top_logprobs": request.num_top}
    return out | {"logprobs": request.num_top}


def _format(form: Format, flavour: Flavour, *, is_chat: bool) -> dict[str, Any]:
    if form.kind not in flavour.grammars or (not is_chat and len(flavour.grammars) == 1):
        raise _refused(flavour, f"a {form.kind} for the answer", "response_format")
    if form.kind == "json_schema" and is_chat:
        schema = {"name": "answer", "schema": json.loads(form.source), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if form.kind == "json_schema":
        return {"structured_outputs": {"json": json.loads(form.source)}}
    return {"structured_outputs": {"regex" if form.kind == "regex" else "grammar": form.source}}


def _field(flavour: Flavour, name: str) -> str:
    """What it is called there.  Raises Unsupported where it is unknown."""
    there = flavour.fields.get(name)
    if there is None:
        raise _refused(flavour, name, name)
    return there


def _refused(flavour: Flavour, what: str, param: str) -> Unsupported:
    """Another place may take it: this is no fault of the request."""
    return Unsupported(
        f"A server of the kind {flavour.name} takes no {what.removeprefix('a ').removeprefix('an ')} ({param}).",
        fix="Leave it out, or allow a place that takes it (`isochrone fleet` lists what each can do).",
    )
