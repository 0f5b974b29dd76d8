"""All targets by name: `python -m tests.fuzz.targets schema --seconds 60`."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz import faces, gguf, headers, safetensors, schema, sse, template, tokenizer
from tests.fuzz.target import Target, run

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        gguf.TARGET, safetensors.TARGET, tokenizer.TARGET, template.TARGET, schema.TARGET, headers.TARGET, sse.TARGET,
        *faces.TARGETS.values(),
    )
}  # fmt: skip
SHARES = {name: 3 if name == "gguf" else 1 for name in TARGETS}
"""Target -> its share of the time: GGUF has more to get wrong."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fuzz one reader of what strangers send.")
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=30)
    given = parser.parse_args()
    sys.exit(run(TARGETS[given.name], given.seconds))
