"""The real model's file, where the suite can have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from isochrone.text import Tokenizer, load_tokenizer


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    from isochrone.weights import store

    path = store.find("smollm2-135m")
    if path is None:
        pytest.skip("the model is not here: run `isochrone pull smollm2-135m`")
    return path


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Tokenizer:
    return load_tokenizer(smollm2_path)
