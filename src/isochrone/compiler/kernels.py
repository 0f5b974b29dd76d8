"""Every kernel family by name, so that a plan can carry its kernels as data."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from .attention import Attend
from .attention_items import AttentionItems, Combine
from .ir import Kernel
from .isa import Target
from .matmul import Matmul
from .matmul_plain import MatmulPlain
from .pointwise import Pointwise
from .rope import RopeWrite
from .rows import Embed, Rows
from .sampling import Sample


class KernelSpec(Protocol):
    """What names a kernel and can build it for a target."""

    @property
    def name(self) -> str: ...

    def build(self, target: Target) -> Kernel: ...


FAMILIES: dict[str, type[Any]] = {
    family.__name__: family
    for family in (Attend, AttentionItems, Combine, Embed, Matmul, MatmulPlain, Pointwise, RopeWrite, Rows, Sample)
}


def encode(spec: Any) -> list[Any]:
    """[family, field, ...]"""
    return [type(spec).__name__, *(getattr(spec, f.name) for f in dataclasses.fields(spec))]


def decode(data: list[Any] | tuple[Any, ...]) -> KernelSpec:
    """The spec that `encode` wrote."""
    spec: KernelSpec = FAMILIES[data[0]](*data[1:])
    return spec
