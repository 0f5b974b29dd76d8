"""One `isochrone up` with the real model, for clients that know nothing of it but its address."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isochrone.weights import here

NAME = "small"
CONTEXT = 2048
HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """They need an extra and minutes, so they run when they are asked for: `-m clients`."""
    return None if "clients" in config.option.markexpr else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.model)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def model_path() -> Path:
    path = here.find("smollm2-135m")
    if path is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")
    return path


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Iterator[str]:
    """Where the server listens.  It ends with the session, and must end well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ISOCHRONE_")}
    environment["ISOCHRONE_HOME"] = str(tmp_path_factory.mktemp("home"))
    command = ["up", str(model_path), "--name", NAME, "--port", "0", "--context", str(CONTEXT)]
    process = subprocess.Popen(
        [sys.executable, "-m", "isochrone.cli", *command], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines = []
    try:
        for line in process.stderr:  # it ends when the process does
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail("".join(lines))
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, "".join(lines) + said
