"""The linker: one object in, one library out that any dynamic loader takes, and a ValueError for anything else."""

from __future__ import annotations

import ctypes
import random
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from isochrone.compiler.codegen import emit_object
from isochrone.compiler.ir import PTR, Kernel, Type
from isochrone.compiler.isa import TARGETS, Target
from isochrone.compiler.link import link_shared
from isochrone.compiler.tile import Tile

from .harness import ALL_TARGETS, module_text

LANES = Type("f32", 16)


def scaling_kernel(name: str, factor: float, target: Target) -> Kernel:
    """out[i] = x[i] * factor, with the factor in read-only data."""
    t = Tile(name, target)
    x, out = t.arg(0, PTR), t.arg(1, PTR)
    with t.items() as item:
        t.store(out, t.load(x, LANES, item * 64) * factor, item * 64)
    return t.finish()


def object_of(*kernels: Kernel, target: Target = TARGETS["portable"]) -> bytes:
    return emit_object(module_text(list(kernels), target), target)


def object_from_text(text: str) -> bytes:
    target = TARGETS["portable"]
    return emit_object(f'target triple = "{target.triple}"\n{text}', target)


@pytest.mark.parametrize("target", ALL_TARGETS)
def test_every_kernel_of_a_library_is_found_by_name_and_runs(target: Target, tmp_path: Path) -> None:
    factors = {f"scale_{i}": 0.37 * i for i in range(40)}
    library = link_shared(object_of(*(scaling_kernel(n, f, target) for n, f in factors.items()), target=target))
    (tmp_path / "kernels.so").write_bytes(library)
    loaded = ctypes.CDLL(str(tmp_path / "kernels.so"))
    x, out = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    args = np.array([x.ctypes.data, out.ctypes.data], np.int64)
    for name, factor in factors.items():
        function = getattr(loaded, name)
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3]
        function(None, args.ctypes.data, 0, 1, 0)
        assert (out == x * np.float32(factor)).all()


def test_a_name_that_was_not_compiled_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "kernels.so").write_bytes(link_shared(object_of(scaling_kernel("one", 1.0, TARGETS["portable"]))))
    assert not hasattr(ctypes.CDLL(str(tmp_path / "kernels.so")), "two")


def test_the_same_object_gives_the_same_library() -> None:
    obj = object_of(scaling_kernel("one", 1.0, TARGETS["portable"]))
    assert link_shared(obj) == link_shared(obj)


def test_no_page_of_a_library_is_both_writable_and_executable() -> None:
    library = link_shared(object_of(scaling_kernel("one", 1.5, TARGETS["portable"])))
    count = struct.unpack_from("<H", library, 56)[0]
    flags = [struct.unpack_from("<II", library, 64 + 56 * i)[1] for i in range(count)]
    assert count == 3 and all(f & 3 != 3 for f in flags)


def test_an_import_is_refused_by_name() -> None:
    obj = object_from_text("declare void @puts(ptr)\ndefine void @f(ptr %x) { call void @puts(ptr %x) ret void }")
    with pytest.raises(ValueError, match="imports 'puts'"):
        link_shared(obj)


def test_writable_data_is_refused() -> None:
    obj = object_from_text("@state = global i32 7\ndefine i32 @f() { %v = load i32, ptr @state ret i32 %v }")
    with pytest.raises(ValueError, match="writable data"):
        link_shared(obj)


@pytest.mark.parametrize("garbage", [b"", b"\x7fELF", b"MZ" + bytes(200), bytes(64)])
def test_what_is_no_object_is_a_value_error(garbage: bytes) -> None:
    with pytest.raises(ValueError):
        link_shared(garbage)


def test_a_truncated_object_is_a_value_error() -> None:
    obj = object_of(scaling_kernel("one", 1.5, TARGETS["portable"]))
    for length in range(0, len(obj), 7):
        with pytest.raises(ValueError):
            link_shared(obj[:length])


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_object_never_raises_anything_but_value_error(seed: int) -> None:
    damage = random.Random(seed)
    obj = bytearray(object_of_scale())
    for _ in range(damage.randint(1, 6)):
        obj[damage.randrange(len(obj))] = damage.choice([0, 1, 0x7F, 0x80, 0xFF, damage.randrange(256)])
    try:
        assert link_shared(bytes(obj))
    except ValueError:
        pass  # refused, as it should be


def object_of_scale(cache: list[bytes] = []) -> bytes:  # noqa: B006  compiled once, on purpose
    if not cache:
        cache.append(object_of(scaling_kernel("one", 1.5, TARGETS["portable"])))
    return cache[0]


def test_readelf_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    path = tmp_path / "kernels.so"
    path.write_bytes(link_shared(object_of(scaling_kernel("one", 1.5, TARGETS["portable"]))))
    if shutil.which("readelf") is None:
        pytest.skip("this machine has no readelf")
    command = ["readelf", "-W", "-h", "-l", "-d", "-D", "-s", path]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "one" in shown.stdout and "warning" not in (shown.stdout + shown.stderr).lower()
