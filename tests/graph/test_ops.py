"""Every op: shape rule and reference agree, the price is a count by hand, the meaning is the plain formula."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isochrone.graph import formats
from isochrone.graph.ir import OPS, ROWS, TOKENS, Cost, Dim, Extents, Tensor
from isochrone.graph.ops import (
    Add,
    Attend,
    Embed,
    Exchange,
    FusedLinear,
    Gated,
    GatedLinear,
    GatherRows,
    GeluTanh,
    Input,
    Linear,
    Mul,
    Q8Array,
    Quantise,
    RmsNorm,
    Rope,
    Scale,
    Silu,
    Slice,
    Weight,
)
from isochrone.runtime.reference_cache import GrowingCache

T, R, D, N, V = 5, 3, 64, 32, 48
STEP = Extents(tokens=T, rows=R, depth=7)
X, IDS, ROW_IDS = Tensor((TOKENS, D)), Tensor((TOKENS,), "i32", "io"), Tensor((ROWS,), "i32", "io")


def weight(*shape, format=formats.F32):
    return Tensor(shape, format, "weight")


Q4 = weight(N, D, format=formats.Q4_0)
Q4_BYTES = N // 16 * formats.Q4_0.tile_bytes(D)
XB, NB = T * D * 4, T * N * 4  # bytes of an activation of width D, N

CASES = {
    "Embed": (Embed(), [weight(V, D), IDS], (TOKENS, D), Cost(0, T * D * 4, XB)),
    "GatherRows": (GatherRows(), [X, ROW_IDS], (ROWS, D), Cost(0, 0, 2 * R * D * 4)),
    "RmsNorm": (RmsNorm(1e-5), [X, weight(D)], (TOKENS, D), Cost(4 * T * D, D * 4, 2 * XB)),
    "RmsNorm, heads": (RmsNorm(1e-5, 4), [X, weight(D // 4)], (TOKENS, D), Cost(4 * T * D, D, 2 * XB)),
    "Rope": (Rope(4, 16, 16), [X, IDS, weight(8)], (TOKENS, D), Cost(3 * T * D, 32, 2 * XB)),
    "Rope, part": (Rope(4, 16, 8, 0.5), [X, IDS, weight(4)], (TOKENS, D), Cost(3 * T * D, 16, 2 * XB)),
    "Attend": (
        Attend(0, 4, 2, 16, 0.25),
        [X, Tensor((TOKENS, N)), Tensor((TOKENS, N))],
        (TOKENS, D),
        Cost(T * 8 * D * 4, 0, 2 * XB + 2 * NB + T * 9 * 2 * N * 2),
    ),
    "Attend, window": (
        Attend(0, 4, 2, 16, 0.25, 3),
        [X, Tensor((TOKENS, N)), Tensor((TOKENS, N))],
        (TOKENS, D),
        Cost(T * 3 * D * 4, 0, 2 * XB + 2 * NB + T * 4 * 2 * N * 2),
    ),
    "Add": (Add(), [X, X], (TOKENS, D), Cost(T * D, 0, 3 * XB)),
    "Mul": (Mul(), [X, X], (TOKENS, D), Cost(T * D, 0, 3 * XB)),
    "Scale": (Scale(0.5), [X], (TOKENS, D), Cost(T * D, 0, 2 * XB)),
    "Silu": (Silu(), [X], (TOKENS, D), Cost(4 * T * D, 0, 2 * XB)),
    "GeluTanh": (GeluTanh(), [X], (TOKENS, D), Cost(8 * T * D, 0, 2 * XB)),
    "Gated": (Gated("silu"), [X, X], (TOKENS, D), Cost(5 * T * D, 0, 3 * XB)),
    "Slice": (Slice(8, 40), [X], (TOKENS, 32), Cost()),
    "Exchange": (Exchange("all_reduce"), [X], (TOKENS, D), Cost(0, 0, 2 * XB)),
    "Exchange, gather": (Exchange("all_gather"), [X], (TOKENS, D), Cost(0, 0, 2 * XB)),
    "Quantise": (Quantise(), [X], (TOKENS, D), Cost(4 * T * D, 0, XB + T * (D + D // 8))),
    "Linear": (Linear(), [X, weight(N, D)], (TOKENS, N), Cost(2 * T * N * D, N * D * 4, XB + NB)),
    "Linear, all": (
        Linear(bias=True, residual=True),
        [X, Q4, weight(N), Tensor((TOKENS, N))],
        (TOKENS, N),
        Cost(2 * T * N * D + 2 * T * N, Q4_BYTES + N * 4, XB + 2 * NB),
    ),
    "FusedLinear": (
        FusedLinear((N, N), bias=True),
        [X, Q4, weight(N, D, format=formats.Q8_0), weight(N), weight(N)],
        (TOKENS, 2 * N),
        Cost(4 * T * N * D + 2 * T * N, Q4_BYTES + N // 16 * formats.Q8_0.tile_bytes(D) + 8 * N, XB + 2 * NB),
    ),
    "GatedLinear": (
        GatedLinear("gelu_tanh", bias=True),
        [X, Q4, Q4, weight(N), weight(N)],
        (TOKENS, N),
        Cost(4 * T * N * D + 2 * T * N + 5 * T * N, 2 * Q4_BYTES + 8 * N, XB + NB),
    ),
}


def value(tensor: Tensor, rng: np.random.Generator) -> np.ndarray:
    shape = tuple(STEP.of(extent) for extent in tensor.shape)
    if tensor.dtype == "i32":
        return rng.integers(0, T, shape).astype(np.int32)
    return rng.normal(0, 1, shape).astype(np.float32)


def test_every_op_has_a_case():
    assert {type(op).__name__ for op, *_ in CASES.values()} | {"Weight", "Input"} == set(OPS)


@pytest.mark.parametrize("name", CASES)
def test_reference_makes_the_shape_and_cost_is_the_count_by_hand(name):
    op, tensors, shape, cost = CASES[name]
    made = op.shape(*tensors)
    assert made.shape == shape
    assert op.cost(STEP, *tensors) == cost
    rng, cache = np.random.default_rng(0), GrowingCache()
    cache.begin((0, T))
    out = op.reference(*[value(t, rng) for t in tensors], *([cache] if op.has_cache else []))
    array = out.codes if isinstance(out, Q8Array) else out
    assert array.shape == tuple(STEP.of(extent) for extent in shape)
    assert array.dtype == {"f32": np.float32, "q8": np.int8}[made.dtype]


@pytest.mark.parametrize(
    ("op", "tensors"),
    [
        (Embed(), [weight(V, D), X]),
        (GatherRows(), [X, X]),
        (RmsNorm(1e-5), [X, weight(D + 1)]),
        (RmsNorm(1e-5, 3), [X, weight(21)]),
        (Rope(3, 16, 16), [X, IDS, weight(8)]),
        (Rope(4, 16, 16), [X, IDS, weight(7)]),
        (Attend(0, 4, 3, 16, 1.0), [X, Tensor((TOKENS, 48)), Tensor((TOKENS, 48))]),
        (Attend(0, 4, 2, 16, 1.0), [X, X, X]),
        (Add(), [X, Tensor((TOKENS, N))]),
        (Mul(), [X, Tensor((ROWS, D))]),
        (Gated("silu"), [X, Tensor((TOKENS, N))]),
        (Slice(8, 65), [X]),
        (Slice(8, 8), [X]),
        (Quantise(), [Tensor((TOKENS, 48))]),
        (Quantise(), [Tensor((TOKENS, D), "q8")]),
        (Linear(), [X, weight(N, D + 1)]),
        (Linear(), [Tensor((TOKENS, D), "q8"), weight(N, D)]),
        (Linear(bias=True), [X, Q4]),
        (Linear(bias=True), [X, Q4, weight(N + 1)]),
        (Linear(residual=True), [X, Q4, X]),
        (FusedLinear((N, 16)), [X, Q4, Q4]),
        (FusedLinear((N, N), bias=True), [X, Q4, Q4]),
        (GatedLinear("silu"), [X, Q4, weight(N, D)]),
        (GatedLinear("silu"), [X, Q4, Q4, weight(N)]),
        (Weight("w"), []),
    ],
    ids=lambda v: str(v) if not isinstance(v, list) else "",
)
def test_tensors_that_do_not_fit_are_refused(op, tensors):
    with pytest.raises(AssertionError):
        op.shape(*tensors)


def test_leaves_have_no_reference_of_their_own_and_cost_nothing():
    for leaf in (Weight("w"), Input("positions")):
        assert leaf.cost(STEP) == Cost()
        with pytest.raises(AssertionError):
            leaf.reference()
    assert Input("logit_rows").shape().shape == (ROWS,) and Input("token_ids").shape().shape == (TOKENS,)


def test_a_packed_weight_takes_whole_tiles_of_sixteen_columns():
    one = weight(1, 256, format=formats.Q4_K).num_bytes(STEP)
    assert one == weight(16, 256, format=formats.Q4_K).num_bytes(STEP) == formats.Q4_K.tile_bytes(256)
    assert weight(17, 256, format=formats.Q4_K).num_bytes(STEP) == 2 * one
    assert weight(3, 5, format=formats.BF16).num_bytes(STEP) == 30


def test_extents_name_the_run_time_dimensions():
    assert (STEP.of(TOKENS), STEP.of(ROWS), STEP.of(9)) == (T, R, 9)
    assert str(Tensor((TOKENS, 4), formats.Q8_0)) == "q8_0[tokens, 4]" and str(Dim("rows", 0, 1)) == "rows"


@given(
    x=hnp.arrays(np.float32, (2, 64), elements=st.floats(-1e4, 1e4, width=32)),
    scale=st.sampled_from([0.0, 1e-30, 1.0, 1e30]),
)
def test_quantise_is_nearest_code_of_the_block_and_never_leaves_127(x, scale):
    x = (x * np.float32(scale)).astype(np.float32)
    codes, scales = Quantise().reference(x)
    assert codes.dtype == np.int8 and codes.min(initial=0) >= -127 and scales.shape == (2, 2)
    for row in range(2):
        for block in range(2):
            part, s = x[row, 32 * block : 32 * block + 32], scales[row, block]
            got = codes[row, 32 * block : 32 * block + 32]
            if np.abs(part).max() / np.float32(127) == 0:
                assert s == 0 and not got.any()
                continue
            expected = [max(-127, min(127, round(float(np.float32(v) / s)))) for v in part]
            assert got.tolist() == expected
    error = np.abs(Q8Array(codes, scales).to_f32() - x)
    assert np.all(error <= np.repeat(scales, 32, axis=1) * 0.5001 + 1e-37)


def test_rms_norm_of_groups_normalises_each_head_apart():
    rng = np.random.default_rng(0)
    x, w = rng.normal(0, 3, (T, D)).astype(np.float32), rng.normal(1, 1, 16).astype(np.float32)
    y = RmsNorm(1e-3, 4).reference(x, w)
    for head in range(4):
        part = x[:, 16 * head : 16 * head + 16].astype(np.float64)
        expected = part / np.sqrt((part**2).mean(axis=1, keepdims=True) + 1e-3) * w
        np.testing.assert_allclose(y[:, 16 * head : 16 * head + 16], expected, rtol=1e-5)


def test_rope_turns_pairs_as_complex_numbers_and_leaves_the_rest():
    rng = np.random.default_rng(0)
    x, freq = rng.normal(0, 1, (T, D)).astype(np.float32), np.array([1.0, 0.1, 0.01, 0.001], np.float32)
    positions = np.array([0, 1, 5, 100, 3], np.int32)
    y = Rope(4, 16, 8, 1.5).reference(x, positions, freq).reshape(T, 4, 16)
    heads = x.reshape(T, 4, 16)
    turned = (heads[..., :4] + 1j * heads[..., 4:8]) * np.exp(1j * positions[:, None, None] * freq) * 1.5
    np.testing.assert_allclose(y[..., :4], turned.real, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y[..., 4:8], turned.imag, rtol=1e-4, atol=1e-5)
    assert np.array_equal(y[..., 8:], heads[..., 8:])


def naive_attention(q, k, v, heads, kv_heads, scale, window):
    """One loop a token and head, in f64."""
    out = np.zeros_like(q, dtype=np.float64)
    for t in range(len(q)):
        first = 0 if window is None else max(0, t - window + 1)
        for head in range(heads):
            columns = slice(16 * head, 16 * head + 16)
            group = head // (heads // kv_heads)
            shared = slice(16 * group, 16 * group + 16)
            scores = [math.exp(float(q[t, columns] @ k[p, shared]) * scale) for p in range(first, t + 1)]
            mixed = sum(s * v[p, shared] for s, p in zip(scores, range(first, t + 1), strict=True))
            out[t, columns] = mixed / sum(scores)
    return out


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("cuts", [(0, 9), (0, 4, 9), tuple(range(10))], ids=["whole", "halves", "tokens"])
def test_attention_is_causal_windowed_shared_and_blind_to_chunking(window, kv_heads, cuts):
    rng = np.random.default_rng(0)
    q = rng.normal(0, 1, (9, 64)).astype(np.float32)
    k, v = (rng.normal(0, 1, (9, 16 * kv_heads)).astype(np.float32) for _ in range(2))
    op, cache, out = Attend(0, 4, kv_heads, 16, 0.25, window), GrowingCache(), []
    for start, stop in pairwise(cuts):
        cache.begin((0, stop - start))
        out.append(op.reference(q[start:stop], k[start:stop], v[start:stop], cache))
    expected = naive_attention(q, k, v, 4, kv_heads, 0.25, window)
    np.testing.assert_allclose(np.concatenate(out), expected, rtol=1e-4, atol=1e-5)


def test_sequences_of_a_step_do_not_see_each_other():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(0, 1, (7, 64)).astype(np.float32) for _ in range(3))
    op, both, alone = Attend(0, 4, 4, 16, 0.25), GrowingCache(), GrowingCache()
    both.begin((0, 3, 7))
    alone.begin((0, 4))
    np.testing.assert_array_equal(op.reference(q, k, v, both)[3:], op.reference(q[3:], k[3:], v[3:], alone))


@given(hnp.arrays(np.float32, 8, elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_activations_never_overflow(x):
    with np.errstate(over="raise", invalid="raise"):
        silu = Silu().reference(x)
    assert np.isfinite(silu).all() and np.all(np.abs(silu) <= np.abs(x))
    expected = [v / (1 + math.exp(-v)) if v > -700 else 0.0 for v in map(float, x)]
    np.testing.assert_allclose(silu, expected, rtol=1e-5, atol=1e-30)


def test_gelu_is_the_tanh_form():
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    exact = [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in map(float, x)]
    np.testing.assert_allclose(GeluTanh().reference(x), exact, rtol=1e-4, atol=1e-6)


def test_fused_contractions_equal_their_parts_on_codes_and_on_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (T, D)).astype(np.float32)
    a, b = (rng.normal(0, 1, (N, D)).astype(np.float32) for _ in range(2))
    p, q = (rng.normal(0, 1, N).astype(np.float32) for _ in range(2))
    for values in (x, Quantise().reference(x)):
        parts = [Linear(bias=True).reference(values, w, bias) for w, bias in ((a, p), (b, q))]
        np.testing.assert_array_equal(FusedLinear((N, N), True).reference(values, a, b, p, q), np.hstack(parts))
        gated = Gated("silu").reference(*parts)
        np.testing.assert_array_equal(GatedLinear("silu", True).reference(values, a, b, p, q), gated)
        added = Linear(True, True).reference(values, a, p, parts[1])
        np.testing.assert_array_equal(added, parts[0] + parts[1])


def test_exchange_has_no_meaning_for_one_machine_of_many():
    with pytest.raises(AssertionError):
        Exchange("all_reduce", 2).reference(np.ones((1, 4), np.float32))
    assert Exchange("all_gather", 2).shape(X).shape == (TOKENS, 2 * D)
    assert Exchange("all_reduce", 2).cost(STEP, X) == Cost(T * D, 0, 4 * XB)
