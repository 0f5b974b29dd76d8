"""The interpreter refuses what no kernel may do, and says which kernel, operation and index it was."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.compiler.interpret import KernelFault, Memory, interpret
from isochrone.compiler.ir import I32, I64, PTR, Kernel, Range, Type
from isochrone.compiler.isa import TARGETS
from isochrone.compiler.semantics import fused_multiply_add
from isochrone.compiler.tile import Tile, Value

F = Type("f32", 16)
Body = Callable[[Tile, Value, Value], None]


def kernel_of(body: Body) -> Kernel:
    """A kernel over two buffers, whose body is called once per work item."""
    t = Tile("suspect", TARGETS["portable"])
    a, b = t.arg(0, PTR), t.arg(1, PTR)
    with t.items() as item:
        body(t, t.at(a, item * 64), b)
    return t.finish()


def run(body: Body, items: int = 4, *, read_only: bool = False) -> None:
    both = np.zeros(512, np.uint8)  # two neighbours: one byte past the first is inside the second
    first, second = both[:256], both[256:]
    second.flags.writeable = not read_only
    memory = Memory()
    args = np.array([memory.add("first", first), memory.add("second", second)], np.int64)
    interpret(kernel_of(body), memory, np.zeros(1, np.int64), args, begin=0, end=items)


def test_accesses_inside_a_buffer_pass() -> None:
    run(lambda t, a, b: t.store(a, t.load(b, F)))


def test_a_load_past_its_buffer_is_refused_even_where_another_buffer_begins() -> None:
    with pytest.raises(KernelFault, match=r"suspect: .*load.* touches bytes 256 \.\. 320 of first of 256") as caught:
        run(lambda t, a, b: t.store(b, t.load(a, F)), items=5)
    assert caught.value.indices == (4,) and caught.value.kernel == "suspect" and "load" in caught.value.op


def test_a_store_past_its_buffer_changes_nothing_and_is_refused() -> None:
    with pytest.raises(KernelFault, match=r"store .* touches bytes 196 \.\. 260"):
        run(lambda t, a, b: t.store(a, t.zeros(F), 4))


def test_an_access_before_its_buffer_is_refused() -> None:
    with pytest.raises(KernelFault, match=r"bytes -4 \.\. 0 of second"):
        run(lambda t, a, b: t.store(a, t.load(b, I32, -4)))


def test_indices_of_inner_loops_are_named() -> None:
    def body(t: Tile, a: Value, b: Value) -> None:
        with t.loop(0, 100, 10) as i:
            t.store(b, t.load(a, I32, i * 8))

    with pytest.raises(KernelFault) as caught:
        run(body)
    assert caught.value.indices == (0, 40)


def test_a_store_to_read_only_memory_is_refused() -> None:
    with pytest.raises(KernelFault, match="second of 256 bytes, which is read-only"):
        run(lambda t, a, b: t.store(b, t.zeros(F)), read_only=True)


def test_a_null_pointer_may_be_carried_but_not_used() -> None:
    def body(t: Tile, a: Value, b: Value) -> None:
        nothing = t.load(b, PTR)
        with t.when(t.compare("ne", t.load(b, I64), 0)):
            t.store(nothing, t.zeros(F))

    run(body)
    with pytest.raises(KernelFault, match="address 0x0, in no buffer"):
        run(lambda t, a, b: t.store(t.load(b, PTR), t.zeros(F)))


def test_blocks_of_the_stack_do_not_run_into_each_other() -> None:
    def body(t: Tile, a: Value, b: Value) -> None:
        low, high = t.stack(100), t.stack(64)
        t.store(high, t.zeros(F))
        t.store(low, t.zeros(F), 64)
        t.store(low, t.zeros(F), 68)

    with pytest.raises(KernelFault, match=r"68 \.\. 132 of stack block 0 of 128 bytes"):
        run(body)


def test_a_value_outside_its_promised_range_is_refused() -> None:
    with pytest.raises(KernelFault, match=r"gives 0 \.\. 0, outside \[1, 15\]"):
        run(lambda t, a, b: t.store(a, t.load(b, I32, range=Range(1, 15))))


@pytest.mark.parametrize("op, amount, sentence", [("udiv", 0, "divides by zero"), ("shl", 32, "more than the width")])
def test_an_undefined_operation_is_refused(op: str, amount: int, sentence: str) -> None:
    with pytest.raises(KernelFault, match=sentence):
        run(lambda t, a, b: t.store(a, t.binary(op, t.load(b, I32), amount)))


f32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(f32s, f32s, f32s)
def test_fused_multiply_add_rounds_once(a: float, b: float, c: float) -> None:
    assert_rounded_once(a, b, c)


@given(st.integers(1, 2**12), st.integers(1, 2**12), st.integers(-60, 60), st.sampled_from([-1, 1]))
def test_fused_multiply_add_rounds_once_just_beside_a_tie(a: int, b: int, exponent: int, sign: int) -> None:
    # a * b + 2**24 lies between two f32 that are 2 apart: odd products are ties, which c pushes to one side.
    assert_rounded_once(float(2**12 + a), float(2**12 + b), sign * 2.0**exponent)


def assert_rounded_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    with np.errstate(all="ignore"):
        got = fused_multiply_add(*(np.array([x], np.float32) for x in (a, b, c)))[0]
        if np.isinf(got):
            assert abs(exact) >= Fraction(2) ** 128 - Fraction(2) ** 103
            return
        neighbours = [np.nextafter(got, np.float32(x)) for x in (-np.inf, np.inf)]
    error = abs(Fraction(float(got)) - exact)
    for other in neighbours:
        if np.isinf(other):
            continue
        away = abs(Fraction(float(other)) - exact)
        assert error < away or (error == away and int(got.view(np.int32)) % 2 == 0), f"{got} is not nearest to {exact}"
