"""Streams at a fleet while its places die, hang and slow down: what every caller got, and whether it was right.

Trouble comes by the count of answers of our own nodes that have ended, never by a clock, so that every run meets all
of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import openai

from isochrone.errors import IsochroneError
from isochrone.ledger import decisions_of
from isochrone.testing.clouds import Answer, Script
from isochrone.testing.demo import LocalFleet
from isochrone.testing.demo.fleet import CLOUDS, ISA, MODEL, ROUTE, SAID

from .gateway_upstream import Upstream

LEVELS = ("p50_s", "p90_s", "p99_s")
NUM_AT_ONCE = 8
"""Of the undisturbed answers that texts are held against."""


@dataclass(slots=True)
class Stream:
    """One caller's answer.

    model     the route, or the model that our own nodes alone have
    code      of the typed error that it ended with; empty: it is whole.  untyped: an error that nobody typed
    route     what the answer said of its way
    """

    prompt: str
    budget: Mapping[str, str]
    model: str = ROUTE
    text: str = ""
    id: str = ""
    code: str = ""
    message: str = ""
    untyped: str = ""
    ttft_s: float | None = None
    total_s: float = 0.0
    route: dict[str, Any] = field(default_factory=dict)

    @property
    def whys(self) -> tuple[str, ...]:
        """Why each attempt was made."""
        return tuple(attempt["why"] for attempt in self.route.get("attempts", ()))

    @property
    def speaker(self) -> str:
        """The place that the answer's end came from."""
        return str(self.route.get("place", ""))

    @property
    def was_refused(self) -> bool:
        """A typed error before the first word."""
        return bool(self.code) and not self.text

    @property
    def was_broken(self) -> bool:
        """A typed error in the middle of the answer."""
        return bool(self.code) and bool(self.text)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something done to the fleet once so many answers that only our own nodes can give have ended."""

    after: int
    what: str
    act: Callable[[LocalFleet], Awaitable[None]]


BUDGETS: tuple[Mapping[str, str], ...] = ({}, {"ttft": "4s"}, {"ttft": "1500ms", "itl": "400ms"}, {"ttft": "3s"})
PATIENT = {"itl": "400ms"}
"""Of those who ask our own nodes: silence of a multiple of it is a stall."""


COMPATIBLE = "compatible"
"""The OpenAI-compatible server among the places."""
TOPICS = ("rivers", "mountains", "trains", "bread", "ships", "clocks", "rain", "maps")
PROMPTS = tuple(f"{what} {topic}." for what in ("Tell me about", "Write a story of") for topic in TOPICS)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[LocalFleet]:
    """The local fleet and an OpenAI-compatible server that costs next to nothing."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    more = (
        f'[[place]]\nname = "{COMPATIBLE}"\nkind = "openai"\nlocation = "site"\n'
        f'url = "http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"\n'
        'price = { prompt = 0.1, completion = 0.4 }\n'
        '[[place.model]]\nid = "mock"\nupstream = "mock-150-20-16"\n'
    )
    try:
        async with LocalFleet(folder, more=more, targets=(f"{COMPATIBLE}/mock",)) as fleet:
            yield fleet
    finally:
        server.close()


def mixed(num: int, prompts: Sequence[str]) -> list[Stream]:
    """Every third caller wants the model that our own nodes have, the others whatever keeps their budget."""
    return [
        Stream(prompts[i % len(prompts)], PATIENT, MODEL) if i % 3 == 0 else
        Stream(prompts[i % len(prompts)], BUDGETS[i % len(BUDGETS)])
        for i in range(num)
    ]  # fmt: skip


def asked(client: openai.AsyncOpenAI, stream: Stream, max_tokens: int) -> Any:
    """The request of a stream; greedy, so that it has one right answer."""
    return client.chat.completions.with_raw_response.create(
        model=stream.model, messages=[{"role": "user", "content": stream.prompt}], max_tokens=max_tokens, temperature=0,
        stream=True, stream_options={"include_usage": True},
        extra_body={"budget": dict(stream.budget)} if stream.budget else {},
    )  # fmt: skip


async def answer(client: openai.AsyncOpenAI, stream: Stream, max_tokens: int) -> Stream:
    """Ask, and write down what came."""
    began_at = time.monotonic()
    try:
        raw = await asked(client, stream, max_tokens)
        stream.id = raw.headers.get("x-request-id", "")
        async for chunk in raw.parse():
            words = "".join(choice.delta.content or "" for choice in chunk.choices)
            if words and stream.ttft_s is None:
                stream.ttft_s = time.monotonic() - began_at
            stream.text += words
            said = (chunk.model_extra or {}).get("isochrone")
            stream.route = said["route"] if said and "route" in said else stream.route
    except openai.APIError as error:
        code = getattr(error, "code", None)
        if code in typed_codes():
            stream.code, stream.message = str(code), error.message
        else:
            stream.untyped = f"{type(error).__name__}: {error}"
    except Exception as error:  # whatever a caller may meet is a finding here
        stream.untyped = f"{type(error).__name__}: {error}"
    stream.total_s = time.monotonic() - began_at
    return stream


def typed_codes() -> frozenset[str]:
    """Codes of our errors, but for the one that means a mistake of ours."""
    found, kinds = set(), [IsochroneError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found.add(kind.code)
    return frozenset(found - {"internal_error"})


async def undisturbed(fleet: LocalFleet, prompts: Sequence[str], max_tokens: int) -> dict[str, str]:
    """The right answers: by the quicker node, asked alone and past its wire."""
    gate = asyncio.Semaphore(NUM_AT_ONCE)
    async with openai.AsyncOpenAI(base_url=f"{fleet.nodes['near'].url}/v1", api_key="none", max_retries=0) as client:

        async def one(prompt: str) -> Stream:
            async with gate:
                return await answer(client, Stream(prompt, {}, MODEL), max_tokens)

        found = await asyncio.gather(*map(one, prompts))
    assert not any(stream.code or stream.untyped for stream in found), found
    return {stream.prompt: stream.text for stream in found}


async def storm(
    fleet: LocalFleet, streams: Sequence[Stream], troubles: Sequence[Trouble], max_tokens: int,
    tell: Callable[[str], None] = lambda text: None,
) -> float:  # fmt: skip
    """All streams at once, troubles as answers end; seconds that it took."""
    ended, news = 0, asyncio.Condition()
    began_at = time.monotonic()

    async def one(client: openai.AsyncOpenAI, stream: Stream) -> None:
        nonlocal ended
        await answer(client, stream, max_tokens)
        async with news:
            ended += stream.model == MODEL
            news.notify_all()

    async def trouble() -> None:
        for one in sorted(troubles, key=lambda one: one.after):
            async with news:
                while ended < one.after:
                    await news.wait()
            tell(f"{time.monotonic() - began_at:5.1f} s, {ended} ended: {one.what}")
            await one.act(fleet)

    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(trouble())
            for stream in streams:
                tasks.create_task(one(client, stream))
    return time.monotonic() - began_at


def usual_troubles(num: int) -> tuple[Trouble, ...]:
    """Each kind once, spread over so many answers of our own nodes, of which one is well, and known to be, always."""

    def at(share: float) -> int:
        return int(share * num)

    async def kill_far(fleet: LocalFleet) -> None:
        await fleet.nodes["far"].child.kill()
        await fleet.nodes["far"].restart()
        await fleet.until_ready("far")

    async def kill_near(fleet: LocalFleet) -> None:
        await fleet.nodes["near"].child.kill()
        await fleet.nodes["near"].restart()
        await fleet.until_ready("near")

    async def stall(fleet: LocalFleet) -> None:
        fleet.nodes["near"].child.stop()

    async def unstall(fleet: LocalFleet) -> None:
        fleet.nodes["near"].child.go_on()
        await fleet.until_ready("near")

    async def cut(fleet: LocalFleet) -> None:
        fleet.nodes["far"].relay.cut()

    async def mend(fleet: LocalFleet) -> None:
        fleet.nodes["far"].relay.mend()
        await fleet.until_ready("far")

    async def slow(fleet: LocalFleet) -> None:
        fleet.nodes["near"].relay.bytes_per_s = 4000.0

    async def quick(fleet: LocalFleet) -> None:
        fleet.nodes["near"].relay.bytes_per_s = None

    async def throttle(fleet: LocalFleet) -> None:
        await fleet.play("bedrock", Script(default=CLOUDS["bedrock"].default, throttle_s=2.0))

    async def break_off(fleet: LocalFleet) -> None:
        usual = CLOUDS["vertex"].default
        assert isinstance(usual, Answer)  # a cloud that answers
        await fleet.play("vertex", Script(plays=(msgspec.structs.replace(usual, cut_after=0),) * 3, default=usual))

    return (
        Trouble(at(0.02), "far is killed and starts again", kill_far),
        Trouble(at(0.10), "bedrock throttles, vertex breaks three connections", throttle),
        Trouble(at(0.10), "vertex breaks three connections before their first word", break_off),
        Trouble(at(0.20), "near hangs (SIGSTOP)", stall),
        Trouble(at(0.35), "near goes on", unstall),
        Trouble(at(0.45), "far's wire is cut", cut),
        Trouble(at(0.55), "far's wire is mended", mend),
        Trouble(at(0.60), "near is killed and starts again", kill_near),
        Trouble(at(0.75), "near's wire is slowed to 4 kB/s", slow),
        Trouble(at(0.90), "near's wire is as it was", quick),
    )


def wrong_texts(streams: Sequence[Stream], right: Mapping[str, str]) -> list[Stream]:
    """Whole answers that are not what their places say.

    Our own nodes go on with each other's answers to the letter; a cloud that goes on with theirs says its own words
    after theirs.
    """
    whole = [stream for stream in streams if not stream.code and not stream.untyped]
    return [one for one in whole if not _is_right(one, right[one.prompt])]


def _is_right(stream: Stream, right: str) -> bool:
    if stream.speaker in ISA:
        return stream.text == right
    if stream.speaker not in CLOUDS:
        return set(stream.text.split()) == {"word"}
    is_joined = "continued" in stream.whys
    begun = next((n for n in range(len(right), 0, -1) if stream.text.startswith(right[:n])), 0) if is_joined else 0
    rests = [stream.text[n:] for n in range(begun, begun - 4 if is_joined else -1, -1) if n >= 0]
    return any(rest and SAID.startswith(rest.strip()) for rest in rests)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of the first attempts.  kept  shares that took no longer than was stated as p50, p90 and p99"""

    num_seen: int
    ttft_kept: tuple[float, ...]
    total_kept: tuple[float, ...]


def calibration(ledger: Path, streams: Sequence[Stream]) -> Calibration:
    """What the gateway stated of the places that it chose, against what the ledger says came."""
    ttft: list[list[bool]] = []
    total: list[list[bool]] = []
    for stream in filter(lambda one: one.id, streams):
        decided, attempts = decisions_of(ledger, stream.id)
        if not decided or not attempts:
            continue
        body = msgspec.json.decode(decided[0].body)
        rows = body.get("decision", body)["rows"]
        row = next((row for row in rows if row["place"] == attempts[0].place), None)
        first = msgspec.json.decode(attempts[0].body)
        if row is None or not row.get("ttft"):
            continue
        if first.get("first_s") is not None or attempts[0].kind in ("stalled", "failed"):
            took_s = first["first_s"] - first["sent_s"] if first.get("first_s") is not None else float("inf")
            ttft.append([took_s <= row["ttft"][level] for level in LEVELS])
        if attempts[0].kind == "answered" and row.get("total"):
            whole_s = first["ended_s"] - first["sent_s"]
            total.append([whole_s <= row["total"][level] for level in LEVELS])
    return Calibration(len(ttft), _shares(ttft), _shares(total))


def _shares(kept: Sequence[Sequence[bool]]) -> tuple[float, ...]:
    return tuple(sum(column) / len(kept) for column in zip(*kept, strict=True)) if kept else ()


def figures(streams: Sequence[Stream], took_s: float) -> dict[str, Any]:
    """A run in numbers."""
    ttfts = sorted(stream.ttft_s for stream in streams if stream.ttft_s is not None)
    whole = [stream for stream in streams if not stream.code and not stream.untyped]
    codes = sorted({stream.code for stream in streams if stream.code})
    return {
        "num_streams": len(streams),
        "took_s": took_s,
        "num_whole": len(whole),
        "num_refused": sum(stream.was_refused for stream in streams),
        "num_broken_off": sum(stream.was_broken for stream in streams),
        "num_untyped": sum(bool(stream.untyped) for stream in streams),
        "codes": {code: sum(stream.code == code for stream in streams) for code in codes},
        "num_continued": sum("continued" in stream.whys for stream in streams),
        "num_hedged": sum("hedge" in stream.whys for stream in streams),
        "num_failed_over": sum("failover" in stream.whys for stream in streams),
        "num_retried": sum("retry" in stream.whys for stream in streams),
        "ttft_s_p50": ttfts[len(ttfts) // 2] if ttfts else None,
        "ttft_s_p95": ttfts[int(0.95 * (len(ttfts) - 1))] if ttfts else None,
        "places": {name: sum(s.speaker == name for s in whole) for name in sorted({s.speaker for s in whole})},
    }
