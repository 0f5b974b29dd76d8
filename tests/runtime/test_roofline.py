"""The roofline: well-formed, every ceiling and kernel on it, nothing outside the picture."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from isochrone.runtime.roofline import HEIGHT, WIDTH, KernelPoint, draw_roofline, print_roofline, share_of_limit

_spec = importlib.util.spec_from_file_location("machine", Path(__file__).parents[1] / "predict" / "machine.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
PROFILE = _module.PROFILE

POINTS = [
    KernelPoint("gate_up <q4_1> & decode", 7.08e6, 2.2e6, 7.6e-5, "int8"),
    KernelPoint("gate_up prefill 512", 3.6e9, 2.2e6, 5.2e-3, "int8"),
    KernelPoint("attend at depth 2000", 1e6, 3e5, 2e-5, "bf16"),
]


def test_a_kernel_is_held_against_the_lower_of_memory_and_unit():
    reading = KernelPoint("reads", num_operations=1e9, read_bytes=1e9, seconds=1 / 16, unit="int8")
    assert share_of_limit(reading, PROFILE, 2) == pytest.approx(0.5)  # 16 of 32 GB/s
    counting = KernelPoint("counts", num_operations=918e9, read_bytes=1e6, seconds=2.0, unit="int8")
    assert share_of_limit(counting, PROFILE, 2) == pytest.approx(0.5)


@pytest.mark.parametrize("profile", [PROFILE, replace(PROFILE, isa="avx2", bf16=None, int8_dot=None, caches=())])
@pytest.mark.parametrize("points", [POINTS, POINTS * 12, []], ids=len)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_picture_is_well_formed_and_nothing_lies_outside(profile, points, threads):
    root = ElementTree.fromstring(draw_roofline(profile, points, threads=threads))
    for element in root.iter():
        for name, limit in (("x", WIDTH), ("x1", WIDTH), ("x2", WIDTH), ("cx", WIDTH),
                            ("y", HEIGHT), ("y1", HEIGHT), ("y2", HEIGHT), ("cy", HEIGHT)):  # fmt: skip
            assert 0 <= float(element.get(name, 0)) <= limit, ElementTree.tostring(element)
    text = " ".join(root.itertext())
    assert "DRAM read" in text and "fp32 FMA" in text
    assert ("vpdpbusd" in text) == (profile.int8_dot is not None)
    assert all(point.name in text for point in points)


def test_the_picture_follows_the_readers_colour_scheme():
    assert "prefers-color-scheme: dark" in draw_roofline(PROFILE, POINTS, threads=2)


def test_the_table_gives_rates_per_second_and_per_clock():
    table = print_roofline(PROFILE, POINTS, threads=2)
    row = next(line for line in table.splitlines() if line.startswith("int8 vpdpbusd"))
    assert row.split()[-2:] == ["918.0", "127.5"]
    assert "gate_up prefill 512" in table and "barrier" in table
