"""A key's money holds at the gateway: on both roads, for many callers at once, however a request ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.budget import Budget, Deadline
from isochrone.gateway.serve import keep_spending
from isochrone.gateway.spending import num_prompt_tokens_max
from isochrone.ledger import Key, keys
from isochrone.ledger.database import Connection, connect_or_say
from isochrone.places.isochrone_wire import encode_asked
from isochrone.places.place import Chat, Message, Price, Request, Text, TokenIds, Tool, dearest_usd
from tests.gateway.fleeting import Gateway, fleet_text, gateway_over
from tests.gateway.upstreams import HEAD, ROLE, chunk, refused, running, streamed, words

pytest.importorskip("aiohttp")
PRICED = "[place.model.price]\nprompt = 1.0\ncompletion = 100.0\n"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}
COST_USD = (7 * 1.0 + 2 * 100.0) / 1e6
"""Of an answer of `words`, by the usage that its place states."""
MOST_USD = (num_prompt_tokens_max(Chat((Message("user", "hi"),))) * 1.0 + 10 * 100.0) / 1e6


def priced(**ports: int) -> str:
    return fleet_text(ports).replace("context = 8192\n", f"context = 8192\n{PRICED}")


@contextmanager
def opened(where: Path) -> Iterator[Connection]:
    connection = connect_or_say(where)
    try:
        yield connection
    finally:
        connection.close()


def key_in(folder: Path, **limits: Any) -> dict[str, str]:
    """Headers with a key of the ledger that `gateway_over` will open there."""
    with opened(folder / "ledger.db") as connection:
        return {"authorization": f"Bearer {keys.add(connection, Key(b'', 'k', **limits))}"}


async def booked(gateway: Gateway) -> tuple[float, float]:
    """(spent, held) in US dollars, once nothing waits for the disk."""
    async with asyncio.timeout(10):
        while gateway.ledger.stats().num_queued:
            await asyncio.sleep(0)
    with opened(Path(gateway.ledger.path)) as connection:
        (spent,) = connection.execute("SELECT coalesce(sum(spent_nano_usd), 0) FROM leases").fetchone()
        (held,) = connection.execute("SELECT coalesce(sum(nano_usd), 0) FROM holds").fetchone()
    return int(spent) / 1e9, int(held) / 1e9


def body(**changes: Any) -> bytes:
    return json.dumps(BODY | changes).encode()


ROADS = {
    "relayed": ("/v1/chat/completions", body(stream=True)),
    "spoken": ("/v1/messages", body()),
    "for another gateway": (
        "/v1/node/complete",
        encode_asked(
            Request("r", "m", "theirs", Chat((Message("user", "hi"),)), max_tokens=10),
            Deadline.start(Budget(), 0.0), 0.0,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("road", ROADS)
async def test_a_request_costs_its_key_what_its_place_counted(tmp_path: Path, road: str) -> None:
    path, sent = ROADS[road]
    key = key_in(tmp_path, usd_total=1.0)
    async with running(streamed(words("Hel", "lo"))) as up, gateway_over(tmp_path, priced(lan=up.port)) as gateway:
        status, _, answer = await gateway.send(path, sent, key)
        assert status == 200 and b"Hel" in answer, answer
        spent_usd, held_usd = await booked(gateway)
    assert spent_usd == pytest.approx(COST_USD) and held_usd == 0.0


@pytest.mark.parametrize("road", ROADS)
async def test_callers_at_once_never_spend_more_than_their_key_may(tmp_path: Path, road: str) -> None:
    """The limit is for what eleven requests cost, while one of them may cost five times as much."""
    path, sent = ROADS[road]
    limit_usd = 11 * COST_USD
    key = key_in(tmp_path, usd_total=limit_usd)
    num_asked = 0

    async def play(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        nonlocal num_asked
        num_asked += 1
        await streamed(words("Hel", "lo"))(body, write)

    async with running(play) as up, gateway_over(tmp_path, priced(lan=up.port)) as gateway:
        statuses: list[int] = []
        codes: set[str] = set()

        async def ask_often() -> None:
            for _ in range(6):
                status, _, answer = await gateway.send(path, sent, key)
                statuses.append(status)
                codes.update(code for code in ("insufficient_quota", "spending_held") if code.encode() in answer)

        await asyncio.gather(*(ask_often() for _ in range(8)))
        spent_usd, held_usd = await booked(gateway)
        page = (await gateway.send("/metrics", headers=key))[2].decode()
    assert statuses.count(200) == num_asked > 0 and set(statuses) == {200, 429} and codes
    assert spent_usd == pytest.approx(num_asked * COST_USD) and spent_usd <= limit_usd and held_usd == 0.0
    assert f"isochrone_spending_refused_total {statuses.count(429)}" in page
    assert "isochrone_ledger_queued " in page


async def test_whoever_hangs_up_pays_for_what_was_said_and_no_more_is_held(tmp_path: Path) -> None:
    key = key_in(tmp_path, usd_total=1.0)
    over = asyncio.Event()

    async def play(body: dict[str, Any], write: Callable[[bytes], Awaitable[None]]) -> None:
        for frame in (ROLE, chunk({"content": "Hel"})):
            await write((b"" if frame is not ROLE else HEAD) + b"%x\r\n%b\r\n" % (len(frame), frame))
        await over.wait()

    async with running(play) as up, gateway_over(tmp_path, priced(lan=up.port)) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        sent = body(stream=True)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: {key['authorization']}\r\n"
        writer.write(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
        await reader.readuntil(b"Hel")
        assert (await booked(gateway))[1] == pytest.approx(MOST_USD)
        writer.close()
        async with asyncio.timeout(10):
            while (await booked(gateway))[1]:
                await asyncio.sleep(0)
        spent_usd, held_usd = await booked(gateway)
        over.set()
    assert 0.0 < spent_usd < MOST_USD and held_usd == 0.0


async def test_what_no_place_answered_costs_nothing(tmp_path: Path) -> None:
    key = key_in(tmp_path, usd_per_day=1.0)
    async with running(refused(400, "no")) as up, gateway_over(tmp_path, priced(lan=up.port)) as gateway:
        status, _, _ = await gateway.send("/v1/chat/completions", body(), key)
        assert status == 400 and await booked(gateway) == (0.0, 0.0)


async def test_a_key_with_no_money_left_is_answered_where_nothing_is_paid(tmp_path: Path) -> None:
    key = key_in(tmp_path, usd_total=1e-9)
    async with running(streamed(words("x"))) as up, gateway_over(tmp_path, fleet_text({"lan": up.port})) as gateway:
        status, _, answer = await gateway.send("/v1/chat/completions", body(stream=True), key)
        assert status == 200, answer
        assert await booked(gateway) == (0.0, 0.0)


async def test_a_key_without_a_limit_costs_the_ledger_nothing(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    async with running(streamed(words("x"))) as up, gateway_over(tmp_path, priced(lan=up.port)) as gateway:
        status, _, answer = await gateway.send("/v1/chat/completions", body(stream=True), key)
        assert status == 200, answer
        assert await booked(gateway) == (0.0, 0.0)


async def test_money_is_kept_as_soon_as_a_key_with_a_limit_is_there() -> None:
    class Money:
        def __init__(self) -> None:
            self.kept = asyncio.Event()

        async def keep(self) -> None:
            self.kept.set()
            await asyncio.Event().wait()

    class Books:
        def __init__(self) -> None:
            self.live: list[Key] = [Key(b"", "free")]
            self.keys, self.spending = self, Money()

        def all(self) -> list[Key]:
            return self.live

    books = Books()
    keeping = asyncio.ensure_future(keep_spending(books, every_s=0.0))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert not books.spending.kept.is_set()
    books.live.append(Key(b"", "paid", usd_total=1.0))
    await asyncio.wait_for(books.spending.kept.wait(), 10)
    keeping.cancel()


@given(st.text(min_size=1), st.integers(1, 9), st.integers(1, 10**6) | st.none(), st.integers(1, 10**6) | st.none())
def test_a_request_never_costs_more_than_is_held_for_it(
    text: str, n: int, num_answer: int | None, context: int | None
) -> None:
    """A token of any tokenizer stands for two bytes at least, in the long run: it holds of what is not made to cost."""
    num_prompt, price = num_prompt_tokens_max(Text(text)), Price(3.0, 15.0, 0.3, 3.75)
    most_usd = dearest_usd(price, context, num_prompt, num_answer, n)
    said = min(num_answer or 1, context or 1 << 30)
    assert most_usd * 1e6 >= num_prompt * 3.75 + n * said * 15.0 - 1e-6
    assert num_prompt * 2 > len(text.encode()) and num_prompt_tokens_max(TokenIds((1, 2))) == 2


def test_tools_and_their_calls_count_as_prompt() -> None:
    turns = (Message("user", "hi"),)
    plain = num_prompt_tokens_max(Chat(turns))
    assert num_prompt_tokens_max(Chat(turns, tools=(Tool("f", "d" * 600),))) > plain + 300
