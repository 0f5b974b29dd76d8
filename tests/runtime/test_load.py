"""From a checkpoint to a runtime: contexts beyond the trained one, packs without a compiler, limits of memory."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isochrone import models, paths
from isochrone.api import packs
from isochrone.api.loading import load_model
from isochrone.compiler import cache
from isochrone.compiler.isa import choose_target
from isochrone.errors import BadConfig, MissingExtra, OutOfMemory
from isochrone.runtime.load import load_runtime, prepare, size_cache
from isochrone.runtime.packing import pack_weights

from .driving import Part, logits
from .small_models import directory, reference

pytestmark = pytest.mark.usefixtures("home")
DYNAMIC = {
    "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}, "max_position_embeddings": 64,
}  # fmt: skip
YARN = {
    "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32},
    "max_position_embeddings": 64,
}  # fmt: skip
KV = 1 << 20


@pytest.fixture(scope="module")
def stretchable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return directory(tmp_path_factory.mktemp("models") / "dynamic", "llama", **DYNAMIC)


def test_without_being_asked_a_model_is_served_with_its_own_context(stretchable: Path) -> None:
    with closing(load_runtime(stretchable, kv_memory_bytes=KV)) as runtime:
        assert runtime.info.context == 64


def test_a_context_beyond_the_trained_one_turns_by_the_frequencies_for_it(stretchable: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 97, 30)
    parts = [Part(ids, 0, range(6))]
    with closing(load_runtime(stretchable, kv_memory_bytes=KV, context=190)) as runtime:
        assert runtime.info.context == 190
        found = logits(runtime, parts)
    oracle = reference(stretchable)
    own = logits(oracle, parts)
    oracle._weights = {**oracle._weights, **models.derived_weights(config_of(stretchable), 190)}
    stretched = logits(oracle, parts)
    assert np.abs(found - stretched).max() < np.abs(found - own).max() / 3
    assert np.abs(found - stretched).mean() < 1e-2


def config_of(path: Path) -> models.ModelConfig:
    from isochrone.weights import open_checkpoint

    checkpoint = open_checkpoint(path)
    return models.read_config(checkpoint.kind, checkpoint.metadata, checkpoint.tensors)


@pytest.mark.parametrize(("extra", "most"), [(DYNAMIC, 256), (YARN, 128), ({}, 1024)], ids=["dynamic", "yarn", "none"])
def test_the_context_reaches_as_far_as_rope_scaling(tmp_path: Path, extra: dict[str, Any], most: int) -> None:
    path = directory(tmp_path / "m", "llama", **extra)
    assert prepare(path, context=most).context == most
    for wanted in (most + 1, 0, -5):
        with pytest.raises(BadConfig, match=f"context of {wanted} ") as caught:
            prepare(path, context=wanted)
        assert f"--context {most}" in caught.value.fix


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An install without llvmlite and with an empty cache."""

    def build(*_: object) -> Path:
        raise MissingExtra("Compiling kernels needs llvmlite.", fix="Install it.")

    monkeypatch.setattr(cache, "_build", build)
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path / "fresh"))


def exported(path: Path, file: Path, **settings: Any) -> Path:
    """A pack of the kernels that a model needs, made where there is a compiler."""
    prepared = prepare(path, **settings)
    library = cache.library_for(prepared.plan.kernels, prepared.target, paths.cache_dir() / "kernels")
    packs.write_pack(file, path.name, prepared.plan, prepared.target, library)
    return file


def open_model(path: Path, pack: Path, weights: str = "auto") -> Any:
    return load_model(
        str(path), weights=weights, context=None, kv_memory_bytes=KV, kv_type="bf16", threads=None, isa=None,
        pack=str(pack), cache_limit_bytes=10**9,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pack(stretchable: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(stretchable, tmp_path_factory.mktemp("packs") / "kernels.pack")


@pytest.mark.usefixtures("no_compiler")
def test_a_pack_that_fits_needs_no_compiler(stretchable: Path, pack: Path) -> None:
    with pytest.raises(MissingExtra):
        load_runtime(stretchable, kv_memory_bytes=KV)
    with closing(open_model(stretchable, pack)) as runtime:
        assert np.isfinite(logits(runtime, [Part(np.arange(5), 0, (0,))])).all()


@pytest.mark.usefixtures("no_compiler")
def test_a_pack_that_does_not_fit_says_what_it_holds(stretchable: Path, pack: Path) -> None:
    with pytest.raises(MissingExtra, match=f"kernels of dynamic for {choose_target().name}") as caught:
        open_model(stretchable, pack, weights="int8")
    assert "--weights" in caught.value.fix


def test_a_cache_too_small_for_the_context_that_was_asked_for_names_one_that_fits() -> None:
    with pytest.raises(OutOfMemory) as caught:
        size_cache(1000, 640, True, 5000, 10**9)
    assert "--context 160" in caught.value.fix
    assert size_cache(1000, 640, False, 5000, 10**9) == (160, 5)
    assert size_cache(1000, 640, False, None, 10**9) == (640, 40)


def test_packing_reports_every_byte_and_fills_the_whole_plan(stretchable: Path) -> None:
    from isochrone.weights import open_checkpoint

    prepared, checkpoint = prepare(stretchable), open_checkpoint(stretchable)
    names = models.canonical_names(checkpoint.kind, checkpoint.tensors)
    stored = {canonical: checkpoint.tensors[name] for canonical, name in names.items()}
    out, told = np.zeros(prepared.plan.weights_bytes, np.uint8), []
    pack_weights(prepared.plan, stored, {}, out, lambda done, total: told.append((done, total)))
    assert np.array_equal(out, prepared.weights)
    total = sum(tensor.num_bytes for tensor in prepared.plan.weights)
    assert told[-1] == (total, total) and told == sorted(told)
