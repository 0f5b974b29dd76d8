"""The verifier: every value is defined once, before its uses, and every operation takes the types it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .ir import I64, PTR, Instr, Item, Kernel, Loop, Type, print_instr

_FLAG = Type("i1")


def verify(kernel: Kernel) -> None:
    """Raise AssertionError, with the kernel and the operation, at the first item that is wrong."""
    _items(kernel, kernel.body, set(range(5)))


def _items(kernel: Kernel, items: tuple[Item, ...], seen: set[int]) -> None:
    types = kernel.types
    for item in items:
        if isinstance(item, Instr):
            _instr(kernel, item, seen)
        elif isinstance(item, Loop):
            bounds = {item.start, item.stop}
            assert bounds <= seen, f"{kernel.name}: loop %{item.index} has unknown bounds"
            assert all(types[v] == I64 for v in (*bounds, item.index)), f"{kernel.name}: loop %{item.index} is not i64"
            assert item.step > 0, f"{kernel.name}: loop %{item.index} never ends"
            _items(kernel, item.body, seen | {item.index})
        else:
            assert item.condition in seen, f"{kernel.name}: when %{item.condition} is not defined"
            assert types[item.condition] == _FLAG, f"{kernel.name}: when %{item.condition} is not an i1"
            _items(kernel, item.body, set(seen))


def _instr(kernel: Kernel, instr: Instr, seen: set[int]) -> None:
    where = f"{kernel.name}: {print_instr(kernel, instr)}"
    assert set(instr.args) <= seen, f"{where}: uses a value before its definition"
    assert instr.op in _RULES, f"{where}: no such operation"
    takes, gives = _RULES[instr.op], instr.op not in ("set", "store", "prefetch")
    types = [kernel.types[a] for a in instr.args]
    shown = ", ".join(map(str, types)) or "nothing"
    assert takes(kernel, instr, types), f"{where}: cannot take {shown} and give {instr.type}"
    assert gives == (instr.out >= 0), f"{where}: gives {'a' if gives else 'no'} value"
    if gives:
        assert kernel.types[instr.out] == instr.type, f"{where}: %{instr.out} is {kernel.types[instr.out]} elsewhere"
        assert instr.out not in seen, f"{where}: defined twice"
        seen.add(instr.out)


# --- what each operation takes ----------------------------------------------------------------------------------------

_Rule = Callable[[Kernel, Instr, Sequence[Type]], bool]


def _is_integer(type: Type) -> bool:
    return not type.is_float and type != PTR


def _shape(given: Sequence[Type], *wanted: Type) -> bool:
    return tuple(given) == wanted


def _integers(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    return _is_integer(instr.type) and _shape(types, instr.type, instr.type)


def _floats(count: int) -> _Rule:
    return lambda _, instr, types: instr.type.is_float and _shape(types, *[instr.type] * count)


def _leaf(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    return not types and instr.type != PTR


def _cell(kernel: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    cell = int(instr.attrs[0])
    is_known = 0 <= cell < len(kernel.cells) and kernel.cells[cell] == instr.type
    return is_known and _shape(types, *[instr.type] * (instr.op == "set"))


def _splat(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    return _shape(types, Type(instr.type.kind))


def _extract(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    return types[0].kind == instr.type.kind and instr.type.lanes == 1 and 0 <= int(instr.attrs[0]) < types[0].lanes


def _shuffle(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    a, b = types
    is_named = all(0 <= int(lane) < 2 * a.lanes for lane in instr.attrs)
    return a == b and is_named and instr.type == Type(a.kind, len(instr.attrs))


def _compare(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    a, b = types
    return a == b and a.is_float == (instr.op == "fcmp") and instr.type == a.of("i1")


def _select(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    condition, a, b = types
    return condition.kind == "i1" and condition.lanes in (1, a.lanes) and a == b == instr.type


def _cast(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    (a,), b = types, instr.type
    if a.lanes != b.lanes or PTR in (a, b):
        return False
    match instr.op:
        case "zext" | "sext":
            return _is_integer(a) and _is_integer(b) and a.lane_bits < b.lane_bits
        case "trunc":
            return _is_integer(a) and _is_integer(b) and a.lane_bits > b.lane_bits
        case "sitofp" | "uitofp":
            return _is_integer(a) and b.is_float
        case "fptosi":
            return a.is_float and _is_integer(b)
        case "fpext":
            return a.is_float and b.is_float and a.lane_bits < b.lane_bits
    return a.is_float and b.is_float and a.lane_bits > b.lane_bits


def _bitcast(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
    (a,), b = types, instr.type
    return PTR not in (a, b) and a.lane_bits * a.lanes == b.lane_bits * b.lanes


def _machine(gives: str, per_lane: int, *kinds: str, accumulates: bool = False) -> _Rule:
    """An instruction whose every result lane takes `per_lane` lanes of each operand."""

    def rule(_: Kernel, instr: Instr, types: Sequence[Type]) -> bool:
        operands = [Type(kind, per_lane * instr.type.lanes) for kind in kinds]
        return instr.type.kind == gives and _shape(types, *[instr.type] * accumulates, *operands)

    return rule


_RULES: dict[str, _Rule] = {
    **dict.fromkeys("add sub mul and or xor shl lshr ashr smin smax sdiv udiv urem".split(), _integers),
    **dict.fromkeys("fadd fsub fmul fdiv fmin fmax".split(), _floats(2)),
    **dict.fromkeys("sqrt roundeven fabs".split(), _floats(1)),
    "fma": _floats(3),
    **dict.fromkeys("zext sext trunc sitofp uitofp fptosi fpext fptrunc".split(), _cast),
    **dict.fromkeys("const words iota cycles".split(), _leaf),
    "get": _cell, "set": _cell,
    "stack": lambda _, instr, types: not types and instr.type == PTR,
    "gep": lambda _, instr, types: instr.type == PTR and _shape(types, PTR, I64),
    "load": lambda _, instr, types: _shape(types, PTR),
    "store": lambda _, instr, types: _shape(types, PTR, instr.type),
    "prefetch": lambda _, instr, types: _shape(types, PTR),
    "splat": _splat, "extract": _extract, "shuffle": _shuffle, "icmp": _compare, "fcmp": _compare, "select": _select,
    "bitcast": _bitcast,
    "dpbusd": _machine("i32", 4, "i8", "i8", accumulates=True),
    "dpbf16": _machine("f32", 2, "bf16", "bf16", accumulates=True),
    "maddubs": _machine("i16", 2, "i8", "i8"), "maddwd": _machine("i32", 2, "i16", "i16"),
    "bytes_table": _machine("i8", 1, "i8", "i8"),
}  # fmt: skip
