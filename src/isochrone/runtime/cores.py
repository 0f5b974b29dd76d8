"""How many cores this process may keep busy: its affinity, and the quotas of its cgroups (versions 1 and 2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Whole cores left by affinity and quotas, at least 1."""
    return max(1, min([len(os.sched_getaffinity(0)), *(int(share) for share in quotas(cgroup, membership))]))


def quotas(cgroup: Path, membership: Path) -> Iterator[float]:
    """The cores that each limit on the way from the process's groups up to the root allows."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return  # no /proc: nothing says that there is a limit
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            readers = [(cgroup, _unified), (cgroup / "unified", _unified)]
        elif "cpu" in controllers.split(","):
            readers = [(cgroup / name, _version_1) for name in sorted({"cpu", controllers})]
        else:
            continue
        # In a container the path may be the host's, and lead nowhere here: the root is then the container's own group.
        for root, read in readers:
            for folder in _upwards(root, path):
                share = read(folder)
                if share is not None:
                    yield share


def _upwards(root: Path, path: str) -> Iterator[Path]:
    folder = root / path.strip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _unified(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    return _share(words[0], words[1]) if len(words) == 2 else None


def _version_1(folder: Path) -> float | None:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return _share(quota[0], period[0]) if quota and period else None


def _share(quota: str, period: str) -> float | None:
    """Cores, or None where there is no limit: `max`, or -1 in version 1."""
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None
    return int(quota) / int(period)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []  # the root has no limit file, and a path of the host none at all
