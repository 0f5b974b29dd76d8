"""A fleet file that says `mdns` makes the gateway look for nodes, and what it finds becomes a place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from isochrone.routing.fleet import mdns
from isochrone.routing.fleet.nodes import Joining
from tests.gateway.fleeting import gateway_over

pytest.importorskip("aiohttp")
TEXT = '[gateway]\ntoken_env = "FLEET_TOKEN"\nmdns = true\n'
BOX = Joining("box", "http://127.0.0.1:9", "site")


async def test_a_node_on_the_network_becomes_a_place_once_it_proves_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_TOKEN", "right")
    ended = asyncio.Event()

    async def browse(seen: mdns.Seen, zeroconf: object) -> None:
        assert zeroconf == "the network"
        for token in ("wrong", "right"):
            said = Joining(f"{BOX.name}-{token}", BOX.url, BOX.location)
            properties = {key.encode(): value.encode() for key, value in mdns.properties_of(said, token).items()}
            seen.found(token, dict(properties))
        await seen.beat()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(mdns, "browse", browse)
    monkeypatch.setattr(mdns, "opened", lambda: "the network")
    async with gateway_over(tmp_path, TEXT) as gateway, asyncio.timeout(20):
        while not gateway.place.fleet.members:
            await gateway.place.watch.step()
        assert list(gateway.place.fleet.members) == ["node:box-right"]
    assert ended.is_set()
