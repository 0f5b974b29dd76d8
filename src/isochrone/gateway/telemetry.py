"""Each answer as a trace of OpenTelemetry, with the names of its GenAI conventions: made when the answer is over.

    chat qwen3-8b                 the request, a child of the caller's span when `traceparent` names one
      attempt lan-2               each place that was asked, those that lost included

No prompt and no answer is in them.  Loaded when the environment says where traces go (OTEL_EXPORTER_OTLP_ENDPOINT).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from isochrone.errors import MissingExtra

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from .call import Call

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
OPERATIONS = {"/v1/chat/completions": "chat", "/v1/messages": "chat", "/api/chat": "chat", "/v1/responses": "chat"}


def tracer_of(environ: Mapping[str, str] = os.environ) -> Tracer | None:
    """What spans are made with; None where the environment names no receiver.  Raises MissingExtra."""
    if not any(environ.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtra(
            "The environment says where traces go, and what sends them is not installed.",
            fix="pip install 'isochrone[otel]', or unset OTEL_EXPORTER_OTLP_ENDPOINT.",
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "isochrone"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("isochrone")


def span_of(tracer: Tracer, call: Call, route: str, ended_at_unix: float, now: float) -> None:
    """Hand in the spans of one call that is over.  now  monotonic, the same instant as `ended_at_unix`"""
    from opentelemetry import trace as api
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    trace = call.trace
    if trace is None:
        return

    def at_ns(instant: float) -> int:
        return int((ended_at_unix - (now - instant)) * 1e9)

    said = call.headers.get(b"traceparent", b"").decode("latin-1")
    parent = TraceContextTextMapPropagator().extract({"traceparent": said})
    operation = OPERATIONS.get(route, "text_completion")
    span = tracer.start_span(
        f"{operation} {trace.model}", parent, api.SpanKind.SERVER, _request_facts(call, operation),
        start_time=at_ns(call.arrived_at),
    )  # fmt: skip
    if call.code or call.status >= 400:
        span.set_attribute("error.type", call.code or str(call.status))
        span.set_status(api.Status(api.StatusCode.ERROR, call.code))
    attempts = trace.route.attempts if trace.route is not None else ()
    within = api.set_span_in_context(span)
    for attempt in attempts:
        facts: dict[str, Any] = {
            "gen_ai.operation.name": operation, "gen_ai.request.model": attempt.model, "server.address": attempt.place,
            "isochrone.attempt.why": attempt.why, "isochrone.cost_usd": attempt.cost_usd,
            "gen_ai.usage.input_tokens": attempt.num_prompt, "gen_ai.usage.output_tokens": attempt.num_answer,
        }  # fmt: skip
        child = tracer.start_span(
            f"attempt {attempt.place}", within, api.SpanKind.CLIENT, facts,
            start_time=at_ns(trace.arrived_at + attempt.sent_s),
        )  # fmt: skip
        if attempt.first_s is not None:
            child.add_event("gen_ai.first_token", timestamp=at_ns(trace.arrived_at + attempt.first_s))
        if attempt.code:
            child.set_attribute("error.type", attempt.code)
        child.end(at_ns(now if attempt.ended_s is None else trace.arrived_at + attempt.ended_s))
    span.end(at_ns(now))


def _request_facts(call: Call, operation: str) -> dict[str, Any]:
    trace = call.trace
    assert trace is not None, "the caller looked"
    facts: dict[str, Any] = {
        "gen_ai.operation.name": operation, "gen_ai.provider.name": "isochrone", "gen_ai.request.model": trace.model,
        "gen_ai.response.id": call.id, "gen_ai.usage.input_tokens": trace.num_prompt,
        "gen_ai.usage.output_tokens": trace.num_answer, "http.response.status_code": call.status or 499,
    }  # fmt: skip
    if trace.finish_reason:
        facts["gen_ai.response.finish_reasons"] = [trace.finish_reason]
    if trace.ttft_s is not None:
        facts["gen_ai.server.time_to_first_token"] = trace.ttft_s
    route = trace.route
    if route is not None:
        facts |= {"isochrone.place": route.place, "isochrone.cost_usd": route.cost_usd,
                  "gen_ai.response.model": route.model}  # fmt: skip
        if route.predicted_ttft_s is not None:
            facts["isochrone.predicted.time_to_first_token"] = route.predicted_ttft_s
    return facts
