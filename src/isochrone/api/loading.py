"""How a model is brought into memory, with settings as plain data: the same for an engine process and for this one."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from isochrone.compiler.plan import Plan
    from isochrone.compiler.table import KvType
    from isochrone.config import Settings
    from isochrone.runtime.cpu import CpuRuntime
    from isochrone.text import Tokenizer


class Loading(TypedDict):
    """Arguments of `load_model`: what a record to an engine process can carry."""

    path: str
    weights: str
    context: int | None
    kv_memory_bytes: int | None
    kv_type: KvType
    threads: int | None
    isa: str | None
    pack: str | None
    cache_limit_bytes: int


def loading_of(path: Path, settings: Settings) -> Loading:
    """How the model at `path` is to be loaded."""
    return Loading(
        path=str(path), weights=settings.weights, context=settings.context, kv_memory_bytes=settings.kv_memory_bytes,
        kv_type=settings.kv_type, threads=settings.threads, isa=settings.isa, pack=settings.pack,
        cache_limit_bytes=settings.cache_limit_bytes,
    )  # fmt: skip


def load_model(
    path: str, weights: str, context: int | None, kv_memory_bytes: int | None, kv_type: KvType, threads: int | None,
    isa: str | None, pack: str | None, cache_limit_bytes: int,
) -> CpuRuntime:  # fmt: skip
    """Install the pack if there is one, load, and keep the cache within its limit.  Progress goes to stderr.

    Raises NotFound, BadModel, BadConfig, MissingExtra, OutOfMemory, Unsupported.
    """
    from isochrone.errors import MissingExtra
    from isochrone.platforms import check_platform
    from isochrone.runtime.load import load_runtime

    check_platform()
    if pack is not None:
        from .packs import install_pack

        installed = install_pack(Path(pack))
    report, began_at = Progress(), time.time()
    try:
        runtime = load_runtime(
            path, weights=weights, context=context, kv_memory_bytes=kv_memory_bytes, kv_type=kv_type, threads=threads,
            isa=isa, report=report,
        )  # fmt: skip
    except MissingExtra as error:
        if pack is None:
            raise
        raise MissingExtra(
            f"{pack} holds kernels of {installed.model} for {installed.target}; {path} with these settings needs "
            "others, and compiling them needs llvmlite.",
            fix="Export a pack of this model with the same --weights, --kv-type and --isa, or run "
            "pip install 'isochrone[compile]'.",
        ) from error
    if report.has_made_something:
        _evict(cache_limit_bytes, runtime.plan, began_at)
    return runtime


def _evict(limit_bytes: int, plan: Plan, began_at: float) -> None:
    """Keep the cache within its limit, and in any case what this start has made or opened."""
    from isochrone.compiler.cache import find_library
    from isochrone.compiler.isa import TARGETS
    from isochrone.weights.cached import cached_files, evict

    from .packs import kernels_dir

    library = find_library(plan.kernels, TARGETS[plan.target], kernels_dir())
    used = {file.path for file in cached_files() if file.used_at >= began_at}
    evict(limit_bytes, keep=frozenset(used | ({library} if library else set())))


def load_to_serve(**loading: Unpack[Loading]) -> CpuRuntime:
    """`load_model` for a server: says on stderr what context and cache it came to."""
    from isochrone.units import format_bytes

    runtime = load_model(**loading)
    info, plan = runtime.info, runtime.plan
    cache = format_bytes(info.num_pages * plan.page_bytes)
    num_tokens = info.num_pages * info.page_tokens
    line = f"context {info.context} tokens; KV cache {cache} for {num_tokens} tokens; {plan.target} kernels"
    os.write(2, f"{line} (--context, --kv-memory and --isa change them)\n".encode())
    return runtime


def load_tokens(**loading: Unpack[Loading]) -> Tokenizer:
    """The tokenizer of the same model, for an engine that meets its first grammar."""
    from .reading import read_tokenizer

    return read_tokenizer(Path(loading["path"]))


class Progress:
    """Says on stderr what a first start is making; a warm start says nothing."""

    def __init__(self) -> None:
        self.has_made_something = False
        self._last = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        percent = 100 * done // max(1, total)
        line = f"{what}: {percent} %"
        if line == self._last or percent % 10:
            return
        self._last, self.has_made_something = line, True
        end = "\n" if done >= total or not sys.stderr.isatty() else "\r"
        os.write(2, f"{line}{end}".encode())

