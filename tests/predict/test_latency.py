"""TTFT and ITL: the properties that every user of a prediction relies on, and figures near measured ones."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadRequest, ContextTooLong
from isochrone.predict.cost import Efficiency, RegionCost, StepCost, step_s
from isochrone.predict.latency import Machine, Network, Queue, decode_step_s, predict_request, prefill_s
from isochrone.predict.model import predict_model
from isochrone.predict.shape import FORMS, ShapeCost

from .machine import PROFILE
from .test_shape import LLAMA_1B, QWEN3, SMOLLM2

MACHINE = Machine(PROFILE, threads=2)
MODEL = ShapeCost(SMOLLM2, FORMS["int4"], has_bf16_dot=True)
IDEAL = Efficiency(1.0, 1.0, 1.0, 1.0)


def test_a_region_takes_as_long_as_its_slowest_need_plus_its_barriers():
    reading = RegionCost("reading", read_bytes=320e6, int8_ops=1e6, num_barriers=2, count=3)
    assert step_s(StepCost((reading,)), PROFILE, threads=2, efficiency=IDEAL) == pytest.approx(3 * (0.01 + 4e-7))
    counting = RegionCost("counting", read_bytes=1e3, int8_ops=9.18e9, num_barriers=0)
    assert step_s(StepCost((counting,)), PROFILE, threads=2, efficiency=IDEAL) == pytest.approx(0.01)
    mixed = RegionCost("mixed", fp32_flops=2.33e9, bf16_flops=4.67e9, num_barriers=0)
    assert step_s(StepCost((mixed,)), PROFILE, threads=2, efficiency=IDEAL) == pytest.approx(0.02)


def test_bf16_dots_run_as_fp32_where_the_processor_has_none():
    old = replace(PROFILE, bf16=None)
    region = RegionCost("attend", bf16_flops=2.33e9, num_barriers=0)
    assert step_s(StepCost((region,)), old, threads=2, efficiency=IDEAL) == pytest.approx(0.01)


def test_the_real_model_is_predicted_near_what_the_machine_can_do():
    assert 0.6 * 331 < 1 / decode_step_s(MODEL, MACHINE, [0]) < 331  # 32 GB/s over 96.6 MB a token
    rate = 512 / prefill_s(MODEL, MACHINE, prompt_tokens=512)
    assert 1800 < rate < 4300  # at most the int8 peak over 2 x 106.2 M operations a token


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_longer_prompt_never_takes_less(first, second):
    short, long = sorted((first, second))
    assert prefill_s(MODEL, MACHINE, prompt_tokens=short) <= prefill_s(MODEL, MACHINE, prompt_tokens=long)


@given(st.integers(0, 2000), st.lists(st.integers(0, 4000), max_size=16))
def test_a_queue_never_makes_a_request_faster(num_prefill_tokens, depths):
    alone = predict_request(MODEL, MACHINE, prompt_tokens=200, output_tokens=50)
    queue = Queue(num_prefill_tokens, tuple(depths))
    behind = predict_request(MODEL, MACHINE, prompt_tokens=200, output_tokens=50, queue=queue)
    assert behind.ttft.s_p50 >= alone.ttft.s_p50
    assert behind.itl.s_p50 >= alone.itl.s_p50


def test_a_cached_prefix_is_not_computed_again():
    cold = predict_request(MODEL, MACHINE, prompt_tokens=2000, output_tokens=1)
    warm = predict_request(MODEL, MACHINE, prompt_tokens=2000, output_tokens=1, cached_tokens=1984)
    assert warm.ttft.s_p50 < 0.1 * cold.ttft.s_p50
    assert predict_request(MODEL, MACHINE, prompt_tokens=8, output_tokens=1, cached_tokens=8).ttft.s_p50 > 0


def test_the_way_to_the_place_is_part_of_the_first_token_only():
    near = predict_request(MODEL, MACHINE, prompt_tokens=100, output_tokens=10)
    far = predict_request(MODEL, MACHINE, prompt_tokens=100, output_tokens=10, network=Network(0.05, 0.01))
    assert far.ttft.s_p50 - near.ttft.s_p50 == pytest.approx(0.06)
    assert far.itl == near.itl


def test_a_deeper_sequence_decodes_slower():
    assert decode_step_s(MODEL, MACHINE, [2000]) > 1.2 * decode_step_s(MODEL, MACHINE, [0])


def predict(shape=QWEN3, form=None, prompt=2000, output=200, free_bytes=16_000_000_000, **more):
    return predict_model(
        shape, form, PROFILE, prompt_tokens=prompt, output_tokens=output, free_bytes=free_bytes, **more
    )


def test_the_best_form_that_fits_is_chosen():
    assert predict(LLAMA_1B).choice == "bf16"
    assert predict(LLAMA_1B, free_bytes=2_000_000_000).choice == "int8"
    assert predict(LLAMA_1B, free_bytes=1_300_000_000).choice == "int4"
    nothing = predict(LLAMA_1B, free_bytes=500_000_000)
    assert nothing.choice is None and nothing.chosen is None
    assert [form.fits for form in nothing.forms] == [False, False, False]


def test_a_budget_picks_a_smaller_form_and_the_fastest_when_none_meets_it():
    roomy = predict(LLAMA_1B)
    by_name = {form.form: form for form in roomy.forms}
    between_s = (by_name["bf16"].itl.s_p95 + by_name["int8"].itl.s_p95) / 2
    assert predict(LLAMA_1B, itl_max_s=between_s).choice == "int8"
    assert predict(LLAMA_1B, itl_max_s=1e-6).choice == "int4"


def test_a_named_form_is_the_only_one_priced():
    assert [form.form for form in predict(form="f32").forms] == ["f32"]


def test_what_cannot_be_asked_is_refused_with_a_way_out():
    with pytest.raises(ContextTooLong, match="8192"):
        predict(SMOLLM2, prompt=8100, output=100)
    with pytest.raises(BadRequest, match="bf16, int8, int4"):
        predict(form="int3")
    with pytest.raises(BadRequest, match="at least one token"):
        predict(prompt=0)
