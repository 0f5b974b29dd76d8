"""Ranges of integers, and the dot products that rest on them: what could overflow is refused when a kernel is built."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.compiler import isa, targets
from isochrone.compiler.ir import PTR, Kernel, Range, Type
from isochrone.compiler.isa import ACTIVATION_MAX, TARGETS, Target, chain_length, choose_target, dot_rows
from isochrone.compiler.tile import Tile, Value
from isochrone.errors import BadConfig, Unsupported

from .harness import ALL_TARGETS, Bench, same_bits_interpreted

GROUPS = 8


@dataclass(frozen=True)
class Dots:
    """start + the dot product of eight groups of codes up to code_max, as every contraction builds it."""

    code_max: int | None

    def build(self, target: Target) -> Kernel:
        t, lanes = Tile("dots", target), target.lanes
        known = None if self.code_max is None else Range(0, self.code_max)
        codes_at, activations_at = t.arg(0, PTR), t.arg(1, PTR)
        codes = [t.load(codes_at, Type("i8", 4 * lanes), 4 * lanes * g, known) for g in range(GROUPS)]
        activations = [t.broadcast(activations_at, lanes, 4 * g, "i32") for g in range(GROUPS)]
        start = t.load(t.arg(3, PTR), Type("i32", lanes))
        (dot,) = dot_rows(t, codes.__getitem__, lambda _, g: activations[g], range(GROUPS), [start])
        t.store(t.arg(2, PTR), dot)
        return t.finish()


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("code_max", [3, 15, 31, 63, 127, 255])
def test_dot_products_at_their_extremes_are_exact(code_max: int, target: Target) -> None:
    arrays = {
        "codes": np.full((GROUPS, 4 * target.lanes), code_max, np.uint8),
        "activations": np.full((GROUPS, 4), ACTIVATION_MAX, np.int8),
        "out": np.zeros(target.lanes, np.int32), "start": np.full(target.lanes, 11, np.int32),
    }  # fmt: skip
    bench, spec = Bench(arrays, ["codes", "activations", "out", "start"]), Dots(code_max)
    for activation in (ACTIVATION_MAX, -ACTIVATION_MAX):
        bench.arrays["activations"][:] = activation
        assert (same_bits_interpreted(bench, spec, target, 0) == 11 + 32 * code_max * activation).all()


@pytest.mark.parametrize("code_max", [3, 7, 15, 31, 63])
def test_a_chain_of_one_product_more_than_fits_is_refused(code_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    length = chain_length(code_max)
    assert 2 * code_max * ACTIVATION_MAX * length <= 32767 < 2 * code_max * ACTIVATION_MAX * (length + 1)
    monkeypatch.setattr(isa, "chain_length", lambda _: length + 1)
    if length < GROUPS:
        with pytest.raises(AssertionError, match=r"range of an operand is not known|could overflow"):
            Dots(code_max).build(TARGETS["avx2"])


def test_codes_of_an_unknown_range_are_refused_where_products_are_chained() -> None:
    with pytest.raises(AssertionError, match="range of an operand is not known"):
        Dots(None).build(TARGETS["avx2"])


def test_no_chain_holds_products_of_whole_bytes() -> None:
    assert chain_length(255) == 0 and chain_length(130) == 0 and chain_length(15) == 8


# --- the builder's interval arithmetic --------------------------------------------------------------------------------

BYTES = st.integers(-128, 255)
OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "and": operator.and_, "or": operator.or_,
    "shl": operator.lshift, "lshr": operator.rshift,
}  # fmt: skip


def loaded(t: Tile, low: int, high: int, kind: str = "i32") -> Value:
    return t.load(t.ctx, Type(kind), 0, Range(low, high))


@given(st.sampled_from(sorted(OPERATIONS)), BYTES, BYTES, BYTES, BYTES)
def test_a_result_lies_in_the_range_that_was_derived(op: str, a: int, b: int, c: int, d: int) -> None:
    t = Tile("ranges", TARGETS["portable"])
    x, y = sorted((a, b)), sorted((c, d))
    if op in ("shl", "lshr"):
        y = [abs(c) % 9] * 2
    derived = t.binary(op, loaded(t, *x), loaded(t, *y)).range
    if derived is None:
        return  # nothing is claimed
    for left in {x[0], x[1], (x[0] + x[1]) // 2}:
        for right in {y[0], y[1], (y[0] + y[1]) // 2}:
            if op in ("and", "lshr") and left < 0:
                left &= 0xFFFFFFFF
            assert derived.lo <= OPERATIONS[op](left, right) <= derived.hi


@pytest.mark.parametrize(
    "op, low, high, kind, to, expected",
    [
        ("zext", 0, 255, "i8", "i32", Range(0, 255)),
        ("zext", -3, 5, "i8", "i32", None),
        ("sext", -3, 5, "i8", "i32", Range(-3, 5)),
        ("sext", 0, 255, "i8", "i32", None),
        ("trunc", 0, 255, "i32", "i8", Range(0, 255)),
        ("trunc", -128, 127, "i32", "i8", Range(-128, 127)),
        ("trunc", 0, 256, "i32", "i8", None),
        ("trunc", -1, 128, "i32", "i8", None),
        ("sitofp", 0, 7, "i32", "f32", None),
    ],
)  # fmt: skip
def test_a_cast_keeps_a_range_only_where_the_bits_mean_the_same(
    op: str, low: int, high: int, kind: str, to: str, expected: Range | None
) -> None:
    t = Tile("casts", TARGETS["portable"])
    assert t.cast(op, loaded(t, low, high, kind), to).range == expected


def test_a_sum_that_leaves_its_type_has_no_range() -> None:
    t = Tile("overflow", TARGETS["portable"])
    assert (loaded(t, 0, 20000, "i16") + loaded(t, -1, 12767, "i16")).range == Range(-1, 32767)
    assert (loaded(t, 0, 20000, "i16") + loaded(t, -1, 12768, "i16")).range is None


# --- choosing a target ------------------------------------------------------------------------------------------------


def test_the_best_target_of_the_machine_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOCHRONE_ISA", raising=False)
    assert choose_target() == isa.available_targets()[-1]


def test_the_environment_and_the_argument_force_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "available_targets", lambda: tuple(TARGETS.values()))
    monkeypatch.setenv("ISOCHRONE_ISA", "avx2")
    assert choose_target().name == "avx2" and choose_target("portable").name == "portable"


def test_an_unknown_target_is_named_with_those_that_exist() -> None:
    with pytest.raises(BadConfig, match=r"ISOCHRONE_ISA=avx9 is not known.*portable, avx2"):
        choose_target("avx9")


def test_a_target_the_processor_lacks_is_refused_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "cpu_flags", lambda: TARGETS["avx2"].needs)
    with pytest.raises(Unsupported, match=r"cannot run vnni: it lacks .*avx512_vnni.*Use one of: portable, avx2\."):
        choose_target("vnni")
    assert choose_target().name == "avx2"
    monkeypatch.setattr(targets, "cpu_flags", lambda: frozenset())
    with pytest.raises(Unsupported, match="lacks AVX2 or FMA"):
        choose_target()
