"""Packed copies: made once whoever starts first, whole or absent, and gone when room is needed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.errors import BadModel
from isochrone.weights.packed import list_packed, open_or_pack, open_packed, packed_path

SIZES = {"a": 5000, "b": 64, "empty": 0}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path))
    return tmp_path


def fill(tensors):
    for number, array in enumerate(tensors.values(), 1):
        array[:] = number


def make(plan="plan", model="m"):
    return open_or_pack(packed_path("print", plan), {"model": model, "layers": 3}, SIZES, fill)


def test_a_copy_is_made_once_and_then_mapped():
    first = make()
    second = open_or_pack(packed_path("print", "plan"), {}, SIZES, lambda tensors: pytest.fail("packed twice"))
    for found in (first, second):
        assert found.about == {"model": "m", "layers": 3}
        assert {name: len(array) for name, array in found.tensors.items()} == SIZES
        assert (found.tensors["a"] == 1).all()
        assert (found.tensors["b"] == 2).all()
        assert found.problem is None
    with pytest.raises(ValueError, match="read-only"):
        second.tensors["a"][0] = 0


def test_every_tensor_starts_on_a_page():
    found = make()
    starts = [array.ctypes.data % 4096 for name, array in found.tensors.items() if name != "empty"]
    assert starts == [0, 0]


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 400), byte=st.integers(0, 255), cut=st.integers(0, 13_000))
def test_a_damaged_copy_is_absent_or_whole_and_never_an_error(at, byte, cut):
    path = packed_path("print", "damaged")
    whole = open_or_pack(path, {"model": "m"}, SIZES, fill)
    assert whole.mapped is not None
    content = bytearray(whole.mapped.data.tobytes())
    content[at] = byte
    path.unlink()
    path.write_bytes(bytes(content[: len(content) - cut]))
    found = open_packed(path)
    if found is not None:
        assert all(isinstance(array, np.ndarray) for array in found.tensors.values())
    path.unlink(missing_ok=True)


def test_a_damaged_copy_is_made_again():
    path = packed_path("print", "plan")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"ISOPACK1 and then something else")
    assert (make().tensors["a"] == 1).all()


def test_packing_that_fails_leaves_nothing_behind(home):
    def fails(tensors):
        raise BadModel("no.", fix="none.")

    with pytest.raises(BadModel):
        open_or_pack(packed_path("print", "plan"), {}, SIZES, fails)
    assert [file.name for file in (home / "cache" / "packed").iterdir()] == ["print-plan.lock"]


def test_the_parts_of_a_killed_process_are_swept(home):
    folder = home / "cache" / "packed"
    folder.mkdir(parents=True)
    (folder / ".print-plan.x.part").touch()
    make()
    assert sorted(file.name for file in folder.iterdir()) == ["print-plan.lock", "print-plan.packed"]


def test_where_nothing_can_be_kept_the_copy_lies_in_memory_and_says_why(home):
    (home / "cache").write_text("in the way")
    found = make()
    assert found.mapped is None
    assert "cannot keep packed weights" in found.problem
    assert (found.tensors["b"] == 2).all()


def test_two_processes_at_once_pack_once(home):
    code = (
        "import sys; from isochrone.weights.packed import open_or_pack, packed_path\n"
        "def fill(tensors):\n"
        "    print('packed', flush=True); sys.stdin.readline(); tensors['a'][:] = 9\n"
        "found = open_or_pack(packed_path('print', 'two'), {}, {'a': 100}, fill)\n"
        "assert (found.tensors['a'] == 9).all(); print('open', flush=True)"
    )
    start = [sys.executable, "-c", code]
    pipes = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
        "env": {**os.environ, "PYTHONPATH": "src"},
    }
    with subprocess.Popen(start, **pipes) as first:
        assert first.stdout.readline() == "packed\n"
        with subprocess.Popen(start, **pipes) as second:
            first.stdin.write("go\n")
            first.stdin.flush()
            assert first.stdout.readline() == "open\n"
            assert second.stdout.readline() == "open\n"


def test_copies_are_listed_latest_used_first():
    for number, plan in enumerate(["old", "middle", "new"]):
        make(plan, model=plan)
        os.utime(packed_path("print", plan), (number, number))
    assert [copy.model for copy in list_packed()] == ["new", "middle", "old"]
    open_packed(packed_path("print", "old"))
    assert [copy.model for copy in list_packed()] == ["old", "new", "middle"]
