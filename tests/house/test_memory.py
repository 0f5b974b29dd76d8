"""Free memory is the machine's, or what the cgroup leaves, whichever is less."""

import pytest

from isochrone.memory import free_bytes


@pytest.fixture
def machine(tmp_path):
    def make(available_kb, **files):
        (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {available_kb} kB\n")
        for name, text in files.items():
            (tmp_path / name.replace("_", ".", 1)).write_text(text)
        return free_bytes(tmp_path / "meminfo", tmp_path)

    return make


def test_without_a_cgroup_the_machine_decides(machine):
    assert machine(2000) == 2_048_000


def test_a_cgroup_without_a_limit_changes_nothing(machine):
    assert machine(2000, memory_max="max\n", memory_current="5\n") == 2_048_000


def test_the_cgroup_leaves_its_limit_less_what_cannot_be_reclaimed(machine):
    stat = "anon 700\ninactive_file 200\nslab_reclaimable 50\n"
    assert machine(2000, memory_max="1000\n", memory_current="900\n", memory_stat=stat) == 350


def test_an_overdrawn_cgroup_leaves_nothing(machine):
    assert machine(2000, memory_max="1000\n", memory_current="1200\n") == 0


def test_this_machine_has_some():
    assert free_bytes() > 1 << 20
