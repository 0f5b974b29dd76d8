"""A node says that it is there while it is; when it is stopped it drains, finishes what it has, and leaves."""

import asyncio

import pytest

from isochrone.errors import NotAllowed, Unreachable
from isochrone.routing.fleet import Door, NodesInMemory
from isochrone.routing.fleet.announce import announce
from isochrone.routing.fleet.nodes import Joining
from isochrone.routing.geography import Geography

TOKEN = "a token of the fleet"
SAID = Joining("box", "http://10.0.0.9:8400", "site")


class World:
    """A gateway and a node on a clock that only waits move; a script says what happens at which wait."""

    def __init__(self, loads, faults=(), token=TOKEN):
        self.now, self.told, self.posted = 0.0, [], []
        self.nodes = NodesInMemory(lambda: self.now)
        self.door = Door(self.nodes, TOKEN, Geography())
        self._loads, self._faults, self._token = list(loads), list(faults), token
        self.stop = asyncio.Event()

    async def post(self, action, body):
        self.posted.append(action)
        if self._faults and (fault := self._faults.pop(0)):
            raise fault
        return await self.door.handle(action, f"Bearer {self._token}".encode(), body)

    async def load(self):
        return self._loads.pop(0) if len(self._loads) > 1 else self._loads[0]

    async def wait(self, event, seconds):
        self.now += seconds
        if self.now >= 20:
            self.stop.set()

    async def run(self):
        tell = self.told.append
        await announce(SAID, self.post, self.load, self.stop, drain_s=30, tell=tell, wait=self.wait)


async def test_a_node_beats_until_it_is_stopped_then_finishes_and_leaves():
    world = World([0, 0, 0, 0, 3, 2, 0])
    await world.run()
    assert world.posted == ["join"] * 4 + ["drain", "leave"]
    assert await world.nodes.present(1e9) == [] and world.now == 20 + 5 + 2 * 0.5


async def test_a_node_that_does_not_answer_is_not_announced():
    world = World([None])
    await world.run()
    assert world.posted == [] and "does not answer" in world.told[0]


async def test_a_gateway_that_is_away_is_asked_again():
    world = World([0], [Unreachable("No answer.", fix="Wait."), None])
    await world.run()
    assert world.posted[:3] == ["join"] * 3 and world.told[:2] == ["No answer. It is asked again in 5 s.",
                                                                   "box has joined, live."]  # fmt: skip


async def test_who_never_finishes_leaves_after_the_time_to_drain():
    world = World([1])
    await world.run()
    assert world.posted[-1] == "leave" and world.now == 20 + 5 + 30


async def test_a_gateway_that_dies_while_a_node_drains_is_no_reason_to_stay():
    world = World([0], [None] * 4 + [Unreachable("No answer.", fix="Wait.")])
    await world.run()
    assert world.told[-1].endswith("notice by itself.")


async def test_a_wrong_token_ends_it():
    with pytest.raises(NotAllowed):
        await World([0], token="wrong").run()
