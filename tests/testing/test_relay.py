"""A relay passes bytes on unchanged and in order, late by its delay, and can stall and cut them."""

import asyncio

import pytest

from isochrone.testing.relay import Relay


async def echo(reader, writer):
    while data := await reader.read(4096):
        writer.write(data)
    writer.close()


@pytest.fixture
async def far():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def said_back(port, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    back = await reader.read(-1)
    writer.close()
    return back


async def test_bytes_come_through_whole_and_late(far):
    data = bytes(range(256)) * 4096
    async with Relay("127.0.0.1", far, delay_s=0.01) as relay:
        began_at = asyncio.get_running_loop().time()
        assert await said_back(relay.port, data) == data
        assert asyncio.get_running_loop().time() - began_at >= 0.02
        assert await asyncio.gather(*(said_back(relay.port, data[:5000]) for _ in range(20))) == [data[:5000]] * 20
    assert relay.num_connections == 21


async def test_a_stall_holds_everything_and_loses_nothing(far):
    async with Relay("127.0.0.1", far) as relay:
        relay.stall()
        answer = asyncio.create_task(said_back(relay.port, b"hello"))
        done, _ = await asyncio.wait([answer], timeout=0.05)
        assert not done
        relay.pass_on()
        assert await answer == b"hello"


async def test_a_cut_resets_who_is_there_and_who_comes_until_it_is_mended(far):
    async with Relay("127.0.0.1", far) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        relay.cut()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        with pytest.raises(ConnectionError):
            await said_back(relay.port, b"b")
        relay.mend()
        assert await said_back(relay.port, b"c") == b"c"


async def test_a_far_side_that_is_not_there_is_a_reset():
    async with Relay("127.0.0.1", 1) as relay:
        with pytest.raises(ConnectionError):
            await said_back(relay.port, b"x")


async def test_a_rate_is_kept(far):
    async with Relay("127.0.0.1", far, bytes_per_s=200_000) as relay:
        began_at = asyncio.get_running_loop().time()
        assert len(await said_back(relay.port, bytes(20_000))) == 20_000
        assert asyncio.get_running_loop().time() - began_at >= 0.1
