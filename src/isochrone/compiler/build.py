"""The compiling process: kernel specs on standard input, a shared library on disk.

LLVM lives here alone; the process ends when it is done, so that a server's memory never holds it.
Run as `python -m isochrone.compiler.build`, with {"target", "kernels", "out"} as JSON on standard input.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import IsochroneError
from .codegen import emit_object
from .driver import driver_text
from .isa import TARGETS, Target
from .kernels import KernelSpec, decode
from .link import link_shared
from .llvm import print_module


def module_text(specs: Iterable[KernelSpec], target: Target) -> str:
    """LLVM text of kernels and driver."""
    kernels = [spec.build(target) for spec in specs]
    return print_module(kernels, triple=target.triple, features=target.features, cpu=target.cpu, extra=driver_text())


def build_library(specs: Iterable[KernelSpec], target: Target) -> bytes:
    """A shared library with the kernels and the driver."""
    return link_shared(emit_object(module_text(specs, target), target))


def write_whole(path: Path, data: bytes) -> None:
    """Write aside and rename: a reader sees the old file or the new one, and a mapped file is never overwritten."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def main() -> int:
    """Entry of the compiling process; errors go to standard error as JSON."""
    order: dict[str, Any] = json.load(sys.stdin)
    try:
        library = build_library([decode(spec) for spec in order["kernels"].values()], TARGETS[order["target"]])
        write_whole(Path(order["out"]), library)
    except IsochroneError as error:
        json.dump({"type": type(error).__name__, "message": error.message, "fix": error.fix}, sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
