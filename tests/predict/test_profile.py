"""The machine profile: what is written is read back, and what is not a profile is refused with a way out."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadConfig, NotFound
from isochrone.profile import PerThreads, check_machine, load_profile, save_profile

from .machine import PROFILE


def test_a_saved_profile_is_read_back_the_same(tmp_path):
    path = tmp_path / "deep" / "machine.json"
    save_profile(PROFILE, path)
    assert load_profile(path) == PROFILE
    assert [entry.name for entry in path.parent.iterdir()] == ["machine.json"]


def test_a_machine_without_vnni_or_bf16_has_a_profile_too(tmp_path):
    old = replace(PROFILE, isa="avx2", bf16=None, int8_dot=None)
    save_profile(old, tmp_path / "machine.json")
    assert load_profile(tmp_path / "machine.json") == old
    assert old.int8 == PROFILE.int8_chain


def test_a_missing_profile_says_which_command_makes_one(tmp_path):
    with pytest.raises(NotFound, match="isochrone probe"):
        load_profile(tmp_path / "none.json")


RECORD = json.loads(json.dumps({"schema": 1, "cpu": "x"}))
BROKEN = [
    "",
    "{",
    "[]",
    "null",
    "[" * 100_000,
    '{"schema": 2}',
    '{"schema": 1}',
    json.dumps(RECORD),
    "\x00\x01",
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_file_that_is_no_profile_is_a_typed_error(tmp_path, text):
    (tmp_path / "machine.json").write_text(text)
    with pytest.raises(BadConfig, match="isochrone probe"):
        load_profile(tmp_path / "machine.json")


KEYS = ["cpu", "num_cores", "clock_hz", "caches", "fp32", "barrier_s"]
VALUES = [None, -1e400, {}, {"threads": [2, 1], "values": [1, 2]}, {"threads": [1]}, [7]]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_one_wrong_value_is_a_typed_error(tmp_path, key, value):
    path = tmp_path / "machine.json"
    save_profile(PROFILE, path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, key: value}))
    with pytest.raises(BadConfig):
        load_profile(path)


def test_a_profile_of_another_machine_is_refused():
    assert check_machine(PROFILE, cpu="Test CPU", isa="vnni-bf16") is PROFILE
    with pytest.raises(BadConfig, match="processor"):
        check_machine(PROFILE, cpu="Other CPU", isa="vnni-bf16")
    with pytest.raises(BadConfig, match="instruction set"):
        check_machine(PROFILE, cpu="Test CPU", isa="avx2")


@given(st.integers(1, 100))
def test_a_value_between_two_measurements_lies_between_them(threads):
    measured = PerThreads((1, 2, 8), (10.0, 18.0, 60.0))
    assert 10.0 <= measured.at(threads) <= 60.0
    assert measured.at(threads) <= measured.at(threads + 1)
    assert [measured.at(n) for n in (1, 2, 5, 8)] == [10.0, 18.0, 39.0, 60.0]


def test_data_that_a_cache_holds_is_read_at_that_caches_rate():
    assert PROFILE.bandwidth(1 << 20, 1) == 105e9
    assert PROFILE.bandwidth(2 << 20, 2) == 212e9  # each thread's half is in its own L2
    assert PROFILE.bandwidth(20 << 20, 2) == 161e9
    assert PROFILE.bandwidth(97e6, 2) == 32e9
