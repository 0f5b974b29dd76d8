"""Spending limits under kill -9: python -m benchmarks.spending [--num 68000] [--store sqlite,postgres] [--json FILE]

Two gateways share one ledger and spend for keys whose limits are ample or tight, 256 requests each at once.  One of
them is killed in the middle, and another takes its place.  Then the books are compared with what the gateways said:

    exceeded   what requests really cost, beyond a key's limit: at most what was in flight when the gateway died
    lost       what was acknowledged, and is not in the ledger: nothing
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from isochrone.ledger import Key, keys, leases
from isochrone.ledger.database import Where, connect_or_say
from isochrone.ledger.money import usd_of

from . import postgres_server
from .spending_gateway import MOST_NANO

NUM_AMPLE, NUM_TIGHT = 4, 4
BEAT_S = 0.5
DAY_S = 24 * 3600


@dataclass(slots=True)
class Said:
    """What gateways said, by tenant.  in_flight  requests begun or costing that a killed gateway never settled"""

    cost: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    num_cost: int = 0
    num_done: int = 0
    num_no: int = 0
    waits_us: tuple[float, ...] = ()

    def hear(self, line: str) -> None:
        match line.split():
            case ["cost", tenant, nano]:
                self.cost[tenant] += int(nano)
                self.num_cost += 1
            case ["done", tenant, nano]:
                self.done[tenant] += int(nano)
                self.num_done += 1
            case ["no", _]:
                self.num_no += 1
            case ["waits", *waits]:
                self.waits_us = tuple(map(float, waits))


@dataclass(frozen=True, slots=True)
class Report:
    """exceeded_nano_usd, allowed_nano_usd   the worst key's, and what was in flight at the death at most
    lost_nano_usd       acknowledged and not in the ledger
    withheld_nano_usd   in the ledger, though no request said that it cost it: those that nobody can know of
    tight_used_share    of the tight limits, how much was really spent
    waits_us            reserving, microseconds: median, 99 of 100, longest
    """

    store: str
    num_increments: int
    num_refused: int
    num_killed: int
    wall_s: float
    increments_per_s: float
    exceeded_nano_usd: int
    allowed_nano_usd: int
    lost_nano_usd: int
    withheld_nano_usd: int
    tight_used_share: float
    waits_us: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether the claim is kept."""
        return self.exceeded_nano_usd <= self.allowed_nano_usd and self.lost_nano_usd == 0


class Gateway:
    """One process, heard by a thread."""

    def __init__(self, where: Where, name: str, num: int, num_at_once: int) -> None:
        words = (where, name, num, num_at_once, BEAT_S)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.spending_gateway", *map(str, words)], stdout=subprocess.PIPE, text=True
        )
        self.said = Said()
        self._changed = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._hear)
        self._thread.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.said.hear(line)
                self._changed.notify()
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def wait_for_done(self, num: int) -> None:
        """Returns when so many requests are acknowledged, or none will be."""
        with self._changed:
            self._changed.wait_for(lambda: self.said.num_done >= num or self._is_over)

    def kill(self) -> None:
        self._process.kill()
        self.end(expected=-9)

    def end(self, expected: int = 0) -> None:
        """Wait until it is over."""
        code = self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if code != expected:
            raise RuntimeError(f"a gateway ended with {code} instead of {expected}")


def run(where: Where, name: str, *, num: int, num_at_once: int = 256) -> Report:
    """`num` requests that cost something, with one of two gateways killed when a third of its own are done."""
    limits = make_keys(where, num)
    began_at = time.perf_counter()
    first, doomed = (Gateway(where, f"{name}-{at}", num // 2, num_at_once) for at in (1, 2))
    doomed.wait_for_done(num // 6)
    doomed.kill()
    left = num // 2 - doomed.said.num_done - doomed.said.num_no
    second = Gateway(where, f"{name}-3", left, num_at_once)
    first.end()
    second.end()
    wall_s = time.perf_counter() - began_at
    return compare(where, name, limits, (first.said, doomed.said, second.said), num_at_once, wall_s)


def make_keys(where: Where, num: int) -> dict[str, tuple[str, int]]:
    """Tenant -> (name, limit).  Tight ones allow a half of what will be asked; one in two has its limit by the day."""
    connection = connect_or_say(where)
    expected = num * MOST_NANO // 2 // (NUM_AMPLE + NUM_TIGHT)
    for at in range(NUM_AMPLE + NUM_TIGHT):
        is_tight = at >= NUM_AMPLE
        usd = usd_of(expected // 2 if is_tight else 100 * expected)
        per_day, total = (usd, None) if at % 2 else (None, usd)
        keys.add(connection, Key(b"", f"{'tight' if is_tight else 'ample'}-{at}", usd_per_day=per_day, usd_total=total))
    made = keys.every_key(connection)
    connection.close()
    return {key.tenant: (key.name, round(1e9 * (key.usd_per_day or key.usd_total or 0.0))) for key in made}


def compare(
    where: Where, name: str, limits: dict[str, tuple[str, int]], said: tuple[Said, ...], num_at_once: int, wall_s: float
) -> Report:
    """The books beside what was said."""
    cost, done = (sum((getattr(one, what) for one in said), Counter[str]()) for what in ("cost", "done"))
    connection = connect_or_say(where)
    booked = {tenant: leases.spent(connection, tenant, int(time.time() // DAY_S))[1] for tenant in limits}
    connection.close()
    tight = [tenant for tenant, (label, _) in limits.items() if label.startswith("tight")]
    num_done = sum(one.num_done for one in said)
    return Report(
        store=name,
        num_increments=num_done,
        num_refused=sum(one.num_no for one in said),
        num_killed=1,
        wall_s=round(wall_s, 2),
        increments_per_s=round(num_done / wall_s, 1),
        exceeded_nano_usd=max(max(cost[tenant] - limit, 0) for tenant, (_, limit) in limits.items()),
        allowed_nano_usd=num_at_once * MOST_NANO,
        lost_nano_usd=sum(max(done[tenant] - booked[tenant], 0) for tenant in limits),
        withheld_nano_usd=sum(max(booked[tenant] - cost[tenant], 0) for tenant in limits),
        tight_used_share=round(sum(cost[tenant] for tenant in tight) / sum(limits[tenant][1] for tenant in tight), 4),
        waits_us=said[0].waits_us,
    )


@contextmanager
def database(store: str) -> Iterator[Where]:
    """An empty one, which keeps what it says it kept."""
    if store == "sqlite":
        with tempfile.TemporaryDirectory(prefix="isochrone-spending-") as directory:
            yield Path(directory) / "ledger.db"
        return
    programs = postgres_server.binaries()
    if programs is None:
        raise SystemExit(postgres_server.MISSING)
    with postgres_server.running(programs, {"fsync": "on"}) as url:
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=68_000, help="requests; tight limits refuse one in four")
    parser.add_argument("--store", default="sqlite,postgres", help="which, with commas")
    parser.add_argument("--json", help="where to write the figures; - is stdout")
    arguments = parser.parse_args()
    reports = []
    for store in arguments.store.split(","):
        with database(store) as where:
            report = run(where, store, num=arguments.num)
        reports.append(report)
        print(report, file=sys.stderr)
    text = json.dumps({report.store: asdict(report) | {"holds": report.holds} for report in reports}, indent=1)
    if arguments.json == "-":
        print(text)
    elif arguments.json:
        Path(arguments.json).write_text(text + "\n")
    sys.exit(0 if all(report.holds for report in reports) else 1)


if __name__ == "__main__":
    main()
