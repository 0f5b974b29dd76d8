"""Agents' runs: one deadline and one sum of money over many steps, spent step by step.

A run is begun by the gateway when a step names it; its past and that of its workflow lie in the ledger.  A step may use
what is left; what it *should* use, so that the steps after it have enough, is its share.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from isochrone.budget import Deadline
from isochrone.places.route import RunLeft

NUM_KEPT_MAX = 4096
NUM_STEPS_UNKNOWN = 3.0
"""Steps that are expected to follow in a run of which nothing is known."""
SHARE_MIN = 0.1
"""Of what is left, a step may use so much however many are expected: expectations are wrong."""


class RunRecord(Protocol):
    """A run as the ledger has it."""

    @property
    def age_s(self) -> float: ...
    @property
    def took_s(self) -> float: ...
    @property
    def left_s(self) -> float | None: ...
    @property
    def left_usd(self) -> float | None: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def id(self) -> str: ...


class RunStore(Protocol):
    """What keeps runs; `ledger.runs.Runs` does."""

    async def begin(
        self, owner: str, id: str, *, workflow: str = "", total_s: float | None = None, cost_usd: float | None = None
    ) -> RunRecord: ...

    def step(self, owner: str, id: str, *, cost_usd: float, facts: bytes | None = None) -> bool: ...

    async def history(self, owner: str, workflow: str, num_wanted: int = 100) -> Sequence[RunRecord]: ...


@dataclass(frozen=True, slots=True)
class Past:
    """A run of the same workflow that is over, or nearly."""

    num_steps: int
    took_s: float


@dataclass(slots=True)
class OpenRun:
    """A run while steps of it are here.  Instants are monotonic.

    limit_at, left_usd  of the whole run;  None: not stated
    past   earlier runs of its workflow
    """

    id: str
    tenant: str
    workflow: str
    limit_at: float | None
    left_usd: float | None
    num_steps: int
    past: list[Past] = field(default_factory=list)


def steps_to_come(num_done: int, past: Sequence[Past]) -> float:
    """Expected number of steps after the one that is next, by the runs that came as far."""
    as_far = [one.num_steps - num_done - 1 for one in past if one.num_steps > num_done]
    if as_far:
        return sum(as_far) / len(as_far)
    return 0.0 if past else NUM_STEPS_UNKNOWN


def step_s(past: Sequence[Past]) -> float | None:
    """Seconds from step to step, tools included; None: not known."""
    num_steps = sum(one.num_steps for one in past)
    return sum(one.took_s for one in past) / num_steps if num_steps else None


def share_of(left: float, num_done: int, past: Sequence[Past]) -> float:
    """What of a rest the next step should use: as much as each that is to follow, and never next to nothing."""
    return left * max(SHARE_MIN, 1.0 / (1.0 + steps_to_come(num_done, past)))


class Runs:
    """The runs of which steps are here.

    store  keeps them over restarts and gateways; None: they last as long as this process
    """

    def __init__(self, store: RunStore | None, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._open: OrderedDict[tuple[str, str], OpenRun] = OrderedDict()

    async def begin(
        self, tenant: str, id: str, *, workflow: str = "", total_s: float | None = None, cost_usd: float | None = None
    ) -> OpenRun:
        """The run of that id, begun now unless it has begun; a later limit can only tighten.  Raises LedgerDown."""
        known = self._open.get((tenant, id))
        if self._store is None:
            run = known or OpenRun(id, tenant, workflow, None, None, 0)
            now = self._clock()
            if total_s is not None:
                run.limit_at = min(run.limit_at or now + total_s, now + total_s)
            if cost_usd is not None:
                run.left_usd = cost_usd if run.left_usd is None else min(run.left_usd, cost_usd)
        else:
            record = await self._store.begin(tenant, id, workflow=workflow, total_s=total_s, cost_usd=cost_usd)
            now = self._clock()
            limit_at = None if record.left_s is None else now + record.left_s
            run = OpenRun(id, tenant, workflow, limit_at, record.left_usd, record.num_steps)
            run.past = known.past if known is not None else await self._past(tenant, workflow, id)
        self._open[tenant, id] = run
        self._open.move_to_end((tenant, id))
        if len(self._open) > NUM_KEPT_MAX:
            self._open.popitem(last=False)
        return run

    async def _past(self, tenant: str, workflow: str, id: str) -> list[Past]:
        if self._store is None or not workflow:
            return []
        runs = await self._store.history(tenant, workflow)
        return [Past(run.num_steps, run.took_s) for run in runs if run.id != id and run.num_steps > 0]

    def find(self, tenant: str, id: str) -> OpenRun | None:
        """The run that a request names, if it was begun here."""
        return self._open.get((tenant, id))

    def tightened(self, run: OpenRun, deadline: Deadline, *, is_dated: bool) -> Deadline:
        """The deadline of a step, ended where its run ends.  is_dated  the step states a total time of its own"""
        total_at = deadline.total_at
        if run.limit_at is not None:
            total_at = min(total_at, run.limit_at) if is_dated else run.limit_at
        costs = [usd for usd in (deadline.cost_usd, run.left_usd) if usd is not None]
        return replace(deadline, total_at=total_at, cost_usd=max(0.0, min(costs)) if costs else None)

    def share_s(self, run: OpenRun, now: float) -> float | None:
        """Seconds that the run's next step should take; None: the run has all the time in the world."""
        if run.limit_at is None:
            return None
        return share_of(max(0.0, run.limit_at - now), run.num_steps, run.past)

    def share_usd(self, run: OpenRun) -> float | None:
        """Money that the run's next step should cost."""
        return None if run.left_usd is None else share_of(max(0.0, run.left_usd), run.num_steps, run.past)

    def left(self, run: OpenRun, *, cost_usd: float, now: float) -> RunLeft:
        """What remains after a step that costs so much."""
        typical_s = step_s(run.past)
        return RunLeft(
            run.id,
            run.num_steps + 1,
            None if run.limit_at is None else max(0.0, run.limit_at - now),
            None if run.left_usd is None else max(0.0, run.left_usd - cost_usd),
            None if typical_s is None else typical_s * steps_to_come(run.num_steps + 1, run.past),
        )

    def stepped(self, run: OpenRun, *, cost_usd: float) -> None:
        """A step is over, and cost so much."""
        run.num_steps += 1
        if run.left_usd is not None:
            run.left_usd -= cost_usd
        if self._store is not None:
            self._store.step(run.tenant, run.id, cost_usd=cost_usd)
