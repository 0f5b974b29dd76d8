"""Every input that a fuzzer ever failed on, and every seed, is read or refused."""

from __future__ import annotations

import pytest

from isochrone.errors import BadModel
from tests.fuzz import gguf, safetensors
from tests.fuzz.target import CORPUS

TARGETS = {"gguf": gguf, "safetensors": safetensors}


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_once_failed_fail_no_more(tmp_path, name):
    kept = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
    for number, content in enumerate([*TARGETS[name].seeds(), *(file.read_bytes() for file in kept)]):
        path = tmp_path / f"{number}.{name}"
        path.write_bytes(content)
        try:
            TARGETS[name].read(path)
        except BadModel as error:
            assert error.fix
