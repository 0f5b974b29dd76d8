"""The way to a place is measured on connections that stood, and comes to be believed before any table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gateway.fleeting import fleet_text, gateway_over
from tests.gateway.upstreams import running, streamed, words

pytest.importorskip("aiohttp")


async def test_looks_at_a_place_measure_the_way_to_it(tmp_path: Path) -> None:
    async with running(streamed(words("x"))) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        member: Any = gateway.place.fleet.members["lan"]
        await member.place.start()
        assert member.place.connect_took_s is not None
        for _ in range(10):
            await member.place.list_models()
            await gateway.place.watch.step()
        assert member.round_trips.num >= 8
        measured = member.round_trips.rtt
        assert measured is not None and gateway.place.fleet.network("lan") == measured
