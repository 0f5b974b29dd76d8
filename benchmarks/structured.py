"""Random JSON schemas answered by the model: python -m benchmarks.structured [MODEL] [--schemas 1000] [--json]

Every answer whose finish_reason is stop must parse and hold against its schema, at temperature 1; the others have met
max_tokens.  Schemas with a keyword that cannot be enforced must be refused by that name.  The cost of masks is that of
every row that was drawn under one, of compiling that of every schema, alone on its core.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from isochrone import config
from isochrone.api.loading import load_model, loading_of
from isochrone.api.reading import locate, read_tokenizer
from isochrone.engine.local import LocalEngine
from isochrone.engine.records import Delta, Grammar, SamplingParams, Submit
from isochrone.errors import BadGrammar
from isochrone.text import Tokenizer
from isochrone.text.grammar import Matcher, Vocabulary, compile_grammar

NUM_SIDE_BY_SIDE = 16
NUM_TOKENS = 400
WORDS = ("name", "age", "city", "price", "tags", "note", "kind", "when", "where", "items", "id", "ok")
REFUSED: tuple[dict[str, Any], ...] = (
    {"type": "array", "uniqueItems": True}, {"not": {"type": "null"}}, {"type": "array", "contains": {"const": 1}},
    {"if": {"type": "string"}, "then": {"minLength": 2}}, {"type": "string", "format": "no-such-format"},
    {"type": "object", "dependentRequired": {"a": ["b"]}}, {"type": "object", "propertyNames": {"maxLength": 3}},
)  # fmt: skip


@dataclass(slots=True)
class Report:
    """Counts over all schemas; times in microseconds."""

    num_schemas: int = 0
    num_refused: int = 0
    num_wrongly_refused: int = 0
    num_finished: int = 0
    num_cut: int = 0
    num_invalid: int = 0
    num_tokens: int = 0
    num_forced: int = 0
    refused_by_keyword: Counter[str] = field(default_factory=Counter)
    mask_us_p50: float = 0.0
    mask_us_p99: float = 0.0
    compile_us_p50: float = 0.0
    compile_us_p99: float = 0.0


def random_schema(choose: random.Random, depth: int = 3) -> dict[str, Any]:
    """What programs ask for: nested objects, lists, choices, bounded numbers, formats."""
    kinds = ["string", "integer", "number", "boolean", "enum", "format", "pattern", "null", "const"]
    kind = choose.choice(kinds + ["object", "object", "array", "anyOf"] * (depth > 0))
    match kind:
        case "object":
            names = choose.sample(WORDS, choose.randint(1, 5))
            closed = {"additionalProperties": False} if choose.random() < 0.9 else {}
            required = [name for name in names if choose.random() < 0.8]
            parts = {name: random_schema(choose, depth - 1) for name in names}
            return {"type": "object", "properties": parts, "required": required, **closed}
        case "array":
            low = choose.randint(0, 2)
            most = {"maxItems": low + choose.randint(0, 4)} if choose.random() < 0.9 else {}
            return {"type": "array", "items": random_schema(choose, depth - 1), "minItems": low, **most}
        case "anyOf":
            return {"anyOf": [random_schema(choose, depth - 1) for _ in range(choose.randint(2, 3))]}
        case "enum":
            return {"enum": choose.sample([*WORDS, 1, 2.5, None, True, "two words", "é"], choose.randint(1, 5))}
        case "const":
            return {"const": choose.choice([*WORDS, 7, False, None, [1, "a"], {"a": None}])}
        case "format":
            return {"type": "string", "format": choose.choice(["date", "date-time", "time", "uuid", "email", "ipv4"])}
        case "pattern":
            pattern = choose.choice(["^[A-Z]{2}[0-9]{3}$", "^(a|b)+c{1,3}$", "^[a-z]+@[a-z]+\\.com$", "^x?y*z$"])
            return {"type": "string", "pattern": pattern}
        case "integer" | "number":
            low = choose.randint(-1000, 1000)
            bounds = choose.choice([{}, {"minimum": low}, {"minimum": low, "maximum": low + choose.randint(0, 5000)}])
            return {"type": kind, **bounds}
        case "string":
            return {"type": "string", **choose.choice([{}, {"maxLength": choose.randint(1, 40)}, {"minLength": 1}])}
        case _:
            return {"type": kind}


def with_refused(choose: random.Random, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema beside something that cannot be enforced."""
    return {
        "type": "object", "properties": {"fine": schema, "not fine": choose.choice(REFUSED)}, "required": ["fine"],
    }  # fmt: skip


class Timed:
    """Times every mask."""

    def __init__(self) -> None:
        self.masks_s: list[float] = []
        mask = Matcher.mask

        def timed(matcher: Matcher) -> Any:
            begin = time.perf_counter()
            words = mask(matcher)
            self.masks_s.append(time.perf_counter() - begin)
            return words

        Matcher.mask = timed  # type: ignore[method-assign, assignment]


def percentile(values: list[float], share: float) -> float:
    """Of values in seconds, in microseconds."""
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1e6, 1) if values else 0.0


def answers(
    engine: LocalEngine, tokenizer: Tokenizer, schemas: list[dict[str, Any]], seed: int
) -> list[tuple[list[int], Delta]]:
    """The answer to each of some schemas, side by side: its tokens, and its last delta."""
    open_streams: dict[int, Generator[Delta, None, None]] = {}
    for at, schema in enumerate(schemas):
        source = json.dumps(schema)
        submit = Submit(
            prompt_ids=tokenizer.encode(f"JSON for the schema {source[:400]}:\n"), eos_ids=tokenizer.eos_ids,
            sampling=SamplingParams(temperature=1.0, seed=seed + at), max_tokens=NUM_TOKENS,
            grammar=Grammar("json_schema", source),
        )  # fmt: skip
        open_streams[at] = engine.submit(submit)
    token_ids: list[list[int]] = [[] for _ in schemas]
    last: dict[int, Delta] = {}
    while open_streams:
        for at, stream in list(open_streams.items()):
            delta = next(stream, None)
            if delta is None:
                del open_streams[at]
                continue
            token_ids[at] += delta.token_ids
            last[at] = delta
    return [(token_ids[at], last[at]) for at in range(len(schemas))]


def main() -> int:
    """Measure and print; 1 where an answer did not hold, or what cannot be enforced was taken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    path = locate(options.model, offline=True)
    tokenizer, timed, report = read_tokenizer(path), Timed(), Report(num_schemas=options.schemas)
    runtime = load_model(**loading_of(path, config.resolve({}).settings))
    engine = LocalEngine(runtime, load_tokens=lambda: tokenizer)
    vocabulary = Vocabulary(tokenizer, runtime.info.vocab_size)
    _ = vocabulary.trie
    compiles_s: list[float] = []
    taken: list[dict[str, Any]] = []
    for seed in range(options.schemas):
        choose = random.Random(seed)
        schema, is_refused = random_schema(choose), choose.random() < 0.05
        if is_refused:
            schema = with_refused(choose, schema)
        begin = time.perf_counter()
        try:
            compile_grammar("json_schema", json.dumps(schema), vocabulary)
        except BadGrammar as error:
            report.num_refused += 1
            report.refused_by_keyword[error.keyword or error.message] += 1
            report.num_wrongly_refused += not is_refused
            continue
        finally:
            compiles_s.append(time.perf_counter() - begin)
        report.num_invalid += is_refused
        taken.append(schema)
    for begin_at in range(0, len(taken), NUM_SIDE_BY_SIDE):
        some = taken[begin_at : begin_at + NUM_SIDE_BY_SIDE]
        for schema, (token_ids, last) in zip(some, answers(engine, tokenizer, some, begin_at), strict=True):
            report.num_tokens += len(token_ids)
            report.num_forced += last.timing.num_forced if last.timing else 0
            if last.finish_reason != "stop":
                report.num_cut += 1
                continue
            report.num_finished += 1
            try:
                jsonschema.validate(json.loads(tokenizer.decode(token_ids)), schema)
            except (ValueError, jsonschema.ValidationError) as error:
                report.num_invalid += 1
                print(f"{schema}: {tokenizer.decode(token_ids)!r}: {str(error)[:200]}", file=sys.stderr)
    report.mask_us_p50, report.mask_us_p99 = percentile(timed.masks_s, 0.5), percentile(timed.masks_s, 0.99)
    report.compile_us_p50, report.compile_us_p99 = percentile(compiles_s, 0.5), percentile(compiles_s, 0.99)
    runtime.close()
    if options.json:
        json.dump(asdict(report), sys.stdout)
    else:
        for name, value in asdict(report).items():
            print(f"{name:24} {dict(value) if isinstance(value, Counter) else value}")
        share = report.num_finished / max(1, len(taken))
        print(f"finished {share:.1%}; {report.num_tokens / max(1, len(taken)):.0f} tokens an answer")
    return 1 if report.num_invalid else 0


if __name__ == "__main__":
    sys.exit(main())
