"""The probe: its kernels do what they are priced for, and a profile of this machine can be made with every target."""

import ctypes
import os

import numpy as np
import pytest

from isochrone.compiler.isa import TARGETS, available_targets
from isochrone.errors import Unsupported
from isochrone.profile import load_profile, save_profile
from isochrone.runtime import probe
from isochrone.runtime.probe_kernels import NUM_CLOCK_STEPS, build_probe_kernels

QUICK = probe.Limits(round_s=1e-4, num_rounds=1, memory_bytes=4 << 20)
AVAILABLE = available_targets()


@pytest.fixture(params=[target.name for target in AVAILABLE])
def prober(request):
    with probe.Prober(TARGETS[request.param], sorted(os.sched_getaffinity(0)), QUICK) as prober:
        yield prober


def call(prober, name, data, size=0, num_items=1):
    result = np.zeros(64 * 16, np.uint8)
    table = np.array([data.ctypes.data, result.ctypes.data, size], np.uint64)
    prober.function(name)(0, table.ctypes.data, 0, num_items, 0)
    return result


def test_the_read_kernel_touches_every_byte_once(prober):
    words = np.random.default_rng(1).integers(-1000, 1000, 8192, np.int32)
    sums = call(prober, "read", words, size=words.nbytes, num_items=3).view(np.int32)
    lanes = sums.reshape(16, 16)[:8, : prober.target.lanes]
    assert lanes.sum() == 3 * words.sum()


def test_the_clock_kernel_is_one_chain_of_dependent_steps(prober):
    data = np.array([3, 0x55, 7], np.uint64)
    value = 7
    for _ in range(5 * NUM_CLOCK_STEPS // 2):
        value = (value + 3) ^ 0x55
    assert call(prober, "clock", data, num_items=5).view(np.uint64)[0] == value


def test_the_fp32_kernel_multiplies_and_adds_in_every_chain(prober):
    data = np.full(512, 1.5, np.float32)
    chains = call(prober, "fp32", data, num_items=2).view(np.float32).reshape(16, 16)
    assert (chains[:12, : prober.target.lanes] == (1.5 * 1.5 + 1.5) * 1.5 + 1.5).all()


def test_the_int8_kernels_count_the_products_they_are_priced_for(prober):
    if "int8_chain" in prober.kernels:
        data = np.full(4096, 2, np.uint8)
        sums = call(prober, "int8_chain", data, num_items=3).view(np.int32)
        assert sums.sum() == 3 * 4 * prober.kernels["int8_chain"].num_operations // 2
    if "int8_dot" in prober.kernels:
        start, data = 0x02020202, np.full(4096, 2, np.uint8)
        sums = call(prober, "int8_dot", data, num_items=3).view(np.int32).reshape(16, 16)
        assert (sums[:12] == start + 3 * 4 * 4).all()


def test_every_thread_crosses_every_barrier(prober):
    counter, threads = np.zeros(8, np.int64), len(prober.cpus)
    table = np.array([counter.ctypes.data, 0, threads], np.uint64)
    prober.seconds(prober.function("barrier"), [table.ctypes.data] * threads, 20)
    assert counter[0] == 20 * threads


@pytest.mark.parametrize("name", [target.name for target in AVAILABLE])
def test_a_profile_is_made_for_every_instruction_set_of_this_machine(name, tmp_path):
    target, told = TARGETS[name], []
    profile = probe.measure_machine(target, measured_on="2026-11-24", limits=QUICK, progress=told.append)
    assert profile.isa == name
    assert profile.clock_hz > 0 and profile.fp32.at(1) > 0 and profile.read_bytes_per_s.at(1) > 0
    assert (profile.int8_dot is not None) == (target.dot == "vnni")
    assert (profile.bf16 is not None) == target.bf16_dot
    assert told == ["arithmetic", "barrier", "caches and memory"]
    save_profile(profile, tmp_path / "machine.json")
    assert load_profile(tmp_path / "machine.json") == profile


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_no_probe_kernel_spills_a_register(target):
    from isochrone.compiler.codegen import count_spills, emit_assembly
    from isochrone.compiler.llvm import print_module

    kernels = [made.kernel for made in build_probe_kernels(target).values()]
    text = print_module(kernels, triple=target.triple, features=target.features, cpu=target.cpu)
    assert count_spills(emit_assembly(text, target)) == 0


def test_the_int8_chain_is_the_instruction_mix_it_claims():
    from isochrone.compiler.codegen import emit_assembly
    from isochrone.compiler.llvm import print_module

    target = TARGETS["avx2"]
    kernel = build_probe_kernels(target)["int8_chain"].kernel
    text = emit_assembly(
        print_module([kernel], triple=target.triple, features=target.features, cpu=target.cpu), target
    )
    counts = [text.count(name) for name in ("vpmaddubsw", "vpaddw", "vpmaddwd", "vpaddd")]
    assert counts == [16, 14, 2, 2]  # two chains of 8, 7, 1, 1


def describe_cache(root, index, level, kind, size, shared):
    directory = root / "cache" / f"index{index}"
    directory.mkdir(parents=True)
    for name, value in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
        (directory / name).write_text(f"{value}\n")


def test_caches_are_read_from_the_kernels_description(tmp_path):
    describe_cache(tmp_path, 3, 3, "Unified", "32768K", "0-7")
    describe_cache(tmp_path, 0, 1, "Data", "32K", "0,4")
    describe_cache(tmp_path, 1, 1, "Instruction", "32K", "0,4")
    describe_cache(tmp_path, 2, 2, "Unified", "1M", "0,4")
    (tmp_path / "topology").mkdir()
    (tmp_path / "topology" / "thread_siblings_list").write_text("0,4\n")
    assert probe.read_caches(tmp_path) == (
        probe.Cache("L1", 32 << 10, False),
        probe.Cache("L2", 1 << 20, False),
        probe.Cache("L3", 32 << 20, True),
    )
    assert probe.read_caches(tmp_path / "nothing") == ()


def test_thread_counts_double_and_end_with_all_cores():
    assert [probe.thread_counts(n) for n in (1, 2, 6, 8)] == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]


def test_too_little_free_memory_is_said_and_not_measured():
    with pytest.raises(Unsupported, match="too few"):
        probe.memory_bytes(1 << 50)


def test_loaded_kernels_are_a_library_that_imports_nothing():
    target = AVAILABLE[0]
    assert isinstance(probe.load_kernels(target, build_probe_kernels(target)), ctypes.CDLL)
