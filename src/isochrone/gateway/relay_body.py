"""The body of a chat on its way through: read where the choice of a place needs it, and changed there only.

A body is cut into its members, each the very bytes that the caller sent.  The model's name, the wish for a usage and
what only this gateway understands are put in or left out; every other value goes on byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from isochrone.errors import BadRequest
from isochrone.places.place import Chat, Format, Message, Request, Tool, ToolCall

OWN = ("budget", "cache", "drafts")
"""Members that mean something here and nothing elsewhere."""
NUM_TOKENS_MAX = 1 << 31
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


class _Options(Struct):
    include_usage: bool | None = None


class _Turn(Struct):
    role: str = ""
    content: Any = None
    tool_calls: list[Raw] | None = None


class _ResponseFormat(Struct):
    type: str = "text"


class _Head(Struct):
    """The members that matter to the choice; whatever else a body has is not read."""

    model: str
    messages: list[_Turn]
    stream: bool | None = None
    stream_options: _Options | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[Raw] | None = None
    response_format: _ResponseFormat | None = None
    structured_outputs: Raw | None = None
    logprobs: bool | None = None
    budget: Any = None


_HEAD = msgspec.json.Decoder(_Head)


class ChatBody:
    """One body, taken apart."""

    def __init__(self, members: Mapping[str, Raw], head: _Head) -> None:
        self._members, self._head = members, head
        self.model = head.model
        self.is_streamed = bool(head.stream)
        self.wants_usage = bool(head.stream_options and head.stream_options.include_usage)
        self.num_answers = head.n or 1
        self.limits = {"max_tokens": head.max_tokens, "max_completion_tokens": head.max_completion_tokens}
        given = [limit for limit in self.limits.values() if limit is not None]
        self.num_answer_max = max(given, default=None)  # a place may heed either
        self.num_messages = len(head.messages)
        self.budget = head.budget

    @property
    def holds_form(self) -> bool:
        """The answer must fit a schema or a grammar."""
        return _format(self._head) is not None

    def request(self, id: str, tenant: str, *, dated: bool, run: str = "") -> Request:
        """What the choice of a place looks at: words and sizes.  Not what a place is asked."""
        head = self._head
        turns = tuple(
            [Message(turn.role, _words(turn.content), tool_calls=_calls(turn.tool_calls)) for turn in head.messages]
        )
        tools = (Tool("", _text(self._members["tools"])),) if head.tools else ()
        return Request(
            id, self.model, tenant, Chat(turns, tools=tools), max_tokens=self.num_answer_max, n=self.num_answers,
            num_top=0 if head.logprobs else None, dated=dated, format=_format(head), run=run,
        )  # fmt: skip

    def forwarded(self, model: str) -> bytes:
        """The body for a place that calls the model so.  A stream is always asked for its usage."""
        out: dict[str, Any] = {name: value for name, value in self._members.items() if name not in OWN}
        if model != self.model:
            out["model"] = model
        if self.is_streamed and not self.wants_usage:
            out["stream_options"] = self._options()
        return msgspec.json.encode(out)

    def _options(self) -> dict[str, Any]:
        """The caller's options for streams, with the usage asked for."""
        given = self._members.get("stream_options")
        options = msgspec.json.decode(given) if given is not None else None
        return {**(options or {}), "include_usage": True}


def _words(content: Any) -> str:
    """The text of a turn, in either form that OpenAI's API gives it."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))


def _calls(calls: list[Raw] | None) -> tuple[ToolCall, ...]:
    """Calls of an earlier turn, unread: a place counts them as a part of the prompt."""
    return tuple([ToolCall("", "", _text(call)) for call in calls or ()])


def _text(raw: Raw) -> str:
    return bytes(raw).decode("utf-8", "replace")


def _format(head: _Head) -> Format | None:
    """Which kind of form the answer must have; its source is for the place alone."""
    if head.response_format is not None and head.response_format.type == "json_schema":
        return Format("json_schema", "")
    if head.structured_outputs is not None and bytes(head.structured_outputs) != b"null":
        return Format("regex", "")
    return None


def read_body(body: bytes) -> ChatBody:
    """Raises BadRequest, which names the field."""
    try:
        head = _HEAD.decode(body)
        return ChatBody(_MEMBERS.decode(body), head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        from .validation import from_validation  # most callers never need it

        raise from_validation(error, _Head.__struct_fields__) from None


def expect_bounds(body: ChatBody, *, num_messages_max: int, num_answers_max: int) -> None:
    """What is refused here, whatever a place would say.  Raises BadRequest."""
    if not body.num_messages:
        raise BadRequest("There are no messages.", fix="Send at least one.", param="messages")
    if body.num_messages > num_messages_max:
        raise BadRequest(
            f"There are {body.num_messages} messages, and this server takes {num_messages_max}.",
            fix="Leave out or sum up the oldest.", param="messages",
        )  # fmt: skip
    if not 1 <= body.num_answers <= num_answers_max:
        raise BadRequest(
            f"n is {body.num_answers}, and this server gives 1 to {num_answers_max} answers at once.",
            fix="Ask several times.", param="n",
        )  # fmt: skip
    for name, limit in body.limits.items():
        if limit is not None and not 1 <= limit <= NUM_TOKENS_MAX:  # some places take -1 for no limit at all
            raise BadRequest(f"{name} is no number of tokens.", fix="Send at least 1, or leave it out.", param=name)
