"""The order in which a worker reads what the host may already be writing for the next step."""

from __future__ import annotations

import re

from isochrone.compiler.driver import driver_text


def body_of(function: str) -> str:
    found = re.search(rf"define \w* ?\w+ @{function}\(.*?\n}}", driver_text(), re.DOTALL)
    assert found, function
    return found[0]


def test_a_worker_reads_the_number_of_logit_rows_before_its_first_region() -> None:
    # After the last barrier of a step the host writes the next one's: a late worker that read it then ran its panels.
    run = body_of("run")
    count_read_at, first_region_at = run.index("%total = load"), run.index("@run_segment")
    assert count_read_at < first_region_at
    assert run.count("%total = load") == 1
