"""The prices that we ship are those of the table that they name."""

import json
from importlib import metadata, util
from pathlib import Path

import pytest

from isochrone.places.catalogue import load

pytestmark = pytest.mark.clients


def of_litellm():
    """The table that the prices say they were read in; None where another version is installed, or none."""
    found = util.find_spec("litellm")
    if found is None or found.origin is None or metadata.version("litellm") != "1.110.2":
        return None
    return json.loads((Path(found.origin).parent / "model_prices_and_context_window_backup.json").read_text())


def test_prices_are_those_of_the_table_that_they_name():
    table = of_litellm()
    if table is None:
        pytest.skip("needs litellm 1.110.2, in whose table the prices were read")
    priced = [entry for entry in load().entries if entry.price is not None]
    assert len(priced) > 20
    for entry in priced:
        theirs = next(table[name] for name in entry.names if name in table)
        read = [theirs.get(f"{kind}_cost_per_token") for kind in ("input", "output")]
        ours = [entry.price.prompt_usd_per_million, entry.price.completion_usd_per_million]
        cached = entry.price.cached_prompt_usd_per_million
        if cached is not None:
            ours, read = [*ours, cached], [*read, theirs["cache_read_input_token_cost"]]
        assert ours == pytest.approx([usd * 1e6 for usd in read]), entry.names
        profile = table.get(f"us.{entry.names[0]}")
        if profile is not None:
            factor = profile["input_cost_per_token"] / theirs["input_cost_per_token"]
            assert entry.profile_factor == pytest.approx(factor), entry.names
