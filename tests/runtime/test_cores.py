"""Cores that may be used are those of the affinity, less what cgroups of either version forbid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isochrone.runtime.cores import quotas, usable_cores


def files(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "texts", "expected"),
    [
        ("0::/\n", {}, []),
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"}, [4.0]),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "50000 100000\n"}, [0.5, 4.0]),
        ("0::/host/path/that/is/not/here\n", {"cpu.max": "200000 100000\n"}, [2.0]),
        ("3:cpu,cpuacct:/d\n2:memory:/d\n", {"cpu,cpuacct/d/cpu.cfs_quota_us": "300000\n",
         "cpu,cpuacct/d/cpu.cfs_period_us": "100000\n"}, [3.0]),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "50000\n"}, [5.0]),
        ("0::/\n", {"cpu.max": "rubbish\n"}, []),
        ("0::/\n", {"cpu.max": "100000 0\n"}, []),
    ],
)  # fmt: skip
def test_quotas_are_read_up_to_the_root(
    tmp_path: Path, membership: str, texts: dict[str, str], expected: list[float]
) -> None:
    (tmp_path / "membership").write_text(membership)
    root = files(tmp_path / "cgroup", texts)
    assert list(quotas(root, tmp_path / "membership")) == expected


def test_at_least_one_core_is_left_and_never_more_than_the_affinity(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("0::/\n")
    for quota, expected in (("1000", 1), ("100000000", len(os.sched_getaffinity(0)))):
        root = files(tmp_path / "cgroup", {"cpu.max": f"{quota} 100000\n"})
        assert usable_cores(root, tmp_path / "membership") == expected


def test_without_proc_only_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "none") == len(os.sched_getaffinity(0))
