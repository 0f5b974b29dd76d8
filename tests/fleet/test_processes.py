"""The commands end to end, each a process of its own: a gateway, a node that joins it, an agent's tools, a reload."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from isochrone.ledger import Key, keys
from isochrone.ledger.database import connect_or_say
from isochrone.places.web import Web
from isochrone.routing.fleet import node_key
from isochrone.testing.demo.child import Child
from isochrone.weights import here
from tests.gateway.fleeting import fleet_text
from tests.gateway.scripted import write_tokenizer
from tests.gateway.upstreams import HEAD, ROLE, chunk, running, streamed, words

pytest.importorskip("aiohttp")
pytestmark = pytest.mark.timeout(240)
TOKEN = "a token of the fleet"
CLI = (sys.executable, "-m", "isochrone.cli")
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 10}


def environ(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ISOCHRONE_")}
    return kept | {"ISOCHRONE_HOME": str(home), "FLEET_TOKEN": TOKEN} | more


@asynccontextmanager
async def gateway_process(home: Path, text: str, *more: str) -> AsyncIterator[tuple[Child, str]]:
    """(`isochrone up --fleet`, its address)"""
    file = home / "fleet.toml"
    file.write_text(text)
    command = (*CLI, "up", *more, "--fleet", str(file), "--port", "0", "--json")
    child = Child("gateway", command, environ(home), home / "gateway.log")
    said = await child.start()
    try:
        yield child, str(said["url"]).removesuffix("/v1")
    finally:
        await child.end()


async def asked(url: str, path: str, body: Any = None, key: str = "") -> tuple[int, bytes]:
    web = Web("the gateway", url, {"authorization": f"Bearer {key}"} if key else {})
    try:
        answer = await (web.get(path, 10.0) if body is None else web.post(path, json.dumps(body).encode(), None))
        return answer.status, await answer.all()
    finally:
        await web.close()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await is_so():
            await asyncio.sleep(0.05)  # between two looks at another process


async def places_of(url: str) -> dict[str, str]:
    """Name of a place -> its state."""
    return {place["name"]: place["state"] for place in json.loads((await asked(url, "/v1/places"))[1])["data"]}


async def test_a_node_joins_answers_and_leaves(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    command = (sys.executable, "-m", "tests.gateway.serve_scripted", str(write_tokenizer(tmp_path / "node")))
    with (tmp_path / "node.log").open("wb") as log:
        node = await asyncio.create_subprocess_exec(
            *command, env=environ(tmp_path / "node", ISOCHRONE_API_KEY=node_key(TOKEN, "box")),
            stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert node.stdout is not None
    node_url = (await node.stdout.readline()).decode().strip()
    try:
        async with gateway_process(tmp_path, '[gateway]\ntoken_env = "FLEET_TOKEN"\n') as (_, url):
            joining = await asyncio.create_subprocess_exec(
                *CLI, "join", url, "--token-env", "FLEET_TOKEN", "--node", node_url, "--name", "box", "--drain", "5s",
                env=environ(tmp_path), stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip

            async def is_ready() -> bool:
                return await places_of(url) == {"node:box": "ready"}

            await until(is_ready)
            node.send_signal(signal.SIGUSR1)  # its engine answers from now on
            status, answer = await asked(url, "/v1/chat/completions", BODY | {"model": "tiny"})
            assert status == 200 and answer.endswith(b"data: [DONE]\n\n"), answer
            joining.send_signal(signal.SIGTERM)
            _, told = await joining.communicate()
            assert joining.returncode == 0 and b"box has left" in told, told

            async def is_gone() -> bool:
                return await places_of(url) == {}

            await until(is_gone)
    finally:
        node.kill()
        await node.communicate()


async def test_agents_reach_a_gateway_over_stdio_with_the_protocols_own_client(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters

    counts = b'{"prompt_tokens":3,"completion_tokens":1}'
    whole = b'{"choices":[{"message":{"content":"hello"},"finish_reason":"stop"}],"usage":%b}' % counts

    async def play(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(whole) + whole)

    async with running(play) as up, gateway_process(tmp_path, fleet_text({"lan": up.port})) as (_, url):
        server = StdioServerParameters(
            command=CLI[0], args=[*CLI[1:], "mcp", "--gateway", url], env=environ(tmp_path)
        )
        async with Client(server) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == {"complete", "places", "explain"}
            said = await client.call_tool("complete", {"prompt": "hi", "model": "m", "budget": "total=20s"})
            answer = said.structured_content
            assert answer is not None and answer["text"] == "hello" and answer["route"]["place"] == "lan"
            listed = (await client.call_tool("places", {})).structured_content
            assert listed is not None and listed["result"][0]["name"] == "lan"


async def test_a_gateway_that_is_stopped_has_settled_what_ran(tmp_path: Path) -> None:
    """With a stream running, the second SIGTERM ends it; nothing of its key's money stays withheld."""
    price = "[place.model.price]\nprompt = 1.0\ncompletion = 100.0\n"
    connection = connect_or_say(tmp_path / "state" / "ledger.db")
    key = keys.add(connection, Key(b"", "k", usd_total=1.0))
    over = asyncio.Event()

    async def play(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(HEAD)
        for frame in (ROLE, chunk({"content": "Hel"})):
            await write(b"%x\r\n%b\r\n" % (len(frame), frame))
        await over.wait()

    async with running(play) as up:
        text = fleet_text({"lan": up.port}).replace("context = 8192\n", f"context = 8192\n{price}")
        async with gateway_process(tmp_path, text) as (child, url):
            web = Web("the gateway", url, {"authorization": f"Bearer {key}"})
            answer = await web.post("/v1/chat/completions", json.dumps(BODY).encode(), None)
            while b"Hel" not in (said := await answer.read()):
                assert said

            async def is_held() -> bool:
                return bool(connection.execute("SELECT count(*) FROM holds").fetchone()[0])

            await until(is_held)
            child.signal(signal.SIGTERM)

            async def is_draining() -> bool:
                return (await asked(url, "/ready"))[0] == 503

            await until(is_draining)
            child.signal(signal.SIGTERM)

            async def is_over() -> bool:
                return not child.is_running

            await until(is_over)
            over.set()
            await web.close()
    assert connection.execute("SELECT count(*) FROM holds").fetchone()[0] == 0
    assert connection.execute("SELECT count(*) FROM gateways WHERE is_over = 0").fetchone()[0] == 0
    spent = connection.execute("SELECT granted_nano_usd, spent_nano_usd FROM leases").fetchone()
    assert spent[0] == spent[1] > 0
    connection.close()


@pytest.mark.model
async def test_a_reload_adds_a_place_and_breaks_no_stream_of_the_real_model(tmp_path: Path) -> None:
    model = here.find("smollm2-135m")
    if model is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")
    async with running(streamed(words("from there"))) as first, running(streamed(words("from here"))) as second:
        texts = [fleet_text({"one": first.port}), fleet_text({"two": second.port})]
        own = (str(model), "--name", "small", "--context", "1024")
        async with gateway_process(tmp_path, texts[0], *own) as (child, url):
            client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

            async def is_ready() -> bool:
                return await places_of(url) == {"one": "ready", "local": "ready"}

            await until(is_ready)
            stream = await client.chat.completions.create(
                model="small", messages=[{"role": "user", "content": "Count from one to five hundred."}], stream=True,
                max_tokens=600, temperature=0.0, extra_body={"ignore_eos": True},
            )  # fmt: skip
            chunks = aiter(stream)
            await anext(chunks)
            (tmp_path / "fleet.toml").write_text(texts[1])
            child.signal(signal.SIGHUP)
            num_chunks = 1

            async def has_reloaded() -> bool:
                return set(await places_of(url)) == {"two", "local"}

            await until(has_reloaded)
            async for one in chunks:
                num_chunks += 1
                last = one
            assert last.choices[0].finish_reason == "length" and num_chunks > 10
            status, answer = await asked(url, "/v1/chat/completions", BODY)
            assert status == 200 and b"from here" in answer
            await client.close()
