"""Two gateways over one ledger see one fleet, and their keys share one limit, in SQLite and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from isochrone.ledger import Ledger
from isochrone.ledger.database import Where
from isochrone.routing.fleet import Door, Fleet, FleetFile, Watch, node_key
from isochrone.routing.fleet.nodes import Joining
from isochrone.routing.geography import Geography

pytest.importorskip("aiohttp")
TOKEN = "a token of the fleet"


class Gateway:
    """One gateway's part in it."""

    def __init__(self, where: Where) -> None:
        self.ledger = Ledger(where)
        self.ledger.open(0.0)
        self.door = Door(self.ledger.nodes, TOKEN, Geography())
        self.fleet = Fleet(FleetFile((), token_env="FLEET_TOKEN"))
        self.told: list[str] = []
        self.watch = Watch(
            self.fleet, nodes=self.ledger.nodes, token=TOKEN, tell=lambda event, facts: self.told.append(event)
        )

    async def say(self, action: str, **said: object) -> None:
        await self.door.handle(action, f"Bearer {TOKEN}".encode(), msgspec.json.encode(said))


@pytest.fixture
def both(where: Where) -> Iterator[tuple[Gateway, Gateway]]:
    pair = Gateway(where), Gateway(where)
    yield pair
    for one in pair:
        one.ledger.close()


async def test_a_node_that_joins_at_one_gateway_is_a_place_of_both_until_it_leaves(
    both: tuple[Gateway, Gateway],
) -> None:
    one, other = both
    await one.say("join", **msgspec.to_builtins(Joining("box", "http://10.0.0.9:8400", "site", ("m",), 3)))
    for gateway in both:
        await gateway.watch.step()
        assert list(gateway.fleet.members) == ["node:box"] and gateway.fleet.targets("m") == (("node:box", "m"),)
        member = gateway.fleet.members["node:box"]
        assert member.max_in_flight == 3 and member.spec.key() == node_key(TOKEN, "box")
    kept = [gateway.fleet.members["node:box"] for gateway in both]
    await other.say("join", **msgspec.to_builtins(Joining("box", "http://10.0.0.9:8400", "site", ("m",), 3)))  # a beat
    for gateway, member in zip(both, kept, strict=True):
        await gateway.watch.step()
        assert gateway.fleet.members["node:box"] is member
    await other.say("drain", name="box")
    with kept[0].hold():  # the first still answers with it
        for gateway in both:
            await gateway.watch.step()
            assert not gateway.fleet.members
        assert one.fleet.leaving == (kept[0],) and other.fleet.leaving == ()
    await one.say("leave", name="box")
    await one.watch.step()
    assert one.fleet.leaving == ()
    assert all(gateway.told == ["place.added", "place.leaving", "place.closed"] for gateway in both)
