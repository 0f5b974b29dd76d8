"""Kernels and their C++ twins as loaded functions, with what it took to make them."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isochrone.compiler.codegen import count_spills, emit_assembly, emit_object
from isochrone.compiler.isa import Target
from isochrone.compiler.kernels import KernelSpec
from isochrone.compiler.link import link_shared
from isochrone.compiler.llvm import print_module

Function = Callable[[int, int, int, int, int], None]
"""(address of ctx, address of args, begin, end, worker)"""

TWINS = Path(__file__).parent / "twins"
_FLAGS = {
    "vnni": ["-DTWIN_VNNI", "-march=x86-64-v4", "-mavx512vnni"],
    "vnni-bf16": ["-DTWIN_VNNI", "-DTWIN_BF16", "-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"],
    "avx2": ["-DTWIN_AVX2", "-march=x86-64-v3"],
}


@dataclass(frozen=True, slots=True)
class Built:
    """One of our kernels, compiled and loaded.

    cold_s  building, printing, optimising, code and linking; llvmlite's own import is not in it
    warm_s  loading the library that a cache kept
    """

    function: Function
    cold_s: float
    warm_s: float
    num_bytes: int
    num_spills: int


def build_kernel(spec: KernelSpec, target: Target, folder: Path) -> Built:
    """Compile one kernel, write its library to the folder, and load it.  Once a folder: the file stays mapped."""
    began_at = time.perf_counter()
    kernel = spec.build(target)
    text = print_module([kernel], triple=target.triple, features=target.features, cpu=target.cpu)
    library = link_shared(emit_object(text, target))
    cold_s = time.perf_counter() - began_at
    path = folder / f"{spec.name}-{target.name}.so"
    path.write_bytes(library)
    began_at = time.perf_counter()
    function = _function(ctypes.CDLL(str(path)), spec.name)
    warm_s = time.perf_counter() - began_at
    return Built(function, cold_s, warm_s, len(library), count_spills(emit_assembly(text, target)))


def twin_compilers() -> dict[str, list[str]]:
    """The C++ compilers this machine has: g++ from the system, clang from the ziglang package."""
    compilers = {}
    if shutil.which("g++"):
        compilers["g++"] = ["g++"]
    if importlib.util.find_spec("ziglang"):
        # zig spells processors with underscores, and traps undefined behaviour unless told otherwise.
        compilers["clang"] = [sys.executable, "-m", "ziglang", "c++", "-fno-sanitize=undefined"]
    return compilers


def build_twins(target: Target, folder: Path) -> dict[str, list[ctypes.CDLL]]:
    """Every twin library of this instruction set by compiler; empty where it has no twins."""
    if target.name not in _FLAGS:
        return {}
    return {
        name: [_build_twin(command, source, target, folder / f"{source.stem}-{name}-{target.name}.so")
               for source in sorted(TWINS.glob("*.cpp"))]
        for name, command in twin_compilers().items()
    }  # fmt: skip


def find_twin(libraries: list[ctypes.CDLL], spec: KernelSpec) -> Function | None:
    """The twin of a kernel, or None where nobody wrote one."""
    for library in libraries:
        if hasattr(library, spec.name):
            return _function(library, spec.name)
    return None


def _build_twin(command: list[str], source: Path, target: Target, out: Path) -> ctypes.CDLL:
    # Contraction off: a * b + c outside an fma intrinsic rounds twice, as in ours.
    flags = ["-std=c++17", "-O3", "-ffp-contract=off", "-fPIC", "-shared", f"-DPANEL={target.rows}"]
    machine = [_zig_cpu(flag) if "ziglang" in command else flag for flag in _FLAGS[target.name]]
    subprocess.run([*command, *flags, *machine, str(source), "-o", str(out)], check=True)
    return ctypes.CDLL(str(out))


def _zig_cpu(flag: str) -> str:
    """-march=x86-64-v3 as zig's clang wants it."""
    option, _, cpu = flag.partition("=")
    return f"{option}={cpu.replace('-', '_')}" if option == "-march" else flag


def _function(library: ctypes.CDLL, name: str) -> Function:
    function = library[name]
    function.restype = None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3]
    found: Function = function
    return found
