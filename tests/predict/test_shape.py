"""Sizes and step costs from a config alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.predict.shape import FORMS, Chunk, ModelShape, ShapeCost, attended, weight_bytes

SMOLLM2 = ModelShape(576, 1536, 30, 9, 3, 64, vocab=49152, context=8192, is_tied=True)
QWEN3 = ModelShape(1024, 3072, 28, 16, 8, 128, vocab=151936, context=40960, is_tied=True, has_qk_norm=True)
LLAMA_1B = ModelShape(2048, 8192, 16, 32, 8, 64, vocab=128256, context=131072, is_tied=True)
QWEN2 = ModelShape(896, 4864, 24, 14, 2, 64, vocab=151936, context=32768, is_tied=True, has_qkv_bias=True)


@pytest.mark.parametrize(
    ("shape", "published"),
    [(SMOLLM2, 134_515_008), (QWEN3, 596_049_920), (LLAMA_1B, 1_235_814_400), (QWEN2, 494_032_768)],
)
def test_parameters_are_those_that_the_publisher_counts(shape, published):
    assert shape.num_parameters == published


def test_an_untied_head_is_a_second_table():
    untied = ModelShape(576, 1536, 30, 9, 3, 64, vocab=49152, context=8192, is_tied=False)
    assert untied.num_parameters - SMOLLM2.num_parameters == 49152 * 576


def test_bytes_of_the_real_file_are_met():
    # SmolLM2-135M-Instruct.Q4_1.gguf: 210 tensors Q4_1, the tied table Q8_0; 96.6 MB read a token.
    assert weight_bytes(SMOLLM2, FORMS["int4"]) == pytest.approx(96.6e6, rel=0.01)
    assert ShapeCost(SMOLLM2, FORMS["int4"]).step([Chunk(0, 1)], 1).read_bytes == pytest.approx(96.6e6, rel=0.01)


def test_a_smaller_form_has_fewer_bytes():
    sizes = [weight_bytes(QWEN3, FORMS[name]) for name in ("f32", "bf16", "int8", "int4")]
    assert sizes == sorted(sizes, reverse=True)


@given(st.integers(0, 60), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 50)))
def test_attended_pairs_are_counted_exactly(start, num_tokens, window):
    positions = range(start, start + num_tokens)
    expected = sum(min(p + 1, window or p + 1) for p in positions)
    assert attended(Chunk(start, num_tokens), window) == expected


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 512)), min_size=1, max_size=5))
def test_cutting_a_prompt_in_chunks_changes_no_operation_count(pieces):
    cost = ShapeCost(SMOLLM2, FORMS["int4"])
    for start, num_tokens in pieces:
        whole = cost.step([Chunk(start, num_tokens)], 0)
        half = num_tokens // 2
        parts = [cost.step([Chunk(start, half)], 0), cost.step([Chunk(start + half, num_tokens - half)], 0)]
        assert sum(part.int8_ops for part in parts) == pytest.approx(whole.int8_ops)
        assert sum(part.flops for part in parts) == pytest.approx(whole.flops)


def test_weights_are_read_once_for_a_whole_batch():
    cost = ShapeCost(QWEN3, FORMS["int8"])
    one, sixteen = cost.step([Chunk(0, 1)], 1), cost.step([Chunk(0, 1)] * 16, 16)
    assert sixteen.read_bytes < 1.01 * one.read_bytes
    assert sixteen.int8_ops == 16 * one.int8_ops


@pytest.mark.parametrize("kv_type", ["bf16", "int8"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_cache_is_priced_as_its_pages_are_laid_out(kv_type, head_dim):
    from isochrone.compiler.table import PAGE_TOKENS, page_bytes
    from isochrone.predict.shape import kv_item_bytes

    assert 2 * PAGE_TOKENS * head_dim * kv_item_bytes(kv_type, head_dim) == page_bytes(head_dim, kv_type)
