"""Responses that are kept: reading them back, the conversation behind one, and what their owner can do with them.

A kept response holds its own input and output; what came before is found by going back from one to the one before.
The id of an item holds the id of its response, so that a reference to an item finds it without an index.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from isochrone.errors import BadRequest, ContextTooLong, NotFound, Unreachable
from isochrone.ledger import Responses

from .call import Call
from .limits import Limits
from .openai_responses_fields import refusal
from .openai_responses_items import Item, kind_of
from .openai_responses_run import Runs

if TYPE_CHECKING:
    from .app import Gateway

TTL_S = 30 * 24 * 3600.0
"""As long as OpenAI documents to keep a response."""
_RUNNING = ("queued", "in_progress")
_ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{32})_i?\d+")
_PREFIXES = {"function_call": "fc", "reasoning": "rs", "custom_tool_call": "ctc", "function_call_output": "fco"}


class Record(msgspec.Struct):
    """What is kept of one response.  input  its own items, each with an id"""

    response: dict[str, Any]
    input: list[Item]

    def items(self) -> list[Item]:
        """Input and output.  A call that was cut short is left out: nobody could have answered it."""
        output = [item for item in self.response["output"] if not _is_cut_call(item)]
        return [*self.input, *output]


_DECODER = msgspec.json.Decoder(Record)


def _is_cut_call(item: Item) -> bool:
    return item["type"] in ("function_call", "custom_tool_call") and item["status"] == "incomplete"


class Shelf:
    """The kept responses of one owner.  runs  those that are being written, which are kept when they end"""

    def __init__(self, kept: Responses, owner: str, limits: Limits, runs: Runs) -> None:
        self._kept, self._owner, self._limits, self._runs = kept, owner, limits, runs

    async def put(self, response: dict[str, Any], given: list[Item]) -> None:
        """Keep one.  Raises Overloaded when that is not possible."""
        body = msgspec.json.encode(Record(response, given))
        await self._kept.put(self._owner, response["id"], body, TTL_S)

    async def get(self, id: str, param: str | None = None) -> Record:
        """One that has ended.  Raises NotFound, or BadRequest when the id came in a field, named `param`."""
        record = _DECODER.decode(await self._body(id, param))
        if record.response["status"] in _RUNNING:  # and no one is writing it
            gone = Unreachable("The server that wrote this response stopped.", fix="Ask again.")
            record.response |= {"status": "failed", "error": {"code": "server_error", "message": str(gone)}}
        return record

    async def delete(self, id: str) -> None:
        """Raises NotFound."""
        if not await self._kept.delete(self._owner, id):
            raise _unknown(id)

    async def history(self, id: str) -> list[Item]:
        """The whole conversation up to the end of a response.  Raises BadRequest, ContextTooLong."""
        if self._runs.find(self._owner, id):
            raise BadRequest(f"The response {id} has not ended.", fix="Wait for it.", param="previous_response_id")
        records: list[Record] = []
        size = 0
        before: str | None = id
        while before is not None:
            body = await self._body(before, "previous_response_id")
            size += len(body)
            records.append(_DECODER.decode(body))
            self._expect_room(size, len(records), f"The conversation before {id}", "previous_response_id")
            before = records[-1].response["previous_response_id"]
        return [item for record in reversed(records) for item in record.items()]

    async def resolve(self, items: list[Item]) -> list[Item]:
        """The items, with those that were referred to in place of the references.

        Raises BadRequest, ContextTooLong.
        """
        found: dict[str, Record] = {}
        resolved: list[Item] = []
        size = 0
        for index, item in enumerate(items):
            if kind_of(item) != "item_reference":
                resolved.append(item)
                continue
            id, where = str(item.get("id")), f"input[{index}].id"
            named = _ITEM_ID.fullmatch(id)
            if named is None:
                raise _unknown(id, where, "item")
            if named[1] not in found:
                body = await self._body(f"resp_{named[1]}", where)
                size += len(body)
                self._expect_room(size, len(found), "What the input refers to", where)
                found[named[1]] = _DECODER.decode(body)
            record = found[named[1]]
            match = next((old for old in [*record.input, *record.response["output"]] if old.get("id") == id), None)
            if match is None:
                raise _unknown(id, where, "item")
            resolved.append(match)
        return resolved

    def _expect_room(self, size: int, num_records: int, what: str, param: str) -> None:
        """Raises ContextTooLong for records that are more together than a conversation may be."""
        if size > 2 * self._limits.body_bytes or num_records > self._limits.num_messages:
            raise ContextTooLong(
                f"{what} is longer than this server takes.", fix="Begin a new one with a summary.", param=param
            )

    async def _body(self, id: str, param: str | None) -> bytes:
        body = await self._kept.get(self._owner, id)
        if body is None:
            raise _unknown(id, param)
        return body


def _unknown(id: str, param: str | None = None, what: str = "response") -> NotFound | BadRequest:
    text = f"There is no {what} {id[:80]!r} here."
    fix = "Check the id, and that it was stored: they are kept for 30 days, each for the key that asked."
    if param is None:
        return NotFound(text, fix=fix)
    return BadRequest(text, fix=fix, param=param)


def with_ids(items: list[Item], response_id: str) -> list[Item]:
    """The items as they are kept and listed."""
    suffix = response_id.removeprefix("resp_")
    return [
        {"id": f"{_PREFIXES.get(item['type'], 'msg')}_{suffix}_i{index}", "status": "completed"}
        | {name: value for name, value in item.items() if value is not None}
        | ({"content": [_part(item)]} if isinstance(item.get("content"), str) else {})
        for index, item in enumerate(items)
    ]


def _part(message: Item) -> Item:
    """The one part of a message whose content came as a text."""
    if message.get("role") == "assistant":
        return {"type": "output_text", "text": message["content"], "annotations": []}
    return {"type": "input_text", "text": message["content"]}


def shelf_of(gateway: Gateway, call: Call) -> Shelf:
    return Shelf(gateway.ledger.responses, call.tenant, gateway.limits, gateway.runs)


def id_of(call: Call) -> str:
    """The response that a path names."""
    return call.path.split("/")[3]


async def retrieve(gateway: Gateway, call: Call) -> None:
    """`GET /v1/responses/{id}`."""
    query = _query(call, {"include", "include_obfuscation", "starting_after", "stream"})
    if query.get("stream", "false").lower() != "false" or "starting_after" in query:
        name = "starting_after" if "starting_after" in query else "stream"
        raise refusal(name, "Remove it: a response is kept, and not the events that told it.")
    run = gateway.runs.find(call.tenant, id_of(call))
    body = run.draft.body() if run else (await shelf_of(gateway, call).get(id_of(call))).response
    await call.respond(msgspec.json.encode(body))


async def remove(gateway: Gateway, call: Call) -> None:
    """`DELETE /v1/responses/{id}`; one that is being written is cancelled first."""
    id = id_of(call)
    run = gateway.runs.find(call.tenant, id)
    if run is not None:
        await run.cancel()
    if run is None or run.is_kept:
        await shelf_of(gateway, call).delete(id)
    await call.respond(msgspec.json.encode({"id": id, "object": "response", "deleted": True}))


async def cancel(gateway: Gateway, call: Call) -> None:
    """`POST /v1/responses/{id}/cancel`: ends one that is being written, in the background or for another caller of the
    same owner; one that was cancelled before is given again."""
    if run := gateway.runs.find(call.tenant, id_of(call)):
        await run.cancel()
        await call.respond(msgspec.json.encode(run.draft.body()))
        return
    response = (await shelf_of(gateway, call).get(id_of(call))).response
    if response["status"] != "cancelled":
        raise BadRequest(
            f"The response {response['id']} has ended: it is {response['status']}.",
            fix="Cancel while it is queued or in progress.", param="response_id",
        )  # fmt: skip
    await call.respond(msgspec.json.encode(response))


async def input_items(gateway: Gateway, call: Call) -> None:
    """`GET /v1/responses/{id}/input_items`: what this response was given, without the responses before it."""
    query = _query(call, {"after", "include", "limit", "order"})
    record = await shelf_of(gateway, call).get(id_of(call))
    limit, order = query.get("limit", "20"), query.get("order", "desc")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:6]) <= 100:
        raise BadRequest("limit must be from 1 to 100.", fix="Send a number of that range.", param="limit")
    if order not in ("asc", "desc"):
        raise BadRequest("order must be asc or desc.", fix="Send one of them.", param="order")
    items = record.input if order == "asc" else record.input[::-1]
    if "after" in query:
        ids = [item["id"] for item in items]
        if query["after"] not in ids:
            raise BadRequest(
                f"There is no item {query['after'][:80]!r}.", fix="Send an id of this list.", param="after"
            )
        items = items[ids.index(query["after"]) + 1 :]
    page = items[: int(limit)]
    body = {
        "object": "list", "data": page, "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None, "has_more": len(items) > len(page),
    }  # fmt: skip
    await call.respond(msgspec.json.encode(body))


def _query(call: Call, known: set[str]) -> dict[str, str]:
    """The query's values by name, of lists the last.  Raises BadRequest for a name that is not known."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(call.query.decode("latin-1"), keep_blank_values=True):
        plain = name.split("[", 1)[0]
        if plain not in known:
            raise BadRequest(f"There is no parameter {plain[:80]!r}.", fix="Remove it.", param=plain[:80])
        found[plain] = value
    return found
