"""An engine that answers with the prompt's own tokens, over and over, and does what a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from isochrone.engine import records
from isochrone.errors import IsochroneError
from isochrone.places.reader import Reader
from isochrone.text import load_tokenizer

CONTEXT = 512
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = ["The quick brown fox jumps over the lazy dog, again and again, since time is on its side."] * 3


def write_tokenizer(directory: Path) -> Path:
    """A tiny byte-level tokenizer, trained here, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def read_tokenizer(directory: Path) -> Reader:
    tokenizer = load_tokenizer(directory)
    return Reader(tokenizer, tokenizer.chat_template)


class ScriptedEngine:
    """Fulfils `places.local.Engine`.

    gate      cleared, the engine stands still before its next token
    error     raised before a request's first token;  late_error: after its second
    is_silent gives nothing at all until cancelled
    """

    def __init__(self, *, vocab_size: int = 330, load_error: IsochroneError | None = None) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: IsochroneError | None = None
        self.late_error: IsochroneError | None = None
        self.load_error = load_error
        self.failure: IsochroneError | None = None
        self.is_up = True
        self.num_restarts = 0
        self.submitted: list[records.Submit] = []
        self.cancelled: list[tuple[records.Submit, int]] = []
        self.num_open = 0
        self.num_tokens = 0
        self.closed = asyncio.Event()
        self._vocab_size = vocab_size

    @property
    def stats(self) -> records.EngineStats:
        return records.EngineStats(num_running=self.num_open, num_pages_free=90, num_pages_cached=4, num_pages_held=6)

    async def start(self) -> records.EngineInfo:
        if self.load_error is not None:
            raise self.load_error
        return records.EngineInfo(
            vocab_size=self._vocab_size, context=CONTEXT, page_tokens=32, num_pages=100, num_sequences_max=16,
            num_sequence_tokens_max=CONTEXT, plan_hash="scripted", kv_type="f32",
        )  # fmt: skip

    def cancel(self, submit: records.Submit, sample: int) -> None:
        self.cancelled.append((submit, sample))

    async def close(self) -> None:
        self.closed.set()

    async def submit(self, submit: records.Submit) -> AsyncGenerator[records.Delta, None]:
        self.submitted.append(submit)
        self.num_open += 1
        try:
            if self.error is not None:
                raise self.error
            async for delta in self._answer(submit):
                yield delta
        finally:
            self.num_open -= 1

    async def _answer(self, submit: records.Submit) -> AsyncGenerator[records.Delta, None]:
        prompt, sampling = submit.prompt_ids, submit.sampling
        top = [[(token, -1.0), (prompt[0], -2.0)][: sampling.top_logprobs] for token in prompt]
        if submit.echo_logprobs:
            for at in range(1, len(prompt)):  # one at a time: chunks of a prompt come apart
                yield records.Delta(0, [], prompt_logprobs=[-0.5 * at], prompt_top=[top[at]])
        limit = CONTEXT - len(prompt) if submit.max_tokens is None else submit.max_tokens
        for at in range(max(1, limit)):
            await self.gate.wait()
            if self.late_error is not None and at == 2:
                raise self.late_error
            for sample in range(sampling.n):
                is_last = at + 1 >= limit
                timing = records.Timing(0, 0, 0, len(prompt), limit, min(2, len(prompt)), 0) if is_last else None
                self.num_tokens += limit > 0
                yield records.Delta(
                    0,
                    [prompt[at % len(prompt)]] if limit else [],
                    sample=sample,
                    finish_reason="length" if is_last else None,
                    logprobs=[-1.0] if sampling.logprobs and limit else [],
                    top=[top[at % len(prompt)]] if sampling.logprobs and limit else [],
                    timing=timing,
                )
            await asyncio.sleep(0)
