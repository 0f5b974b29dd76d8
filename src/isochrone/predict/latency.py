"""When a request will see its tokens: plan cost over machine profile, plus queue, plus network.

Everything is a pure function of plain data; admission, the router and the server's log ask the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from isochrone.profile import MachineProfile

from .correction import Correction, Quantiles
from .cost import DEFAULT_EFFICIENCY, Efficiency, StepCost, step_s
from .shape import Chunk

NUM_CHUNK_TOKENS = 512
"""Tokens that one step takes at most, unless the engine says otherwise."""


class CostModel(Protocol):
    """Whatever can price a step: a model's shape, or the compiled plan itself."""

    def step(self, chunks: Iterable[Chunk], num_rows: int) -> StepCost: ...


@dataclass(frozen=True, slots=True)
class Queue:
    """What the engine must do beside or before this request.

    num_prefill_tokens   prompt tokens of requests that go first
    decode_depths        positions cached by each sequence that decodes meanwhile
    """

    num_prefill_tokens: int = 0
    decode_depths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """The way to the place: seconds there and back, seconds of its own work before the engine sees a request."""

    round_trip_s: float = 0.0
    overhead_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a request will take.

    total_s_p50   the last token, seconds after the request was sent
    """

    ttft: Quantiles
    itl: Quantiles
    total_s_p50: float


@dataclass(frozen=True, slots=True)
class Machine:
    """Where steps run: the ceilings, the threads in use, the share of the ceilings that is reached."""

    profile: MachineProfile
    threads: int
    efficiency: Efficiency = DEFAULT_EFFICIENCY

    def step_s(self, cost: StepCost) -> float:
        """Seconds of one step."""
        return step_s(cost, self.profile, threads=self.threads, efficiency=self.efficiency)


def prefill_s(
    model: CostModel,
    machine: Machine,
    *,
    prompt_tokens: int,
    cached_tokens: int = 0,
    queue: Queue = Queue(),
    chunk_tokens: int = NUM_CHUNK_TOKENS,
) -> float:
    """Seconds until a prompt's last token is through: first what goes before it, then its own chunks.

    Every step carries one token of each sequence that decodes beside it.
    """
    decoding = tuple(Chunk(depth, 1) for depth in queue.decode_depths)
    room = max(1, chunk_tokens - len(decoding))
    total_s = 0.0
    for start, end in ((0, queue.num_prefill_tokens), (cached_tokens, prompt_tokens)):
        while start < end:
            chunk = Chunk(start, min(room, end - start))
            start += chunk.num_tokens
            total_s += machine.step_s(model.step((chunk, *decoding), len(decoding) + (start == end)))
    return total_s


def decode_step_s(model: CostModel, machine: Machine, depths: Iterable[int]) -> float:
    """Seconds of one step in which sequences of these depths get one token each."""
    chunks = tuple(Chunk(depth, 1) for depth in depths)
    return machine.step_s(model.step(chunks, len(chunks)))


def predict_request(
    model: CostModel,
    machine: Machine,
    *,
    prompt_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
    queue: Queue = Queue(),
    network: Network = Network(),
    ttft_correction: Correction = Correction(),
    itl_correction: Correction = Correction(),
    chunk_tokens: int = NUM_CHUNK_TOKENS,
) -> Prediction:
    """TTFT and ITL of one request as quantiles.  ITL is that of the answer's middle, half-way deep."""
    engine_s = prefill_s(
        model,
        machine,
        prompt_tokens=prompt_tokens,
        cached_tokens=min(cached_tokens, prompt_tokens - 1),
        queue=queue,
        chunk_tokens=chunk_tokens,
    )
    depths = (*queue.decode_depths, prompt_tokens + output_tokens // 2)
    itl = itl_correction.apply(decode_step_s(model, machine, depths))
    ttft = ttft_correction.apply(engine_s + network.round_trip_s + network.overhead_s)
    return Prediction(ttft, itl, total_s_p50=ttft.s_p50 + max(0, output_tokens - 1) * itl.s_p50)
