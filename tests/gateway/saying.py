"""An engine that says what a test gives it, token by token, over a model that calls tools as Hermes does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

from isochrone.engine import records
from isochrone.places.reader import Reader
from isochrone.text import load_tokenizer
from tests.gateway.scripted import ScriptedEngine, write_tokenizer

TEMPLATE = (
    "{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)


def write_model(directory: Path, template: str = TEMPLATE) -> Path:
    """The tokenizer of the scripted engine with a template that knows tools and thoughts."""
    write_tokenizer(directory)
    config = directory / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": template}))
    return directory


def read_model(directory: Path) -> Reader:
    tokenizer = load_tokenizer(directory)
    return Reader(tokenizer, tokenizer.chat_template)


class SayingEngine(ScriptedEngine):
    """texts  the answers to a request, one a sample, the last again and again;  num_at_once  tokens of a step"""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.tokenizer = load_tokenizer(directory)
        self.texts = ["Hi."]
        self.num_at_once = 1
        self.reason: records.FinishReason = "stop"

    def prompt(self, at: int = -1) -> str:
        """What the model read."""
        return self.tokenizer.decode(self.submitted[at].prompt_ids, skip_special=False)

    async def _answer(self, submit: records.Submit) -> AsyncGenerator[records.Delta, None]:
        texts = [self.texts[min(sample, len(self.texts) - 1)] for sample in range(submit.sampling.n)]
        answers = [self.tokenizer.encode(text, add_special=False) for text in texts]
        for start in range(0, max(map(len, answers)) + 1, self.num_at_once):
            for sample, ids in enumerate(answers):
                part = ids[start : start + self.num_at_once]
                is_last = start <= len(ids) < start + self.num_at_once
                if not part and not is_last:
                    continue
                scored = submit.sampling.logprobs
                yield records.Delta(
                    0,
                    part,
                    sample=sample,
                    finish_reason=self.reason if is_last else None,
                    logprobs=[-1.0] * len(part) if scored else [],
                    top=[[] for _ in part] if scored else [],
                    timing=records.Timing(1.0, 2.0, 4.0, 9, len(ids), 0, 0, num_forced=3) if is_last else None,
                )
            await asyncio.sleep(0)
