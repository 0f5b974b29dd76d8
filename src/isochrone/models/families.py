"""Every family, and how a checkpoint finds its own."""

from __future__ import annotations

from ..errors import BadModel
from .family import Family
from .llama import LLAMA, MISTRAL, SMOLLM3
from .qwen2 import QWEN2
from .qwen3 import QWEN3

FAMILIES: tuple[Family, ...] = (LLAMA, MISTRAL, SMOLLM3, QWEN2, QWEN3)


def by_model_type(model_type: str) -> Family:
    """The family of a config.json."""
    for family in FAMILIES:
        if family.model_type == model_type:
            return family
    raise _unknown("model_type", model_type, [f.model_type for f in FAMILIES])


def by_architecture(arch: str) -> Family:
    """The family of a GGUF file."""
    for family in FAMILIES:
        if family.arch == arch:
            return family
    raise _unknown("general.architecture", arch, [f.arch for f in FAMILIES if f.arch])


def by_name(name: str) -> Family:
    """The family that a config names."""
    return next(family for family in FAMILIES if family.name == name)


def _unknown(key: str, value: str, known: list[str]) -> BadModel:
    return BadModel(
        f"The checkpoint says {key} is {value[:60]!r}, which is not a family that Isochrone runs.",
        fix=f"Use a model of one of these: {', '.join(known)}.",
    )
