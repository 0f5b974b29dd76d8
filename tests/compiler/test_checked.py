"""The debug build: the same bits while all is well, and a report in place of a fault when it is not."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from isochrone.compiler.checked import TABLE_WORD, Checks, print_checked
from isochrone.compiler.codegen import emit_object
from isochrone.compiler.ir import PTR, Kernel, Type
from isochrone.compiler.isa import Target, available_targets
from isochrone.compiler.link import link_shared
from isochrone.compiler.matmul import NUM_BLOCKS, OUT, Matmul
from isochrone.compiler.rows import Embed
from isochrone.compiler.tile import Tile
from isochrone.graph.formats import COLUMNS, Q4_K

from .contraction import EXTENT, bench, random_problem
from .harness import Bench, assert_same_bits, built
from .test_rows import embed_bench, stored_rows

TARGET = available_targets()[-1]


def load_checked(kernel: Kernel, target: Target, folder: Path) -> Callable[..., None]:
    path = folder / f"{kernel.name}.so"
    path.write_bytes(link_shared(emit_object(print_checked([kernel], target), target)))
    function = getattr(ctypes.CDLL(str(path)), kernel.name)
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3]
    return function


def run_checked(kernel: Kernel, prepared: Bench, items: int, folder: Path, begin: int = 0) -> Checks:
    ctx = np.zeros(TABLE_WORD + 1, np.int64)
    ctx[: len(prepared.ctx)] = prepared.ctx
    checks = Checks({**prepared.arrays, "ctx": ctx, "args": prepared.args})
    ctx[TABLE_WORD] = checks.address
    load_checked(kernel, TARGET, folder)(ctx.ctypes.data, prepared.args.ctypes.data, begin, items, 0)
    return checks


def matmul_bench() -> tuple[Matmul, Bench, int]:
    spec = Matmul("q4_k", TARGET.rows, "store", False, EXTENT)
    return spec, *bench(spec, random_problem(Q4_K, m=11, n=3 * COLUMNS, k=512))


def test_a_checked_contraction_gives_the_same_bits_and_reports_nothing(tmp_path: Path) -> None:
    spec, prepared, items = matmul_bench()
    expected = prepared.run(spec, TARGET, items)
    prepared.arrays["out"][:] = 0
    checks = run_checked(built(spec, TARGET), prepared, items, tmp_path)
    assert_same_bits(prepared.arrays["out"], expected)
    assert checks.report([built(spec, TARGET)]) is None


def test_a_kernel_with_a_stack_may_use_it(tmp_path: Path) -> None:
    spec, tokens = Embed("q4_k", 1, 0), np.array([3, 16], np.int32)
    prepared = embed_bench(Q4_K, stored_rows(Q4_K, 20, 256), 256, tokens, 1.0)
    expected = prepared.run(spec, TARGET, 2)
    prepared.arrays["out"][:] = 0
    checks = run_checked(built(spec, TARGET), prepared, 2, tmp_path)
    assert checks.report([built(spec, TARGET)]) is None
    assert_same_bits(prepared.arrays["out"], expected)


@pytest.mark.parametrize("word, wrong, op", [(NUM_BLOCKS, 512 // 32 + 8, "load"), (OUT, 0, "store")])
def test_a_wrong_table_is_reported_and_nothing_faults(word: int, wrong: int, op: str, tmp_path: Path) -> None:
    spec, prepared, items = matmul_bench()
    prepared.args[word] = wrong
    report = run_checked(built(spec, TARGET), prepared, items, tmp_path).report([built(spec, TARGET)])
    assert report is not None and report.kernel == spec.name and report.count > 0 and op in report.op
    assert report.kernel in str(report) and "in no buffer" in str(report)


def test_an_item_too_many_is_reported_by_its_index(tmp_path: Path) -> None:
    spec, prepared, items = matmul_bench()
    report = run_checked(built(spec, TARGET), prepared, items + 1, tmp_path).report([built(spec, TARGET)])
    assert report is not None and report.index == items and "load" in report.op


def test_the_first_access_past_the_end_names_its_item(tmp_path: Path) -> None:
    t = Tile("too_far", TARGET)
    with t.items() as item:
        t.store(t.arg(0, PTR), t.const(1.0, Type("f32", 8)), item * 32)
    kernel, prepared = t.finish(), Bench({"out": np.zeros((4, 8), np.float32)}, ["out"])
    report = run_checked(kernel, prepared, 9, tmp_path).report([kernel])
    assert report is not None
    assert (report.index, report.num_bytes, report.count) == (4, 32, 5)
    assert report.address == prepared.arrays["out"].ctypes.data + 128 and report.op.startswith("store")
    assert (prepared.arrays["out"] == 1).all()
