"""Whatever one request is, the others get the bytes that they would have got alone, and nothing stays held."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from isochrone.engine.client import EngineClient
from isochrone.engine.records import EngineSpec
from isochrone.gateway.limits import Limits
from isochrone.gateway.serve import Serving
from isochrone.ledger import Key, keys
from isochrone.ledger.database import connect_or_say
from tests.gateway.conftest import Server, start_server, stop_server
from tests.gateway.poison import FACES, NAN_LETTER, PATHS, RAISE_LETTER, WORDS, Sent, body, good, poisoned
from tests.gateway.scripted import read_tokenizer

NUM_GOOD = NUM_POISONED = 200
NUM_AT_ONCE = 48
"""Three times what a step takes, so that there is always a queue to leave."""
TEXTS = (".text", ".content", ".delta", ".arguments")
VARYING = (
    "id",
    "sequence_number",
    "obfuscation",
    "created",
    "created_at",
    "completed_at",
    "timing",
    "usage",
    "request_id",
    "item_id",
    "isochrone",
)


@pytest.fixture
def server(tokenizer_directory: Path) -> Iterator[Server]:
    server = _start(tokenizer_directory)
    yield server
    stop_server(server)


def _start(tokenizer_directory: Path, **options: Any) -> Server:
    """A server over an engine process whose model is a fake that two letters poison."""
    tokenizer = read_tokenizer(tokenizer_directory).tokenizer
    (nan,), (fault,) = (tokenizer.encode(letter, add_special=False) for letter in (NAN_LETTER, RAISE_LETTER))
    arguments: dict[str, Any] = {
        "vocab_size": 330, "context": 512, "num_pages": 200, "num_tokens_max": 64, "nan_token": nan,
        "raise_token": fault,
    }  # fmt: skip
    spec = EngineSpec(load="isochrone.testing.runtime:load_fake", arguments=arguments)
    serving = Serving(port=0, log_level="critical", limits=Limits(body_bytes=200_000, body_s=5.0), **options)
    return start_server(tokenizer_directory, serving, lambda: EngineClient(spec))


def test_two_hundred_poisoned_requests_change_no_byte_of_two_hundred_good_ones(server: Server) -> None:
    candidates = [good(index) for index in range(NUM_GOOD + 30)]
    alone = asyncio.run(_all(server, candidates, num_at_once=1))
    # One may draw the poisoned letter by itself: it is no good one.
    pairs = [(sent, said) for sent, said in zip(candidates, alone, strict=True) if _is_whole(said)][:NUM_GOOD]
    assert len(pairs) == NUM_GOOD
    bad = [poisoned(index) for index in range(NUM_POISONED)]
    crowd = [(sent, said) for sent, said in pairs] + [(sent, None) for sent in bad]
    random.Random(5).shuffle(crowd)
    answers = asyncio.run(_all(server, [sent for sent, _ in crowd], num_at_once=NUM_AT_ONCE))
    for (sent, expected), (status, said) in zip(crowd, answers, strict=True):
        if expected is not None:
            assert (status, said) == expected, f"{sent} was changed by its neighbours"
        elif sent.statuses:
            assert status in sent.statuses, f"{sent.kind} in {sent.face}: {status} {said!r} for {sent.body[:300]!r}"
    assert len({sent.kind for sent, _ in crowd}) == 9, "every kind of poison was there"
    _expect_nothing_held(server, Counter(sent.kind for sent in bad))


def test_no_api_finds_the_prompt_of_another_key_in_the_cache(tokenizer_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(connect_or_say(path)) as connection:
        ours, theirs = (keys.add(connection, Key(b"", name)) for name in ("ours", "theirs"))
    server = _start(tokenizer_directory, ledger_path=path)
    try:
        for face in FACES:
            made = body(face, f"{face} " + " ".join(WORDS * 3), 2)
            found = [_num_found(server, PATHS[face], made, key) for key in (ours, theirs, ours, theirs)]
            assert found[:2] == [0, 0] and min(found[2:]) > 16, f"{face}: {found} tokens were found"
    finally:
        stop_server(server)


def _num_found(server: Server, path: str, made: dict[str, Any], key: str) -> int:
    """Prompt tokens of a request that were in the cache."""
    before = server.engine.stats.num_cached_tokens_total
    assert server.send("POST", path, made, {"authorization": f"Bearer {key}"})[0] == 200
    return int(server.engine.stats.num_cached_tokens_total - before)


def _is_whole(said: tuple[int, bytes]) -> bool:
    return said[0] == 200 and b'"error"' not in said[1].replace(b'"error": null', b"")


def _expect_nothing_held(server: Server, kinds: Counter[str]) -> None:
    """No block, no sequence, no request, no reservation; and the same process as in the beginning."""
    server.send("POST", "/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 1})
    server.wait_until(lambda: server.engine.stats.num_running == server.engine.stats.num_waiting == 0)
    stats = server.engine.stats
    assert stats.num_pages_held == 0 and stats.num_pages_free + stats.num_pages_cached == stats.num_pages
    page = server.send("GET", "/metrics")[2].decode()
    gauges = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert gauges['isochrone_kv_blocks{state="held"}'] == gauges["isochrone_requests_in_flight"] == "0"
    assert gauges["isochrone_reserved_bytes"] == "0" and server.engine.num_restarts == 0
    num_left = sum(number for kind, number in kinds.items() if kind.startswith("left in"))
    assert 0 < stats.num_cancelled_total <= num_left and stats.num_failed_total >= kinds["not finite"]


async def _all(server: Server, sents: list[Sent], num_at_once: int) -> list[tuple[int, bytes]]:
    """(status, what was said) of each; (0, nothing) for those who left."""
    slots = asyncio.Semaphore(num_at_once)

    async def one(sent: Sent) -> tuple[int, bytes]:
        async with slots, asyncio.timeout(25):
            return await _send(server, sent)

    return await asyncio.gather(*map(one, sents))


async def _send(server: Server, sent: Sent) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        head = f"POST {sent.path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(sent.body)}\r\n\r\n".encode())
        if sent.kind == "left in body":
            writer.write(sent.body[: len(sent.body) // 2])
            await writer.drain()
            return 0, b""
        writer.write(sent.body)
        if not sent.kind.startswith("left in"):
            return _parted(sent, await reader.read())
        await writer.drain()
        await _until_phase(server, sent.kind, reader)
        return 0, b""
    finally:
        writer.close()


async def _until_phase(server: Server, kind: str, reader: asyncio.StreamReader) -> None:
    """In the queue: at once.  In prefill: when the engine has made two steps more, of the eight that the prompt needs.
    In the stream: after a piece of it."""
    if kind == "left in stream":
        await reader.readuntil(b"\r\n\r\n")
        await reader.read(1)
    elif kind == "left in prefill":
        until = server.engine.stats.num_steps_total + 2
        while server.engine.stats.num_steps_total < until and not reader.at_eof():
            await asyncio.sleep(0)


def _parted(sent: Sent, answer: bytes) -> tuple[int, bytes]:
    """Status, and the body without what differs from one asking to the next."""
    assert answer, f"{sent.kind} in {sent.face} was left without a word"
    head, _, content = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        content = _joined(content)
    return int(head.split()[1]), _said(content)


def _joined(chunks: bytes) -> bytes:
    content = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        content += chunks[: int(size, 16)]
        chunks = chunks[int(size, 16) + 2 :]
    return content


def _said(content: bytes) -> bytes:
    """What a body or a stream says, however it is cut into events: texts joined, scores in order, the rest once."""
    leaves: dict[str, list[Any]] = {}
    for line in content.split(b"\n"):
        line = line.removeprefix(b"data: ").strip()
        if line.startswith(b"{"):
            _gather(json.loads(line), "", leaves)
        elif line:
            _gather(line.decode(), "line", leaves)
    for path, values in leaves.items():
        if path.endswith(TEXTS):
            leaves[path] = ["".join(values)]
        elif "logprobs" not in path:
            leaves[path] = sorted(set(values), key=repr)
    return json.dumps(leaves, sort_keys=True).encode()


def _gather(value: Any, path: str, leaves: dict[str, list[Any]]) -> None:
    """Every leaf under its path, without ids, instants, durations and what was cached."""
    if isinstance(value, dict):
        where = f"{path}[{value['index']}]" if path.endswith("choices") else path
        for key, inner in value.items():
            if key not in VARYING and not key.endswith("duration"):
                _gather(inner, f"{where}.{key}", leaves)
    elif isinstance(value, list):
        for inner in value:
            _gather(inner, path, leaves)
    elif value is not None:
        leaves.setdefault(path, []).append(value)
