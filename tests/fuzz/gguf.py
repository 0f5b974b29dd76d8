"""Fuzz the GGUF reader."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.target import Target, from_file


def read(path: Path) -> None:
    """Open a file and use all that it brings."""
    from isochrone.weights.checkpoint import open_checkpoint
    from isochrone.weights.gguf_cursor import StringArray

    found = open_checkpoint(path)
    for value in found.metadata.values():
        if isinstance(value, StringArray):
            assert len(value.strings()) == len(value)
    for tensor in found.tensors.values():
        assert tensor.values().shape == tensor.shape


def seeds() -> list[bytes]:
    from isochrone.graph.formats import FORMATS
    from tests.weights.make import Gguf, random_rows, small_gguf

    q8_0 = FORMATS["q8_0"]
    one = Gguf().text("general.architecture", "llama").tensor("w", q8_0, random_rows(q8_0, 2, 32, 0), (2, 32))
    return [Gguf().bytes(), one.bytes(), Gguf().texts("t", ["a", "", "b"]).bytes(), small_gguf().bytes()]


TARGET = Target("gguf", from_file("gguf", read), seeds, ("isochrone.weights.checkpoint",))
