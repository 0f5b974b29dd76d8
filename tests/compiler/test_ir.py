"""The tile IR prints the same text every time, and its verifier refuses a kernel that was tampered with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from isochrone.compiler.ir import PTR, Instr, Item, Kernel, Loop, Type, When, walk
from isochrone.compiler.isa import TARGETS, Target
from isochrone.compiler.matmul import Matmul
from isochrone.compiler.tile import Tile
from isochrone.compiler.verify import verify

from .harness import ALL_TARGETS, module_text


def small_kernel(target: Target = TARGETS["portable"]) -> Kernel:
    t = Tile("double", target)
    x = t.arg(0, PTR)
    with t.items() as item:
        at = t.at(x, item * 64)
        value = t.load(at, Type("f32", 8))
        cell = t.cell(value)
        with t.when(t.compare("sgt", t.end, 8)):
            t.store(at, cell.get() + value)
    return t.finish()


def test_a_kernel_prints_as_its_author_wrote_it() -> None:
    t = Tile("double", TARGETS["portable"])
    x = t.arg(0, PTR)
    with t.items() as item, t.when(t.compare("sgt", t.end, 8)):
        t.store(t.at(x, item * 64), t.const(1.5, Type("f32", 8)))
    assert str(t.finish()) == (
        "kernel double(ctx %0, args %1, begin %2, end %3, worker %4)\n"
        "  %7: i64 = const 8  [8, 8]\n"
        "  %9: i64 = const 64  [64, 64]\n"
        "  %12: f32x8 = const 1.5\n"
        "  %5: ptr = load %1, 0\n"
        "  for %6 in range(%2, %3, 1):\n"
        "    %8: i1 = icmp %3, %7, sgt\n"
        "    when %8:\n"
        "      %10: i64 = mul %6, %9\n"
        "      %11: ptr = gep %5, %10\n"
        "      store %11, %12, 0"
    )


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_building_twice_gives_the_same_text(target: Target) -> None:
    spec = Matmul("q4_k", target.rows, "add", True, 0)
    first, second = spec.build(target), spec.build(target)
    assert str(first) == str(second)
    assert module_text([first], target) == module_text([second], target)


def edited(kernel: Kernel, change: Callable[[Instr], Instr | None], op: str) -> Kernel:
    """The kernel with its first `op` changed, or dropped where change gives None."""
    is_done = False

    def edit(items: tuple[Item, ...]) -> tuple[Item, ...]:
        nonlocal is_done
        out: list[Item] = []
        for item in items:
            if not isinstance(item, Instr):
                out.append(dataclasses.replace(item, body=edit(item.body)))
            elif item.op == op and not is_done:
                is_done, changed = True, change(item)
                out += [] if changed is None else [changed]
            else:
                out.append(item)
        return tuple(out)

    result = dataclasses.replace(kernel, body=edit(kernel.body))
    assert is_done
    return result


@pytest.mark.parametrize("op", ["const", "load", "mul", "gep", "icmp", "get", "fadd"])
def test_a_value_that_lost_its_definition_is_refused(op: str) -> None:
    with pytest.raises(AssertionError, match=r"double: .*(before its definition|not defined|unknown bounds)"):
        verify(edited(small_kernel(), lambda instr: None, op))


def test_a_use_before_the_definition_is_refused() -> None:
    kernel = small_kernel()
    with pytest.raises(AssertionError, match="before its definition"):
        verify(dataclasses.replace(kernel, body=tuple(reversed(kernel.body))))


def test_a_value_of_an_inner_block_cannot_be_used_outside_it() -> None:
    t = Tile("leak", TARGETS["portable"])
    with t.when(t.compare("sgt", t.end, 8)):
        inside = t.load(t.ctx, Type("i64"))
    t.store(t.ctx, inside)
    with pytest.raises(AssertionError, match=r"leak: store .* before its definition"):
        t.finish()


def test_a_second_definition_is_refused() -> None:
    kernel = small_kernel()
    with pytest.raises(AssertionError, match="defined twice"):
        verify(dataclasses.replace(kernel, body=(*kernel.body, kernel.body[0])))


@pytest.mark.parametrize(
    "op, change",
    [
        ("fadd", lambda i: dataclasses.replace(i, type=Type("f32", 16))),
        ("fadd", lambda i: dataclasses.replace(i, args=(i.args[0], 6))),
        ("mul", lambda i: dataclasses.replace(i, type=Type("i32"))),
        ("mul", lambda i: dataclasses.replace(i, args=(i.args[0], 0))),
        ("load", lambda i: dataclasses.replace(i, args=(2,))),
        ("store", lambda i: dataclasses.replace(i, type=Type("f32", 4))),
        ("set", lambda i: dataclasses.replace(i, type=Type("f32"))),
        ("get", lambda i: dataclasses.replace(i, attrs=(7,))),
        ("gep", lambda i: dataclasses.replace(i, args=(i.args[1], i.args[0]))),
        ("icmp", lambda i: dataclasses.replace(i, args=(i.args[0], 0))),
    ],
)  # fmt: skip
def test_operands_of_the_wrong_type_are_refused(op: str, change: Callable[[Instr], Instr]) -> None:
    with pytest.raises(AssertionError, match="double: "):
        verify(edited(small_kernel(), change, op))


def test_an_operation_nobody_knows_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"double: .*teleport"):
        verify(edited(small_kernel(), lambda i: dataclasses.replace(i, op="teleport"), "fadd"))


def test_a_condition_and_a_loop_bound_have_the_right_type() -> None:
    kernel = small_kernel()
    loop = next(i for i in kernel.body if isinstance(i, Loop))
    when = next(i for i in walk(kernel.body) if isinstance(i, When))
    for bad in (
        dataclasses.replace(loop, stop=0),
        dataclasses.replace(loop, step=0),
        dataclasses.replace(loop, body=(*loop.body, dataclasses.replace(when, condition=3))),
    ):
        with pytest.raises(AssertionError, match="double: "):
            verify(dataclasses.replace(kernel, body=tuple(bad if i is loop else i for i in kernel.body)))


def test_walk_meets_every_item_outer_before_inner() -> None:
    kinds = [type(item).__name__ for item in walk(small_kernel().body)]
    assert kinds.index("Loop") < kinds.index("When") and kinds.count("Instr") == str(small_kernel()).count("\n") - 3
