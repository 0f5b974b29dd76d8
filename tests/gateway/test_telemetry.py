"""Traces: the request and each attempt, under the caller's own span, with the GenAI names and without a word said."""

from __future__ import annotations

import time

import pytest

from isochrone.budget import Deadline
from isochrone.gateway.call import Call
from isochrone.gateway.limits import Limits
from isochrone.gateway.trace import Trace
from isochrone.places.place import Chat, Message, Request, Usage
from isochrone.places.route import Attempt, Route

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from isochrone.gateway.telemetry import span_of, tracer_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def nothing() -> None:
    """Nobody calls it."""


def test_an_answer_becomes_a_span_with_a_child_for_each_attempt() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    scope = {"path": "/v1/chat/completions", "method": "POST", "headers": [(b"traceparent", PARENT.encode())]}
    call = Call(scope, nothing, nothing, Limits())  # type: ignore[arg-type]
    call.arrived_at, call.status = 100.0, 200
    call.trace = trace = Trace(100.0)
    request = Request("r", "fast", "t", Chat((Message("user", "a secret"),)))
    trace.begin(request, Deadline(100.0, None, 160.0))
    trace.count(1, 100.5)
    trace.settle(Usage(7, 3), "stop", 101.0)
    lost = Attempt("a", "m", "first", 0.0, ended_s=0.2, kind="failed", code="unreachable")
    won = Attempt("b", "m", "failover", 0.2, first_s=0.5, num_prompt=7, num_answer=3, cost_usd=0.01)
    trace.route = Route("b", "m", predicted_ttft_s=0.4, cost_usd=0.01, attempts=(lost, won))
    span_of(provider.get_tracer("x"), call, "/v1/chat/completions", time.time(), 101.0)
    first, second, whole = exporter.get_finished_spans()
    assert whole.name == "chat fast" and f"{whole.context.trace_id:032x}" in PARENT
    assert whole.attributes is not None and whole.attributes["gen_ai.usage.output_tokens"] == 3
    assert whole.attributes["isochrone.place"] == "b"
    assert whole.start_time is not None and whole.end_time is not None
    assert (whole.end_time - whole.start_time) / 1e9 == pytest.approx(1.0, abs=1e-3)
    assert (first.name, second.name) == ("attempt a", "attempt b")
    assert first.attributes is not None and first.attributes["error.type"] == "unreachable"
    assert first.parent is not None and first.parent.span_id == whole.context.span_id
    assert "secret" not in "".join(span.to_json() for span in (first, second, whole))


def test_no_tracer_is_made_where_nobody_receives_traces() -> None:
    assert tracer_of({}) is None
