"""OpenVINO GenAI under comparison: PYTHON -m benchmarks.worker_openvino MODEL.gguf --threads 2 --backend PA

Runs in the peers' own environment.  Decode figures come from the library's own per-token times.
"""

from __future__ import annotations

import argparse
import importlib
import time
from typing import Any

import numpy as np

from benchmarks.worker import serve


class OpenVino:
    """LLMPipeline from the very GGUF file."""

    def __init__(self, path: str, threads: int, backend: str) -> None:
        self._openvino: Any = importlib.import_module("openvino")
        self._genai: Any = importlib.import_module("openvino_genai")
        self._threads, self._backend = threads, backend
        self._slowest = 0.0
        self._pipeline = self._genai.LLMPipeline(
            path, "CPU", INFERENCE_NUM_THREADS=threads, PERFORMANCE_HINT="LATENCY", ATTENTION_BACKEND=backend
        )

    def about(self) -> dict[str, object]:
        return {
            "name": "OpenVINO GenAI",
            "version": self._genai.__version__,
            "threads": self._threads,
            "backend": self._backend,
            "prefill_over_its_own_ttft": self._slowest,
        }

    def _generate(self, prompts: list[list[int]], num_tokens: int) -> Any:
        ids = np.array(prompts, np.int64)
        tokens = self._genai.TokenizedInputs(
            self._openvino.Tensor(ids), self._openvino.Tensor(np.ones_like(ids))
        )
        config = self._genai.GenerationConfig(max_new_tokens=num_tokens, ignore_eos=True, do_sample=False)
        return self._pipeline.generate(tokens, config)

    def prefill(self, prompt: list[int]) -> float:
        began_at = time.perf_counter()
        metrics = self._generate([prompt], 1).perf_metrics
        seconds = time.perf_counter() - began_at
        self._slowest = max(self._slowest, seconds / (metrics.get_ttft().mean / 1000.0))
        return seconds

    def decode(self, prompt: list[int], num_tokens: int) -> float:
        times = self._token_times([prompt], num_tokens)
        return (len(times) - 1) / (times[-1] - times[0])

    def batch(self, prompts: list[list[int]], num_tokens: int) -> float:
        times = self._token_times(prompts, num_tokens)
        return len(prompts) * (len(times) - 1) / (times[-1] - times[0])

    def limits(self) -> dict[str, float]:
        return {}

    def _token_times(self, prompts: list[list[int]], num_tokens: int) -> list[float]:
        """When each step's tokens came, seconds, as the library recorded it."""
        raw = self._generate(prompts, num_tokens).perf_metrics.raw_metrics
        times = [float(instant) / 1000.0 for instant in raw.m_new_token_times]
        if len(times) != num_tokens:
            raise RuntimeError(f"OpenVINO GenAI made {len(times)} steps where {num_tokens} were asked for.")
        return times


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model")
    arguments.add_argument("--threads", type=int, required=True)
    arguments.add_argument("--backend", choices=["PA", "SDPA"], required=True)
    given = arguments.parse_args()
    serve(OpenVino(given.model, given.threads, given.backend))
