"""The reference as a Runtime: pages, chunks, batches and shared prefixes change no result."""

from __future__ import annotations

import numpy as np
import pytest

from isochrone import models
from isochrone.graph import formats
from isochrone.graph.ops import Weight
from isochrone.graph.pipeline import lower
from isochrone.runtime.reference import ReferenceRuntime, run_reference
from isochrone.runtime.reference_cache import as_kv
from isochrone.runtime.step import Runtime, StepBatch, StepResult

from .test_reference_sampling import rows

SIZES = {
    "model_type": "mistral",
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "sliding_window": 6,
}
CONFIG = models.read_config("hf", {**SIZES, "tie_word_embeddings": True}, {})
UNTIED = models.read_config("hf", SIZES, {})
GRAPH = lower(models.build(CONFIG, models.expected_tensors(CONFIG, formats.Q8_0)))
PAGE = 4


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    nodes = [node for node in GRAPH.nodes if isinstance(node.op, Weight)]
    made = {n.op.name: rng.normal(0, 0.2, n.output.shape).astype(np.float32) for n in nodes}
    return {**made, **models.derived_weights(CONFIG, 64)}


WEIGHTS = weights()
IDS = np.random.default_rng(1).integers(0, 61, 17).astype(np.int32)


def runtime(**changes) -> ReferenceRuntime:
    return ReferenceRuntime(GRAPH, {**WEIGHTS, **changes}, context=64, num_pages=16, page_tokens=PAGE)


def batch(parts: list[tuple[np.ndarray, int, list[int]]]) -> StepBatch:
    """Sequences as (new ids, first position, pages); logits of every token, its likeliest alternatives."""
    lengths = [len(ids) for ids, _, _ in parts]
    count = sum(lengths)
    return StepBatch(
        token_ids=np.concatenate([ids for ids, _, _ in parts]).astype(np.int32),
        positions=np.concatenate([np.arange(first, first + len(ids)) for ids, first, _ in parts]).astype(np.int32),
        starts=np.cumsum([0, *lengths]).astype(np.int32),
        pages=np.array([pages + [-1] * (8 - len(pages)) for _, _, pages in parts], np.int32),
        logit_rows=np.arange(count, dtype=np.int32),
        sampling=rows(count),
        num_top=5,
    )


def joined(results: list[StepResult]) -> np.ndarray:
    return np.concatenate([r.top_logprobs for r in results])


WHOLE = runtime().step(batch([(IDS, 0, [0, 1, 2, 3, 4])]))


def test_it_is_a_runtime_and_says_what_it_is():
    made: Runtime = runtime()
    assert (made.info.vocab_size, made.info.page_tokens, made.info.num_pages) == (61, PAGE, 16)
    assert made.info.plan_hash == runtime().info.plan_hash
    bf16 = ReferenceRuntime(GRAPH, WEIGHTS, context=64, num_pages=16, kv_type="bf16")
    assert bf16.info.plan_hash != made.info.plan_hash and bf16.info.kv_type == "bf16"
    made.close()
    made.close()


def test_the_runtime_agrees_with_one_run_of_the_graph():
    at = np.arange(17, dtype=np.int32)
    (logits,) = run_reference(GRAPH, {"token_ids": IDS, "positions": at, "logit_rows": at}, WEIGHTS)
    assert np.array_equal(WHOLE.tokens, logits.argmax(axis=1))
    assert WHOLE.finite.all()


@pytest.mark.parametrize("chunk", [1, 3, 8])
@pytest.mark.parametrize("pages", [[0, 1, 2, 3, 4], [9, 2, 15, 0, 7]])
def test_chunks_and_the_order_of_pages_change_nothing(chunk, pages):
    made = runtime()
    parts = [made.step(batch([(IDS[i : i + chunk], i, pages)])) for i in range(0, 17, chunk)]
    np.testing.assert_allclose(joined(parts), WHOLE.top_logprobs, rtol=1e-5, atol=1e-5)


def test_other_sequences_of_a_step_change_nothing():
    made, other = runtime(), IDS[::-1].copy()
    first = made.step(batch([(other[:9], 0, [5, 6, 7]), (IDS[:10], 0, [0, 1, 2])]))
    second = made.step(batch([(IDS[10:], 10, [0, 1, 2, 3, 4]), (other[9:], 9, [5, 6, 7, 8, 9])]))
    mine = np.concatenate([first.top_logprobs[9:], second.top_logprobs[:7]])
    np.testing.assert_allclose(mine, WHOLE.top_logprobs, rtol=1e-5, atol=1e-5)


def test_a_shared_prefix_need_not_be_computed_again():
    made = runtime()
    made.step(batch([(IDS[:8], 0, [3, 4])]))
    rest = made.step(batch([(IDS[8:], 8, [3, 4, 11, 12, 13])]))
    np.testing.assert_allclose(rest.top_logprobs, WHOLE.top_logprobs[8:], rtol=1e-5, atol=1e-5)


def test_a_sequence_that_is_not_finite_spoils_no_other():
    table = WEIGHTS["embed_tokens"].copy()
    poison = next(i for i in range(61) if i not in IDS)
    table[poison, 0] = np.nan
    # The table is the head too, so only what does not read it can be told apart: untie for this test.
    graph = lower(models.build(UNTIED, models.expected_tensors(UNTIED, formats.Q8_0)))
    head = {"lm_head": WEIGHTS["embed_tokens"], "embed_tokens": table}
    made = ReferenceRuntime(graph, {**WEIGHTS, **head}, context=64, num_pages=16, page_tokens=PAGE)
    with np.errstate(invalid="ignore"):
        result = made.step(batch([(np.array([poison, 1]), 0, [9]), (IDS, 0, [0, 1, 2, 3, 4])]))
    assert result.finite.tolist() == [False, False] + [True] * 17
    np.testing.assert_allclose(result.top_logprobs[2:], WHOLE.top_logprobs, rtol=1e-5, atol=1e-5)


def test_a_position_without_a_page_is_our_own_mistake():
    with pytest.raises(AssertionError, match="no page"):
        runtime().step(batch([(IDS, 0, [0, 1])]))


def test_no_rows_wanted_gives_empty_results():
    one = batch([(IDS, 0, [0, 1, 2, 3, 4])])
    none = StepBatch(one.token_ids, one.positions, one.starts, one.pages, np.zeros(0, np.int32), rows(0))
    result = runtime().step(none)
    assert result.tokens.shape == (0,) and result.top_tokens.shape == (0, 0)


def test_bf16_keeps_eight_bits_and_rounds_ties_to_even():
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.14159, 1e30, np.nan, np.inf, 0.0], np.float32)
    expected = [1.0, 1.0, 1 + 4 * 2**-8, 1 + 2**-7, -3.140625]
    y = as_kv(x, "bf16")
    assert y[:5].tolist() == expected and np.isnan(y[6]) and np.isinf(y[7]) and y[8] == 0
    assert as_kv(x, "f32") is x
    made = ReferenceRuntime(GRAPH, WEIGHTS, context=64, num_pages=16, page_tokens=PAGE, kv_type="bf16")
    rounded = made.step(batch([(IDS, 0, [0, 1, 2, 3, 4])]))
    assert 0 < np.abs(rounded.logprobs - WHOLE.logprobs).max() < 0.2
