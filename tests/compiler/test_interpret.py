"""The interpreter gives the bits of compiled code, operation by operation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isochrone.compiler.ir import PTR, Kernel, Type
from isochrone.compiler.isa import TARGETS, Target
from isochrone.compiler.tile import Tile, Value

from .harness import ALL_TARGETS, Bench, assert_same_bits

F, WORDS, HALVES = Type("f32", 16), Type("i32", 16), Type("f16", 16)
F32_EDGES = np.array(
    [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38, np.inf, -np.inf, np.nan,
     0.5, 1.5, 2.5, -2.5, 8388609.0, 2147483520.0, -2147483648.0, 1e-30, 65504.0, 65520.0, 6e-8, 3.1415927],
    np.float32,
)  # fmt: skip
I32_EDGES = np.array([0, 1, -1, 127, -128, 255, 32767, -32768, 65535, 2**31 - 1, -(2**31), 12345, -98765], np.int32)


class OneOp:
    """A kernel that loads three vectors of 64 bytes per item and stores the result of one operation."""

    def __init__(self, name: str, body: Callable[[Tile, list[Value]], Value], kinds: str = "f32 f32 f32") -> None:
        self.name, self.body, self.kinds = name, body, kinds.split()

    def build(self, target: Target) -> Kernel:
        t = Tile("one_op", target)
        out = t.arg(3, PTR)
        with t.items() as item:
            operands = []
            for slot, kind in enumerate(self.kinds):
                type = Type(kind, 64 * 8 // Type(kind).lane_bits)
                operands.append(t.load(t.arg(slot, PTR), type, item * 64))
            t.store(out, self.body(t, operands), item * 64)
        return t.finish()


def spread(edges: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Edge cases in random order, half of them replaced by random numbers of every size."""
    random = np.random.default_rng(seed)
    values = random.choice(edges, count)
    bits = random.integers(-(2**31), 2**31, count).astype(np.int32).view(edges.dtype)
    return np.where(random.random(count) < 0.5, values, bits)


def same_bits_for(op: OneOp, target: Target, edges: np.ndarray, items: int = 24) -> None:
    arrays = {name: spread(edges, seed, 16 * items) for seed, name in enumerate("abc")}
    bench = Bench({**arrays, "out": np.zeros(64 * items, np.uint8)}, ["a", "b", "c", "out"])
    compiled, interpreted = bench.run(op, target, items), bench.interpret(op, target, items)
    if op.kinds[0] == "f32":  # which NaN comes out is not defined
        compiled, interpreted = (_one_nan(x.view(np.float32)) for x in (compiled, interpreted))
    assert_same_bits(compiled, interpreted)


def _one_nan(a: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(a), np.float32(np.nan), a)


def _number(t: Tile, x: Value) -> Value:
    """x, or 0 where x is not a number."""
    return t.select(t.compare("uno", x, x), t.zeros(x.type), x)


FLOAT_OPS = [
    OneOp("add", lambda t, v: v[0] + v[1]),
    OneOp("sub", lambda t, v: v[0] - v[1]),
    OneOp("mul", lambda t, v: v[0] * v[1]),
    OneOp("div", lambda t, v: v[0] / v[1]),
    OneOp("fma", lambda t, v: t.fma(v[0], v[1], v[2])),
    OneOp("maximum", lambda t, v: t.maximum(v[0], v[1])),
    OneOp("minimum", lambda t, v: t.minimum(v[0], v[1])),
    OneOp("sqrt", lambda t, v: t.sqrt(v[0])),
    OneOp("absolute", lambda t, v: t.absolute(v[0])),
    OneOp("round_even", lambda t, v: t.round_even(v[0])),
    OneOp("exp2", lambda t, v: t.exp2(t.zeros(F) - t.absolute(v[0]))),
    OneOp("select", lambda t, v: t.select(t.compare("olt", v[0], v[1]), v[1], v[2])),
    OneOp("select_unordered", lambda t, v: t.select(t.compare("uno", v[0], v[1]), v[1], v[2])),
    OneOp("to_integer", lambda t, v: t.bitcast(t.cast("fptosi", v[0], "i32"), F)),
    OneOp("to_f16_and_back", lambda t, v: t.to_f32(t.cast("fptrunc", v[0], "f16"))),
    OneOp("tree_sum", lambda t, v: t.splat(t.sum(v[0]), 16)),
    OneOp("shuffle", lambda t, v: t.shuffle(v[0], v[1], [31, 0, *range(5, 19)])),
]
INTEGER_OPS = [
    OneOp("add", lambda t, v: v[0] + v[1], "i32 i32"),
    OneOp("sub", lambda t, v: v[0] - v[1], "i32 i32"),
    OneOp("mul", lambda t, v: v[0] * v[1], "i32 i32"),
    OneOp("bits", lambda t, v: (v[0] & v[1]) | (v[0] ^ v[2]), "i32 i32 i32"),
    OneOp("shifts", lambda t, v: (v[0] << 7) ^ (v[1] >> 3) ^ t.binary("ashr", v[2], 5), "i32 i32 i32"),
    OneOp("divide", lambda t, v: (v[0] // 7) + (v[1] % 11), "i32 i32"),
    OneOp("divide_signed", lambda t, v: t.binary("sdiv", v[0], v[1] | 1), "i32 i32"),
    OneOp("extremes", lambda t, v: t.maximum(v[0], t.minimum(v[1], v[2])), "i32 i32 i32"),
    OneOp("bytes", lambda t, v: t.cast("trunc", t.cast("sext", v[0], "i32") * 3, "i8"), "i8"),
    OneOp("words", lambda t, v: t.cast("zext", t.slice(v[0], 16, 16), "i32"), "i16"),
    OneOp("to_float", lambda t, v: t.bitcast(t.cast("sitofp", v[0], "f32"), WORDS), "i32"),
    OneOp("to_float_unsigned", lambda t, v: t.bitcast(t.cast("uitofp", v[0], "f32"), WORDS), "i32"),
    OneOp("f16", lambda t, v: t.bitcast(_number(t, t.to_f32(t.bitcast(t.slice(v[0], 0, 16), HALVES))), WORDS), "i16"),
    OneOp("below", lambda t, v: t.select(t.compare("ult", v[0], v[1]), v[0], v[2]), "i32 i32 i32"),
    OneOp("at_least", lambda t, v: t.select(t.compare("sge", v[0], v[1]), v[0], v[2]), "i32 i32 i32"),
    OneOp("iota", lambda t, v: v[0] + t.iota(16), "i32"),
]


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("op", FLOAT_OPS, ids=lambda op: op.name)
def test_float_operations_have_the_bits_of_compiled_code(op: OneOp, target: Target) -> None:
    same_bits_for(op, target, F32_EDGES)


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("op", INTEGER_OPS, ids=lambda op: op.name)
def test_integer_operations_have_the_bits_of_compiled_code(op: OneOp, target: Target) -> None:
    same_bits_for(op, target, I32_EDGES)


def _machine_op(op: str, out: str, kinds: str, bytes_wide: int) -> OneOp:
    """An instruction of the machine on the first bytes of each operand, the result repeated to 64 bytes."""

    def body(t: Tile, v: list[Value]) -> Value:
        operands = [t.slice(x, 0, bytes_wide // x.type.of(x.type.kind).lane_bits * 8) for x in v]
        result = t.emit(op, Type(out, bytes_wide * 8 // Type(out).lane_bits), operands)
        lanes = result.type.lanes
        return t.shuffle(result, result, list(range(lanes)) * (64 // bytes_wide))

    return OneOp(f"{op}_{bytes_wide}", body, kinds)


MACHINE_OPS = [
    (name, _machine_op(op, out, kinds, width))
    for op, out, kinds, names in (
        ("maddubs", "i16", "i8 i8", ("avx2", "vnni")),
        ("maddwd", "i32", "i16 i16", ("avx2", "vnni")),
        ("bytes_table", "i8", "i8 i8", ("avx2", "vnni")),
        ("dpbusd", "i32", "i32 i8 i8", ("vnni",)),
    )
    for name in names
    for width in ((32,) if name == "avx2" else (32, 64))
]


@pytest.mark.parametrize("target", ALL_TARGETS)
@pytest.mark.parametrize("needs, op", MACHINE_OPS, ids=lambda x: getattr(x, "name", x))
def test_machine_instructions_have_the_bits_of_compiled_code(needs: str, op: OneOp, target: Target) -> None:
    if not TARGETS[needs].needs <= target.needs:
        return  # the instruction is not part of this set, and no kernel emits it there
    same_bits_for(op, target, I32_EDGES)


BF16_OPS = [
    OneOp("dot_bf16", lambda t, v: t.emit("dpbf16", F, [v[0], *(t.bitcast(x, Type("bf16", 32)) for x in v[1:])])),
    OneOp("round_to_bf16", lambda t, v: t.to_f32(t.cast("fptrunc", v[0], "bf16"))),
]


@pytest.mark.parametrize("op", BF16_OPS, ids=lambda op: op.name)
@pytest.mark.parametrize("target", [p for p in ALL_TARGETS if p.id == "vnni-bf16"])
def test_bf16_instructions_have_the_bits_of_compiled_code(op: OneOp, target: Target) -> None:
    same_bits_for(op, target, F32_EDGES, items=400)


@pytest.mark.parametrize("target", [p for p in ALL_TARGETS if p.id == "vnni-bf16"])
def test_bf16_dot_products_of_numbers_alike_in_size_round_where_the_processor_rounds(target: Target) -> None:
    random, items = np.random.default_rng(5), 500
    total = random.standard_normal(16 * items).astype(np.float32)
    pairs = random.standard_normal((2, 32 * items)).astype(np.float32).view(np.uint32) >> 16
    arrays = {"a": total, "b": pairs[0].astype(np.uint16), "c": pairs[1].astype(np.uint16), "out": np.zeros_like(total)}
    bench = Bench(arrays, ["a", "b", "c", "out"])
    assert_same_bits(bench.run(BF16_OPS[0], target, items), bench.interpret(BF16_OPS[0], target, items))
