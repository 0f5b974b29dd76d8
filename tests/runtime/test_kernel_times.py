"""The model's kernels on the roofline: each is priced for what it does, at every depth that the context allows."""

from dataclasses import replace

import pytest

from benchmarks.random_models import RandomModel, write_model
from isochrone.runtime.kernel_times import measure_kernels, situations
from isochrone.runtime.load import load_runtime

TINY = RandomModel("tiny", "llama", 256, 512, 2, 4, 2, 64, 512, 256, 1e4, "Q8_0", "Q8_0", "llama-bpe")


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_model(TINY, path)
    runtime = load_runtime(path, kv_memory_bytes=64 << 20, threads=1)
    try:
        yield {point.name: point for point in measure_kernels(runtime)}
    finally:
        runtime.close()


def test_every_product_and_the_attention_are_on_the_roofline(points):
    products = ("q_proj+k_proj+v_proj", "o_proj", "gate_proj+up", "down_proj")
    expected = {f"{name}, {when}" for name in products for when in ("prefill 256", "decode")}
    expected |= {"attend, prefill 256", "attend, decode at 224", "embed_tokens, decode"}
    assert points.keys() == expected
    assert all(point.seconds > 0 for point in points.values())


def test_prefill_does_the_same_work_for_every_token_and_reads_the_weights_once(points):
    prefill, decode = points["o_proj, prefill 256"], points["o_proj, decode"]
    assert prefill.read_bytes == decode.read_bytes >= TINY.layers * 256 * 256
    assert prefill.num_operations == 256 * decode.num_operations
    assert decode.num_operations == pytest.approx(TINY.layers * 2 * 256 * 256, rel=0.05)  # and the epilogue


def test_attention_is_priced_by_the_positions_it_sees(points):
    attend = points["attend, decode at 224"]
    assert attend.num_operations == TINY.layers * 4 * 4 * 64 * 225
    assert attend.read_bytes == TINY.layers * 2 * 2 * 64 * 2 * 225


def test_a_short_context_is_measured_as_far_as_it_goes():
    prefill, _, deep = situations(context=256, num_tokens_max=64)
    assert (prefill.num_tokens, deep.start) == (64, 224)
    assert situations(context=8192, num_tokens_max=512)[2].start == 2000


def test_the_cache_is_written_before_its_depth_is_read(tmp_path):
    path = tmp_path / "tiny.gguf"
    write_model(replace(TINY, context=1024), path)
    runtime = load_runtime(path, kv_memory_bytes=64 << 20, threads=1)
    try:
        written, read_unwritten = set(), []
        step = runtime.step

        def watched(batch):
            for at, position in enumerate(batch.positions):
                if at == 0 and len(batch.positions) == 1:
                    read_unwritten.extend(p for p in range(position) if p not in written)
                written.add(int(position))
            return step(batch)

        runtime.step = watched
        measure_kernels(runtime)
    finally:
        runtime.close()
    assert len(written) == 1024
    assert not read_unwritten
