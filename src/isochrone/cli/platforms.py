"""Where Isochrone runs: Linux with glibc, on x86-64 and AArch64.  Elsewhere a sentence, not a crash."""

from __future__ import annotations

import os
import sys

from isochrone.errors import Unsupported

MACHINES = ("x86_64", "aarch64")


def check_platform() -> None:
    """Raise Unsupported unless this is a platform that kernels are generated for."""
    machine = os.uname().machine if hasattr(os, "uname") else "unknown"
    judge(sys.platform, machine, _libc())


def judge(system: str, machine: str, libc: str) -> None:
    """The decision alone.  libc  what the system says of its C library, such as `glibc 2.36`"""
    fix = "Run it in the container image or on Linux; as a client, any OpenAI SDK on any system can call a server."
    if system != "linux":
        raise Unsupported(f"Isochrone runs on Linux, and this is {system}.", fix=fix)
    if machine not in MACHINES:
        raise Unsupported(f"Isochrone has kernels for {' and '.join(MACHINES)}, and this is {machine}.", fix=fix)
    if not libc.startswith("glibc"):
        raise Unsupported(f"Isochrone needs glibc, and this system has {libc or 'another C library'}.", fix=fix)


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""
