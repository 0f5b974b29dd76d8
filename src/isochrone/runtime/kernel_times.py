"""The model's own kernels at work: what each asks for and how long it takes, for the roofline.

Regions of the same place in every layer are one point.  Cycles are those worker 0 saw, barriers included; they are
turned into seconds by the wall time of the steps they add up to.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from isochrone.compiler.isa import TARGETS
from isochrone.compiler.plan import Plan, Region

from .cpu import CpuRuntime
from .roofline import KernelPoint, Unit
from .step import SamplingRows, StepBatch

NUM_PREFILL = 512
DEPTH = 2000
NUM_DECODE_STEPS = 32
KV_ITEM_BYTES = 2
MATMULS, ATTEND = ("Matmul", "MatmulPlain"), "Attend"
_LAYER = re.compile(r"layers\.\d+\.(?:self_attn\.|mlp\.)?")


@dataclass(frozen=True, slots=True)
class Situation:
    """Steps that are measured: `num_steps` of them, each with num_tokens new tokens after `start` cached ones.

    families  of kernels that become points here;  has_head  whether the head does
    """

    name: str
    start: int
    num_tokens: int
    num_steps: int
    families: tuple[str, ...]
    has_head: bool = False


def situations(context: int, num_tokens_max: int) -> tuple[Situation, ...]:
    """Prefill; decode, where products read weights; decode in the depth, where attention reads the cache."""
    depth = min(DEPTH, context - NUM_DECODE_STEPS)
    num_prefill = min(NUM_PREFILL, num_tokens_max, context)
    return (
        Situation(f"prefill {num_prefill}", 0, num_prefill, 2, (*MATMULS, ATTEND)),
        Situation("decode", 0, 1, NUM_DECODE_STEPS, MATMULS, has_head=True),
        Situation(f"decode at {depth}", depth, 1, NUM_DECODE_STEPS, (ATTEND,)),
    )


def measure_kernels(runtime: CpuRuntime) -> tuple[KernelPoint, ...]:
    """Every matmul and attention kernel of the plan, in prefill and in decode; nothing else may use the runtime.

    The cache is filled before its depth is read: memory that was never written is one page of zeros to the system,
    and reading that again and again takes less than half of the true time.
    """
    info = runtime.info
    room = min(info.context, info.num_pages * info.page_tokens)
    points: list[KernelPoint] = []
    for situation in situations(room, info.num_tokens_max):
        points += _measure(runtime, situation)
    return tuple(points)


def _measure(runtime: CpuRuntime, situation: Situation) -> Iterable[KernelPoint]:
    _fill(runtime, situation.start)
    batches = [_batch(runtime, situation, number) for number in range(situation.num_steps)]
    runtime.step(batches[0])
    runtime.times()
    began_at = time.perf_counter()
    for batch in batches:
        runtime.step(batch)
    seconds = time.perf_counter() - began_at
    cycles = {region.name: region.cycles for region in runtime.times()}
    per_cycle_s = seconds / max(1, sum(cycles.values()))
    spent: dict[str, float] = defaultdict(float)
    asked: dict[str, tuple[float, float, Unit]] = {}
    for region in runtime.plan.regions:
        demand = _demand(runtime.plan, region, situation)
        if demand is None:
            continue
        place = _LAYER.sub("", region.name)
        operations, read_bytes, unit = demand
        before = asked.get(place, (0.0, 0.0, unit))
        asked[place] = (before[0] + operations, before[1] + read_bytes, unit)
        spent[place] += cycles[region.name] * per_cycle_s / situation.num_steps
    for place, (operations, read_bytes, unit) in asked.items():
        yield KernelPoint(f"{place}, {situation.name}", operations, read_bytes, max(spent[place], 1e-9), unit)


def _fill(runtime: CpuRuntime, end: int) -> None:
    """Positions 0 .. end of the cache, as a prompt writes them."""
    most = runtime.info.num_tokens_max
    for start in range(0, end, most):
        num_tokens = min(most, end - start)
        runtime.step(_batch(runtime, Situation("fill", start, num_tokens, 1, ()), start))


def _demand(plan: Plan, region: Region, situation: Situation) -> tuple[float, float, Unit] | None:
    """(operations, bytes read, unit) of one run of a region; None when it is not of interest here."""
    family = plan.kernels[region.many.kernel][0]
    if family not in situation.families or (region.per_panel and not situation.has_head):
        return None
    if family in MATMULS:
        flops, weight_bytes, _ = plan.costs[region.name]
        rows = 1 if region.per_panel else situation.num_tokens
        return float(flops * rows), float(weight_bytes), "int8" if family == "Matmul" else "fp32"
    heads, dim = plan.kv_heads * plan.group, plan.head_dim
    end = situation.start + situation.num_tokens
    pairs = situation.num_tokens * (situation.start + 1 + end) / 2
    read_bytes = 2.0 * plan.kv_heads * dim * KV_ITEM_BYTES * end
    return 4.0 * heads * dim * pairs, read_bytes, "bf16" if TARGETS[plan.target].bf16_dot else "fp32"


def _batch(runtime: CpuRuntime, situation: Situation, number: int) -> StepBatch:
    """One sequence, greedy, its last token's logits wanted."""
    info, tokens = runtime.info, situation.num_tokens
    first = situation.start if tokens > 1 else min(situation.start + number, info.context - 1)
    pages = -(-(first + tokens) // info.page_tokens)
    source = np.random.default_rng(number)
    one = np.ones(1, np.float32)
    sampling = SamplingRows(
        temperature=0 * one, top_k=np.zeros(1, np.int32), top_p=one, min_p=0 * one, uniform=0 * one,
        targets=np.full(1, -1, np.int32), edit_starts=np.zeros(2, np.int32), edit_tokens=np.zeros(0, np.int32),
        edit_factors=np.zeros(0, np.float32), edit_deltas=np.zeros(0, np.float32),
    )  # fmt: skip
    return StepBatch(
        token_ids=source.integers(0, info.vocab_size, tokens, np.int32),
        positions=np.arange(first, first + tokens, dtype=np.int32),
        starts=np.array([0, tokens], np.int32),
        pages=np.arange(pages, dtype=np.int32)[None, :],
        logit_rows=np.array([tokens - 1], np.int32),
        sampling=sampling,
    )
