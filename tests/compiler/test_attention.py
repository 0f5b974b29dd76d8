"""Attention: right against float64, and the same bits however a sequence is cut into steps, batches and items."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from isochrone.compiler.attention import Attend
from isochrone.compiler.codegen import count_spills
from isochrone.compiler.isa import Target, available_targets
from isochrone.compiler.pages import query_bytes

from .attending import Chunk, Layer, Shape
from .harness import ALL_TARGETS, assembly, assert_same_bits

EVERY_TARGET = pytest.mark.parametrize("target", ALL_TARGETS)
SHAPES = [
    Shape(),
    Shape(head_dim=128, group=2, kv_heads=1, rotary_dim=128, norm=True),
    Shape(head_dim=64, group=4, kv_heads=2, rotary_dim=32, window=100),
    Shape(head_dim=32, group=1, kv_heads=3, rotary_dim=0),
    Shape(head_dim=64, group=3, kv_heads=1, kv="int8"),
    Shape(head_dim=96, group=1, kv_heads=2, rotary_dim=96, window=7),
]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


def tolerance(target: Target, shape: Shape) -> float:
    """Weights are rounded to bf16 before the bf16 dot, and are f32 elsewhere."""
    return 1e-2 if query_bytes(target, shape.kv) == 2 else 2e-5


@EVERY_TARGET
@EVERY_SHAPE
def test_keys_and_values_reach_their_places_in_the_pages(shape: Shape, target: Target) -> None:
    layer = Layer(target, shape, context=160)
    step = layer.step(Chunk(1, 0, 100), Chunk(0, 0, 1))
    q, k, v = layer.inputs(1, 0, 100)
    keys, values = layer.cached(1, 100)
    for stored, exact in ((keys.transpose(1, 0, 2), k), (values.transpose(1, 0, 2), v)):
        step_size = np.abs(exact).max(-1, keepdims=True) / 127 if shape.kv == "int8" else np.abs(exact) * 2**-7
        assert (np.abs(stored - exact) <= 0.501 * step_size + 2e-5).all()
    rtol = 2**-8 if layer.query_bytes == 2 else 0
    np.testing.assert_allclose(layer.queries_of(step)[:100], q * shape.scale, rtol=rtol, atol=2e-5)
    assert not step.poison.any()


@EVERY_TARGET
@EVERY_SHAPE
def test_attention_agrees_with_float64_over_what_the_cache_holds(shape: Shape, target: Target) -> None:
    layer = Layer(target, shape)
    for chunks in ([Chunk(0, 0, 290), Chunk(1, 0, 3)], [Chunk(0, 290, 291), Chunk(1, 3, 70)], [Chunk(0, 291, 600)]):
        step, at = layer.step(*chunks), 0
        queries = layer.queries_of(step)
        for chunk in chunks:
            rows = slice(at, at + chunk.end - chunk.begin)
            expected = layer.attended(chunk.sequence, queries[rows], chunk.begin)
            np.testing.assert_allclose(step.out[rows], expected, atol=tolerance(target, shape) * np.abs(expected).max())
            at = rows.stop


def outputs(
    target: Target, shape: Shape, cuts: list[int], *, companion: bool = False, partial_rows: int = 4096
) -> np.ndarray:
    """Of positions 0 .. cuts[-1] of sequence 0, computed in these steps."""
    layer, parts = Layer(target, shape, partial_rows=partial_rows), []
    for begin, end in zip([0, *cuts], cuts, strict=False):
        others = [Chunk(1, begin, end)] if companion else []
        parts.append(layer.step(*others, Chunk(0, begin, end)).out[-(end - begin) :].copy())
    return np.concatenate(parts)


@EVERY_TARGET
@EVERY_SHAPE
def test_steps_batches_and_items_never_change_a_bit(shape: Shape, target: Target) -> None:
    whole = outputs(target, shape, [530])
    for cuts in ([1, 2, 3, 40, 255, 256, 257, 258, 300, 511, 512, 513, 514, 520, 530], [256, 512, 530], [529, 530]):
        assert_same_bits(outputs(target, shape, cuts), whole)
        assert_same_bits(outputs(target, shape, cuts, companion=True), whole)
        assert_same_bits(outputs(target, shape, cuts, partial_rows=0), whole)


@EVERY_TARGET
def test_a_long_sequence_with_one_new_token_is_spread_over_items_and_merged(target: Target) -> None:
    layer = Layer(target, Shape())
    layer.step(Chunk(0, 0, 600))
    step = layer.step(Chunk(0, 600, 601))
    assert (step.num_items, step.num_combines) == (2 * 3, 2)  # 2 KV heads x 3 chunks of 256 positions
    full = Layer(target, Shape(), partial_rows=8)  # no room for partial sums
    full.step(Chunk(0, 0, 600))
    step = full.step(Chunk(0, 600, 601))
    assert (step.num_items, step.num_combines) == (2, 0)


@EVERY_TARGET
@pytest.mark.parametrize(
    "shape",
    [Shape(16, 3, 1, 16), Shape(32, 1, 1, 16, window=9, norm=True), Shape(16, 2, 1, 16, kv="int8")],
    ids=str,
)  # fmt: skip
def test_the_interpreter_has_the_bits_of_compiled_code(shape: Shape, target: Target) -> None:
    steps = ([Chunk(0, 0, 5), Chunk(1, 0, 1)], [Chunk(1, 1, 3), Chunk(0, 5, 6)])
    compiled, interpreted = (Layer(target, shape, context=64, interpreted=i) for i in (False, True))
    for chunks in steps:
        a, b = compiled.step(*chunks), interpreted.step(*chunks)
        assert_same_bits(a.queries, b.queries)
        assert_same_bits(a.out, b.out)
    assert_same_bits(compiled.cache, interpreted.cache)


@EVERY_TARGET
def test_interpreted_items_of_several_chunks_merge_to_the_same_bits(target: Target) -> None:
    shape, context = Shape(16, 1, 1, 16), 300
    compiled, interpreted = (Layer(target, shape, num_sequences=1, context=context) for _ in range(2))
    for layer in (compiled, interpreted):
        layer.step(Chunk(0, 0, 260))
    interpreted.interpreted = True
    a, b = (layer.step(Chunk(0, 260, 261)) for layer in (compiled, interpreted))
    assert a.num_combines == 1
    assert_same_bits(a.out, b.out)


def test_one_numeric_class_gives_the_same_bits() -> None:
    results: dict[str, list[np.ndarray]] = defaultdict(list)
    for target in available_targets():
        results[target.numeric_class].append(outputs(target, Shape(), [300, 301]))
    for first, *others in results.values():
        for other in others:
            assert_same_bits(first, other)


@EVERY_TARGET
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["key", "value"])
def test_what_is_not_finite_is_reported_and_never_enters_the_cache(part: str, bad: float, target: Target) -> None:
    shape = Shape()
    layer = Layer(target, shape)
    column = (shape.heads + (0 if part == "key" else shape.kv_heads)) * shape.head_dim + 5
    layer.qkv[1, 2, column] = bad
    step = layer.step(Chunk(0, 0, 4), Chunk(1, 0, 4))
    assert step.poison.tolist() == [0, 1]
    assert all(np.isfinite(x).all() and np.abs(x).max() < 1e3 for x in layer.cached(1, 4))


@EVERY_TARGET
@pytest.mark.parametrize("shape", [Shape(), Shape(128, 2, 1, 128, norm=True), Shape(window=9, kv="int8")], ids=str)
def test_no_register_is_spilled_where_keys_and_values_are_read(shape: Shape, target: Target) -> None:
    # RopeWrite and Combine work on the stack at fixed offsets, which looks the same.
    spec = Attend(shape.head_dim, shape.group, shape.window is not None, shape.kv)
    assert count_spills(assembly(spec, target)) == 0
