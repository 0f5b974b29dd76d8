"""The gateway as a server of the Model Context Protocol: agent hosts ask for compute by budget.

    complete   an answer within a budget, and where it came from
    places     what can be asked
    explain    why a request went where it went

It speaks to a gateway that runs, over that gateway's own API, so that keys, limits and the ledger hold here too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from isochrone.errors import IsochroneError, MissingExtra, NotFound, Unreachable
from isochrone.places.web import Web

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

WITHIN_S = 600.0
INSTRUCTIONS = (
    "Language models behind a latency budget. Call places to see what can be asked, complete to get an answer within a "
    "budget such as 'ttft=300ms, total=5s, cost=0.002usd', and explain with its request_id to see why it went where it "
    "did."
)


class Remote:
    """A gateway that runs.  key  empty where it asks for none"""

    def __init__(self, url: str, key: str = "") -> None:
        base = url.rstrip("/").removesuffix("/v1")
        self._web = Web("the gateway", base, {"authorization": f"Bearer {key}"} if key else {})

    async def complete(
        self, prompt: str, model: str, *, budget: str, system: str, max_tokens: int | None, run: str
    ) -> dict[str, Any]:
        """One chat turn.  Raises what the gateway refuses, in its words."""
        turns = [{"role": "system", "content": system}] if system else []
        body: dict[str, Any] = {"model": model, "messages": [*turns, {"role": "user", "content": prompt}]}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        headers = {name: value for name, value in (("isochrone-budget", budget), ("isochrone-run", run)) if value}
        id, said = await self._said("POST", "/v1/chat/completions", msgspec.json.encode(body), headers)
        choice = said["choices"][0]
        return {
            "text": choice["message"].get("content") or "", "finish_reason": choice["finish_reason"],
            "request_id": id, "usage": said.get("usage"), "route": said.get("isochrone", {}).get("route"),
        }  # fmt: skip

    async def places(self) -> list[dict[str, Any]]:
        """The fleet's places; of a server with a single model, that model."""
        try:
            _, said = await self._said("GET", "/v1/places")
        except NotFound:
            _, said = await self._said("GET", "/v1/models")
        rows: list[dict[str, Any]] = said["data"]
        return rows

    async def explain(self, request_id: str) -> dict[str, Any]:
        """A request's decisions and attempts."""
        _, said = await self._said("GET", f"/v1/explain/{quote(request_id, safe='')}")  # an agent wrote it
        return said

    async def _said(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """(the request's id, the body of a good answer)."""
        if method == "GET":
            answer = await self._web.get(path, WITHIN_S)
        else:
            answer = await self._web.post(path, body, time.monotonic() + WITHIN_S, headers or {})
        try:
            data = await answer.all()
        finally:
            answer.close()
        try:
            said = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise Unreachable("The gateway's answer is no JSON.", fix="Check its address.") from error
        if answer.status == 404:
            raise NotFound(_message(said), fix="")
        if answer.status != 200:
            raise IsochroneError(_message(said), fix="")
        return answer.headers.get("x-request-id", ""), said

    async def close(self) -> None:
        await self._web.close()


def _message(said: Any) -> str:
    error = said.get("error") if isinstance(said, dict) else None
    return str(error.get("message")) if isinstance(error, dict) else str(said)[:500]


def server_of(remote: Remote) -> MCPServer:
    """The three tools, ready to be run over any of the protocol's transports.  Raises MissingExtra."""
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError as error:
        raise MissingExtra(
            "The Model Context Protocol needs a package that is not installed.", fix="pip install 'isochrone[mcp]'"
        ) from error
    server = MCPServer("isochrone", instructions=INSTRUCTIONS)

    @server.tool()
    async def complete(
        prompt: str, model: str, budget: str = "", system: str = "", max_tokens: int | None = None, run: str = ""
    ) -> dict[str, Any]:
        """Answer a prompt within a budget.

        budget: what you can wait for and spend, such as "ttft=300ms, total=5s, cost=0.002usd, quality>=0.6", or a
        class: voice, chat, agent-step, batch. run: name of the task this is a step of, whose budget is shared.
        Returns the text, where it was answered, what was predicted, what it took and what is left.
        """
        return await remote.complete(
            prompt, model, budget=budget, system=system, max_tokens=max_tokens, run=run
        )

    @server.tool()
    async def places() -> list[dict[str, Any]]:
        """The places that can be asked: their models, prices, where they are and how they do."""
        return await remote.places()

    @server.tool()
    async def explain(request_id: str) -> dict[str, Any]:
        """Why a request went where it went: each candidate with its prediction, cost and the reason it lost."""
        return await remote.explain(request_id)

    return server
