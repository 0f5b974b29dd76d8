"""Lengths of answers: as many routes are remembered as fit, and who was seen last stays."""

from __future__ import annotations

from isochrone.predict.lengths import NUM_ROUTES_MAX, Lengths


def test_tenants_without_end_fill_no_memory_and_who_asks_on_stays_known() -> None:
    lengths = Lengths()
    for number in range(NUM_ROUTES_MAX + 500):
        lengths.observe(f"tenant {number}", 5)
        lengths.observe("regular", 4000)
    assert len(lengths._routes) == NUM_ROUTES_MAX
    assert lengths.points("regular")[4] > 3000 > lengths.points("tenant 0")[0]
