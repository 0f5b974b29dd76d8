"""Fuzz every reader in turn: `FUZZ_S=60 python -m tests.fuzz` shares the seconds out among them."""

from __future__ import annotations

import os
import subprocess
import sys

TARGETS = {"gguf": 3, "safetensors": 1}
"""Target -> its share of the time: GGUF has more to get wrong."""


def main() -> int:
    """Run each target in its own process; 1 when any of them failed."""
    seconds, shares, failed = int(os.environ.get("FUZZ_S", "60")), sum(TARGETS.values()), []
    for name, share in TARGETS.items():
        budget_s = max(1, seconds * share // shares)
        run = subprocess.run([sys.executable, "-m", f"tests.fuzz.{name}", "--seconds", str(budget_s)], check=False)
        if run.returncode != 0:
            failed.append(name)
    print(f"fuzzed {', '.join(TARGETS)} for {seconds} s: {'failed: ' + ', '.join(failed) if failed else 'no failure'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
