"""What ends a compiled step against the definition of sampling, on the very logits that the step computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from isochrone.runtime.cpu import CpuRuntime
from isochrone.runtime.load import load_runtime
from isochrone.runtime.reference_sampling import allowed, edited, sample
from isochrone.runtime.step import SamplingRows
from tests.compiler.harness import ALL_TARGETS

from .driving import Part, batch, logits_after, sampling
from .small_models import SIZES, directory

ROWS, VOCAB = 32, SIZES["vocab_size"]
IDS = np.random.default_rng(5).integers(0, VOCAB, ROWS).astype(np.int32)
NEAR = 1e-5


@pytest.fixture(scope="module", params=ALL_TARGETS)
def runtime(request: Any, home: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CpuRuntime]:
    path = directory(tmp_path_factory.mktemp("models") / "llama", "llama")
    made = load_runtime(path, isa=request.param.name, threads=2, kv_memory_bytes=1 << 20)
    yield made
    made.close()


def random_sampling(seed: int, *, masked: bool) -> SamplingRows:
    """Rows of every kind: greedy and warm, cut and not, edited, masked, and some that only score a token."""
    rng = np.random.default_rng(seed)
    num_edits = rng.integers(0, 4, ROWS)
    total = int(num_edits.sum())
    mask = None
    if masked:
        bits = rng.random((ROWS, -(-VOCAB // 32) * 32)) < rng.choice([0.03, 0.5, 1.0], (ROWS, 1))
        mask = np.packbits(bits, axis=1, bitorder="little").view("<u4").astype(np.uint32)
    return sampling(
        ROWS,
        temperature=rng.choice([0, 0.3, 1, 1.7], ROWS).astype(np.float32),
        top_k=rng.choice([0, 1, 5, 40, 500], ROWS).astype(np.int32),
        top_p=rng.choice([1, 0.95, 0.6, 0.1], ROWS).astype(np.float32),
        min_p=rng.choice([0, 0, 0.05, 0.5], ROWS).astype(np.float32),
        uniform=rng.random(ROWS).astype(np.float32),
        targets=np.where(rng.random(ROWS) < 0.1, rng.integers(0, VOCAB, ROWS), -1).astype(np.int32),
        edit_starts=np.append(0, num_edits.cumsum()).astype(np.int32),
        edit_tokens=rng.integers(0, VOCAB, total).astype(np.int32),
        edit_factors=rng.choice([1, 1.3], total).astype(np.float32),
        edit_deltas=rng.choice([0, -2, 4, -100], total).astype(np.float32),
        mask=mask,
    )


def run(runtime: CpuRuntime, asked: SamplingRows, num_top: int = 0) -> Any:
    step = replace(batch([Part(IDS, 0, (0,))], num_top=num_top), sampling=asked)
    return runtime.step(step)


def tokens_near(logits: np.ndarray, asked: SamplingRows) -> list[np.ndarray]:
    """Tokens by the definition, with the uniform numbers and the cuts a little lower and higher."""
    found = []
    for shift in (-NEAR, 0.0, NEAR):
        for stretch in (1 - NEAR, 1.0, 1 + NEAR):
            uniform = np.clip(asked.uniform + shift, 0, 1 - 1e-7).astype(np.float32)
            top_p = np.where(asked.top_p < 1, asked.top_p * stretch, 1).astype(np.float32)
            moved = replace(asked, uniform=uniform, top_p=top_p, min_p=(asked.min_p * stretch).astype(np.float32))
            found.append(sample(logits, moved, 0).tokens)
    return found


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_tokens_are_those_of_the_definition(runtime: CpuRuntime, seed: int, masked: bool) -> None:
    asked = random_sampling(seed, masked=masked)
    result, logits = run(runtime, asked), logits_after(runtime, ROWS)
    expected, candidates = sample(logits, asked, 0), tokens_near(logits, asked)
    assert np.array_equal(result.finite, expected.finite)
    is_clear = np.all([tokens == expected.tokens for tokens in candidates], axis=0) & expected.finite
    assert is_clear.mean() > 0.8
    assert np.array_equal(result.tokens[is_clear], expected.tokens[is_clear])
    unclear = expected.finite & ~is_clear
    assert all(result.tokens[row] in [tokens[row] for tokens in candidates] for row in np.flatnonzero(unclear))
    np.testing.assert_allclose(result.logprobs[is_clear], expected.logprobs[is_clear], atol=5e-6)


def test_alternatives_are_those_of_the_definition(runtime: CpuRuntime) -> None:
    asked = random_sampling(50, masked=False)
    result, logits = run(runtime, asked, num_top=20), logits_after(runtime, ROWS)
    expected = sample(logits, asked, 20)
    assert np.array_equal(result.top_tokens, expected.top_tokens)
    np.testing.assert_allclose(result.top_logprobs, expected.top_logprobs, atol=5e-6)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_row_whose_mask_forbids_every_token_is_not_finite_and_spoils_no_other(
    runtime: CpuRuntime, temperature: float
) -> None:
    mask = np.full((ROWS, -(-VOCAB // 32)), 2**32 - 1, np.uint32)
    mask[7] = 0
    mask[9] = [0, 0, 0, 0xFFFFFFFE]  # only tokens past the vocabulary, whose last is 96
    asked = sampling(ROWS, mask=mask, temperature=np.full(ROWS, temperature, np.float32))
    result, logits = run(runtime, asked), logits_after(runtime, ROWS)
    assert np.flatnonzero(~result.finite).tolist() == [7, 9]
    assert np.array_equal(result.finite, sample(logits, asked, 0).finite)
    assert ((result.tokens >= 0) & (result.tokens < VOCAB)).all()
    assert np.array_equal(run(runtime, sampling(ROWS, temperature=asked.temperature)).tokens[:7], result.tokens[:7])


def test_a_masked_row_that_only_scores_a_token_is_scored(runtime: CpuRuntime) -> None:
    asked = sampling(ROWS, mask=np.zeros((ROWS, -(-VOCAB // 32)), np.uint32), targets=np.full(ROWS, 3, np.int32))
    result = run(runtime, asked)
    assert result.finite.all() and (result.tokens == 3).all() and np.isfinite(result.logprobs).all()


def test_no_token_that_mask_or_cut_excludes_is_ever_drawn(runtime: CpuRuntime) -> None:
    for seed in range(100, 130):
        asked = random_sampling(seed, masked=True)
        result, logits = run(runtime, asked), logits_after(runtime, ROWS)
        assert asked.mask is not None
        for row in np.flatnonzero((asked.targets < 0) & result.finite):
            assert allowed(asked.mask[row], VOCAB)[result.tokens[row]]
            rank = (edited(logits[row], asked, row) > edited(logits[row], asked, row)[result.tokens[row]]).sum()
            assert asked.top_k[row] == 0 or rank < asked.top_k[row]
