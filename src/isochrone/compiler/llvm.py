"""Tile IR to LLVM text, one template per operation."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .ir import Instr, Item, Kernel, Loop, Type, When

_KINDS = {"f16": "half", "bf16": "bfloat", "f32": "float"}
_SAME = {
    "add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl", "lshr": "lshr",
    "ashr": "ashr", "sdiv": "sdiv", "udiv": "udiv", "urem": "urem",
    "fadd": "fadd", "fsub": "fsub", "fmul": "fmul", "fdiv": "fdiv",
}  # fmt: skip
_CASTS = frozenset(("zext", "sext", "trunc", "sitofp", "uitofp", "fptosi", "fpext", "fptrunc", "bitcast"))
_CALLS = {"smin": "smin", "smax": "smax", "fma": "fma", "sqrt": "sqrt", "roundeven": "roundeven", "fabs": "fabs"}


def llvm_type(type: Type) -> str:
    """The LLVM spelling of a tile type."""
    kind = _KINDS.get(type.kind, type.kind)
    return kind if type.lanes == 1 else f"<{type.lanes} x {kind}>"


def print_module(kernels: list[Kernel], *, triple: str, features: str, cpu: str, extra: str = "") -> str:
    """A whole module: every kernel, the intrinsics they use, and `extra` text (the driver)."""
    functions, declarations = [], set[str]()
    for kernel in kernels:
        printer = KernelPrinter(kernel)
        functions.append(printer.function())
        declarations |= printer.declarations
    attributes = (
        f'attributes #0 = {{ nounwind "frame-pointer"="all" "no-builtins" "target-cpu"="{cpu}" '
        f'"target-features"="{features}" "prefer-vector-width"="512" "min-legal-vector-width"="512" }}'
    )
    head = f'target triple = "{triple}"'
    return "\n\n".join([head, *functions, extra, "\n".join(sorted(declarations)), attributes]) + "\n"


class KernelPrinter:
    """Prints one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.declarations: set[str] = set()
        self._labels = 0
        self._temporaries = 0

    def function(self) -> str:
        lines = [f"define void @{self.kernel.name}(ptr %v0, ptr %v1, i64 %v2, i64 %v3, i64 %v4) #0 {{", "entry:"]
        lines += (f"  %cell{c} = alloca {llvm_type(type)}, align 64" for c, type in enumerate(self.kernel.cells))
        if self.kernel.scratch_bytes:
            lines.append(f"  %scratch = alloca [{self.kernel.scratch_bytes} x i8], align 64")
        loops = (item for item in _loops(self.kernel.body))
        lines += (f"  %index{loop.index} = alloca i64" for loop in loops)
        lines += self._items(self.kernel.body)
        lines += ["  ret void", "}"]
        return "\n".join(lines)

    def _label(self, name: str) -> str:
        self._labels += 1
        return f"{name}{self._labels}"

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"%t{self._temporaries}"

    def _items(self, items: tuple[Item, ...]) -> Iterator[str]:
        for item in items:
            match item:
                case Loop():
                    yield from self._loop(item)
                case When(condition, body):
                    then, after = self._label("then"), self._label("after")
                    yield f"  br i1 {self._operand(condition)}, label %{then}, label %{after}"
                    yield f"{then}:"
                    yield from self._items(body)
                    yield f"  br label %{after}"
                    yield f"{after}:"
                case Instr():
                    yield from self._instr(item)

    def _loop(self, loop: Loop) -> Iterator[str]:
        head, body, exit_ = self._label("head"), self._label("body"), self._label("exit")
        slot, test, following = f"%index{loop.index}", self._temporary(), self._temporary()
        yield f"  store i64 {self._operand(loop.start)}, ptr {slot}"
        yield f"  br label %{head}"
        yield f"{head}:"
        yield f"  %v{loop.index} = load i64, ptr {slot}"
        yield f"  {test} = icmp slt i64 %v{loop.index}, {self._operand(loop.stop)}"
        yield f"  br i1 {test}, label %{body}, label %{exit_}"
        yield f"{body}:"
        yield from self._items(loop.body)
        yield f"  {following} = add nsw i64 %v{loop.index}, {loop.step}"
        yield f"  store i64 {following}, ptr {slot}"
        yield f"  br label %{head}"
        yield f"{exit_}:"

    def _operand(self, number: int) -> str:
        return f"%v{number}"

    def _typed(self, number: int) -> str:
        return f"{llvm_type(self.kernel.types[number])} %v{number}"

    def _call(self, name: str, result: Type, args: tuple[int, ...], *, extra: str = "") -> str:
        kinds = ", ".join(llvm_type(self.kernel.types[a]) for a in args) + (", " + extra.split()[0] if extra else "")
        self.declarations.add(f"declare {llvm_type(result)} @{name}({kinds})")
        operands = ", ".join(self._typed(a) for a in args) + (", " + extra if extra else "")
        return f"call {llvm_type(result)} @{name}({operands})"

    def _instr(self, instr: Instr) -> Iterator[str]:
        out, type, args = f"%v{instr.out}", llvm_type(instr.type), instr.args
        match instr.op:
            case "const":
                yield f"  {out} = {_constant(instr)}"
            case "get":
                yield f"  {out} = load {type}, ptr %cell{instr.attrs[0]}"
            case "set":
                yield f"  store {type} %v{args[0]}, ptr %cell{instr.attrs[0]}"
            case "gep":
                yield f"  {out} = getelementptr i8, ptr %v{args[0]}, i64 %v{args[1]}"
            case "stack":
                yield f"  {out} = getelementptr i8, ptr %scratch, i64 {instr.attrs[0]}"
            case "load" | "store" | "prefetch":
                yield from self._memory(instr)
            case "splat":
                yield from self._splat(instr)
            case "shuffle":
                mask = ", ".join(f"i32 {lane}" for lane in instr.attrs)
                text = f"{self._typed(args[0])}, {self._typed(args[1])}, <{len(instr.attrs)} x i32> <{mask}>"
                yield f"  {out} = shufflevector {text}"
            case "extract":
                yield f"  {out} = extractelement {self._typed(args[0])}, i32 {instr.attrs[0]}"
            case "iota":
                lanes = ", ".join(f"i32 {lane}" for lane in range(instr.type.lanes))
                yield f"  {out} = bitcast {type} <{lanes}> to {type}"
            case "words":
                repeats = instr.type.lanes // len(instr.attrs)
                lanes = ", ".join(f"i32 {word}" for word in instr.attrs * repeats)
                yield f"  {out} = bitcast {type} <{lanes}> to {type}"
            case "icmp" | "fcmp":
                yield f"  {out} = {instr.op} {instr.attrs[0]} {self._typed(args[0])}, %v{args[1]}"
            case "select":
                yield f"  {out} = select {', '.join(self._typed(a) for a in args)}"
            case "fmax" | "fmin":
                yield from self._float_extreme(instr)
            case op if op in _SAME:
                yield f"  {out} = {_SAME[op]} {type} %v{args[0]}, %v{args[1]}"
            case op if op in _CASTS:
                yield f"  {out} = {op} {self._typed(args[0])} to {type}"
            case op if op in _CALLS:
                yield f"  {out} = {self._call(f'llvm.{_CALLS[op]}.{_mangle(instr.type)}', instr.type, args)}"
            case _:
                yield f"  {out} = {self._machine(instr)}"

    def _memory(self, instr: Instr) -> Iterator[str]:
        address, offset = f"%v{instr.args[0]}", instr.attrs[0]
        if offset:
            moved = self._temporary()
            yield f"  {moved} = getelementptr i8, ptr {address}, i64 {offset}"
            address = moved
        if instr.op == "prefetch":
            self.declarations.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
            yield f"  call void @llvm.prefetch.p0(ptr {address}, i32 0, i32 2, i32 1)"
        elif instr.op == "load":
            yield f"  %v{instr.out} = load {llvm_type(instr.type)}, ptr {address}, align 1"
        else:
            yield f"  store {llvm_type(instr.type)} %v{instr.args[1]}, ptr {address}, align 1"

    def _splat(self, instr: Instr) -> Iterator[str]:
        if instr.type.lanes == 1:
            yield f"  %v{instr.out} = bitcast {self._typed(instr.args[0])} to {llvm_type(instr.type)}"
            return
        first, type = self._temporary(), llvm_type(instr.type)
        yield f"  {first} = insertelement {type} poison, {self._typed(instr.args[0])}, i32 0"
        zeros = f"<{instr.type.lanes} x i32> zeroinitializer"
        yield f"  %v{instr.out} = shufflevector {type} {first}, {type} poison, {zeros}"

    def _float_extreme(self, instr: Instr) -> Iterator[str]:
        # Compare and select is exactly what vmaxps does; llvm.maxnum would add NaN handling.
        test, relation = self._temporary(), "ogt" if instr.op == "fmax" else "olt"
        a, b = (self._typed(x) for x in instr.args)
        flags = Type("i1", instr.type.lanes)
        yield f"  {test} = fcmp {relation} {a}, %v{instr.args[1]}"
        yield f"  %v{instr.out} = select {llvm_type(flags)} {test}, {a}, {b}"

    def _machine(self, instr: Instr) -> str:
        width = instr.type.num_bytes * 8
        match instr.op:
            case "dpbusd":
                return self._call(f"llvm.x86.avx512.vpdpbusd.{width}", instr.type, instr.args)
            case "dpbf16":
                return self._call(f"llvm.x86.avx512bf16.dpbf16ps.{width}", instr.type, instr.args)
            case "maddubs":
                name = "llvm.x86.avx2.pmadd.ub.sw" if width == 256 else "llvm.x86.avx512.pmaddubs.w.512"
                return self._call(name, instr.type, instr.args)
            case "maddwd":
                name = "llvm.x86.avx2.pmadd.wd" if width == 256 else "llvm.x86.avx512.pmaddw.d.512"
                return self._call(name, instr.type, instr.args)
            case "bytes_table":  # pshufb: each byte names one of sixteen in its own 128-bit lane
                name = "llvm.x86.avx2.pshuf.b" if width == 256 else "llvm.x86.avx512.pshuf.b.512"
                return self._call(name, instr.type, instr.args)
            case "cycles":
                self.declarations.add("declare i64 @llvm.readcyclecounter()")
                return "call i64 @llvm.readcyclecounter()"
        raise AssertionError(f"no LLVM template for {instr.op}")


def _loops(items: tuple[Item, ...]) -> Iterator[Loop]:
    for item in items:
        if isinstance(item, Loop):
            yield item
        if not isinstance(item, Instr):
            yield from _loops(item.body)


def _constant(instr: Instr) -> str:
    value, type = instr.attrs[0], llvm_type(instr.type)
    scalar = _float_literal(float(value)) if instr.type.is_float else str(value)
    kind = llvm_type(Type(instr.type.kind))
    if instr.type.lanes == 1:
        return f"select i1 true, {kind} {scalar}, {kind} {scalar}"
    lanes = ", ".join([f"{kind} {scalar}"] * instr.type.lanes)
    return f"select i1 true, {type} <{lanes}>, {type} <{lanes}>"


def _float_literal(value: float) -> str:
    """LLVM wants the bits of the double that equals the f32 value."""
    rounded = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"


def _mangle(type: Type) -> str:
    kind = type.kind
    return kind if type.lanes == 1 else f"v{type.lanes}{kind}"
