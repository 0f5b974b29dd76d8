"""Metrics, meter and log: the right numbers under the documented names, and nothing of what a caller said."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.gateway import logs, openai_chat, openai_completions
from isochrone.gateway.app import MODEL_ROUTE, ROUTES
from isochrone.gateway.meter import Meter, Prediction
from isochrone.gateway.metrics import Histogram, Metrics, gauges
from isochrone.places.place import Delta, Load, Prompted, Status

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text()
LOADED = Status("ready", (), Load(num_blocks_free=1))


def test_every_metric_is_documented() -> None:
    page = Metrics().page(gauges(LOADED, num_in_flight=0, is_draining=False)).decode()
    names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    assert {name for name in names if f"`{name}`" not in PAGE} == set() and len(names) > 14


@pytest.mark.parametrize("fields", [openai_chat.ChatFields, openai_completions.CompletionFields])
def test_every_field_is_documented(fields: type) -> None:
    assert {name for name in fields.__struct_fields__ if f"`{name}`" not in PAGE} == set()  # type: ignore[attr-defined]


def test_every_route_is_documented() -> None:
    assert all(f"{method} {path}`" in PAGE for path, methods in ROUTES.items() for method in methods)
    assert MODEL_ROUTE in PAGE


@given(st.lists(st.floats(0, 5), max_size=50))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    histogram = Histogram("h", "x", (0.5, 1.0, 2.0))
    for value in values:
        histogram.observe(value)
    lines = dict(line.rsplit(" ", 1) for line in histogram.lines())
    assert int(lines["h_count"]) == int(lines['h_bucket{le="+Inf"}']) == len(values)
    assert int(lines['h_bucket{le="1"}']) == sum(value <= 1.0 for value in values)


def test_a_request_is_measured_from_its_arrival_and_beside_its_prediction() -> None:
    metrics = Metrics()
    load = Load(num_running=3)
    asked: list[tuple[int, int, Load]] = []

    def predict(num_prompt: int, num_cached: int, load: Load) -> Prediction:
        asked.append((num_prompt, num_cached, load))
        return Prediction(ttft_s=0.2, itl_s=0.01)

    meter = Meter(metrics, 100.0, load, predict)
    meter.push(Prompted(50), 100.3)
    meter.push(Delta(0, "a", 1), 100.3)
    meter.push(Delta(0, "b", 2), 100.34)
    meter.push(Delta(0, "", 0, (), "stop", 32), 100.4)
    facts = meter.close(100.4)
    assert facts == {
        "prompt_tokens": 50, "cached_tokens": 32, "answer_tokens": 3, "ttft_s": 0.3, "itl_s": 0.02,
        "predicted_ttft_s": 0.2, "predicted_itl_s": 0.01,
    }  # fmt: skip
    assert asked == [(50, 32, load)]
    assert metrics.ttft_error.sum == pytest.approx(1.5) and metrics.itl_s.sum == pytest.approx(0.04)


def test_a_request_without_a_token_has_no_first_token_time() -> None:
    metrics = Metrics()
    meter = Meter(metrics, 0.0, Load(), lambda *_: Prediction(ttft_s=1.0))
    meter.push(Prompted(5), 1.0)
    assert "ttft_s" not in meter.close(2.0) and sum(metrics.ttft_s.counts) == 0


def test_a_log_line_is_json_with_facts_and_never_an_error_s_text() -> None:
    stream = io.StringIO()
    logs.set_up("info", stream)
    log = logs.Log("gateway")
    log.debug("not.shown", a=1)
    log.info("place.down", place="local", moved=3)
    try:
        raise ValueError("the caller's secret")
    except ValueError as error:
        log.error("request.failed", **logs.describe(error))
        logging.getLogger("uvicorn.error").error("broke", exc_info=True)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["place.down", "request.failed", "broke"]
    assert lines[0] | {"time": ""} == {"time": "", "level": "info", "event": "place.down", "place": "local", "moved": 3}
    assert lines[1]["error"] == lines[2]["error"] == "ValueError" and "secret" not in stream.getvalue()
