"""Which sequences run in the next step, and how many tokens of each: one pure function.

    running, by deadline      A  B  C  D                     waiting, by deadline   E  F  G
    1  one token for each that decodes          A · C ·      (needs a page, none left: the latest leaves: D)
    2  chunks for prompts, earliest first, running or waiting alike, until the step's tokens are spent
    3  a waiting sequence is taken only when its whole prompt has pages; nobody overtakes it for memory

So the earliest always moves: it is never preempted, never overtaken, and what it needs fits the cache (checked when it
was submitted).  Everyone becomes the earliest in time, because undated requests order as arrival + 60 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import chain

from isochrone.predict.pace import Pace, StepLoad

from .chunking import Prompt, Streams, idle_room, prompt_room, streams_max


@dataclass(slots=True)
class Standing:
    """What the scheduler knows of a sequence; the engine keeps it up to date.

    id                 its number, unique in the engine
    order_at           deadline that ranks it, instant;  total_at: instant it must end at, infinite when undated
    due_at             instant its first token is owed at; infinite when nothing was stated, when it has come, and when
                       it was given up for the sake of others
    itl_s              seconds between tokens that were stated, infinite when none were
    num_tokens         known tokens, prompt and answer
    num_computed       of these, in the cache (waiting: what the prefix tree would give it)
    num_pages          pages it holds;  num_pages_private: those that it alone holds (kept only when memory is short)
    num_pages_shared   waiting: pages of its prefix that others hold now, which admission need not find
    needs_rows         every token of the prompt needs a row of logits (it is being scored)
    is_held_back       waiting: its sibling computes the same prompt first
    has_begun          running: it has drawn since it was admitted; what is left of it are tokens its grammar forced
    """

    id: int
    order_at: float
    arrived_at: float
    num_tokens: int
    total_at: float = math.inf
    due_at: float = math.inf
    itl_s: float = math.inf
    num_computed: int = 0
    num_pages: int = 0
    num_pages_private: int = 0
    num_pages_shared: int = 0
    needs_rows: bool = False
    is_held_back: bool = False
    has_begun: bool = False

    @property
    def num_left(self) -> int:
        """Tokens to compute before the next is drawn: 1 when it decodes."""
        return self.num_tokens - self.num_computed


def rank(standing: Standing) -> tuple[float, float, int]:
    """Earliest deadline first, then arrival, then number."""
    return standing.order_at, standing.arrived_at, standing.id


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a step.  num_mixed_tokens bounds it while some sequence decodes."""

    num_running_max: int
    num_step_tokens: int
    num_mixed_tokens: int
    num_rows_max: int
    page_tokens: int

    def __post_init__(self) -> None:
        floor = min(self.num_step_tokens, self.num_mixed_tokens, self.num_rows_max)
        assert 1 <= self.num_running_max <= floor, f"a step holds a token and a row of each that runs: {self}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next tokens of a prompt."""

    id: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """To be done in this order: end the expired, preempt, admit, then run decode and prefill together."""

    expire: tuple[int, ...] = ()
    preempt: tuple[int, ...] = ()
    admit: tuple[int, ...] = ()
    decode: tuple[int, ...] = ()
    prefill: tuple[Chunk, ...] = ()


def plan_step(
    running: Sequence[Standing], waiting: Sequence[Standing], limits: Limits, num_pages_available: int, now: float,
    pace: Pace | None = None,
) -> StepPlan:  # fmt: skip
    """Fill the next step.  Both are sorted by rank; pages of those who leave here are counted in the next step.

    pace  what steps take, where it is known: it sizes the chunks of prompts, below the bounds of the limits
    """
    expire = [s.id for s in running if s.total_at <= now]
    expire += [s.id for s in waiting if s.total_at <= now]
    alive = [s for s in running if s.total_at > now] if expire else list(running)
    decode, grown, preempt, num_pages_left = _plan_decode(alive, limits, num_pages_available)
    limits = _bearable(alive, limits, pace)
    candidates = () if preempt else [s for s in waiting if s.total_at > now and not s.is_held_back]
    if not candidates and len(decode) == len(alive):
        return StepPlan(tuple(expire), tuple(preempt), (), tuple(decode), ())
    num_running = len(running) - len(preempt)  # the expired give their slots to the next step
    room = _room(alive, candidates, set(decode), limits, now, pace)
    admit, prefill = _plan_prefill(alive, candidates, limits, len(decode), room, num_running, num_pages_left, grown)
    return StepPlan(tuple(expire), tuple(preempt), tuple(admit), tuple(decode), tuple(prefill))


def _plan_decode(
    alive: list[Standing], limits: Limits, num_pages_left: int
) -> tuple[list[int], set[int], list[int], int]:
    """One token for each that decodes; when pages run out the latest leave `alive`, or the one in need waits a step.

    Also gives, for those whose pages are full, one page each, so that forced tokens move as surely as drawn ones.
    """
    decode, grown, preempt, at = [], set(), [], 0
    while at < len(alive):
        s = alive[at]
        at += 1
        if s.num_left != 1 and not s.has_begun:
            continue
        if s.num_computed == s.num_pages * limits.page_tokens:
            while num_pages_left <= 0 and len(alive) > at:
                victim = alive.pop()
                preempt.append(victim.id)
                num_pages_left += victim.num_pages_private
            if num_pages_left <= 0:
                continue  # the latest itself: it keeps its pages and waits until others finish or claim them
            num_pages_left -= 1
            grown.add(s.id)
        if s.num_left == 1:
            decode.append(s.id)
    return decode, grown, preempt, num_pages_left


def _bearable(alive: Sequence[Standing], limits: Limits, pace: Pace | None) -> Limits:
    """No more sequences at once than the tightest stated time between tokens allows; who runs already stays."""
    itl_s = min((s.itl_s for s in alive), default=math.inf)
    if itl_s == math.inf or pace is None or not pace.is_known:
        return limits
    depth = sum(s.num_tokens for s in alive) / len(alive)
    return replace(limits, num_running_max=min(limits.num_running_max, streams_max(itl_s, depth, pace)))


def _room(
    alive: Sequence[Standing], waiting: Sequence[Standing], decode: set[int], limits: Limits, now: float,
    pace: Pace | None,
) -> int:  # fmt: skip
    """Tokens that may join those who decode: what the limits leave, and what these can bear."""
    num_max = (limits.num_mixed_tokens if decode else limits.num_step_tokens) - len(decode)
    if pace is None or not pace.is_known:
        return num_max
    prefilling = [s for s in alive if s.num_left > 1]
    prompts = [Prompt(s.num_computed, s.num_left, s.due_at) for s in merge(prefilling, waiting, key=rank)]
    if not decode:
        return min(num_max, idle_room(prompts, pace))
    streams = [s for s in alive if s.id in decode]
    load = StepLoad(len(streams), len(streams), sum(s.num_tokens for s in streams))
    itl_s = min(s.itl_s for s in streams)
    has_unstated = any(s.itl_s == math.inf for s in streams)
    return min(num_max, prompt_room(Streams(load, itl_s, has_unstated), prompts, pace, now))


def _plan_prefill(
    alive: Sequence[Standing], waiting: Sequence[Standing], limits: Limits, num_decode: int, num_tokens_left: int,
    num_running: int, num_pages_left: int, grown: set[int],
) -> tuple[list[int], list[Chunk]]:  # fmt: skip
    """Forced tokens, then prompts by rank; the first waiting sequence that cannot be taken closes the door behind it.

    A prompt has its pages from admission on; forced tokens take theirs here, and are cut where there are none.
    """
    admit: list[int] = []
    prefill: list[Chunk] = []
    num_rows_left = limits.num_rows_max - num_decode
    is_open = True
    prefilling = [s for s in alive if s.num_left > 1]
    waiting_ids = {s.id for s in waiting}
    forced = [s for s in prefilling if s.has_begun]
    prompts = [s for s in prefilling if not s.has_begun] if forced else prefilling
    for s in chain(forced, merge(prompts, waiting, key=rank)):
        is_new = s.id in waiting_ids
        if num_tokens_left <= 0 or num_rows_left <= 0:
            break
        if is_new:
            num_pages = -(-s.num_tokens // limits.page_tokens) - s.num_pages_shared
            # One page to spare for each that runs: else the newcomer is preempted again in a few tokens.
            is_open = is_open and num_running < limits.num_running_max and num_pages + num_running <= num_pages_left
            if not is_open:
                continue
            num_pages_left -= num_pages
            num_running += 1
            admit.append(s.id)
        num_tokens, num_rows = _chunk(s, num_tokens_left, num_rows_left)
        if s.has_begun:
            num_tokens, num_new = _paged(s, num_tokens, s.num_pages + (s.id in grown), num_pages_left, limits)
            num_pages_left -= num_new
            if num_tokens <= 0:
                continue
        prefill.append(Chunk(s.id, num_tokens))
        num_tokens_left -= num_tokens
        num_rows_left -= num_rows
    return admit, prefill


def _paged(s: Standing, num_tokens: int, num_pages: int, num_pages_left: int, limits: Limits) -> tuple[int, int]:
    """How many of these tokens have a page or get one, and how many new pages that takes."""
    num_wanted = -(-(s.num_computed + num_tokens) // limits.page_tokens) - num_pages
    num_new = max(0, min(num_wanted, num_pages_left))
    return min(num_tokens, (num_pages + num_new) * limits.page_tokens - s.num_computed), num_new


def _chunk(s: Standing, num_tokens_left: int, num_rows_left: int) -> tuple[int, int]:
    """Tokens and rows of the next chunk of this prompt; at least one token."""
    num_left = s.num_left
    if s.needs_rows:
        num_tokens = min(num_left, num_tokens_left, num_rows_left)
        return num_tokens, num_tokens
    num_tokens = min(num_left, num_tokens_left)
    return num_tokens, 1 if num_tokens == num_left else 0
