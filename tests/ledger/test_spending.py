"""A key spends no more than it may: whoever asks at once, whoever dies, whichever database, and whenever it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import spending as benchmark
from isochrone.errors import LedgerDown, SpendingHeld, SpendingLimit
from isochrone.ledger import Key, keys, leases
from isochrone.ledger.database import Connection, Store, Where, connect_or_say, store_of
from isochrone.ledger.desk import Desk
from isochrone.ledger.money import nano_of, usd_of
from isochrone.ledger.spending import DAY_S, Patience, Spending
from isochrone.ledger.writer import Writer
from tests.ledger.conftest import schema_in

PATIENCE = Patience(beat_s=5.0, alone_s=30.0, silent_s=60.0)


class Clock:
    """One for all: the day's, the gateways' own, the database's."""

    now = 20_000.0 * DAY_S

    def __call__(self, connection: object = None) -> float:
        return self.now


class Gateway:
    """One process, without the process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.clock = clock
        self.writer, self.desk = Writer(store), Desk(store)
        self.spending = Spending(self.writer, self.desk, patience=PATIENCE, clock=clock, alive=clock)
        self.writer.start()

    async def write(self) -> None:
        """Returns when all that was handed in is written, as it is long before anybody takes it for dead."""
        while self.writer.stats().num_queued:
            await asyncio.sleep(0.001)

    def die(self) -> None:
        """As kill -9: what is written is written, and nothing is given back."""
        self.writer.close()
        self.desk.close()

    def leave(self) -> None:
        self.writer.close()
        self.spending.end_now()
        self.desk.close()


class World:
    """Gateways of one ledger, keys in it, and a clock."""

    def __init__(self, where: Where) -> None:
        self.clock, self.where = Clock(), where
        self.store: Any = store_of(where)
        self.store.now = self.clock
        self.connection: Connection = connect_or_say(where)
        self._gateways: list[Gateway] = []

    def gateway(self) -> Gateway:
        self._gateways.append(Gateway(self.store, self.clock))
        return self._gateways[-1]

    def key(self, name: str = "ann", **limits: float) -> Key:
        keys.add(self.connection, Key(b"", name, **limits))  # type: ignore[arg-type]
        return next(key for key in keys.every_key(self.connection) if key.name == name)

    def spent(self, key: Key) -> float:
        """In all, as the ledger has it."""
        return usd_of(leases.spent(self.connection, key.tenant, int(self.clock.now // DAY_S))[1])

    def close(self) -> None:
        for gateway in self._gateways:
            gateway.die()
        self.connection.close()


@pytest.fixture
def world(where: Where) -> Iterator[World]:
    world = World(where)
    yield world
    world.close()


async def spend(gateway: Gateway, key: Key, id: str, most: float, real: float) -> None:
    hold = await gateway.spending.reserve(key, id, most)
    assert hold is not None
    gateway.spending.settle(hold, real)
    await gateway.write()


def test_money_is_whole_billionths_and_never_less_than_what_was_spent() -> None:
    assert [nano_of(usd) for usd in (0.3, 0.1 + 0.2, 1e-9, 5e-10, 0.0)] == [300_000_000, 300_000_000, 1, 1, 0]
    assert usd_of(nano_of(12.345678901)) == 12.345678901


async def test_a_key_without_a_limit_costs_the_ledger_nothing(world: World) -> None:
    assert await world.gateway().spending.reserve(Key(b"d", "free"), "r", 1e6) is None
    assert world.connection.execute("SELECT count(*) FROM gateways").fetchone()[0] == 0


async def test_the_last_cent_can_be_spent_and_nothing_after_it(world: World) -> None:
    key, gateway = world.key(usd_total=0.10), world.gateway()
    for number in range(10):
        await spend(gateway, key, f"r{number}", 0.01, 0.01)
    with pytest.raises(SpendingLimit, match=r"may spend 0\.000000 more.*max_tokens"):
        await gateway.spending.reserve(key, "late", 0.01)
    gateway.leave()
    assert world.spent(key) == pytest.approx(0.10)


async def test_what_was_held_and_not_spent_can_be_spent(world: World) -> None:
    key, gateway = world.key(usd_total=1.0), world.gateway()
    hold = await gateway.spending.reserve(key, "a", 0.8)
    with pytest.raises(SpendingHeld, match=r"running requests"):
        await gateway.spending.reserve(key, "b", 0.8)
    assert hold is not None
    gateway.spending.settle(hold, 0.1)
    await spend(gateway, key, "c", 0.8, 0.8)


async def test_what_a_request_cost_beyond_what_it_held_is_counted(world: World) -> None:
    key, gateway = world.key(usd_total=1.0), world.gateway()
    await spend(gateway, key, "a", 0.5, 1.5)
    gateway.leave()
    assert world.spent(key) == 1.5
    with pytest.raises(SpendingLimit):
        await world.gateway().spending.reserve(key, "b", 0.01)


async def test_a_new_day_brings_new_money_but_not_for_all_of_time(world: World) -> None:
    key, gateway = world.key(usd_per_day=1.0, usd_total=1.5), world.gateway()
    await spend(gateway, key, "a", 1.0, 1.0)
    with pytest.raises(SpendingLimit):
        await gateway.spending.reserve(key, "b", 0.5)
    world.clock.now += DAY_S
    await spend(gateway, key, "c", 0.5, 0.5)
    with pytest.raises(SpendingLimit):
        await gateway.spending.reserve(key, "d", 0.1)


async def test_gateways_that_ask_at_once_share_one_limit(world: World) -> None:
    key, gateways = world.key(usd_total=1.0), [world.gateway() for _ in range(3)]

    async def try_all(gateway: Gateway, name: int) -> int:
        num = 0
        for number in range(60):
            try:
                await spend(gateway, key, f"{name}-{number}", 0.01, 0.01)
                num += 1
            except (SpendingLimit, SpendingHeld):
                pass
        return num

    taken = await asyncio.gather(*(try_all(gateway, name) for name, gateway in enumerate(gateways)))
    assert 60 <= sum(taken) <= 100, "what an idle lease withholds is given back by beats"
    for gateway in gateways:
        await gateway.spending.beat()
        await gateway.spending.beat()
    world.clock.now += 1
    for number in range(100 - sum(taken)):
        await spend(gateways[0], key, f"rest-{number}", 0.01, 0.01)
    with pytest.raises(SpendingLimit):
        await spend(gateways[0], key, "more", 0.01, 0.01)


async def test_a_dead_gateways_lease_counts_as_spent_until_it_is_known_to_be_over(world: World) -> None:
    key, dead, other = world.key(usd_total=1.0), world.gateway(), world.gateway()
    await spend(dead, key, "a", 0.1, 0.1)
    assert await dead.spending.reserve(key, "running", 0.6) is not None
    await dead.write()
    dead.die()
    with pytest.raises(SpendingHeld):
        await other.spending.reserve(key, "b", 0.31)
    world.clock.now += 61
    await spend(other, key, "c", 0.3, 0.3)  # what its request held stays spent, the rest does not
    with pytest.raises(SpendingLimit):
        await other.spending.reserve(key, "d", 0.1)
    other.leave()
    assert world.spent(key) == pytest.approx(1.0)


async def test_a_gateway_that_was_taken_for_dead_begins_anew_and_books_what_ran(world: World) -> None:
    key, sleepy, other = world.key(usd_total=1.0), world.gateway(), world.gateway()
    hold = await sleepy.spending.reserve(key, "a", 0.2)
    await sleepy.write()
    world.clock.now += 61
    await spend(other, key, "b", 0.8, 0.8)
    with pytest.raises(SpendingLimit):
        await sleepy.spending.reserve(key, "c", 0.1)
    assert hold is not None
    sleepy.spending.settle(hold, 0.05)
    sleepy.leave()
    other.leave()
    assert world.spent(key) == pytest.approx(1.0), "what was given up for lost stays spent"


async def test_without_its_database_a_gateway_spends_its_lease_for_a_while_and_then_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, gateway = world.key(usd_total=1000.0), world.gateway()
    await spend(gateway, key, "a", 0.01, 0.01)

    async def away(work: object) -> object:
        raise LedgerDown("away", fix="", retry_after_s=1.0)

    with monkeypatch.context() as patch:
        patch.setattr(gateway.desk, "run", away)
        world.clock.now += 29
        await spend(gateway, key, "b", 0.01, 0.01)
        world.clock.now += 2
        with pytest.raises(LedgerDown):
            await gateway.spending.reserve(key, "c", 0.01)
        assert gateway.spending.num_refused == 1
    await spend(gateway, key, "d", 0.01, 0.01)


async def test_money_that_cannot_be_written_down_is_not_spent(world: World) -> None:
    key = world.key(usd_total=1000.0)
    writer, desk = Writer(world.store, num_queued_max=2), Desk(world.store)  # a writer that does not run
    spending = Spending(writer, desk, clock=world.clock, alive=world.clock)
    holds = [await spending.reserve(key, name, 0.01) for name in "ab"]
    with pytest.raises(LedgerDown, match="queue is full"):
        await spending.reserve(key, "c", 0.01)
    for hold in holds:
        assert hold is not None
        spending.settle(hold, 0.01)  # what has begun may end
    assert writer.stats().num_queued == 6
    writer.start()
    writer.close()
    desk.close()
    assert world.spent(key) == pytest.approx(0.02)


async def test_days_long_past_are_added_up_and_stay_counted(world: World) -> None:
    key = world.key(usd_total=1.0)
    for number in range(3):
        gateway = world.gateway()
        await spend(gateway, key, f"r{number}", 0.1, 0.1)
        gateway.leave()
    world.clock.now += 40 * DAY_S
    last = world.gateway()
    await spend(last, key, "new", 0.1, 0.1)
    last.leave()
    assert world.connection.execute("SELECT count(*) FROM leases WHERE gateway = 'past'").fetchone()[0] == 1
    assert world.spent(key) == pytest.approx(0.4)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("spend"), st.integers(0, 2), st.integers(1, 300), st.integers(0, 300)),
        st.tuples(st.just("hold"), st.integers(0, 2), st.integers(1, 300)),
        st.tuples(st.just("settle"), st.integers(0, 2), st.integers(0, 300)),
        st.tuples(st.just("die"), st.integers(0, 2)),
        st.tuples(st.just("leave"), st.integers(0, 2)),
        st.tuples(st.just("beat"), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.integers(1, 70)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_whatever_happens_no_limit_is_exceeded(
    kind: str, steps: list[Any], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """Three gateways that spend, hold, die, leave, sleep; none costs more than it held, and the ledger knows it all."""
    if kind == "sqlite":
        where: Where = tmp_path_factory.mktemp("l") / "l.db"
    else:
        where = schema_in(request.getfixturevalue("postgres_url"))
    world = World(where)
    try:
        asyncio.run(_play(world, steps))
    finally:
        world.close()


async def _play(world: World, steps: list[Any]) -> None:
    key, limit = world.key(usd_total=1000e-9), 1000
    gateways, holds = [world.gateway() for _ in range(3)], [[] for _ in range(3)]  # type: ignore[var-annotated]
    cost = 0
    for number, (step, *rest) in enumerate(steps):
        at = rest[0]
        try:
            if step == "spend":
                hold = await gateways[at].spending.reserve(key, f"{number}", rest[1] * 1e-9)
                gateways[at].spending.settle(hold, min(rest[1:]) * 1e-9)
                cost += min(rest[1:])
            elif step == "hold":
                holds[at].append(await gateways[at].spending.reserve(key, f"{number}", rest[1] * 1e-9))
            elif step == "settle" and holds[at]:
                hold = holds[at].pop()
                gateways[at].spending.settle(hold, min(hold.nano, rest[1]) * 1e-9)
                cost += min(hold.nano, rest[1])
            elif step == "die":
                gateways[at].die()
                cost += sum(hold.nano for hold in holds[at])  # its running requests may have cost all that they held
                gateways[at], holds[at] = world.gateway(), []
            elif step == "leave" and not holds[at]:
                gateways[at].leave()
                gateways[at] = world.gateway()
            elif step == "beat":
                await gateways[at].spending.beat()
            elif step == "wait":
                await asyncio.gather(*(gateway.write() for gateway in gateways))
                world.clock.now += at
        except (SpendingLimit, SpendingHeld):
            pass
        assert cost <= limit
    await asyncio.gather(*(gateway.write() for gateway in gateways))
    world.clock.now += 61
    leases.reclaim(world.connection, world.clock.now, PATIENCE.silent_s)
    assert nano_of(world.spent(key)) + sum(hold.nano for one in holds for hold in one) >= cost


def test_a_gateway_is_killed_among_thousands_of_requests(where: Where) -> None:
    """Real processes, kill -9: the benchmark in short."""
    report = benchmark.run(where, "test", num=1200, num_at_once=32)
    assert report.holds, report
    assert report.num_increments > 600, report
    assert report.num_refused > 0, "tight limits must be reached"
