"""Where Isochrone runs: Linux with glibc 2.28 or newer on x86-64 with AVX2 and FMA.  Elsewhere a sentence, not a crash.

Whether the processor has AVX2 and FMA is asked where kernels are chosen (compiler/targets.py).
"""

from __future__ import annotations

import os
import re
import sys

from .errors import Unsupported

MACHINE = "x86_64"
GLIBC_MIN = (2, 28)
"""The oldest that the wheels of NumPy and of the tokenizer are made for."""
SUPPORTED = "Linux on x86-64 with AVX2 and FMA, and glibc 2.28 or newer"


def check_platform() -> None:
    """Raise Unsupported unless this is a platform that kernels are generated for."""
    machine = os.uname().machine if hasattr(os, "uname") else "unknown"
    judge(sys.platform, machine, _libc())


def judge(system: str, machine: str, libc: str) -> None:
    """The decision alone.  libc  what the system says of its C library, such as `glibc 2.36`"""
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", libc)
    if system != "linux":
        reason = f"this is {system}"
    elif machine != MACHINE:
        reason = f"this is {machine}, for which it has no kernels yet"
    elif found is None:
        reason = f"this system has {libc or 'another C library'}"
    elif (int(found[1]), int(found[2])) < GLIBC_MIN:
        reason = f"this system has {libc}"
    else:
        return
    raise Unsupported(
        f"Isochrone runs on {SUPPORTED}, and {reason}.",
        fix="Run it on such a machine; any OpenAI SDK, on any system, can be its client.",
    )


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""
