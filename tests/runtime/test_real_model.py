"""SmolLM2-135M-Instruct, compiled: the text and the loss of a sound engine, within the memory that was promised."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from isochrone.compiler.isa import available_targets
from isochrone.runtime.cpu import CpuRuntime
from isochrone.runtime.load import load_runtime

from .driving import greedy

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("home")]
ROOT = Path(__file__).parents[2]
NUM_BYTES = 20_000
BITS_PER_BYTE, SHARE_OFF_MAX = 1.01270, 0.0035
"""Of transformers in f32 on the dequantised file, in one pass over the text."""
PEAK_BYTES_MAX = 400e6
ANSWERS = {
    # Greedy tokens on which llama.cpp and transformers (f32, the dequantised file) agree.
    "steam engine": (
        (504, 1463, 282, 260, 9403, 2327),
        (314, 253, 1977, 282, 5922, 284, 16247, 30, 657, 2585, 351, 260, 17185, 20816, 282, 253, 38688, 506, 44586, 28,
         617, 3658, 260, 1149, 282, 9403, 30, 3636, 655, 28, 260, 9403, 2327, 2163, 253, 3746, 338, 856, 30457, 260,
         970, 701, 4147, 30, 198, 198, 504, 9403),
    ),
    "capital of France": (
        (65, 42, 1812, 314, 260, 3575, 282, 4649, 47, 198, 49, 42),
        (378, 3575, 282, 4649, 314, 7042, 30, 198, 50, 42, 378, 3575, 282, 4649, 314, 7042, 30, 2),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=[target.name for target in available_targets()])
def runtime(request: pytest.FixtureRequest, smollm2_path: Path) -> Iterator[CpuRuntime]:
    with closing(load_runtime(smollm2_path, isa=request.param, context=512)) as made:
        yield made


@pytest.mark.parametrize("name", ANSWERS)
def test_greedy_text_is_that_of_other_sound_engines(runtime: CpuRuntime, name: str) -> None:
    prompt, answer = ANSWERS[name]
    assert tuple(greedy(runtime, prompt, len(answer), (0, 1, 2))) == answer


@pytest.mark.parametrize("kv_type", ["bf16", "int8"])
def test_the_loss_over_a_text_is_that_of_f32_and_memory_stays_small(smollm2_path: Path, kv_type: str) -> None:
    text = ROOT / "tests" / "data" / "wikitext-2" / "first-20000-bytes.txt"
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.one_pass", str(smollm2_path), str(text), str(NUM_BYTES), kv_type],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True,
        text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["num_tokens"] == 4867
    bits_per_byte = found["nats"] / math.log(2) / NUM_BYTES
    assert abs(bits_per_byte / BITS_PER_BYTE - 1) <= SHARE_OFF_MAX, bits_per_byte
    assert found["peak_bytes"] <= PEAK_BYTES_MAX, found["peak_bytes"]


def test_packed_weights_take_little_more_than_the_file(runtime: CpuRuntime, smollm2_path: Path) -> None:
    assert runtime.plan.weights_bytes <= 1.15 * smollm2_path.stat().st_size
