"""One home for what these tests compile and pack, so that a kernel library is built once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isochrone.weights import store


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    path = store.find("smollm2-135m")
    if path is None:
        pytest.skip("the model is not here: run `isochrone pull smollm2-135m`")
    return path


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def home(shared_home: Path) -> Iterator[Path]:
    """ISOCHRONE_HOME while a module's tests run; the session's tests share it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOCHRONE_HOME", str(shared_home))
        patch.delenv("ISOCHRONE_ISA", raising=False)
        yield shared_home
