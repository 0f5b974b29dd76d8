"""What the demonstration shows: an answer whose node is killed while it speaks, and where and when it went on."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from isochrone.errors import Unreachable

from .fleet import MODEL, ROUTE, LocalFleet

PROMPT = "Tell me about the sea, and about those who cross it."
MAX_TOKENS, KILL_AFTER = 64, 12
"""Tokens of the answer, and words of it after which its node is killed."""
EXPLAIN_TRIES, EXPLAIN_EVERY_S = 40, 0.25
"""The ledger writes in batches, a moment after the answer."""


@dataclass(slots=True)
class Shown:
    """What came of the answer.

    place, went_on_at  who began it and who ended it;  pause_s  the longest silence between two pieces of it
    is_same  an undisturbed node gives the very same answer
    """

    id: str = ""
    place: str = ""
    went_on_at: str = ""
    pause_s: float = 0.0
    text: str = ""
    is_same: bool = False
    explained: str = ""
    route: dict[str, Any] = field(default_factory=dict)


async def demonstrate(
    for_s: float | None, tell: Callable[[str], None], write: Callable[[str], None], *, kill_after: int = KILL_AFTER
) -> Shown:
    """Start the fleet, show, and keep it up for so long in all.

    for_s  None: until Ctrl-C or SIGTERM, which end it early in any case
    tell   takes lines about what happens;  write: takes the answer's words
    """
    began_at = time.monotonic()
    me = asyncio.current_task()
    assert me is not None  # a coroutine that runs is a task's
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    tell(f"Starting two nodes with {MODEL}, two test clouds and a gateway ...")
    with tempfile.TemporaryDirectory(prefix="isochrone-demo-") as folder:
        async with LocalFleet(Path(folder)) as fleet:
            _introduce(fleet, tell)
            shown = await _speak(fleet, tell, write, kill_after)
            shown.explained = await explained(fleet, shown.id)
            tell(f"\nisochrone explain {shown.id}\n{shown.explained}")
            await fleet.nodes[shown.place].restart()
            shown.is_same = await _undisturbed(fleet, shown) == shown.text
            verdict = "the very same" if shown.is_same else "SOMETHING ELSE"
            tell(f"{shown.place} is back. Undisturbed, {shown.went_on_at} says {verdict}.")
            if for_s is None:
                tell("The fleet stays up until Ctrl-C.")
                await asyncio.Event().wait()
            await asyncio.sleep(max(0.0, (for_s or 0.0) - (time.monotonic() - began_at)))
    return shown


def _introduce(fleet: LocalFleet, tell: Callable[[str], None]) -> None:
    body = json.dumps({"model": ROUTE, "messages": [{"role": "user", "content": "Hello"}], "budget": {"ttft": "2s"}})
    tell(f"The fleet file is {fleet.file}. Ask the gateway, from another terminal:")
    tell(f"  curl {fleet.url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'")
    tell(f"  curl {fleet.url}/v1/places\n")


async def _speak(
    fleet: LocalFleet, tell: Callable[[str], None], write: Callable[[str], None], kill_after: int
) -> Shown:
    """One answer, whose node is killed after so many words."""
    shown, num_pieces, last_at = Shown(), 0, 0.0
    async with aiohttp.ClientSession() as session, session.post(
        f"{fleet.url}/v1/chat/completions", json=_asked(fleet)
    ) as answer:
        shown.id, shown.place = answer.headers.get("x-request-id", ""), answer.headers.get("isochrone-place", "")
        if shown.place not in fleet.nodes:
            raise Unreachable(f"No node answered: {(await answer.text())[:300]}", fix="Run it again.")
        tell(f"{PROMPT}\n[{shown.place}] ")
        async for event in _events(answer):
            shown.route = event.get("isochrone", {}).get("route") or shown.route
            words = "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
            if not words:
                continue
            now = time.monotonic()
            if num_pieces and now - last_at > shown.pause_s:
                shown.pause_s = now - last_at
            last_at, num_pieces = now, num_pieces + 1
            shown.text += words
            write(words)
            if num_pieces == kill_after:
                await fleet.nodes[shown.place].child.kill()
                write(f" [{shown.place} is killed] ")
    shown.went_on_at = str(shown.route.get("place", ""))
    write("\n")
    tell(f"The longest pause was {shown.pause_s:.2f} s; {shown.went_on_at} went on.")
    return shown


def _asked(fleet: LocalFleet) -> dict[str, Any]:
    return {
        "model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": MAX_TOKENS, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON of a stream's events.  Raises Unreachable for an error among them."""
    async for line in answer.content:
        if line.startswith(b"data: {"):
            event: dict[str, Any] = json.loads(line[6:])
            if "error" in event:
                raise Unreachable(f"The answer broke off: {event['error'].get('message')}", fix="Run it again.")
            yield event


async def _undisturbed(fleet: LocalFleet, shown: Shown) -> str:
    """The same question at the node that went on, past the gateway."""
    url = f"{fleet.nodes[shown.went_on_at].url}/v1/chat/completions"
    text = ""
    async with aiohttp.ClientSession() as session, session.post(url, json=_asked(fleet)) as answer:
        async for event in _events(answer):
            text += "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
    return text


async def explained(fleet: LocalFleet, id: str) -> str:
    """What `isochrone explain` says of a request, once the ledger has it."""
    said = b""
    for _ in range(EXPLAIN_TRIES):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "isochrone.cli", "explain", id, env=fleet.environ_of("gateway"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        if process.returncode == 0 and b"attempt" in said:
            return said.decode(errors="replace")
        await asyncio.sleep(EXPLAIN_EVERY_S)
    raise Unreachable(f"The ledger never told of {id}: {said.decode(errors='replace')}", fix="Run it again.")
