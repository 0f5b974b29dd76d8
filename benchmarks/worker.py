"""One engine in a process of its own, driven by JSON lines: so that a comparison can interleave engines fairly.

The driver sends {"do": "prefill" | "decode" | "batch" | "about" | "limits", ...} and gets one line back.  A worker
imports nothing but what its own environment holds, and this file (standard library only).
"""

from __future__ import annotations

import json
import os
import sys
from typing import Protocol


class Worker(Protocol):
    """What every engine under comparison can do.  Token ids in, figures out; nothing is cached between calls."""

    def about(self) -> dict[str, object]:
        """Version and settings, for the report."""
        ...

    def prefill(self, prompt: list[int]) -> float:
        """Seconds from the prompt to its first token."""
        ...

    def decode(self, prompt: list[int], num_tokens: int) -> float:
        """Tokens per second after the first, for one sequence."""
        ...

    def batch(self, prompts: list[list[int]], num_tokens: int) -> float:
        """Tokens per second of all sequences together, once each has its first token."""
        ...

    def limits(self) -> dict[str, float]:
        """The machine's limits as this engine's own weights and threads see them; peers state none."""
        ...


def serve(worker: Worker) -> None:
    """Answer commands until told to leave.  What libraries print goes to stderr, not into the answers."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps({"about": worker.about()}), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        value: object
        match command["do"]:
            case "prefill":
                value = worker.prefill(command["prompt"])
            case "decode":
                value = worker.decode(command["prompt"], command["num_tokens"])
            case "batch":
                value = worker.batch(command["prompts"], command["num_tokens"])
            case "about":
                value = worker.about()
            case "limits":
                value = worker.limits()
            case other:
                raise ValueError(f"a worker cannot {other}")
        print(json.dumps({"value": value}), file=answers, flush=True)
