"""The cache and its limit: everything that can be made again counts, and what was used longest ago goes first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.weights.cached import KINDS, CachedFile, cached_files, choose_evicted, evict


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """One file of 100 bytes of every kind, used one after the other."""
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path))
    made = {}
    for number, (kind, pattern) in enumerate(KINDS.items(), 1):
        made[kind] = tmp_path / "cache" / kind / pattern.replace("*", "x")
        made[kind].parent.mkdir(parents=True)
        made[kind].write_bytes(bytes(100))
        os.utime(made[kind], (number, number))
    return made


def test_every_kind_counts_and_the_oldest_goes_first(cache):
    assert [file.path for file in cached_files()] == list(reversed(cache.values()))
    assert evict(400) == []
    gone = evict(299, keep=frozenset({cache["packed"]}))
    assert [file.path for file in gone] == [cache["kernels"], cache["tokenizers"]]
    assert cache["packed"].exists() and cache["facts"].exists()


def test_a_lock_or_a_file_that_is_being_made_is_no_file_to_evict(cache):
    for name in (".x.part", "x.lock"):
        (cache["packed"].parent / name).touch()
    assert len(evict(0)) == len(KINDS)
    assert {file.name for file in cache["packed"].parent.iterdir()} == {".x.part", "x.lock"}


files = st.lists(st.builds(CachedFile, st.builds(Path), st.integers(0, 99), st.floats(0, 9)))


@given(files, st.integers(0, 300))
def test_eviction_fits_the_limit_and_takes_no_more_than_it_must(found, limit):
    evicted = choose_evicted(found, limit)
    rest = sum(file.num_bytes for file in found) - sum(file.num_bytes for file in evicted)
    assert rest <= limit
    assert not evicted or rest + evicted[-1].num_bytes > limit
