"""How much of a prompt joins a step in which others decode: what the tightest of these streams can bear.

    ├── the streams' own tokens ──┼── room for prompts ──┤
    0                          base_s                 allowed_s = min( 0.9 · itl_s of whoever states one,
                                                                       1.92 · base_s while somebody states none )

With 1.92 a prompt costs the streams beside it less than twice the time between tokens, and itself gets 0.92 / 1.92 of
the machine: its first token comes within 2.1 times what it takes alone, and what small chunks waste.  A prompt that
states when it must begin may take more from streams that stated nothing, up to 0.2 s a token, and only as much as it
needs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from isochrone.predict.pace import Pace, StepLoad

STRETCH = 1.92
"""Time between tokens of streams that stated none, beside a prompt: so many times that without it."""
URGENT_ITL_S_MAX = 0.2
"""Most that a dated prompt in need may cost a stream that stated nothing, seconds between tokens."""
ITL_SHARE = 0.9
"""Of a stated time between tokens, what a step may be planned to take; the rest is for steps that come out longer."""
DUE_SHARE = 0.7
"""Of the time until a first token is due, when it is planned to come."""
NUM_CHUNK_MIN = 4
"""A prompt always gets on by this many tokens, whatever was stated: nobody starves."""
TILE_ROWS, NUM_TILED_MIN = 4, 16
"""Steps of whole tiles waste nothing (5 % at 16 tokens); below that many, rounding down would waste more."""

IDLE_STEP_S = 0.25
"""Most that a step of prompts alone is planned to take: who comes meanwhile waits for its end."""
NUM_IDLE_MIN = 128
"""Tokens with which such a step uses the machine well; a slow model's steps are not cut below."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Those who decode in the step.

    load    what their tokens ask of the step
    itl_s   the least that any of them stated; infinite when none did
    has_unstated  whether some stated nothing
    """

    load: StepLoad
    itl_s: float = math.inf
    has_unstated: bool = True


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt still to be computed.  due_at  when its first token is owed, infinite when it stated nothing"""

    start: int
    num_tokens: int
    due_at: float = math.inf


def prompt_room(streams: Streams, prompts: Sequence[Prompt], pace: Pace, now: float) -> int:
    """Tokens of prompts, given in order of service, that may join the step; at least NUM_CHUNK_MIN."""
    base_s = pace.step_s(streams.load)
    calm_s = urgent_s = math.inf
    if streams.itl_s < math.inf:
        calm_s = urgent_s = streams.itl_s * ITL_SHARE
    if streams.has_unstated:
        calm_s = min(calm_s, STRETCH * base_s)
        urgent_s = min(urgent_s, max(URGENT_ITL_S_MAX, STRETCH * base_s))
    start = prompts[0].start if prompts else 0
    room = pace.chunk_tokens(streams.load, start, calm_s)
    if urgent_s > calm_s:
        most = pace.chunk_tokens(streams.load, start, urgent_s)
        room = max(room, min(tokens_needed(prompts, base_s, pace, now), most))
    if room >= NUM_TILED_MIN:
        room -= (streams.load.num_tokens + room) % TILE_ROWS
    return max(room, NUM_CHUNK_MIN)


def streams_max(itl_s: float, depth: float, pace: Pace) -> int:
    """How many streams of this depth can draw a token every itl_s seconds; at least one."""
    constant, token, row, pair = pace.factors
    return max(1, int((itl_s * ITL_SHARE - constant) / max(token + row + pair * depth, 1e-12)))


def urgent_slowdown(load: StepLoad, itl_s: float, pace: Pace) -> float:
    """How many times its own seconds a prompt takes beside these streams, when it gets all that they can bear."""
    if not load.num_tokens:
        return 1.0
    base_s = pace.step_s(load)
    allowed_s = min(max(URGENT_ITL_S_MAX, STRETCH * base_s), itl_s * ITL_SHARE)
    return allowed_s / (allowed_s - base_s) if allowed_s > base_s else math.inf


def idle_room(prompts: Sequence[Prompt], pace: Pace) -> int:
    """Tokens of prompts in a step in which nobody decodes."""
    return max(NUM_IDLE_MIN, pace.chunk_tokens(StepLoad(0, 0, 0.0), prompts[0].start if prompts else 0, IDLE_STEP_S))


def tokens_needed(prompts: Sequence[Prompt], base_s: float, pace: Pace, now: float) -> int:
    """The least chunk with which each dated prompt, served in this order, has its first token in time.

    n tokens in chunks of c take n / c steps of base_s, and the n tokens' own seconds: c = n · base / (left - own).
    Prompts that come too late whatever the chunk are not counted.
    """
    needed, num_tokens, own_s = 0.0, 0, 0.0
    for prompt in prompts:
        own_s += pace.prompt_s(prompt.start, prompt.num_tokens)
        num_tokens += prompt.num_tokens
        if prompt.due_at == math.inf:
            continue
        left_s = (prompt.due_at - now) * DUE_SHARE - own_s
        if left_s <= 0.0:
            left_s = prompt.due_at - now - own_s  # late by the plan, perhaps not by the clock: with all there is
            if left_s > 0.0:
                return 1 << 30
            continue
        needed = max(needed, num_tokens * base_s / left_s)
    return math.ceil(min(needed, float(1 << 30)))
