"""Metrics, meter and log: the right numbers under the documented names, and nothing of what a caller said."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.gateway import logs
from isochrone.gateway.foresight import Foresight
from isochrone.gateway.meter import Meter, Prediction
from isochrone.gateway.metrics import Histogram, Metrics, gauges
from isochrone.gateway.routes import MODEL_ROUTE, ROUTES
from isochrone.ledger import WriterStats
from isochrone.places.place import Delta, Load, Prompted, Status
from isochrone.predict.latency import Machine
from isochrone.predict.shape import FORMS, ModelShape, ShapeCost
from tests.predict.machine import PROFILE

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text()
QUIET = WriterStats(0, 0, 0, 0, 0, "")
LOADED = Status("ready", (), Load(num_blocks_free=1))


def test_every_metric_is_documented() -> None:
    now = gauges(LOADED, QUIET, num_in_flight=0, reserved_bytes=0, num_tasks=1, is_draining=False)
    page = Metrics().page(now).decode()
    names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
    assert {name for name in names if f"`{name}`" not in PAGE} == set() and len(names) > 14


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


class Oracle:
    """A predictor that says what it is told and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def predict(self, num_prompt: int, num_cached: int, num_answer: int, load: Load) -> Prediction:
        self.heard.append((num_prompt, num_cached, num_answer, load))
        return Prediction(0.2, 0.01, 0.1, 0.005)

    def learn(self, prediction: Prediction, ttft_s: float, itl_s: float | None) -> None:
        self.heard.append((round(ttft_s, 3), itl_s and round(itl_s, 3)))


def test_a_request_is_measured_from_its_arrival_and_beside_its_prediction() -> None:
    metrics, oracle, load = Metrics(), Oracle(), Load(num_running=3)
    meter = Meter(metrics, 100.0, load, oracle)
    meter.push(Prompted(50), 100.3)
    meter.push(Delta(0, "a", 1), 100.3)
    meter.push(Delta(0, "b", 2), 100.34)
    meter.push(Delta(0, "", 0, (), "stop", 32), 100.4)
    assert meter.close(100.4) == {
        "prompt_tokens": 50, "cached_tokens": 32, "answer_tokens": 3, "ttft_s": 0.3, "itl_s": 0.02,
        "predicted_ttft_s": 0.2, "predicted_itl_s": 0.01,
    }  # fmt: skip
    assert oracle.heard == [(50, 32, 3, load), (0.3, 0.02)]
    assert metrics.ttft_error.sum == pytest.approx(1.5) and metrics.itl_s.sum == pytest.approx(0.04)


def test_a_request_without_a_token_has_no_first_token_time() -> None:
    metrics, oracle = Metrics(), Oracle()
    meter = Meter(metrics, 0.0, Load(), oracle)
    meter.push(Prompted(5), 1.0)
    assert "ttft_s" not in meter.close(2.0) and sum(metrics.ttft_s.counts) == 0 and oracle.heard == []


def test_foresight_learns_how_far_off_it_was() -> None:
    shape = ModelShape(
        hidden=576, intermediate=1536, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64, vocab=49152,
        context=8192, is_tied=True,
    )  # fmt: skip
    foresight = Foresight(ShapeCost(shape, FORMS["int4"]), Machine(PROFILE, 2), block_tokens=32)
    alone, crowded = Load(), Load(num_waiting=2, num_running=8, num_blocks_held=80)
    first = foresight.predict(500, 0, 64, alone)
    assert first.ttft_s == first.uncorrected_ttft_s > foresight.predict(500, 480, 64, alone).ttft_s
    assert foresight.predict(500, 0, 64, crowded).ttft_s > 2 * first.ttft_s
    for _ in range(100):
        foresight.learn(foresight.predict(500, 0, 64, alone), 3 * first.uncorrected_ttft_s, None)
    assert foresight.predict(500, 0, 64, alone).ttft_s == pytest.approx(3 * first.uncorrected_ttft_s, rel=0.05)
    assert foresight.predict(500, 0, 64, alone).itl_s == first.itl_s


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
