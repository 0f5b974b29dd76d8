"""A gateway over a fleet, end to end on loopback: relayed answers, failover, what is told of them, the dry run, MCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from isochrone.budget import Budget, Deadline
from isochrone.places.isochrone_wire import encode_asked
from isochrone.places.place import Chat, Message, Request
from tests.gateway.fleeting import Gateway, fleet_text, gateway_over
from tests.gateway.upstreams import ROLE, chunk, refused, running, streamed, words

pytest.importorskip("aiohttp")
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def encoded(**changes: Any) -> bytes:
    return json.dumps(BODY | changes).encode()


async def explained(gateway: Gateway, id: str) -> dict[str, Any]:
    """A request's decisions, once they are written."""
    async with asyncio.timeout(10):
        while True:
            status, _, body = await gateway.send(f"/v1/explain/{id}")
            if status == 200:
                return dict(json.loads(body))
            await asyncio.sleep(0)


async def test_a_stream_says_where_it_comes_from_at_its_head_and_what_became_of_it_at_its_end(tmp_path: Path) -> None:
    async with running(streamed(words("Hello"))) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        budget = {"isochrone-budget": "total=20s, cost=0.01usd"}
        status, headers, body = await gateway.send("/v1/chat/completions", encoded(), budget)
    assert status == 200 and headers["isochrone-place"] == "lan" and headers["isochrone-model"] == "m"
    assert "total=" in headers["isochrone-predicted"] and "ttft=" in headers["isochrone-actual"]
    assert "total=" in headers["isochrone-budget-left"] and "cost=0.01usd" in headers["isochrone-budget-left"]
    assert ROLE + chunk({"content": "Hello"}) + chunk({}, "stop") in body and body.endswith(b"data: [DONE]\n\n")
    told = json.loads(body.split(b": isochrone ")[1].split(b"\n")[0])
    assert told["place"] == "lan" and told["attempts"][0]["num_answer"] == 2
    assert json.loads(up.bodies[-1])["model"] == "theirs"


async def test_openais_client_reads_a_relayed_stream_with_its_usage_and_the_route_beside_it(tmp_path: Path) -> None:
    play = streamed(words("Hel", "lo"))
    async with running(play) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        client = AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
        chunks = [one async for one in stream]
        await client.close()
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert text == "Hello" and chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 2
    assert (chunks[-1].model_extra or {})["isochrone"]["route"]["place"] == "lan"


async def test_a_place_that_refuses_or_dies_before_its_first_word_is_never_seen(tmp_path: Path) -> None:
    async with running(refused(500, "oops")) as bad, running(streamed(words("ok"))) as good:
        text = fleet_text({"bad": bad.port, "good": good.port})
        async with gateway_over(tmp_path, text) as gateway:
            for _ in range(6):
                status, headers, body = await gateway.send("/v1/chat/completions", encoded())
                assert status == 200 and b'" word"' not in body and headers["isochrone-place"] == "good"
    assert len(good.bodies) >= 6


async def test_a_stream_that_dies_after_its_first_word_ends_in_a_typed_error(tmp_path: Path) -> None:
    dying = streamed([ROLE, chunk({"content": "Hel"})], cut=True)
    async with running(dying) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        status, _, body = await gateway.send("/v1/chat/completions", encoded())
    last = json.loads(body.strip().split(b"\n\n")[-1].removeprefix(b"data: "))
    assert status == 200 and b"[DONE]" not in body and last["error"]["code"] in ("broken_off", "unreachable")


@pytest.mark.parametrize("policy", ['scope = "region:eu"', "quality = 0.9"])
async def test_what_the_operator_asks_holds_for_other_gateways_too(tmp_path: Path, policy: str) -> None:
    asked = Request("r", "m", "theirs", Chat((Message("user", "hi"),)), max_tokens=10)
    sent = encode_asked(asked, Deadline.start(Budget(), 0.0), 0.0)
    async with running(streamed(words("x"))) as up:
        text = fleet_text({"lan": up.port}, more=f"[policy]\n{policy}\n")
        async with gateway_over(tmp_path, text) as gateway:
            status, _, body = await gateway.send("/v1/node/complete", sent)
    assert status == 503 and json.loads(body)["fault"]["code"] == "no_place" and not up.bodies


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_without_bounds_is_not_relayed_by_a_number_that_bounds_nothing(
    tmp_path: Path, name: str
) -> None:
    async with running(streamed(words("x"))) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        status, _, body = await gateway.send("/v1/chat/completions", encoded(**{name: -1}))
    assert status == 400 and json.loads(body)["error"]["param"] == name and not up.bodies


async def test_the_dry_run_shows_the_table_and_sends_nothing(tmp_path: Path) -> None:
    async with running(streamed(words("x"))) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        await gateway.send("/v1/chat/completions", encoded())
        num_asked = len(up.bodies)
        status, _, body = await gateway.send("/v1/route", encoded(), {"isochrone-budget": "ttft=1s"})
        said = json.loads(body)
        assert status == 200 and said["chosen"] == {"place": "lan", "model": "m"}
        assert said["candidates"][0]["verdict"] == "chosen" and said["ask"]["ttft_s"] <= 1.0
        _, _, body = await gateway.send("/v1/route", encoded(n=2), {"isochrone-budget": "quality>=0.9"})
        said = json.loads(body)
        assert said["chosen"] is None and said["candidates"][0]["verdict"] != "chosen"
    assert len(up.bodies) == num_asked


async def test_a_decision_can_be_explained_to_whoever_asked_for_it(tmp_path: Path) -> None:
    async with running(streamed(words("x"))) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        _, headers, _ = await gateway.send("/v1/chat/completions", encoded())
        found = await explained(gateway, headers["x-request-id"])
        assert found["decisions"][0]["chosen"]["place"] == "lan" and found["attempts"][0]["kind"] == "answered"
        status, _, _ = await gateway.send("/v1/explain/unknown")
        assert status == 404


async def test_agents_find_complete_places_and_explain_through_the_protocols_own_client(tmp_path: Path) -> None:
    pytest.importorskip("mcp")
    from mcp.client import Client

    from isochrone.gateway.mcp import Remote, server_of

    counts = b'{"prompt_tokens":3,"completion_tokens":1}'
    whole = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":%b}' % counts

    async def play(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(whole) + whole)

    async with running(play) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        remote = Remote(gateway.url)
        async with Client(server_of(remote)) as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert tools == {"complete", "places", "explain"}
            asked = {"prompt": "hi", "model": "m", "budget": "total=20s"}
            said = (await client.call_tool("complete", asked)).structured_content
            assert said is not None and said["text"] == "hi" and said["route"]["place"] == "lan"
            listed = (await client.call_tool("places", {})).structured_content
            assert listed is not None and listed["result"][0]["name"] == "lan"
            await explained(gateway, said["request_id"])
            why = (await client.call_tool("explain", {"request_id": said["request_id"]})).structured_content
            assert why is not None and why["decisions"][0]["chosen"]["place"] == "lan"
            for id in ("../models", "../../metrics", "x?y"):  # names of nothing, and the way to nothing else
                assert (await client.call_tool("explain", {"request_id": id})).is_error
            refusal = await client.call_tool("complete", asked | {"model": "nothing"})
            assert refusal.is_error
        await remote.close()


async def test_metrics_say_how_often_what_was_predicted_was_kept(tmp_path: Path) -> None:
    async with running(streamed(words("Hel", "lo"))) as up:
        async with gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
            for _ in range(3):
                assert (await gateway.send("/v1/chat/completions", encoded()))[0] == 200
            page = (await gateway.send("/metrics"))[2].decode()
    for of in ("ttft", "total"):
        assert f'isochrone_predictions_total{{of="{of}"}} 3\n' in page
        kept = [
            int(line.rsplit(" ", 1)[1])
            for line in page.splitlines() if line.startswith(f'isochrone_predictions_kept_total{{of="{of}"')
        ]  # fmt: skip
        assert len(kept) == 4 and kept == sorted(kept) and kept[-1] <= 3
