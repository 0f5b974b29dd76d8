"""A PostgreSQL of the system, for tests and benchmarks: its files and its socket in a directory of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SETTINGS = {
    "listen_addresses": "", "fsync": "off", "shared_buffers": "16MB", "max_connections": "60",
    "autovacuum": "off", "max_wal_size": "256MB",
}  # fmt: skip
"""fsync off: tests kill processes, and no machine; a benchmark turns it on."""
START_S = 60
MISSING = "There is no PostgreSQL under /usr/lib/postgresql. Run: apt-get install -y postgresql"


def binaries() -> Path | None:
    """Where Debian's PostgreSQL keeps its programs, the newest; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def running(programs: Path, settings: dict[str, str] | None = None) -> Iterator[str]:
    """A server with one empty database; its URL.  Its user is `isochrone`, whoever runs it."""
    directory = Path(tempfile.mkdtemp(prefix="isochrone-pg-"))  # short: a socket's path has at most 107 bytes
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres")
        quietly(programs / "initdb", "-D", directory / "data", "-U", "isochrone", "-A", "trust", "-E", "UTF8", "-N",
                "--locale=C")  # fmt: skip
        server = Server(programs, directory, SETTINGS | (settings or {}))
        server.start()
        try:
            yield server.url
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Server:
    """One whose files are made."""

    def __init__(self, programs: Path, directory: Path, settings: dict[str, str]) -> None:
        self._programs, self._directory, self._settings = programs, directory, settings
        self.url = f"postgresql://isochrone@/postgres?host={directory}"

    def start(self) -> None:
        """Returns when it takes connections."""
        words = " ".join(f"-c {key}='{value}'" for key, value in self._settings.items())
        quietly(
            self._programs / "pg_ctl", "-D", self._directory / "data", "-l", self._directory / "log", "-w",
            "-t", START_S, "-o", f"-k {self._directory} {words}", "start",
        )  # fmt: skip

    def stop(self) -> None:
        """At once, connections and all."""
        quietly(self._programs / "pg_ctl", "-D", self._directory / "data", "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """kill -9 of its first process; the others end by themselves."""
        os.kill(int((self._directory / "data" / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)


def quietly(*words: object) -> None:
    """Run one of PostgreSQL's programs, which refuse to run as root."""
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    done = subprocess.run(
        [str(word) for word in words], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, **as_user,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed: {done.stderr.strip()}")
