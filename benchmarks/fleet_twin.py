"""The local fleet's twin in the simulator: its places at their measured speeds, its arrivals, its policy."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import openai

from isochrone.places.place import Price
from isochrone.predict.blackbox import Prior
from isochrone.routing.simulate.cloud import CloudSpec
from isochrone.routing.simulate.measures import Measures, measure
from isochrone.routing.simulate.node import NodeSpec
from isochrone.routing.simulate.places import PlaceSpec
from isochrone.routing.simulate.policies import Isochrone
from isochrone.routing.simulate.trace import Arrival
from isochrone.routing.simulate.world import World
from isochrone.testing.clouds import Answer
from isochrone.testing.demo import LocalFleet
from isochrone.testing.demo.fleet import CLOUDS, FAR_S, ISA, MODEL, NEAR_S

from .fleet_load import Stream, answer

SEEDS = range(5)
NUM_BESIDE = 6
"""Answers side by side, from which what each costs the others is measured."""
SLOTS = 32
WORDS = ("harbour", "lantern", "granite", "meadow", "copper", "violin", "glacier", "orchard", "compass", "saddle")
PRICES = {"bedrock": Price(1.0, 5.0), "vertex": Price(0.3, 2.5)}
SHORT, LONG = 8, 160
"""Words of the prompts that a node's speed is measured with."""


def prompt_of(draw: random.Random, num_words: int) -> str:
    """A prompt that shares no beginning with another."""
    return f"{draw.randrange(1 << 30)}: " + " ".join(draw.choice(WORDS) for _ in range(num_words))


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer of a node, asked directly."""

    num_prompt: int
    num_answer: int
    ttft_s: float
    itl_s: float


async def measured(fleet: LocalFleet, draw: random.Random) -> dict[str, NodeSpec]:
    """Both nodes' speeds, each while the other works too, as they do in the run: they share the machine."""
    specs = await asyncio.gather(*(_measured(fleet.nodes[name].url, draw) for name in ISA))
    return dict(zip(ISA, specs, strict=True))


async def _measured(url: str, draw: random.Random) -> NodeSpec:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        await _timed(client, prompt_of(draw, SHORT))
        short = [await _timed(client, prompt_of(draw, SHORT)) for _ in range(5)]
        long = [await _timed(client, prompt_of(draw, LONG)) for _ in range(5)]
        beside = await asyncio.gather(*(_timed(client, prompt_of(draw, SHORT)) for _ in range(NUM_BESIDE)))
    num_more = long[0].num_prompt - short[0].num_prompt
    more_s = statistics.median(one.ttft_s for one in long) - statistics.median(one.ttft_s for one in short)
    prompt_per_s = num_more / max(1e-3, more_s)
    itl_s = statistics.median(one.itl_s for one in short + long)
    slope = (statistics.median(one.itl_s for one in beside) / itl_s - 1.0) / (NUM_BESIDE - 1)
    start_s = statistics.median(one.ttft_s for one in short) - short[0].num_prompt / prompt_per_s
    return NodeSpec(prompt_per_s, itl_s, SLOTS, max(0.0, slope), start_s=max(0.0, start_s))


async def _timed(client: openai.AsyncOpenAI, prompt: str) -> Timed:
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": prompt}], max_tokens=24, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    began_at, first_at, last_at, counts = time.monotonic(), 0.0, 0.0, (0, 0)
    async for chunk in await stream:
        if chunk.choices and chunk.choices[0].delta.content:
            last_at = time.monotonic()
            first_at = first_at or last_at
        if chunk.usage is not None:
            counts = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
    return Timed(*counts, first_at - began_at, (last_at - first_at) / max(1, counts[1] - 1))


async def calm(
    fleet: LocalFleet, *, num: int, rate_per_s: float, max_tokens: int, draw: random.Random
) -> tuple[list[Stream], list[float]]:
    """(what came, when each was sent): arrivals at random, budgets of three kinds, nothing amiss."""
    budgets = ({"ttft": "2s"}, {"ttft": "800ms"}, {"ttft": "450ms"})
    ats = [0.0]
    for _ in range(num - 1):
        ats.append(ats[-1] + draw.expovariate(rate_per_s))
    streams = [Stream(prompt_of(draw, draw.randrange(SHORT, LONG)), budgets[i % 3]) for i in range(num)]
    began_at = time.monotonic()
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, timeout=120) as client:

        async def one(stream: Stream, at_s: float) -> None:
            await asyncio.sleep(max(0.0, began_at + at_s - time.monotonic()))
            await answer(client, stream, max_tokens)

        async with asyncio.TaskGroup() as tasks:
            for stream, at_s in zip(streams, ats, strict=True):
                tasks.create_task(one(stream, at_s))
    return streams, ats


def ttft_wanted_s(stream: Stream) -> float:
    """Its budget's."""
    text = stream.budget["ttft"]
    return float(text.removesuffix("ms")) / 1e3 if text.endswith("ms") else float(text.removesuffix("s"))


def goodput(streams: Sequence[Stream]) -> float:
    """Share of all that had their first word in time, and came to an end."""
    good = [s for s in streams if not s.code and not s.untyped and s.ttft_s and s.ttft_s <= ttft_wanted_s(s)]
    return len(good) / len(streams)


def twin(nodes: dict[str, NodeSpec], streams: Sequence[Stream], ats: Sequence[float]) -> list[Measures]:
    """The run in the simulator, once for each of several seeds."""
    places = [_own(name, 2 * (NEAR_S if name == "near" else FAR_S), spec) for name, spec in nodes.items()]
    places += [_cloud(name) for name in CLOUDS]
    arrivals = [_arrival(stream, at_s) for stream, at_s in zip(streams, ats, strict=True)]
    found = []
    for seed in SEEDS:
        policy = Isochrone(places, seed=seed)
        found.append(measure("isochrone", World(places, arrivals, policy, seed=seed).run()))
    return found


def _own(name: str, rtt_s: float, node: NodeSpec) -> PlaceSpec:
    prior = Prior(
        start_s=node.start_s, prompt_s=1.0 / node.prompt_per_s, request_s=0.01, itl_s=node.itl_s,
        itl_request_s=max(1e-6, node.itl_s * node.slope), spread=0.3,
    )  # fmt: skip
    return PlaceSpec(name, name, rtt_s, node, Price(0.0, 0.0), prior)


def _cloud(name: str) -> PlaceSpec:
    said = CLOUDS[name].default
    assert isinstance(said, Answer)  # a cloud that answers
    spec = CloudSpec(
        said.first_token_s, 0.0, said.token_s, scatter=0.02, itl_scatter=0.02, tail_share=0.0, failing_share=0.0,
        mood=0.0, requests_per_min=1e6, tokens_per_min=1e9,
    )  # fmt: skip
    return PlaceSpec(name, name, 0.001, spec, PRICES[name])


def _arrival(stream: Stream, at_s: float) -> Arrival:
    attempts = stream.route.get("attempts") or [{}]
    num_prompt, num_answer = attempts[-1].get("num_prompt", 100), attempts[-1].get("num_answer", 24)
    return Arrival(at_s, max(1, num_prompt), max(1, num_answer), kind="chat", ttft_s=ttft_wanted_s(stream))
