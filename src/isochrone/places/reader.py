"""Prompts of every form to the tokens a model reads, and what is to be expected of its answers."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

from msgspec import Struct, structs

from isochrone.engine import records
from isochrone.errors import BadRequest
from isochrone.text import ChatTemplate, Tokenizer
from isochrone.text.tools import Offer, Opening, Parser, dialect_of
from isochrone.text.tools.lark import json_value, regex

from .place import Chat, Details, Format, Message, Prompt, Request, Text, TokenIds, Tool

_THINKING = ("enable_thinking", "reasoning_effort")


class Read(Struct, frozen=True):
    """A prompt in tokens.  opening  whether the answer begins within a thought"""

    ids: list[int]
    opening: Opening = "no"


class Reader:
    """A model's tokenizer with its chat template.  May be used from several threads.

    template  source of the chat template; None for a model that only continues texts
    details   what its file says of the model
    """

    def __init__(self, tokenizer: Tokenizer, template: str | None, details: Details = Details()) -> None:
        self.tokenizer = tokenizer
        self.dialect = dialect_of(template)
        thinks = self.dialect.thinking is not None or self.dialect.tools.reads_all
        self.details = structs.replace(details, template=template or "", thinks=thinks)
        ids = {mark: tokenizer.token_to_id(mark) for mark in self.dialect.marks}
        self._marks = {mark: id for mark, id in ids.items() if id is not None and tokenizer.is_special(id)}
        self.shown_ids = frozenset(self._marks.values())
        self._source = template
        self._by_thread = threading.local()  # a template's fuel is set before each run, so no two runs may share one
        if template is not None:
            self._template()  # a broken template is said at the start, not at the first chat

    def read(self, prompt: Prompt) -> Read:
        """The prompt's tokens.  Raises BadRequest."""
        match prompt:
            case Chat():
                text = self._laid_out(prompt)
                return Read(self.tokenizer.encode(text, add_special=False), self.dialect.opening(text))
            case Text(text, add_special):
                return Read(self.tokenizer.encode(text, add_special=add_special))
            case TokenIds(ids):
                return Read(list(ids))

    def ids(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens.  Raises BadRequest."""
        return self.read(prompt).ids

    def parser(self, request: Request, read: Read) -> Parser | None:
        """Reads one answer to this request; None where all of it is words."""
        if not isinstance(request.prompt, Chat):
            return None
        return self.dialect.parser(frozenset(tool.name for tool in offered(request.prompt)), read.opening)

    def grammar(self, request: Request, read: Read) -> records.Grammar | None:
        """What the answer must be, thoughts and calls included.  Raises BadRequest."""
        chat, form = request.prompt, request.format
        tools = offered(chat) if isinstance(chat, Chat) else ()
        if not isinstance(chat, Chat) or (not tools and self.dialect.is_plain(read.opening)):
            return records.Grammar(form.kind, form.source) if form else None
        choice = chat.tool_choice
        offer = Offer(
            tuple(tool for tool in tools if choice.name in (None, tool.name)),
            must_call=bool(tools) and choice.mode == "required",
            parallel=chat.parallel_tool_calls,
            body=as_lark(form) if form else None,
        )
        source = self.dialect.grammar(offer, read.opening, self._marks.get)
        return None if source is None else records.Grammar("lark", source)

    def end_ids(self, request: Request) -> tuple[int, ...]:
        """Tokens that end an answer: the model's own, and those that stand after its calls."""
        eos = self.tokenizer.eos_ids
        if not isinstance(request.prompt, Chat) or not (offered(request.prompt) or self.dialect.tools.reads_all):
            return eos
        ids = (self.tokenizer.token_to_id(token) for token in self.dialect.tools.ends)
        return eos + tuple(id for id in ids if id is not None and id not in eos)

    def text(self, prompt: Prompt, ids: list[int]) -> str:
        """The prompt as its sender would write it."""
        return prompt.text if isinstance(prompt, Text) else self.tokenizer.decode(ids, skip_special=False)

    def _laid_out(self, chat: Chat) -> str:
        tools = offered(chat)
        turns: list[dict[str, Any]] = [_turn(message) for message in chat.messages]
        if tools or any(message.tool_calls or message.role == "tool" for message in chat.messages):
            turns = self.dialect.tools.turns(turns, tools)
        self._expect_known(chat.template_variables)
        offers = [_function(tool) for tool in tools] if tools and self.dialect.lays_out_tools else None
        return self._template().render(turns, offers, chat.add_generation_prompt, variables=chat.template_variables)

    def _expect_known(self, variables: dict[str, Any]) -> None:
        """A name that the template never asks for would change nothing.  How much to think is asked of any model."""
        for name in variables:
            if name not in _THINKING and not re.search(rf"\b{re.escape(name)}\b", self._source or ""):
                raise BadRequest(
                    f"This model's chat template knows no {name[:80]}.",
                    fix="Leave it out.", param="chat_template_kwargs",
                )  # fmt: skip

    def _template(self) -> ChatTemplate:
        if self._source is None:
            raise BadRequest(
                "This model has no chat template, so it cannot read messages.", fix="Use /v1/completions with a prompt."
            )
        template: ChatTemplate | None = getattr(self._by_thread, "template", None)
        if template is None:
            template = self._by_thread.template = ChatTemplate(self._source, self.tokenizer.named_tokens)
        return template


def offered(chat: Chat) -> tuple[Tool, ...]:
    """The tools that this answer may call."""
    return () if chat.tool_choice.mode == "none" else chat.tools


def num_chars(prompt: Prompt) -> int:
    """How much there is to read: long prompts are read aside, so that no stream stutters meanwhile."""
    match prompt:
        case Chat(messages):
            tools = sum(100 + len(tool.description) + len(str(tool.parameters)) for tool in offered(prompt))
            return tools + sum(100 + _num_chars(message) for message in messages)
        case Text(text):
            return len(text)
        case TokenIds():
            return 0


def _num_chars(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning) + calls


def _turn(message: Message) -> dict[str, Any]:
    """A message under the names that templates use."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        turn["reasoning_content"] = turn["thinking"] = message.reasoning
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _object(call.arguments)}}
            for call in message.tool_calls
        ]
    return turn


def _object(arguments: str) -> Any:
    """Templates write the arguments as JSON themselves; what is no JSON (an answer that was cut) stays a text."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _function(tool: Tool) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _schema(source: str) -> dict[str, Any] | bool:
    """Raises BadRequest for what is no schema."""
    try:
        schema = json.loads(source)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict | bool):
        raise BadRequest("The JSON schema is not an object.", fix="Send a JSON schema.", param="response_format")
    return schema


def as_lark(form: Format) -> str:
    """A format as a Lark expression."""
    match form.kind:
        case "json_schema":
            return json_value(_schema(form.source))
        case "regex":
            return regex(form.source)
        case "lark":
            return f"%lark {{\n{form.source}\n}}"
