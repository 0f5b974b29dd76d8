"""`inspect` and `predict` on the real model: what is printed is what the compiler has."""

import json

import pytest

from isochrone.cli import app
from isochrone.profile import MachineProfile, PerThreads, profile_path, save_profile
from isochrone.weights import store

pytestmark = pytest.mark.model


@pytest.fixture(scope="module", autouse=True)
def model_is_here():
    if store.find("smollm2-135m") is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")


def run(capfd, *arguments):
    code = app.run(arguments)
    out, err = capfd.readouterr()
    assert code == 0, err
    return out


def test_the_summary_shows_every_pass_and_the_plan(capfd):
    out = run(capfd, "inspect", "smollm2-135m", "--offline")
    for word in ("drop_no_ops", "fuse_gate_up", "fuse_qkv", "fuse_residual", "quantise_activations", "regions"):
        assert word in out
    record = json.loads(run(capfd, "inspect", "smollm2-135m", "--offline", "--json"))
    assert record["layers"] == 30 and record["packed_bytes"] <= 1.15 * record["file_bytes"]
    ops = [stage["num_ops"] for stage in record["passes"]]
    assert ops[0] > ops[-1], "fusion leaves fewer ops"


@pytest.mark.parametrize("stage", ["graph", "plan", "tile", "llvm"])
def test_each_stage_prints_and_names_its_parts(capfd, stage):
    out = run(capfd, "inspect", "smollm2-135m", "--stage", stage, "--offline")
    word = {"graph": "FusedLinear", "plan": "matmul_q4_1", "tile": "kernel ", "llvm": "define void @"}[stage]
    assert word in out


def test_a_forced_instruction_set_is_the_one_shown(capfd):
    record = json.loads(run(capfd, "inspect", "smollm2-135m", "--isa", "portable", "--offline", "--json"))
    assert record["target"] == "portable"


def test_predict_says_what_the_file_would_take_on_the_profiled_machine(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    save_profile(SLOW_MACHINE, profile_path())
    told = json.loads(run(capfd, "predict", "smollm2-135m", "--prompt", "500", "--offline", "--json"))
    assert told["choice"] == "q4_1" and told["forms"][0]["fits"]
    # 97 MB of weights at 1 GB/s: no token can come faster.
    assert told["forms"][0]["itl"]["s_p50"] > 0.08
    text = run(capfd, "predict", "smollm2-135m", "--offline")
    assert "q4_1 *" in text and "ttft p50" in text


def test_predict_without_a_profile_says_to_probe(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code = app.run(["predict", "smollm2-135m", "--offline"])
    assert code == 1 and "isochrone probe" in capfd.readouterr().err


def _same(value):
    return PerThreads((1,), (value,))


SLOW_MACHINE = MachineProfile(
    cpu="test", isa="portable", num_cores=1, clock_hz=1e9, read_bytes_per_s=_same(1e9), caches=(), fp32=_same(1e10),
    bf16=None, int8_dot=None, int8_chain=_same(1e10), barrier_s=_same(1e-7), measured_on="2026-01-01",
)  # fmt: skip
