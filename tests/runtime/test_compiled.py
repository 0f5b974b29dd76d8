"""The compiled plan against the NumPy reference: every family and weight format, on every instruction set here.

Both round keys and values to bf16, and activations to 8 bits where weights are quantised.  Where sums in another order
fall on two sides of a rounding, a last bit differs, and from there on other roundings do.  So short sequences are
compared: most rows see no such thing and must agree closely, and what the others may differ by is bounded.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from isochrone.compiler.isa import Target, available_targets
from isochrone.graph.formats import FORMATS
from isochrone.runtime.cpu import CpuRuntime
from isochrone.runtime.load import load_runtime
from isochrone.runtime.reference_sampling import log_softmax
from tests.compiler.harness import ALL_TARGETS

from .driving import Part, all_logits, logits
from .small_models import KINDS, directory, mixed_gguf, reference

pytestmark = pytest.mark.usefixtures("home")
EVERY_TARGET = pytest.mark.parametrize("target", ALL_TARGETS)
IDS = np.random.default_rng(1).integers(0, 80, 60).astype(np.int32)
PAGES = (3, 1)
PAIRS = [Part(ids, 0, (n,)) for n, ids in enumerate(np.random.default_rng(2).integers(0, 80, (16, 2)))]
CLOSE = 1e-3


@dataclass(frozen=True)
class Tolerance:
    """Bounds on differences of logits whose standard deviation is about 1.3.

    close_share     share of rows whose every logit is within CLOSE
    mean, largest   over all logits
    """

    close_share: float
    mean: float
    largest: float


TOLERANCES = {
    # numeric class (what attention multiplies in), whether activations are rounded to 8 bits
    ("f32", False): Tolerance(0.9, 1e-4, 5e-3),
    ("f32", True): Tolerance(0.5, 8e-3, 0.12),
    ("bf16", False): Tolerance(0.0, 6e-3, 0.08),
    ("bf16", True): Tolerance(0.0, 3e-2, 0.25),
}


def assert_close(found: np.ndarray, expected: np.ndarray, target: Target, is_quantised: bool) -> None:
    assert expected.std() > 0.3  # logits near zero would agree whatever we did
    difference, allowed = np.abs(found - expected), TOLERANCES[target.numeric_class, is_quantised]
    close_share = float((difference.max(axis=1) <= CLOSE).mean())
    told = f"{close_share:.2f} of rows close, mean {difference.mean():.1e}, largest {difference.max():.1e}"
    assert close_share >= allowed.close_share, told
    assert difference.mean() <= allowed.mean and difference.max() <= allowed.largest, told


def load(path: Path, target: Target, weights: str = "auto") -> CpuRuntime:
    return load_runtime(path, weights=weights, isa=target.name, threads=2, kv_memory_bytes=8 << 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def family(folder: Path, name: str) -> Path:
    """A model of the family, of f32 weights."""
    path = folder / name
    return path if path.exists() else directory(path, KINDS[name][0], **KINDS[name][1])


@EVERY_TARGET
@pytest.mark.parametrize("name", KINDS)
def test_every_family_agrees_with_the_reference_in_f32(folder: Path, name: str, target: Target) -> None:
    path = family(folder, name)
    with closing(load(path, target)) as runtime:
        found = all_logits(runtime, IDS, PAGES)
    assert_close(found, all_logits(reference(path), IDS, PAGES), target, is_quantised=False)


GROUPS = [
    ("f32", "f16", "bf16"), ("q8_0", "q4_0", "q4_1"), ("q5_0", "q5_1", "iq4_nl"), ("q2_k", "q3_k"),
    ("q4_k", "q5_k", "q6_k"), ("f16", "q4_0"),
]  # fmt: skip


def mixed(folder: Path, names: tuple[str, ...]) -> Path:
    path = folder / f"{'-'.join(names)}.gguf"
    return path if path.exists() else mixed_gguf(path, [FORMATS[name] for name in names])


def test_no_weight_format_is_left_out() -> None:
    assert {name for names in GROUPS for name in names} == set(FORMATS)


@EVERY_TARGET
@pytest.mark.parametrize("names", GROUPS, ids="+".join)
def test_every_format_alone_and_beside_others_agrees_with_the_reference(
    folder: Path, names: tuple[str, ...], target: Target
) -> None:
    path = mixed(folder, names)
    with closing(load(path, target)) as runtime:
        found = logits(runtime, PAIRS)
    is_quantised = not set(names) <= {"f32", "f16", "bf16"}
    assert_close(found, logits(reference(path), PAIRS), target, is_quantised)


@pytest.mark.parametrize("names", [GROUPS[0], GROUPS[1], GROUPS[3]], ids="+".join)
def test_instruction_sets_of_one_numeric_class_give_the_same_bits(folder: Path, names: tuple[str, ...]) -> None:
    path, first = mixed(folder, names), {}
    for target in available_targets():
        with closing(load(path, target)) as runtime:
            found = logits(runtime, PAIRS)
        assert np.array_equal(found, first.setdefault(target.numeric_class, found)), target.name


DIVERGENCE = {"bf16": 3e-4, "int8": 3.5e-3, "int4": 0.25}
"""Bound on the mean KL divergence of the compiled model from the f32 reference, nats a token: twice the worst family's
when it was written.  Weights this small and this random lose more than a real model's."""
FAMILIES = ("llama", "mistral, window", "smollm3, layers without rope", "qwen2, biases", "qwen3, QK-norm")


@pytest.mark.parametrize("form", DIVERGENCE)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_rounding_weights_costs_is_bounded(folder: Path, name: str, form: str) -> None:
    path, target = family(folder, name), available_targets()[-1]
    with closing(load(path, target, form)) as runtime:
        found, context = logits(runtime, PAIRS), all_logits(runtime, IDS, PAGES)
    assert_close(found, logits(reference(path, weights=form), PAIRS), target, is_quantised=form != "bf16")
    exact = all_logits(reference(path), IDS, PAGES)
    divergence = np.mean([kl(p, q) for p, q in zip(exact, context, strict=True)])
    assert 0 <= divergence <= DIVERGENCE[form]


def kl(exact: np.ndarray, found: np.ndarray) -> float:
    p, q = log_softmax(exact), log_softmax(found)
    return float((np.exp(p) * (p - q)).sum())
