"""Every input that a fuzzer ever failed on, and every seed, is read or refused."""

from __future__ import annotations

import pytest

from tests.fuzz import faces
from tests.fuzz.target import CORPUS
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_once_failed_fail_no_more(name: str) -> None:
    kept = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
    for content in [*TARGETS[name].seeds(), *(file.read_bytes() for file in kept)]:
        TARGETS[name].read(content)


def test_every_target_starts_from_a_true_input_and_from_nothing() -> None:
    sizes = {name: sorted(len(seed) for seed in target.seeds()) for name, target in TARGETS.items()}
    assert len(TARGETS) >= 8 and all(len(each) > 1 and each[-1] > 20 for each in sizes.values()), sizes


@pytest.mark.parametrize("name", faces.TARGETS)
def test_the_seeds_of_a_face_are_answered(name: str) -> None:
    """A seed that is refused at the door would guide the search nowhere."""
    for seed in TARGETS[name].seeds()[1:]:
        status, _, body = faces.post(faces.PATHS[name][seed[0]], seed[1:])
        assert status == 200, body
