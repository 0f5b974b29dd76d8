"""The fleet files in the manual are ones that a gateway takes, and build the places that they describe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from isochrone.places import located
from isochrone.routing.fleet import parse_fleet

PAGE = Path(__file__).parents[2] / "docs/how-to/fleet.md"
FILES = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("text", FILES, ids=[text.splitlines()[1] for text in FILES])
def test_a_fleet_file_in_the_manual_is_valid(text: str, tmp_path: Path) -> None:
    found = parse_fleet(tmp_path, located.parse(text, "fleet.toml"))
    assert found.places and all(spec.kind in PAGE.read_text() for spec in found.places)


def test_the_manual_shows_both_clouds_and_how_nodes_join() -> None:
    kinds = {spec.kind for text in FILES for spec in parse_fleet(PAGE.parent, located.parse(text, "f")).places}
    assert {"openai", "bedrock", "vertex", "gemini"} <= kinds
    assert any("token_env" in text for text in FILES)
