"""The one road from a checkpoint to a runtime.

    checkpoint -> graph -> passes -> plan -> packed weights + compiled kernels -> runtime

What the road makes is kept: the plan lies in the header of the packed weights, and a second start only maps them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import paths
from ..compiler.cache import find_library, library_for, source_hash
from ..compiler.plan import Plan
from ..compiler.table import PAGE_TOKENS, KvType
from ..compiler.targets import Target, choose_target
from ..errors import BadConfig, OutOfMemory
from ..memory import free_bytes
from ..units import format_bytes
from ..weights.fingerprint import checkpoint_file, fingerprint
from ..weights.packed import Packed, open_or_pack, open_packed, packed_path
from .cores import usable_cores
from .cpu import CpuRuntime

if TYPE_CHECKING:
    from ..weights import Checkpoint

F32 = NDArray[np.float32]
Report = Callable[[str, int, int], None]
"""Called with (what is being done, done, total) while something takes time."""

KV_SHARE = 0.4
"""Share of free memory that the KV cache takes unless told otherwise."""
KV_CONTEXTS = 2
"""Full contexts that the KV cache holds at most unless told otherwise."""
_FORM = 2
"""Raised whenever what is written into a packed copy changes meaning."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be bound to memory.

    frequencies  name -> f32 [rotary_dim / 2], for the context that was asked for
    context      positions served
    """

    plan: Plan
    weights: NDArray[np.uint8]
    frequencies: Mapping[str, F32]
    context: int
    target: Target
    packed: Packed


def silent(what: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def load_runtime(
    path: Path | str, *, weights: str = "auto", context: int | None = None, kv_memory_bytes: int | None = None,
    kv_type: KvType = "bf16", threads: int | None = None, isa: str | None = None, report: Report = silent,
) -> CpuRuntime:  # fmt: skip
    """Load a model for this machine's processors.

    path             a GGUF file or a Hugging Face directory
    weights          auto, or the form an unquantised model is brought to: f32, bf16, int8, int4
    context          most positions of a sequence, up to where its rope scaling reaches; None: the model's own, as far
                     as memory allows
    kv_memory_bytes  memory of the KV cache; None: from free memory
    kv_type          number type of the KV cache: bf16, or int8 with a scale for each position and head
    threads          None: as many as cores are left to this process
    Raises NotFound, BadModel, BadConfig, MissingExtra, OutOfMemory, Unsupported.
    """
    num_threads = _num_threads(threads, usable_cores())
    prepared = prepare(Path(path), weights=weights, context=context, kv_type=kv_type, isa=isa, report=report)
    library = _library(prepared, paths.cache_dir() / "kernels", report)
    chosen, num_pages = size_cache(
        prepared.plan.page_bytes, prepared.context, context is not None, kv_memory_bytes, free_bytes()
    )
    return CpuRuntime(
        prepared.plan, library, prepared.weights, prepared.frequencies, context=chosen, num_pages=num_pages,
        num_threads=num_threads,
    )  # fmt: skip


def _num_threads(wanted: int | None, cores: int) -> int:
    """More threads than cores would wait for each other at every barrier."""
    if wanted is not None and not 1 <= wanted <= cores:
        raise BadConfig(
            f"{wanted} threads were asked for, and affinity and cgroup quota leave {cores} cores to this process.",
            fix=f"Choose --threads {cores} or fewer, or leave it at auto.",
        )
    return wanted or cores


def _library(prepared: Prepared, directory: Path, report: Report) -> Path:
    """The compiled kernels; a cached library is worth no report."""
    kernels, target = prepared.plan.kernels, prepared.target
    found = find_library(kernels, target, directory)
    if found is not None:
        return found
    report("compile", 0, 1)
    library = library_for(kernels, target, directory)
    report("compile", 1, 1)
    return library


def prepare(
    path: Path, *, weights: str = "auto", context: int | None = None, kv_type: KvType = "bf16",
    isa: str | None = None, report: Report = silent,
) -> Prepared:  # fmt: skip
    """The packed model, made now if it is not on disk."""
    file, target = checkpoint_file(path), choose_target(isa)
    form = hashlib.sha256(json.dumps([_FORM, source_hash(), target.name, weights, kv_type]).encode()).hexdigest()[:16]
    copy = packed_path(fingerprint(file), form)
    packed = open_packed(copy)
    if packed is None:
        packed = _pack(file, copy, weights, kv_type, target, report)
    about = packed.about
    served = _served_context(int(about["context"]), int(about["context_max"]), context)
    frequencies = {name: np.array(values, np.float32) for name, values in about["frequencies"].items()}
    if about["context_bound"] and served != about["context"]:
        frequencies = _frequencies(file, served)
    return Prepared(Plan.from_json(about["plan"]), packed.tensors["weights"], frequencies, served, target, packed)


def _served_context(trained: int, most: int, wanted: int | None) -> int:
    """The model's own unless told otherwise; as far as its rope scaling stretches if asked for."""
    if wanted is not None and not 1 <= wanted <= most:
        stretched = f", and its rope scaling reaches {most}" if most > trained else ""
        raise BadConfig(
            f"A context of {wanted} was asked for, but the model was made for {trained}{stretched}.",
            fix=f"Ask for at most --context {most}.",
        )
    return wanted or trained


def _pack(file: Path, copy: Path, weights: str, kv_type: KvType, target: Target, report: Report) -> Packed:
    """Build graph and plan, and pack the weights by the plan's layout table."""
    from .. import models
    from ..compiler.lower import lower_to_plan
    from ..graph.pipeline import lower
    from ..weights import open_checkpoint
    from ..weights.form import choose_formats
    from .packing import pack_weights

    checkpoint = open_checkpoint(file)
    config = models.read_config(checkpoint.kind, checkpoint.metadata, checkpoint.tensors)
    names = models.canonical_names(checkpoint.kind, checkpoint.tensors)
    formats = choose_formats(checkpoint, weights)
    stored = {canonical: checkpoint.tensors[name] for canonical, name in names.items()}
    chosen = {c: models.Stored(tuple(stored[c].shape), formats[name]) for c, name in names.items()}
    plan = lower_to_plan(lower(models.build(config, chosen)), target, kv=kv_type)
    frequencies = models.derived_weights(config, config.context, _factors(checkpoint, names))
    about: dict[str, Any] = {
        "model": file.name, "plan": plan.to_json(), "context": config.context,
        "context_max": config.context_max, "context_bound": config.rope.scaling in ("dynamic", "longrope"),
        "frequencies": {name: values.tolist() for name, values in frequencies.items()},
    }  # fmt: skip

    def fill(tensors: Mapping[str, NDArray[np.uint8]]) -> None:
        pack_weights(plan, stored, models.row_orders(config), tensors["weights"], lambda d, t: report("pack", d, t))
        checkpoint.drop_pages()

    return open_or_pack(copy, about, {"weights": plan.weights_bytes}, fill)


def _factors(checkpoint: Checkpoint, names: Mapping[str, str]) -> dict[str, F32]:
    from .. import models

    return {n: checkpoint.tensors[names[n]].values() for n in models.FACTOR_TENSORS if n in names}


def _frequencies(file: Path, context: int) -> dict[str, F32]:
    """Frequencies of a model whose rope depends on how long a context is served."""
    from .. import models
    from ..weights import open_checkpoint

    checkpoint = open_checkpoint(file)
    config = models.read_config(checkpoint.kind, checkpoint.metadata, checkpoint.tensors)
    names = models.canonical_names(checkpoint.kind, checkpoint.tensors)
    return models.derived_weights(config, context, _factors(checkpoint, names))


def size_cache(
    page_bytes: int, context: int, is_context_fixed: bool, kv_memory_bytes: int | None, num_bytes_free: int
) -> tuple[int, int]:
    """(context served, pages of the KV cache).

    A context that was asked for must fit; the model's own is cut to what memory allows.
    Raises OutOfMemory, naming what would fit.
    """
    budget = kv_memory_bytes if kv_memory_bytes is not None else int(num_bytes_free * KV_SHARE)
    pages_of_context = -(-context // PAGE_TOKENS)
    num_pages = budget // page_bytes
    if kv_memory_bytes is None:
        num_pages = min(num_pages, KV_CONTEXTS * pages_of_context)
    fits = num_pages * PAGE_TOKENS
    if fits < PAGE_TOKENS or (is_context_fixed and fits < context):
        raise OutOfMemory(
            f"A context of {context} tokens needs {format_bytes(pages_of_context * page_bytes)} of KV cache, "
            f"and {format_bytes(budget)} are there for it.",
            fix=f"Ask for --context {max(fits, 0)} or less, or raise --kv-memory." if fits else "Raise --kv-memory.",
        )
    return min(context, fits), num_pages
