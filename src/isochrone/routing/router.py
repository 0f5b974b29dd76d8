"""Many places as one: whatever asks a `Place` can ask this, and is answered by the place that keeps the budget.

    request -> ask -> candidates (places, traffic, breakers, caches, geography) -> forecast -> choice -> execution
    and back: outcomes to the forecast and the breakers, one record to the journal
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from typing import Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from isochrone.budget import Deadline
from isochrone.errors import NotFound
from isochrone.places.place import Delta, Load, Model, Place, Price, Prompt, Prompted, Request, Status, dearest_usd

from .affinity import Affinity
from .asking import Density
from .breaker import Breakers
from .candidates import Scout
from .execute import Exchange, Execution, Settings, Speech
from .execute.buckets import Allowances
from .journal import Journal, Routed
from .journey import Journey
from .members import Fleet
from .outlook import Outlook
from .policy import PolicySettings
from .records import Ask, Decision
from .runs import Runs
from .traffic import Traffic

Item = TypeVar("Item")
STATUS_S = 0.05
"""How long one look at all places serves: a request looks several times."""
SEEDS = 1 << 31
"""Seeds that are drawn: what every provider takes for one."""


class Router:
    """Fulfils `Place`.

    fleet     which places there are now
    outlook   what was learned of them
    journal   keeps what was decided and what came of it;  None: nobody does
    runs      agents' runs
    clock     monotonic, the one that deadlines are on
    random    draws ties, explorations and seeds
    """

    def __init__(
        self, fleet: Fleet, outlook: Outlook | None = None, *, journal: Journal | None = None,
        runs: Runs | None = None, policy: PolicySettings | None = None, settings: Settings | None = None,
        clock: Callable[[], float] = time.monotonic, random: random.Random | None = None,
    ) -> None:  # fmt: skip
        self.fleet, self.outlook, self.clock = fleet, outlook or Outlook(), clock
        self.policy, self.settings = policy or PolicySettings(), settings or Settings()
        self.runs = runs or Runs(None, clock)
        self.breakers, self.traffic, self.affinity = Breakers(), Traffic(), Affinity()
        self.allowances, self.density = Allowances(self.settings), Density()
        self.scout = Scout(fleet, self.outlook, self.breakers, self.traffic)
        self._random = random or _random()
        self._journal = journal
        self._strays: set[asyncio.Future[None]] = set()
        self._status: tuple[float, Status] | None = None

    @property
    def name(self) -> str:
        return "fleet"

    @property
    def price(self) -> Price:
        return Price()

    @property
    def location(self) -> str:
        return self.policy.geography.here or "local"

    @property
    def continues(self) -> Literal["exactly", "roughly", "no"]:
        return "exactly"

    def draw(self) -> float:
        """A number between 0 and 1."""
        return self._random.random()

    def draw_seed(self) -> int:
        """For a request that states none."""
        return self._random.randrange(SEEDS)

    def forget(self, place: str) -> None:
        """A place has left the fleet and is closed: another of its name would be a stranger."""
        self.breakers.forget(place)
        self.affinity.forget(place)
        self.allowances.forget(place)
        self.scout.forget(place)

    def record(self, routed: Routed) -> None:
        """Hand the record of a request to the journal."""
        if self._journal is not None:
            self._journal.record(routed)

    def complete(self, request: Request, deadline: Deadline) -> AsyncGenerator[Prompted | Delta, None]:
        """See `Place.complete`.  Raises BrokenOff when an answer that had begun could not be gone on with."""
        return self.begin(request, deadline)[0]

    def begin(
        self, request: Request, deadline: Deadline
    ) -> tuple[AsyncGenerator[Prompted | Delta, None], Callable[[], float]]:
        """(the answer, what all attempts at it have cost so far, US dollars)."""
        request, journey = self.journey(request, deadline)
        speech = Speech(request, journey.find, journey.route, self.draw_seed())
        return self.execute(speech, journey, is_dated=request.dated), journey.cost_usd

    def most_usd(self, model: str, num_prompt: int, num_answer: int | None, n: int) -> float:
        """The most that one attempt at a request can cost.  num_answer  tokens of each of n answers; None: unbounded"""
        return max(
            (dearest_usd(price, context, num_prompt, num_answer, n) for price, context in self.scout.prices(model)),
            default=0.0,
        )

    def journey(self, request: Request, deadline: Deadline) -> tuple[Request, Journey]:
        """A request on its way, ended where its run ends, and its guide for `execute`."""
        run = self.runs.find(request.tenant, request.run)
        if run is not None:
            deadline = self.runs.tightened(run, deadline, is_dated=request.dated)
            request = replace(request, dated=request.dated or run.limit_at is not None)
        return request, Journey(self, request, deadline, run)

    def execute(self, exchange: Exchange[Item], journey: Journey, *, is_dated: bool) -> AsyncGenerator[Item, None]:
        """The answer to a journey's request, in whatever items the exchange speaks (a relay's raw bytes, say)."""
        execution = Execution(
            exchange, journey.deadline, journey, self.settings, self.clock, is_dated=is_dated, strays=self._strays
        )
        return execution.run()

    def decide(self, request: Request, deadline: Deadline) -> tuple[Ask, Decision]:
        """What would be done with a request now, and why: nothing is sent."""
        return self.journey(request, deadline)[1].decide()

    def status(self) -> Status:
        """Of all places together: a model can do what it can do at any of them."""
        now = self.clock()
        if self._status is None or not self._status[0] <= now < self._status[0] + STATUS_S:
            self._status = now, self._look()
        return self._status[1]

    def _look(self) -> Status:
        load, states = Load(), []
        for member in self.fleet.members.values():
            status = member.place.status()
            states.append(status.state)
            load = _sum(load, status.load)
        models = [model for name in self.fleet.models() if (model := self._model(name)) is not None]
        if not states:
            return Status("loading", (), load, "The fleet has no places yet.")
        state: State = next((state for state in _BEST_FIRST if state in states), "failed")
        return Status(state, tuple(models), load, "" if state != "failed" else "Every place has failed.")

    def _model(self, name: str) -> Model | None:
        """What a name stands for; None while no place serves it."""
        merged: Model | None = None
        for target in self.fleet.targets(name):
            member = self.fleet.members[target[0]]
            model = self.scout.model_at(member, target, member.place.status().models)
            merged = model if merged is None else _either(merged, model)
        return None if merged is None else replace(merged, id=name)

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """By the first place that knows its model's tokens."""
        return await self._teller().tokenize(prompt)

    async def detokenize(self, ids: list[int]) -> str:
        return await self._teller().detokenize(ids)

    def _teller(self) -> Place:
        for member in self.fleet.members.values():
            if member.place.continues == "exactly" and member.place.status().state == "ready":
                return member.place
        raise NotFound(
            "No place of the fleet tells its tokens.", fix="Ask one of our own nodes, or add one to the fleet."
        )

    async def close(self) -> None:
        """Wait for what is still being hung up on, then close the places."""
        if self._strays:
            _, pending = await asyncio.wait(list(self._strays), timeout=self.settings.close_s)
            for stray in pending:
                stray.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        await self.fleet.close()


State: TypeAlias = Literal["ready", "loading", "restarting", "failed"]
_BEST_FIRST: tuple[State, ...] = ("ready", "loading", "restarting", "failed")


def _random() -> random.Random:
    return random.Random()


def _either(a: Model, b: Model) -> Model:
    """A model that two places serve.  Only what both agree on makes an answer exact."""
    contexts = [context for context in (a.context, b.context) if context is not None]
    qualities = [quality for quality in (a.quality, b.quality) if quality is not None]
    return replace(
        a,
        context=max(contexts, default=None),
        abilities=tuple(dict.fromkeys((*a.abilities, *b.abilities))),
        quality=max(qualities, default=None),
        same_as=a.same_as if a.same_as == b.same_as else "",
    )


def _sum(a: Load, b: Load) -> Load:
    return Load(
        a.num_waiting + b.num_waiting,
        a.num_running + b.num_running,
        a.num_blocks_free + b.num_blocks_free,
        a.num_blocks_cached + b.num_blocks_cached,
        a.num_blocks_held + b.num_blocks_held,
        a.num_restarts + b.num_restarts,
        max(a.num_block_tokens, b.num_block_tokens),
    )
