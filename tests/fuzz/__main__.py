"""Fuzz every reader in turn: `FUZZ_S=60 python -m tests.fuzz` shares the seconds out among them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.fuzz.targets import SHARES


def main() -> int:
    """Run each target in its own process; 1 when any of them failed."""
    seconds, shares, failed = int(os.environ.get("FUZZ_S", "60")), sum(SHARES.values()), []
    for name, share in SHARES.items():
        budget_s = max(1, seconds * share // shares)
        command = [sys.executable, "-m", "tests.fuzz.targets", name, "--seconds", str(budget_s)]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(name)
    print(f"fuzzed {', '.join(SHARES)} for {seconds} s: {'failed: ' + ', '.join(failed) if failed else 'no failure'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
