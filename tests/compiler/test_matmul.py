"""The contraction of quantised weights: right, exact where it says so, and the same bits whatever surrounds a row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from isochrone.compiler.codegen import count_spills
from isochrone.compiler.isa import TARGETS, Target, available_targets
from isochrone.compiler.matmul import Epilogue, Matmul
from isochrone.graph.formats import COLUMNS, Q4_0, Q4_K, Q6_K, Q8_0, Quantised

from .contraction import (
    EXTENT,
    QUANTISED,
    bench,
    formula,
    in_float64,
    random_problem,
    rows_alone,
    run,
    saturated_problem,
)
from .harness import ALL_TARGETS, assembly, assert_same_bits

EVERY_FORMAT = pytest.mark.parametrize("format", QUANTISED, ids=lambda f: f.name)
FEW_FORMATS = pytest.mark.parametrize("format", [Q8_0, Q4_K], ids=lambda f: f.name)
"""For what happens after the sum, which no format changes."""
EVERY_TARGET = pytest.mark.parametrize("target", [p for p in ALL_TARGETS if p.id != "vnni-bf16"])
"""vnni-bf16 builds the kernels of vnni, which a test says; a test of all sets at once compiles them for it too."""
TOLERANCE = 1e-6
"""Of the sum of |terms|: f32 sums of 32 blocks."""


def spec_for(format: Quantised, target: Target, epilogue: Epilogue = "store", *, bias: bool = False) -> Matmul:
    return Matmul(format.name, target.rows, epilogue, bias, EXTENT)


@EVERY_TARGET
@EVERY_FORMAT
def test_a_product_agrees_with_float64(format: Quantised, target: Target) -> None:
    problem = random_problem(format, m=11, n=3 * COLUMNS, k=1024)
    expected, magnitude = in_float64(problem)
    assert (np.abs(run(spec_for(format, target), target, problem) - expected) <= TOLERANCE * magnitude).all()


@EVERY_TARGET
@EVERY_FORMAT
def test_a_product_has_the_bits_of_the_documented_formula(format: Quantised, target: Target) -> None:
    problem = random_problem(format, m=9, n=2 * COLUMNS, k=512, seed=1)
    assert_same_bits(run(spec_for(format, target), target, problem), formula(problem))


@EVERY_TARGET
@EVERY_FORMAT
def test_saturated_codes_and_activations_are_exact(format: Quantised, target: Target) -> None:
    problem = saturated_problem(format, m=target.rows + 1, k=256)
    expected = formula(problem)
    assert_same_bits(run(spec_for(format, target), target, problem), expected)
    assert_same_bits(rows_alone(target, problem), expected)


@EVERY_TARGET
@EVERY_FORMAT
def test_the_interpreter_has_the_bits_of_compiled_code(format: Quantised, target: Target) -> None:
    k = 256 if format.super_bytes else 64
    problem = random_problem(format, m=2 * target.rows - 1, n=COLUMNS, k=k, seed=2)
    for spec, part in ((spec_for(format, target), problem), (Matmul(format.name, 1, "store", False, EXTENT),
                                                             problem.rows(slice(1)))):  # fmt: skip
        prepared, items = bench(spec, part)
        compiled = prepared.run(spec, target, items)
        prepared.arrays["out"][:] = np.nan
        assert_same_bits(compiled, prepared.interpret(spec, target, items))


@EVERY_TARGET
@EVERY_FORMAT
def test_a_row_never_depends_on_how_many_rows_surround_it(format: Quantised, target: Target) -> None:
    problem = random_problem(format, m=40, n=COLUMNS, k=256, seed=3)
    alone = rows_alone(target, problem)
    for m in range(1, 41):
        assert_same_bits(run(spec_for(format, target), target, problem.rows(slice(m))), alone[:m])


@EVERY_FORMAT
def test_where_no_bf16_is_used_bf16_units_change_nothing(format: Quantised) -> None:
    spec = spec_for(format, TARGETS["vnni"])
    assert str(spec.build(TARGETS["vnni"])) == str(spec.build(TARGETS["vnni-bf16"]))


@EVERY_FORMAT
def test_every_instruction_set_gives_the_same_bits(format: Quantised) -> None:
    problem = random_problem(format, m=13, n=2 * COLUMNS, k=768, seed=4)
    results = [run(spec_for(format, target), target, problem) for target in available_targets()]
    for other in results[1:]:
        assert_same_bits(results[0], other)


@EVERY_TARGET
@pytest.mark.parametrize("panels_per_item", [1, 2, 3])
def test_splitting_rows_over_work_items_changes_nothing(panels_per_item: int, target: Target) -> None:
    problem, spec = random_problem(Q4_0, m=21, n=3 * COLUMNS, k=64, seed=5), spec_for(Q4_0, target)
    prepared, items = bench(spec, problem, item_rows=panels_per_item * spec.panel)
    assert_same_bits(prepared.run(spec, target, items), run(spec, target, problem))


@EVERY_TARGET
@FEW_FORMATS
def test_adding_to_the_output_adds_once(format: Quantised, target: Target) -> None:
    problem, spec = random_problem(format, m=7, n=COLUMNS, k=256, seed=6), spec_for(format, target, "add")
    before = np.random.default_rng(7).standard_normal((7, COLUMNS)).astype(np.float32)
    prepared, items = bench(spec, problem, out=before.copy())
    assert_same_bits(prepared.run(spec, target, items), formula(problem) + before)


@EVERY_TARGET
@FEW_FORMATS
def test_a_bias_is_added_after_the_sum(format: Quantised, target: Target) -> None:
    problem, spec = random_problem(format, m=5, n=2 * COLUMNS, k=256, seed=8), spec_for(format, target, bias=True)
    bias = np.random.default_rng(9).standard_normal(2 * COLUMNS).astype(np.float32)
    prepared, items = bench(spec, problem, bias=bias)
    assert_same_bits(prepared.run(spec, target, items), formula(problem) + bias)


ACTIVATIONS: dict[Epilogue, Callable[[np.ndarray], np.ndarray]] = {
    "gated_silu": lambda x: x / (1 + np.exp(-x)),
    "gated_gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


@EVERY_TARGET
@pytest.mark.parametrize("format, epilogue", [(Q6_K, "gated_silu"), (Q4_0, "gated_silu"), (Q4_0, "gated_gelu_tanh")])
def test_gate_and_up_tiles_alternate(format: Quantised, epilogue: Epilogue, target: Target) -> None:
    problem, spec = random_problem(format, m=3, n=4 * COLUMNS, k=256, seed=10), spec_for(format, target, epilogue)
    prepared, items = bench(spec, problem)
    got = prepared.run(spec, target, items)
    tiles = formula(problem).astype(np.float64).reshape(3, 2, 2, COLUMNS)
    gate, up = (tiles[:, :, which].reshape(3, 2 * COLUMNS) for which in range(2))
    with np.errstate(over="ignore"):
        expected = ACTIVATIONS[epilogue](gate) * up
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6 * np.abs(expected).max())
    prepared.arrays["out"][:] = np.nan
    assert_same_bits(got, prepared.interpret(spec, target, items))


@EVERY_TARGET
def test_a_bias_of_gate_and_up_is_added_before_the_activation(target: Target) -> None:
    problem = random_problem(Q4_0, m=3, n=2 * COLUMNS, k=256, seed=11)
    spec = spec_for(Q4_0, target, "gated_silu", bias=True)
    bias = np.random.default_rng(12).standard_normal(2 * COLUMNS).astype(np.float32)
    prepared, items = bench(spec, problem, bias=bias)
    gate, up = np.split((formula(problem) + bias).astype(np.float64), 2, axis=1)
    np.testing.assert_allclose(prepared.run(spec, target, items), ACTIVATIONS["gated_silu"](gate) * up, rtol=2e-6)


def spills_allowed(format: Quantised, target: Target, panel: int) -> int:
    """Accesses to spilled registers in all inner loops of a kernel, by what was reached.

    None on 32 registers where a block has one scale.  On 16 registers the loop over the rows of a full panel has
    none; what is counted is in the tiles of 2 and 1 rows that finish a panel.  Two rows in one pass spill (up to 121 in
    q6_k), and are still a tenth to a third faster than each half of the columns in a pass of its own, which does not.
    """
    if target.registers >= 32:
        return 0 if format.sub == 32 else 16
    return (20 if panel == 1 else 121) if target.dot == "maddubs" else 1000


@EVERY_TARGET
@EVERY_FORMAT
def test_no_more_registers_are_spilled_than_stated(format: Quantised, target: Target) -> None:
    for panel in (1, target.rows):
        spec = Matmul(format.name, panel, "store", False, EXTENT)
        assert count_spills(assembly(spec, target)) <= spills_allowed(format, target, panel), spec.name


def test_a_spill_in_an_inner_loop_is_counted_and_one_outside_is_not() -> None:
    outside = "\tvmovaps %ymm1, 96(%rsp)\n"
    loop = ".LBB0_1:\n\tvpaddd %ymm1, %ymm2, %ymm1\n{}\tjne .LBB0_1\n"
    assert count_spills(outside + loop.format("")) == 0
    assert count_spills(outside + loop.format("\tvmovaps %ymm1, 96(%rsp)\n\tvaddps 32(%rsp), %ymm1, %ymm1\n")) == 2
    assert count_spills(loop.format("\tvbroadcastss 64(%rsp,%rax,4), %ymm3\n")) == 0
