"""The figures that README and docs state: where they come from, and whether they still hold.

    python -m docs.claims              run every command again; mark in claims.toml what no longer holds
    python -m docs.claims NAME...      only these

A claim holds when the value seen now is within its tolerance of the value stated, on the machine it was stated for.
On another machine the value seen is printed beside it and nothing is marked.
"""

from __future__ import annotations

import datetime
import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent / "claims.toml"
HEAD = "# Every figure that README and docs state, measured and never guessed. `make claims` runs the commands again.\n"
COMMAND_S_MAX = 3600


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure.

    json_path   where the value stands in the command's JSON output, such as `decode.0.tokens_per_s`
    bound       how it is allowed to move: `near` within the tolerance, `at_most`, `at_least` (one side only)
    tolerance   share of the value, 0.1 is 10 %
    seen        the value that no longer agreed, with `seen_on` its date; absent while the claim holds
    """

    id: str
    what: str
    command: str
    json_path: str
    machine: str
    date: str
    value: float
    unit: str
    tolerance: float
    bound: str = "near"
    seen: float | None = None
    seen_on: str | None = None

    def __post_init__(self) -> None:
        if self.bound not in ("near", "at_most", "at_least"):
            raise ValueError(f"claim {self.id}: bound {self.bound!r} is not near, at_most or at_least")

    @property
    def text(self) -> str:
        """The figure as pages show it."""
        figure = f"{self.value:g} {self.unit}".strip()
        return figure if self.seen is None else f"{figure} (no longer: {self.seen:g} on {self.seen_on})"

    def holds_with(self, value: float) -> bool:
        """Whether a value seen now agrees with the one stated."""
        low, high = self.value * (1 - self.tolerance), self.value * (1 + self.tolerance)
        return (self.bound == "at_most" or value >= low) and (self.bound == "at_least" or value <= high)


def read_claims(file: Path = FILE) -> tuple[Claim, ...]:
    """All claims, as the file states them."""
    return tuple(Claim(**table) for table in tomllib.loads(file.read_text()).get("claim", []))


def write_claims(claims: tuple[Claim, ...], file: Path = FILE) -> None:
    """The same claims as TOML, which json's texts and numbers are part of."""
    tables = []
    for claim in claims:
        pairs = ((f.name, getattr(claim, f.name)) for f in fields(Claim))
        tables.append("\n[[claim]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in pairs if v is not None))
    file.write_text(HEAD + "".join(tables))


def value_at(document: Any, json_path: str) -> float:
    """The number at a dotted path of keys and indices; a dot inside a key is written `\\.`."""
    for part in (part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", json_path)):
        document = document[int(part)] if isinstance(document, list) else document[part]
    return float(document)


def this_machine() -> str:
    """The processor's name and the number of cores this process may use."""
    import os

    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part")):
            return f"{line.partition(':')[2].strip()}, {len(os.sched_getaffinity(0))} cores"
    return f"unknown processor, {len(os.sched_getaffinity(0))} cores"


def run_again(claim: Claim, outputs: dict[str, Any]) -> float:
    """The value that the claim's command gives now; commands shared by claims run once."""
    if claim.command not in outputs:
        done = subprocess.run(
            shlex.split(claim.command), capture_output=True, text=True, timeout=COMMAND_S_MAX, check=True
        )
        outputs[claim.command] = json.loads(done.stdout)
    return value_at(outputs[claim.command], claim.json_path)


def main(names: list[str]) -> int:
    claims, outputs, here = list(read_claims()), dict[str, Any](), this_machine()
    num_broken = 0
    for index, claim in enumerate(claims):
        if names and claim.id not in names:
            continue
        seen = run_again(claim, outputs)
        if claim.machine != here:
            print(f"{claim.id}: stated {claim.value:g} {claim.unit} on {claim.machine}; {seen:g} here")
            continue
        holds = claim.holds_with(seen)
        num_broken += not holds
        today = datetime.date.today().isoformat()
        claims[index] = replace(claim, seen=None if holds else seen, seen_on=None if holds else today)
        verdict = "holds" if holds else "NO LONGER HOLDS"
        print(f"{claim.id}: stated {claim.value:g} {claim.unit}, now {seen:g}: {verdict}")
    write_claims(tuple(claims))
    print(f"{len(claims)} claims, {num_broken} no longer hold")
    return 1 if num_broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
