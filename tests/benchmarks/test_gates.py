"""The verdict of the comparison with the peers: each gate means what it says, and a missing peer is a miss."""

import pytest

from benchmarks.gates import (
    BATCH_16,
    DECODE_0,
    GATES,
    LLAMA,
    METRICS,
    OPENVINO,
    OURS,
    PREFILL_512,
    SHAPES,
    Gate,
    Limits,
    judge,
    share_of_limit,
)

FIGURES = {OURS: 300.0, LLAMA: 100.0, OPENVINO: 200.0}


@pytest.mark.parametrize(
    ("gate", "share", "verdict"),
    [
        (Gate(), 0.0, None),
        (Gate(llama=3.0), 0.0, True),
        (Gate(llama=3.1), 0.0, False),
        (Gate(llama=3.0, openvino=1.6), 0.0, False),
        (Gate(llama=3.0, openvino=1.5), 0.0, True),
        (Gate(llama=4.0, share=0.85, is_either=True), 0.86, True),
        (Gate(llama=2.0, share=0.85, is_either=True), 0.1, True),
        (Gate(llama=4.0, share=0.85, is_either=True), 0.84, False),
        (Gate(llama=0.97, share=0.85), 0.84, False),
        (Gate(share=0.80), 0.80, True),
    ],
)
def test_a_gate_means_what_it_says(gate, share, verdict):
    assert judge(gate, FIGURES, share) is verdict


def test_a_peer_that_was_not_measured_is_a_miss():
    assert judge(Gate(llama=1.0, openvino=1.0), {OURS: 1e9, LLAMA: 1.0}, 1.0) is False


def test_every_model_has_a_gate_and_a_shape_for_every_figure():
    assert GATES.keys() == SHAPES.keys()
    assert all(tuple(gates) == METRICS for gates in GATES.values())


def test_shares_are_those_of_the_measured_peers():
    # llama.cpp on SmolLM2 Q4_1 with 32 GB/s and 918 GOP/s: 8 % of the int8 peak, 42 % of the bandwidth.
    limits, shape = Limits(32e9, 918e9), SHAPES["smollm2-135m"]
    assert share_of_limit(PREFILL_512, 331, shape, 96.6e6, 2.0, limits) == pytest.approx(0.08, abs=0.005)
    assert share_of_limit(DECODE_0, 139, shape, 96.6e6, 2.0, limits) == pytest.approx(0.42, abs=0.005)
    assert 0.0 < share_of_limit(BATCH_16, 280, shape, 96.6e6, 2.0, limits) < 0.12
