"""OpenVINO GenAI under comparison: PYTHON -m benchmarks.worker_openvino MODEL.gguf --threads 2

Runs in the peers' own environment.  Decode figures come from the library's own per-token times.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.worker import serve


class OpenVino:
    """LLMPipeline from the very GGUF file."""

    def __init__(self, path: str, threads: int) -> None:
        import openvino
        import openvino_genai

        self._openvino, self._genai = openvino, openvino_genai
        self._threads = threads
        self._pipeline = openvino_genai.LLMPipeline(
            path, "CPU", INFERENCE_NUM_THREADS=threads, PERFORMANCE_HINT="LATENCY"
        )

    def about(self) -> dict[str, object]:
        return {
            "name": "OpenVINO GenAI",
            "version": self._genai.__version__,
            "threads": self._threads,
            "hint": "LATENCY",
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
        self._generate([prompt], 1)
        return time.perf_counter() - began_at

    def decode(self, prompt: list[int], num_tokens: int) -> float:
        times = self._token_times([prompt], num_tokens)
        return (len(times) - 1) / (times[-1] - times[0])

    def batch(self, prompts: list[list[int]], num_tokens: int) -> float:
        times = self._token_times(prompts, num_tokens)
        return len(prompts) * (len(times) - 1) / (times[-1] - times[0])

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
    given = arguments.parse_args()
    serve(OpenVino(given.model, given.threads))
