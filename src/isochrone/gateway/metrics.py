"""What `/metrics` shows: counters, gauges and histograms in Prometheus' text form.

Names follow OpenTelemetry's GenAI conventions where they have one, vLLM's for the four gauges that routers scrape, and
`isochrone_` for the rest.  Label values come from configuration only, never from a caller.  Written here because the
usual client library imports an HTTP server and takes longer to load than this gateway takes to listen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

from isochrone.ledger import WriterStats
from isochrone.places.place import Status
from isochrone.places.route import Route

Labels = tuple[tuple[str, str], ...]
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_LATENCY_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ITL_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0)
_TOKENS = tuple(4.0**power for power in range(11))
"""1 to a million, as OpenTelemetry's conventions cut them."""
_RATIO = (0.5, 0.67, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0)


class Counter:
    """A number that only grows, one per combination of labels."""

    kind = "counter"

    def __init__(self, name: str, explain: str) -> None:
        self.name, self.explain = name, explain
        self.values: dict[Labels, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        key = tuple(labels.items())
        self.values[key] = self.values.get(key, 0) + amount

    def set(self, amount: float, **labels: str) -> None:
        """What somebody else has counted."""
        self.values[tuple(labels.items())] = amount

    def lines(self) -> Iterable[str]:
        return (f"{self.name}{_braces(labels)} {value:g}" for labels, value in self.values.items())


class Histogram:
    """How often a value fell below each bound."""

    kind = "histogram"

    def __init__(self, name: str, explain: str, bounds: tuple[float, ...]) -> None:
        self.name, self.explain, self.bounds = name, explain, bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def lines(self) -> Iterable[str]:
        below = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            label = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f'{self.name}_bucket{{le="{label}"}} {below}'
        yield f"{self.name}_sum {self.sum:.9g}"
        yield f"{self.name}_count {below}"


class Metrics:
    """Everything this gateway counts."""

    def __init__(self) -> None:
        self.requests = Counter("isochrone_requests_total", "Requests answered, by route and status.")
        self.hang_ups = Counter("isochrone_hang_ups_total", "Requests whose caller left before the answer's end.")
        self.rate_limited = Counter("isochrone_rate_limited_total", "Requests refused by their key's limits.")
        self.prompt_tokens = Counter("isochrone_prompt_tokens_total", "Prompt tokens read.")
        self.cached_tokens = Counter("isochrone_prompt_tokens_cached_total", "Those taken from the prefix cache.")
        self.answer_tokens = Counter("isochrone_generation_tokens_total", "Tokens generated.")
        self.ttft_s = Histogram(
            "gen_ai_server_time_to_first_token_seconds", "First byte of the request to first token.", _LATENCY_S
        )
        self.itl_s = Histogram("gen_ai_server_time_per_output_token_seconds", "Time per token after the first.", _ITL_S)
        self.duration_s = Histogram(
            "gen_ai_server_request_duration_seconds", "First byte of the request to the answer's end.", _LATENCY_S
        )
        self.prompt_sizes = Histogram("isochrone_request_prompt_tokens", "Prompt tokens of a request.", _TOKENS)
        self.answer_sizes = Histogram("isochrone_request_generation_tokens", "Tokens generated for one.", _TOKENS)
        self.attempts = Counter("isochrone_attempts_total", "Times that a place was asked, by how it ended and why.")
        self.cost_usd = Counter("isochrone_cost_usd_total", "US dollars that answers cost, by the place they ended at.")
        self.spending_refused = Counter(
            "isochrone_spending_refused_total", "Requests refused because of their key's money."
        )
        self.predictions = Counter(
            "isochrone_predictions_total", "Times stated before an attempt whose outcome was seen, by what they are of."
        )
        self.predictions_kept = Counter(
            "isochrone_predictions_kept_total",
            "Those of them that were kept, by the quantile stated: its share of all should be the quantile itself.",
        )
        self.ttft_error = Histogram(
            "isochrone_ttft_prediction_error_ratio", "Actual over predicted time to first token.", _RATIO
        )
        for counter in (self.hang_ups, self.rate_limited, self.prompt_tokens, self.cached_tokens, self.answer_tokens):
            counter.add(0)

    def of_route(self, route: Route) -> dict[str, Any]:
        """Count a routed answer's attempts and cost, beside what was predicted; and its facts for the log."""
        for attempt in route.attempts:
            self.attempts.add(place=attempt.place, why=attempt.why, kind=attempt.kind or "answered")
        self.cost_usd.add(route.cost_usd, place=route.place)
        facts: dict[str, Any] = {
            "place": route.place, "model": route.model, "attempts": len(route.attempts),
            "cost_usd": round(route.cost_usd, 9),
        }  # fmt: skip
        if route.predicted_ttft_s is not None:
            facts["predicted_ttft_s"] = round(route.predicted_ttft_s, 4)
        return facts

    def calibrate(self, of: str, num_stated: int, kept: Mapping[float, int]) -> None:
        """What was stated and kept since the start.  of  ttft or total;  kept: of each quantile, how many"""
        self.predictions.set(num_stated, of=of)
        for quantile, num_kept in kept.items():
            self.predictions_kept.set(num_kept, of=of, quantile=f"{quantile:g}")

    def page(self, gauges: Mapping[str, tuple[str, float]]) -> bytes:
        """The whole page.  gauges  name -> (explanation, value as it is now)"""
        lines: list[str] = []
        for metric in vars(self).values():
            lines += (f"# HELP {metric.name} {metric.explain}", f"# TYPE {metric.name} {metric.kind}", *metric.lines())
        for name, (explain, value) in gauges.items():
            family = name.partition("{")[0]
            if f"# TYPE {family} gauge" not in lines:
                lines += (f"# HELP {family} {explain}", f"# TYPE {family} gauge")
            lines.append(f"{name} {value:g}")
        return ("\n".join(lines) + "\n").encode()


def gauges(
    status: Status, ledger: WriterStats, *, num_in_flight: int, reserved_bytes: int, num_tasks: int, is_draining: bool
) -> dict[str, tuple[str, float]]:
    """The place's and the ledger's state as gauges."""
    load = status.load
    num_blocks = load.num_blocks_free + load.num_blocks_cached + load.num_blocks_held
    blocks = "KV cache blocks: held by sequences, cached for reuse, free."
    return {
        "isochrone_requests_in_flight": ("Requests that wait for their answer's end.", num_in_flight),
        "isochrone_ready": ("1 when requests are taken.", status.state == "ready" and not is_draining),
        "isochrone_engine_restarts": ("Times the engine process was brought back.", load.num_restarts),
        'isochrone_kv_blocks{state="free"}': (blocks, load.num_blocks_free),
        'isochrone_kv_blocks{state="cached"}': (blocks, load.num_blocks_cached),
        'isochrone_kv_blocks{state="held"}': (blocks, load.num_blocks_held),
        "isochrone_reserved_bytes": ("Memory that answers under way may come to need.", reserved_bytes),
        "isochrone_tasks": ("Tasks of the server's event loop, this page's own included.", num_tasks),
        "isochrone_ledger_queued": ("Writes that wait for the ledger's disk.", ledger.num_queued),
        "isochrone_ledger_queued_bytes": ("Their size.", ledger.queued_bytes),
        "isochrone_ledger_written": ("Writes committed since the start.", ledger.num_written),
        "isochrone_ledger_refused": ("Writes refused since the start, because the queue was full.", ledger.num_refused),
        "isochrone_ledger_failed": ("Writes that the tables refused since the start.", ledger.num_failed),
        "isochrone_ledger_stuck": ("1 while the ledger is locked or its disk full.", bool(ledger.stuck_why)),
        "vllm:num_requests_waiting": ("Requests in the engine's queue.", load.num_waiting),
        "vllm:num_requests_running": ("Requests in the engine's batch.", load.num_running),
        "vllm:kv_cache_usage_perc": ("Share of the KV cache held, 0 to 1.", load.num_blocks_held / max(1, num_blocks)),
        f'vllm:cache_config_info{{block_size="{load.num_block_tokens}",num_gpu_blocks="{num_blocks}"}}': (
            "Tokens in a block of the KV cache, and how many blocks there are.", 1,
        ),
    }


def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
