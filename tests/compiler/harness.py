"""Kernels compiled and loaded for tests, and one way to run them compiled and interpreted on the same bytes."""

from __future__ import annotations

import atexit
import ctypes
import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from isochrone.compiler.codegen import emit_assembly, emit_object
from isochrone.compiler.interpret import Memory, interpret
from isochrone.compiler.ir import Kernel
from isochrone.compiler.isa import TARGETS, Target, available_targets
from isochrone.compiler.link import link_shared
from isochrone.compiler.llvm import print_module

ALL_TARGETS = [
    pytest.param(t, id=t.name, marks=[] if t in available_targets() else pytest.mark.skip(f"this CPU lacks {t.name}"))
    for t in TARGETS.values()
]
"""One parameter per instruction set; those the machine lacks are skipped aloud."""

Words = np.ndarray[Any, np.dtype[np.int64]]


class Spec(Protocol):
    """What describes a kernel: hashable, and able to build it for a target."""

    def build(self, target: Target) -> Kernel: ...


@functools.lru_cache(maxsize=1)
def _scratch_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="isochrone-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def module_text(kernels: list[Kernel], target: Target) -> str:
    return print_module(kernels, triple=target.triple, features=target.features, cpu=target.cpu)


def load_kernel(kernel: Kernel, target: Target) -> Callable[..., None]:
    """The compiled kernel as a function of (ctx, args, begin, end, worker)."""
    path = _scratch_folder() / f"{len(list(_scratch_folder().iterdir()))}.so"
    path.write_bytes(link_shared(emit_object(module_text([kernel], target), target)))
    function = getattr(ctypes.CDLL(str(path)), kernel.name)
    function.restype = None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]

    def call(ctx: Words, args: Words, begin: int, end: int, worker: int = 0) -> None:
        function(ctx.ctypes.data, args.ctypes.data, begin, end, worker)

    return call


@functools.cache
def built(spec: Spec, target: Target) -> Kernel:
    return spec.build(target)


@functools.cache
def compiled(spec: Spec, target: Target) -> Callable[..., None]:
    return load_kernel(built(spec, target), target)


@functools.cache
def assembly(spec: Spec, target: Target) -> str:
    return emit_assembly(module_text([built(spec, target)], target), target)


class Bench:
    """Named arrays, an argument table that points to them, and a step's table."""

    def __init__(self, arrays: dict[str, np.ndarray], args: Sequence[object], ctx: Sequence[object] = ()) -> None:
        """args, ctx: words; a str stands for the address of that array, a float for its f32 bits."""
        self.arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        self.memory = Memory()
        self._addresses = {name: self.memory.add(name, array) for name, array in self.arrays.items()}
        self.args, self.ctx = self.words(args), self.words(ctx)

    def words(self, words: Sequence[object]) -> Words:
        """A table of 64-bit words."""
        table = np.zeros(max(1, len(words)), np.int64)
        for i, word in enumerate(words):
            match word:
                case str():
                    table[i] = self._addresses[word]
                case float():
                    table[i : i + 1].view(np.float32)[0] = word
                case int():
                    table[i] = word
        return table

    def run(self, spec: Spec, target: Target, items: int, out: str = "out") -> np.ndarray:
        """Run compiled code over all items; a copy of `out`."""
        compiled(spec, target)(self.ctx, self.args, 0, items)
        return self.arrays[out].copy()

    def interpret(self, spec: Spec, target: Target, items: int, out: str = "out") -> np.ndarray:
        """The same in the interpreter."""
        interpret(built(spec, target), self.memory, self.ctx, self.args, begin=0, end=items)
        return self.arrays[out].copy()


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype and a.shape == b.shape
    different = np.flatnonzero(a.reshape(-1).view(np.uint8) != b.reshape(-1).view(np.uint8))
    assert not different.size, f"{different.size} bytes differ, first at {different[0]} of {a.nbytes}"


def table(words: dict[int, object]) -> list[object]:
    """An argument table from its words by index."""
    return [words.get(index, 0) for index in range(1 + max(words))]


def same_bits_interpreted(bench: Bench, spec: Spec, target: Target, items: int, out: str = "out") -> np.ndarray:
    """Run compiled and interpreted from the same start; the result, which is the same."""
    before = {name: array.copy() for name, array in bench.arrays.items()}
    compiled_out = bench.run(spec, target, items, out)
    for name, array in bench.arrays.items():
        array[...] = before[name]
    assert_same_bits(compiled_out, bench.interpret(spec, target, items, out))
    return compiled_out
