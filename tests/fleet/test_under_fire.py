"""Two hundred callers at a real fleet, while nodes are killed, hang, are cut off and slowed, and clouds refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fleet_load import PROMPTS, figures, mixed, opened, storm, undisturbed, usual_troubles, wrong_texts
from isochrone.testing.demo.fleet import MODEL
from isochrone.weights import here

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
NUM_STREAMS, MAX_TOKENS = 200, 32


@pytest.mark.slow
async def test_every_caller_has_the_right_answer_or_a_typed_refusal(tmp_path: Path, capsys) -> None:
    if here.find(MODEL) is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")
    streams = mixed(NUM_STREAMS, PROMPTS)
    num_own = sum(stream.model == MODEL for stream in streams)
    async with opened(tmp_path) as fleet:
        right = await undisturbed(fleet, PROMPTS, MAX_TOKENS)
        took_s = await storm(fleet, streams, usual_troubles(num_own), MAX_TOKENS)
        children = [node.child for node in fleet.nodes.values()] + [child for child, _ in fleet.clouds.values()]
    found = figures(streams, took_s)
    with capsys.disabled():
        print(f"\nunder fire: {found}")
    assert [stream.untyped for stream in streams if stream.untyped] == []
    assert [(one.speaker, one.whys, one.text, right[one.prompt]) for one in wrong_texts(streams, right)] == []
    assert found["num_continued"] > 0  # the troubles came while answers ran
    assert found["num_whole"] > 0.9 * NUM_STREAMS
    assert not any(child.is_running for child in children)
