"""Isochrone under comparison: python -m benchmarks.worker_isochrone MODEL.gguf --threads 2

Everything that a server does for its tokens is in these figures: the engine schedules, samples (greedily) and every
token is turned into text.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks.worker import serve
from isochrone import __version__, paths
from isochrone.compiler.isa import choose_target
from isochrone.engine.engine import Engine
from isochrone.engine.records import SamplingParams, Submit
from isochrone.runtime.load import load_runtime, prepare
from isochrone.runtime.probe import Limits, Prober
from isochrone.text import StreamDecoder, load_tokenizer

CONTEXT = 4096
KV_ITEM_BYTES = 2.0


class Isochrone:
    """An engine over the compiled plan, in this thread."""

    def __init__(self, path: str, threads: int) -> None:
        self._path, self._threads, self._target = Path(path), threads, choose_target()
        self._tokenizer = load_tokenizer(path, paths.cache_dir() / "tokenizers")
        self._engine = Engine(load_runtime(path, context=CONTEXT, threads=threads))
        self._num_requests = 0

    def about(self) -> dict[str, object]:
        return {
            "name": "Isochrone",
            "version": __version__,
            "threads": self._threads,
            "isa": self._target.name,
            "plan": self._engine.info.plan_hash,
        }

    def limits(self) -> dict[str, float]:
        """A plain read of the very bytes that a token reads, and the int8 peak, by threads on the same cores."""
        weights = prepare(self._path, context=CONTEXT).weights
        unit = "int8_dot" if self._target.dot == "vnni" else "int8_chain"
        rounds = Limits(round_s=0.1, picks_best=False)
        with Prober(self._target, sorted(os.sched_getaffinity(0))[: self._threads], rounds) as prober:
            return {
                "read_bytes_per_s": prober.read(weights.ctypes.data, weights.nbytes, self._threads),
                "int8_per_s": prober.compute(unit, self._threads),
                "weight_bytes": float(weights.nbytes),
                "kv_item_bytes": KV_ITEM_BYTES,
            }

    def prefill(self, prompt: list[int]) -> float:
        began_at = time.perf_counter()
        self._run([prompt], 1)
        return time.perf_counter() - began_at

    def decode(self, prompt: list[int], num_tokens: int) -> float:
        return self._rate(self._run([prompt], num_tokens), 1)

    def batch(self, prompts: list[list[int]], num_tokens: int) -> float:
        return self._rate(self._run(prompts, num_tokens), len(prompts))

    def _run(self, prompts: list[list[int]], num_tokens: int) -> list[tuple[float, int, int]]:
        """Serve the prompts to their end; (instant, tokens so far, sequences begun) after each step.

        Nothing is guessed ahead, here or at the peers: a step gives one token of each sequence.
        """
        decoders: dict[int, StreamDecoder] = {}
        sampling = SamplingParams(temperature=0.0, ignore_eos=True)
        for prompt in prompts:
            self._num_requests += 1
            decoders[self._num_requests] = StreamDecoder(self._tokenizer, continuing=True)
            self._engine.submit(
                Submit(
                    id=self._num_requests, prompt_ids=prompt, sampling=sampling, max_tokens=num_tokens, drafts=False,
                    arrived_at=time.monotonic(),
                )
            )  # fmt: skip
        steps, total, begun = [], 0, set[int]()
        while self._engine.has_work:
            output = self._engine.step(time.monotonic())
            for delta in output.deltas:
                decoders[delta.id].push(delta.token_ids)
                total += len(delta.token_ids)
                begun |= {delta.id} if delta.token_ids else set()
            if output.refusals:
                raise RuntimeError(f"{output.refusals[0].message} {output.refusals[0].fix}")
            steps.append((time.perf_counter(), total, len(begun)))
        if total != num_tokens * len(prompts):
            raise RuntimeError(f"{total} tokens came where {num_tokens * len(prompts)} were asked for.")
        return steps

    def _rate(self, steps: list[tuple[float, int, int]], num_sequences: int) -> float:
        """Tokens per second from the instant when every sequence had begun."""
        first_at, first, _ = next(step for step in steps if step[2] == num_sequences)
        last_at, last, _ = steps[-1]
        return (last - first) / (last_at - first_at)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model")
    arguments.add_argument("--threads", type=int, required=True)
    given = arguments.parse_args()
    serve(Isochrone(given.model, given.threads))
