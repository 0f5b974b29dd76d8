"""Speculation and forced tokens, each switched off in turn: python -m benchmarks.guessing [MODEL] [--rounds 5] [--json]

Five kinds of work, greedy and sampled, one stream at a time, every text compared with the one drawn token by token.
`speed` is the rate of tokens after the first over that of the same answer with everything off, the median over rounds
in which both ran one after the other, each for a tenant who was answered nothing before.  The aim is never below 0.98.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from isochrone import config
from isochrone.api.loading import load_model, loading_of
from isochrone.api.reading import locate, read_tokenizer
from isochrone.engine.local import LocalEngine
from isochrone.engine.records import EngineLimits, Grammar, SamplingParams, Submit, Timing
from isochrone.text import ChatTemplate, Tokenizer

ROOT = Path(__file__).resolve().parent.parent
FORECAST = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 30},
        "days": {
            "type": "array", "minItems": 3, "maxItems": 5,
            "items": {
                "type": "object",
                "properties": {
                    "date": {"type": "string", "format": "date"}, "temperature": {"type": "integer"},
                    "summary": {"enum": ["sunny", "cloudy", "rain"]},
                },
                "required": ["date", "temperature", "summary"], "additionalProperties": False,
            },
        },
    },
    "required": ["city", "days"], "additionalProperties": False,
}  # fmt: skip
SETTINGS = {
    "off": EngineLimits(forces=False, drafts=False),
    "forced": EngineLimits(drafts=False),
    "guessed": EngineLimits(forces=False),
    "both": EngineLimits(),
}


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of request."""

    name: str
    prompt: str
    num_tokens: int
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one kind of work under one setting."""

    work: str
    temperature: float
    setting: str
    num_tokens: int
    tokens_per_s: float
    speed: float
    num_forced: int
    num_drafted: int
    num_accepted: int


def works() -> list[Work]:
    """Chat, an edit of a file, a call of a tool, a summary, and free prose."""
    code = (ROOT / "src/isochrone/text/stops.py").read_text()
    report = (ROOT / "README.md").read_text()[:3000]
    return [
        Work("chat", "What is the capital of France, and why is it famous?", 200),
        Work("code edit", f"Return this file with `Stop` renamed to `End`, nothing else:\n```python\n{code}```", 400),
        Work("tool call", "The forecast for Paris.", 300, Grammar("json_schema", json.dumps(FORECAST))),
        Work("summary", f"Summarise this text:\n{report}", 200),
        Work("prose", "Write a long story about a lighthouse keeper.", 300),
    ]


def answer(engine: LocalEngine, submit: Submit) -> tuple[list[int], float, Timing]:
    """Tokens, the rate after the first of them, and the engine's account."""
    token_ids: list[int] = []
    first_at, timing = 0.0, None
    for delta in engine.submit(submit):
        first_at = first_at or time.perf_counter()
        token_ids += delta.token_ids
        timing = delta.timing or timing
    assert timing is not None, "an answer ends with its account"
    return token_ids, (len(token_ids) - 1) / (time.perf_counter() - first_at), timing


def measure(
    work: Work, temperature: float, engines: dict[str, LocalEngine], tokenizer: Tokenizer, num_rounds: int
) -> list[Row]:
    """Every setting in turn, again and again."""
    assert tokenizer.chat_template is not None, "the model is made for chat"
    template = ChatTemplate(tokenizer.chat_template, tokenizer.named_tokens)
    submit = Submit(
        prompt_ids=tokenizer.encode(template.render([{"role": "user", "content": work.prompt}]), add_special=False),
        sampling=SamplingParams(temperature=temperature, seed=5, ignore_eos=work.grammar is None),
        max_tokens=work.num_tokens, eos_ids=tokenizer.eos_ids, grammar=work.grammar,
    )  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in engines}
    last: dict[str, tuple[list[int], Timing]] = {}
    for number in range(num_rounds):
        for name in list(engines)[:: 1 if number % 2 else -1]:
            apart = msgspec.structs.replace(submit, tenant=f"round {number}")  # who was answered nothing yet
            token_ids, rate, timing = answer(engines[name], apart)
            rates[name].append(rate)
            last[name] = token_ids, timing
    rows = []
    for name, (token_ids, timing) in last.items():
        assert token_ids == last["off"][0], f"{work.name}: {name} changed the text"
        ratios = [rate / off for rate, off in zip(rates[name], rates["off"], strict=True)]
        rows.append(
            Row(
                work.name, temperature, name, len(token_ids), round(statistics.median(rates[name]), 1),
                round(statistics.median(ratios), 3), timing.num_forced, timing.num_drafted, timing.num_accepted,
            )
        )  # fmt: skip
    return rows


def main() -> int:
    """Measure, print, and fail where a text changed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    path = locate(options.model, offline=True)
    tokenizer = read_tokenizer(path)
    runtime = load_model(**loading_of(path, config.resolve({}).settings))
    engines = {name: LocalEngine(runtime, limits, load_tokens=lambda: tokenizer) for name, limits in SETTINGS.items()}
    rows = []
    for temperature in (0.0, 0.8):
        for work in works():
            found = measure(work, temperature, engines, tokenizer, options.rounds)
            rows += found
            for row in found if not options.json else ():
                print(
                    f"{row.work:10} T {row.temperature:3} {row.setting:8} {row.num_tokens:4} tokens "
                    f"{row.tokens_per_s:7.1f} /s  speed {row.speed:5.2f}  forced {row.num_forced:3}  "
                    f"accepted {row.num_accepted:3} of {row.num_drafted:3}",
                    flush=True,
                )  # fmt: skip
    if options.json:
        json.dump([asdict(row) for row in rows], sys.stdout)
    runtime.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
