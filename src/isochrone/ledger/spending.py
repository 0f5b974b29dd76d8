"""What keys may spend: taken before a request begins, settled when it is over, exact whoever dies in between.

Money comes as leases from the database (see `leases`), so that most requests wait for nothing: a sum is taken from the
lease in memory.  What each request holds and has cost goes through the writer's queue.  Where that cannot be written,
or this gateway has not been heard by the database for a while, requests that cost money are refused, and say why.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from isochrone.errors import LedgerDown, SpendingHeld, SpendingLimit

from . import leases
from .database import Connection
from .desk import Desk
from .keys import Key
from .leases import Fenced
from .money import nano_of, usd_of
from .writer import Write, Writer

DAY_S = 24 * 3600
REFUSED_S = 0.25


@dataclass(frozen=True, slots=True)
class Patience:
    """beat_s    how often a gateway says that it lives, and gives back what it does not need
    alone_s   without an answer of the database for so long, it spends no more
    silent_s  after so long others take back what it had; the time between the two is for clocks that differ
    """

    beat_s: float = 5.0
    alone_s: float = 30.0
    silent_s: float = 60.0


@dataclass(slots=True)
class Account:
    """One gateway's lease of one key's money on one day, in billionths.  Belongs to `Spending`.

    is_used    since the last beat;  is_unsure: the database may have another `granted` than we
    refusal    the last answer of the database, if it was one, and until when it is taken for the next: callers who
               ask again and again must not cost it anything
    """

    gateway: str
    key: Key
    day: int
    granted: int = 0
    spent: int = 0
    held: int = 0
    is_used: bool = True
    is_unsure: bool = False
    refusal: SpendingLimit | SpendingHeld | None = None
    refused_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def free(self) -> int:
        return self.granted - self.spent - self.held


@dataclass(frozen=True, slots=True)
class Hold:
    """The most that one request can cost, until it is settled."""

    id: str
    account: Account
    nano: int


def monotonic_awake_or_not() -> float:
    """Seconds that pass while the machine sleeps too: others reclaim meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Spending:
    """Of one gateway.  clock  Unix time, for the day;  alive: seconds since whenever, for its own silence"""

    def __init__(
        self, writer: Writer, desk: Desk, *, patience: Patience = Patience(), clock: Callable[[], float] = time.time,
        alive: Callable[[], float] = monotonic_awake_or_not,
    ) -> None:  # fmt: skip
        self._writer, self._desk, self._patience = writer, desk, patience
        self._clock, self._alive = clock, alive
        self._gateway = ""
        self._heard_at = 0.0
        self._accounts: dict[tuple[str, str, int], Account] = {}
        self._begin = asyncio.Lock()
        self.num_refused = 0

    async def reserve(self, key: Key, id: str, usd: float) -> Hold | None:
        """Take what a request can cost at most; `settle` it whatever happens.  None for a key without such limits.

        id  any name that no other request has
        Waits for the database only where the lease is used up.
        Raises SpendingLimit, SpendingHeld, and LedgerDown where the money cannot be counted.
        """
        if not key.has_spending_limit:
            return None
        try:
            return await self._reserve(key, id, nano_of(usd))
        except Exception:
            self.num_refused += 1
            raise

    async def _reserve(self, key: Key, id: str, nano: int) -> Hold:
        await self._expect_heard()
        account = self._account(key)
        if account.free >= nano:
            return self._hold(account, id, nano)
        async with account.lock:
            if account.free < nano:
                await self._grow(account, nano - account.free)
            if account.gateway == self._gateway:
                return self._hold(account, id, nano)
        return await self._reserve(key, id, nano)  # this gateway was taken for dead meanwhile, and began anew

    def settle(self, hold: Hold, usd: float, on_done: Callable[[], None] | None = None) -> None:
        """The request is over, and cost so much.  on_done  called in another thread once that is committed"""
        account = hold.account
        account.held -= hold.nano
        account.spent += nano_of(usd)
        account.refused_until = 0.0  # something may be free
        values = (account.gateway, account.key.tenant, account.day, account.spent)
        self._writer.put(Write(leases.SET_SPENT, values, is_durable=True), is_owed=True)
        self._writer.put(Write(leases.DROP_HOLD, (hold.id,), on_done=on_done, is_durable=True), is_owed=True)

    def left_usd(self, key: Key) -> float | None:
        """What of this key's money this gateway may spend without asking; None where it never asked."""
        account = self._accounts.get((self._gateway, key.tenant, self._today()))
        return None if account is None else usd_of(account.free)

    async def keep(self) -> None:
        """Beat until cancelled.  Belongs beside whatever serves requests."""
        while True:
            await asyncio.sleep(self._patience.beat_s)
            if self._gateway:
                with contextlib.suppress(LedgerDown):  # which requests will hear of, if it lasts
                    await self.beat()

    async def beat(self) -> None:
        """Say that we live, take back what dead ones had, give back what we do not need.  Raises LedgerDown."""
        gateway, sent_at, store = self._gateway, self._alive(), self._desk.store

        def write(connection: Connection) -> None:
            now = store.now(connection)
            leases.beat(connection, now, gateway)
            leases.reclaim(connection, now, self._patience.silent_s)

        try:
            await self._desk.run(write)
        except Fenced:
            self._gateway = ""  # the next request begins anew
            return
        self._heard_at = sent_at
        for account in list(self._accounts.values()):
            if not account.lock.locked():
                await self._trim(account)

    def end_now(self) -> None:
        """Give everything back.  Belongs after the last `settle`, and after the writer has written it."""
        if self._gateway:
            gateway, self._gateway = self._gateway, ""
            with contextlib.suppress(LedgerDown):  # then it is taken for dead, and nothing is lost but time
                self._desk.run_now(lambda connection: leases.end(connection, gateway))

    # What may be spent is lowered in memory first and raised in memory last.

    async def _grow(self, account: Account, need: int) -> None:
        """Under the account's lock."""
        if account.refusal is not None and self._alive() < account.refused_until:
            raise account.refusal.with_traceback(None)
        sent_at, granted, spent = self._alive(), account.granted, account.spent
        try:
            account.granted = await self._desk.run(
                lambda connection: leases.grant(
                    connection, self._desk.store, gateway=account.gateway, digest=account.key.digest,
                    owner=account.key.tenant, day=account.day, granted=granted, spent_so_far=spent, need=need,
                )
            )  # fmt: skip
            self._heard_at = max(self._heard_at, sent_at)
        except Fenced:
            if account.gateway == self._gateway:
                self._gateway = ""
            await self._expect_heard()
        except (SpendingLimit, SpendingHeld) as refusal:
            account.refusal, account.refused_until = refusal, self._alive() + REFUSED_S
            raise
        except (LedgerDown, asyncio.CancelledError):
            account.is_unsure = True
            raise

    async def _trim(self, account: Account) -> None:
        """Give back a lease that nobody used since the last beat, or write it anew where it may be wrong."""
        async with account.lock:
            is_idle, account.is_used = not account.is_used, False
            needed = account.spent + account.held
            is_ours = account.gateway == self._gateway
            if not is_ours or not (account.is_unsure or (is_idle and account.granted > needed)):
                if is_idle and not account.held:
                    self._forget(account)
                return
            if is_idle:
                account.granted = needed
            granted = account.granted
            account.is_unsure = True
            await self._desk.run(
                lambda connection: leases.set_granted(
                    connection, account.gateway, account.key.tenant, account.day, granted
                )
            )
            account.is_unsure = False

    def _forget(self, account: Account) -> None:
        """Of a past day, or of a gateway that this one was: nobody will ask for it again."""
        if account.day != self._today() or account.gateway != self._gateway:
            self._accounts.pop((account.gateway, account.key.tenant, account.day), None)

    def _hold(self, account: Account, id: str, nano: int) -> Hold:
        values = (id, account.gateway, account.key.tenant, account.day, nano)
        if not self._writer.put(Write(leases.ADD_HOLD, values, is_durable=True)):
            raise _down("its queue is full")
        account.held += nano
        account.is_used = True
        return Hold(id, account, nano)

    async def _expect_heard(self) -> None:
        """Raises LedgerDown where the database has not heard of this gateway for long."""
        if not self._gateway:
            async with self._begin:
                if not self._gateway:
                    await self._register()
        if self._alive() - self._heard_at > self._patience.alone_s:
            await self.beat()  # it may have slept
            if not self._gateway:
                await self._expect_heard()

    async def _register(self) -> None:
        import secrets  # of no use until a key with a limit asks

        gateway, sent_at, store = secrets.token_hex(8), self._alive(), self._desk.store

        def write(connection: Connection) -> None:
            now = store.now(connection)
            leases.reclaim(connection, now, self._patience.silent_s)
            leases.fold(connection, store, now, self._today() - leases.FOLDED_AFTER_DAYS)
            leases.register(connection, now, gateway)

        await self._desk.run(write)
        self._gateway, self._heard_at = gateway, sent_at

    def _account(self, key: Key) -> Account:
        name = (self._gateway, key.tenant, self._today())
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(self._gateway, key, name[2])
        return account

    def _today(self) -> int:
        return int(self._clock() // DAY_S)


def _down(why: str) -> LedgerDown:
    return LedgerDown(
        f"What this request costs cannot be written down now: {why}.", fix="Ask again later.", retry_after_s=5.0
    )
