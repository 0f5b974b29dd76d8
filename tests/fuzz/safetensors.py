"""Fuzz the safetensors reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.fuzz.target import Target, from_file


def read(path: Path) -> None:
    """Open a file and use all of its tensors."""
    from isochrone.weights.safetensors import read_safetensors

    for tensor in read_safetensors(path).tensors.values():
        assert tensor.values().shape == tensor.shape


def seeds() -> list[bytes]:
    from tests.weights.make import safetensors_bytes, small_safetensors

    many = {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float16), "c": np.ones(1, np.int64)}
    return [safetensors_bytes({}, b""), small_safetensors({"w": many["a"]}), small_safetensors(many)]


TARGET = Target("safetensors", from_file("safetensors", read), seeds, ("isochrone.weights.safetensors",))
