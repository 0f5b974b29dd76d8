"""llama.cpp under comparison: PYTHON -m benchmarks.worker_llama MODEL.gguf --threads 2 --flash-attention on

Runs in the peers' own environment, on the C interface that llama-cpp-python binds: its Python class keeps logits and
compares prefixes, which would charge llama.cpp for work its own tools do not do.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.worker import serve

NUM_BATCH_TOKENS, NUM_MICRO_TOKENS = 2048, 512
"""llama-bench's own batch sizes."""


class LlamaCpp:
    """One loaded model; a context for one sequence and, when asked for, one for many."""

    def __init__(self, path: str, threads: int, flash_attention: bool) -> None:
        llama_cpp: Any = importlib.import_module("llama_cpp")
        self._api = llama_cpp
        self._threads, self._flash_attention = threads, flash_attention
        self._contexts: dict[int, Any] = {}
        self._log = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path}.")
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._num_vocab = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._tokens = llama_cpp.llama_batch_init(NUM_BATCH_TOKENS, 0, 1)

    def about(self) -> dict[str, object]:
        return {
            "name": "llama.cpp",
            "version": self._api.__version__,
            "threads": self._threads,
            "flash_attention": self._flash_attention,
            "system": self._api.llama_print_system_info().decode(),
        }

    def prefill(self, prompt: list[int]) -> float:
        context = self._context(1)
        began_at = time.perf_counter()
        self._evaluate(context, [prompt])
        return time.perf_counter() - began_at

    def decode(self, prompt: list[int], num_tokens: int) -> float:
        return self._rate([prompt], num_tokens)

    def batch(self, prompts: list[list[int]], num_tokens: int) -> float:
        return self._rate(prompts, num_tokens)

    def limits(self) -> dict[str, float]:
        return {}

    def _rate(self, prompts: list[list[int]], num_tokens: int) -> float:
        context = self._context(len(prompts))
        newest = self._evaluate(context, prompts)
        began_at = time.perf_counter()
        for step in range(num_tokens - 1):
            newest = self._step(context, [len(prompt) + step for prompt in prompts], newest)
        return len(prompts) * (num_tokens - 1) / (time.perf_counter() - began_at)

    def _context(self, num_sequences: int) -> Any:
        """A context with an empty cache."""
        if num_sequences not in self._contexts:
            parameters = self._api.llama_context_default_params()
            parameters.n_ctx = 4096 if num_sequences == 1 else 8192
            parameters.n_batch, parameters.n_ubatch = NUM_BATCH_TOKENS, NUM_MICRO_TOKENS
            parameters.n_seq_max = num_sequences
            parameters.n_threads = parameters.n_threads_batch = self._threads
            parameters.flash_attn_type = 1 if self._flash_attention else 0
            self._contexts[num_sequences] = self._api.llama_init_from_model(self._model, parameters)
        context = self._contexts[num_sequences]
        self._api.llama_memory_clear(self._api.llama_get_memory(context), True)
        return context

    def _evaluate(self, context: Any, prompts: Sequence[Sequence[int]]) -> list[int]:
        """Run the prompts through; the greedy next token of each."""
        newest = []
        for sequence, prompt in enumerate(prompts):
            for start in range(0, len(prompt), NUM_BATCH_TOKENS):
                piece = prompt[start : start + NUM_BATCH_TOKENS]
                self._tokens.n_tokens = len(piece)
                for index, token in enumerate(piece):
                    is_last = start + index == len(prompt) - 1
                    self._set(index, token, start + index, sequence, is_last)
                self._decode(context)
            newest.append(self._greedy(context, (len(prompt) - 1) % NUM_BATCH_TOKENS))
        return newest

    def _step(self, context: Any, positions: list[int], tokens: list[int]) -> list[int]:
        """One token of every sequence at once."""
        self._tokens.n_tokens = len(tokens)
        for sequence, (position, token) in enumerate(zip(positions, tokens, strict=True)):
            self._set(sequence, token, position, sequence, True)
        self._decode(context)
        return [self._greedy(context, index) for index in range(len(tokens))]

    def _set(self, index: int, token: int, position: int, sequence: int, wants_logits: bool) -> None:
        batch = self._tokens
        batch.token[index], batch.pos[index] = token, position
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
        batch.logits[index] = wants_logits

    def _decode(self, context: Any) -> None:
        if code := self._api.llama_decode(context, self._tokens):
            raise RuntimeError(f"llama_decode returned {code}.")

    def _greedy(self, context: Any, index: int) -> int:
        logits = self._api.llama_get_logits_ith(context, index)
        return int(np.ctypeslib.as_array(logits, (self._num_vocab,)).argmax())


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model")
    arguments.add_argument("--threads", type=int, required=True)
    arguments.add_argument("--flash-attention", choices=["on", "off"], required=True)
    given = arguments.parse_args()
    serve(LlamaCpp(given.model, given.threads, given.flash_attention == "on"))
