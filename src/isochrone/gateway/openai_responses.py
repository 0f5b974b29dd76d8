"""`POST /v1/responses`: OpenAI's newer body to a `Request`, and the place's deltas to one response or its events."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from isochrone.budget import Deadline
from isochrone.errors import BadRequest, IsochroneError, Overloaded
from isochrone.places.place import Chat, Message, Request

from .call import Call
from .chunks import PAD_BYTES
from .deadlines import deadline_of
from .fields import given
from .logs import Log, describe
from .meter import Meter
from .openai_responses_draft import Body, Draft, Event
from .openai_responses_fields import PARSER, ResponseFields, expect_honoured
from .openai_responses_items import Item, items_of, pin_s_of, turns, without_old_thoughts
from .openai_responses_run import Run
from .openai_responses_stored import Shelf, shelf_of, with_ids
from .openai_responses_tools import Tools, tools_of

if TYPE_CHECKING:
    from .app import Gateway

log = Log("gateway")


@dataclass(frozen=True, slots=True)
class Asked:
    """A body, read.  given  its own items, as they are kept;  chat  those and all before them"""

    id: str
    fields: ResponseFields
    tools: Tools
    given: list[Item]
    chat: Chat

    def request(self, call: Call, *, dated: bool) -> Request:
        fields = self.fields
        return Request(
            id=call.id,
            model=fields.model,
            tenant=call.tenant,
            prompt=self.chat,
            max_tokens=fields.max_output_tokens,
            sampling=fields.sampling(),
            stops=fields.stops(),
            stop_token_ids=tuple(fields.stop_token_ids or ()),
            ignore_eos=bool(fields.ignore_eos),
            num_top=fields.num_top(),
            dated=dated,
            format=fields.format(),
            drafts=given(fields.drafts, True),
            pin_s=max(fields.pin_s() or 0.0, pin_s_of(self.given)) or None,
        )

    def draft(self) -> Draft:
        fields = self.fields
        draft = Draft(head(self), self.tools.offered, scoring=fields.num_top() is not None)
        draft.say(tools_left_out=list(self.tools.left_out) or None)
        return draft


async def read_body(gateway: Gateway, call: Call, shelf: Shelf) -> Asked:
    """The body, with the conversation before it.  Raises BadRequest, which names the field, and NotFound."""
    fields: ResponseFields = PARSER.parse(await call.body())
    gateway.expect_model(fields.model)
    expect_honoured(fields)
    tools = tools_of(fields.tools, fields.tool_choice)
    id = f"resp_{uuid.uuid4().hex}"
    items = await shelf.resolve(items_of(fields.input))
    before = await shelf.history(fields.previous_response_id) if fields.previous_response_id else []
    placed = [("previous_response_id", item) for item in before]
    placed += [(f"input[{index}]", item) for index, item in enumerate(items)]
    if len(placed) > gateway.limits.num_messages:
        raise BadRequest(
            f"There are {len(placed)} items, and this server takes {gateway.limits.num_messages}.",
            fix="Leave out or sum up the oldest.", param="input",
        )  # fmt: skip
    if fields.reasoning and fields.reasoning.context == "current_turn":
        placed = without_old_thoughts(placed)
    chat = Chat(
        _with_instructions(fields.instructions, turns(placed)),
        tools=tools.tools,
        tool_choice=tools.choice,
        parallel_tool_calls=given(fields.parallel_tool_calls, True),
        template_variables=fields.template_variables(),
    )
    return Asked(id, fields, tools, with_ids(items, id), chat)


def _with_instructions(instructions: str | None, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """System messages at the start are one: many templates know a single one, and only there."""
    if instructions:
        messages = (Message("system", instructions), *messages)
    if not messages:
        raise BadRequest("There is nothing to answer.", fix="Send input.", param="input")
    num_leading = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    if num_leading < 2:
        return messages
    leading = "\n\n".join(message.content for message in messages[:num_leading])
    return (Message("system", leading), *messages[num_leading:])


async def answer(gateway: Gateway, call: Call) -> None:
    """Handle the route."""
    shelf = shelf_of(gateway, call)
    asked = await read_body(gateway, call, shelf)
    deadline, dated = deadline_of(call, asked.fields.budget)
    request = asked.request(call, dated=dated)
    if asked.fields.background:
        await _in_background(gateway, call, shelf, asked, request, deadline)
        return
    work = _streamed if asked.fields.stream else _whole
    await gateway.generate(call, lambda meter: work(gateway, call, shelf, asked, request, deadline, meter))


async def count(gateway: Gateway, call: Call) -> None:
    """`POST /v1/responses/input_tokens`: what the same body would read, without an answer."""
    asked = await read_body(gateway, call, shelf_of(gateway, call))
    ids = await gateway.place.tokenize(asked.chat)
    await call.respond(msgspec.json.encode({"object": "response.input_tokens", "input_tokens": len(ids)}))


async def _streamed(
    gateway: Gateway, call: Call, shelf: Shelf, asked: Asked, request: Request, deadline: Deadline, meter: Meter
) -> None:
    run = Run(call.tenant, asked.id, asked.draft())
    writer = EventWriter(padded=asked.fields.wants_padding())

    async def emit(events: list[Event]) -> None:
        await call.stream(writer.write(events))

    gateway.runs.add(run)
    try:
        closing = await run.write(gateway.place.complete(request, deadline), meter, emit)
        await _keep(shelf, asked, run)
    finally:
        gateway.runs.remove(run)
    await call.end_stream(writer.write([*closing, *run.draft.last()]), mark=b"")


async def _whole(
    gateway: Gateway, call: Call, shelf: Shelf, asked: Asked, request: Request, deadline: Deadline, meter: Meter
) -> None:
    run = Run(call.tenant, asked.id, asked.draft())
    gateway.runs.add(run)
    try:
        await run.write(gateway.place.complete(request, deadline), meter, _to_nobody)
        if run.error is not None:
            raise run.error
        await _keep(shelf, asked, run)
    finally:
        gateway.runs.remove(run)
    await call.respond(msgspec.json.encode(run.draft.body()))


async def _in_background(
    gateway: Gateway, call: Call, shelf: Shelf, asked: Asked, request: Request, deadline: Deadline
) -> None:
    """Answer at once, and write the response while nobody waits.  What cannot be taken is refused now."""
    gateway.runs.expect_room(call.tenant)
    run = Run(call.tenant, asked.id, asked.draft())
    body = run.draft.body()
    await shelf.put(body, asked.given)  # found even if this server stops before the answer ends
    run.is_kept = True
    taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work(meter: Meter) -> None:
        taken.set_result(None)
        await run.write(gateway.place.complete(request, deadline), meter, _to_nobody)

    async def whole() -> None:
        gateway.runs.add(run)
        alone = call.detached()
        try:
            await gateway.generate(alone, work)
        except Exception as error:  # a fault ends at its response, and whoever asks for it hears of it
            failure = error if isinstance(error, IsochroneError) else _fault(error, asked.id)
            run.draft.fail(failure)
            run.error = failure
            if not taken.done():
                taken.set_exception(failure)
        finally:
            await _keep_last(shelf, asked, run)
            gateway.runs.remove(run)
            alone.status = 200 if run.error is None else run.error.status
            gateway.record(alone, "/v1/responses")

    gateway.runs.keep(call.tenant, whole())
    try:
        await taken
    except IsochroneError:
        await shelf.delete(asked.id)
        raise
    await call.respond(msgspec.json.encode(body))


def _fault(error: Exception, id: str) -> IsochroneError:
    log.error("response.failed", response=id, **describe(error))
    return IsochroneError("The server failed on this response.", fix=f"Report it with the log lines of {id}.")


async def _to_nobody(events: list[Event]) -> None:
    """Where nobody listens, events are not said."""


async def _keep(shelf: Shelf, asked: Asked, run: Run) -> None:
    """Store the response if it is to be stored; an answer is not lost because it cannot be kept, and says so."""
    if not asked.fields.is_stored():
        return
    try:
        await shelf.put(run.draft.body(), asked.given)
        run.is_kept = True
    except Overloaded as error:
        run.draft.not_stored(error.message)


async def _keep_last(shelf: Shelf, asked: Asked, run: Run) -> None:
    try:
        await shelf.put(run.draft.body(), asked.given)
    except Overloaded as error:  # whoever asks for it will hear that it failed
        log.warning("response.lost", response=asked.id, why=error.message)


def head(asked: Asked) -> Body:
    """The fields of a response that do not change while it is written."""
    fields, text, reasoning = asked.fields, asked.fields.text, asked.fields.reasoning
    form = msgspec.to_builtins(text.format) if text and text.format else {"type": "text"}
    return {
        "id": asked.id, "object": "response", "created_at": int(time.time()), "model": fields.model,
        "background": bool(fields.background), "instructions": fields.instructions,
        "max_output_tokens": fields.max_output_tokens, "max_tool_calls": fields.max_tool_calls,
        "metadata": fields.metadata or {}, "parallel_tool_calls": given(fields.parallel_tool_calls, True),
        "previous_response_id": fields.previous_response_id, "prompt_cache_key": fields.prompt_cache_key,
        "prompt_cache_retention": fields.prompt_cache_retention,
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
        "safety_identifier": fields.safety_identifier, "service_tier": "default", "store": fields.is_stored(),
        "temperature": given(fields.temperature, 1.0), "text": {"format": form, "verbosity": "medium"},
        "tool_choice": given(fields.tool_choice, "auto"), "tools": asked.tools.echo,
        "top_logprobs": fields.num_top() or 0, "top_p": given(fields.top_p, 1.0), "truncation": "disabled",
        "user": fields.user,
    }  # fmt: skip


class EventWriter:
    """Events as server-sent events, numbered.  padded  fill deltas up to a multiple of 64 bytes"""

    def __init__(self, *, padded: bool = False) -> None:
        self._padded, self._number = padded, 0

    def write(self, events: list[Event]) -> bytes:
        return b"".join(self._one(kind, body) for kind, body in events)

    def _one(self, kind: str, body: Body) -> bytes:
        facts: dict[str, Any] = {"type": kind, "sequence_number": self._number, **body}
        self._number += 1
        event = b"event: %s\ndata: %s\n\n" % (kind.encode(), msgspec.json.encode(facts))
        if not self._padded or not kind.endswith(".delta"):
            return event
        bare = len(event) + len(b',"obfuscation":""')
        filling = secrets.token_hex(PAD_BYTES)[: -bare % PAD_BYTES].encode()
        return b'%s,"obfuscation":"%s"}\n\n' % (event[:-3], filling)
