"""Stop strings end a text where they begin, and no part of one is ever shown."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.errors import BadRequest
from isochrone.text import StopStrings

LETTERS = st.text("ab", min_size=0, max_size=24)
STOPS = st.lists(st.text("ab", min_size=1, max_size=6), max_size=4)


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The definition: look at every prefix of the text; the first that ends in a stop string ends the text."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


def streamed(text: str, stops: list[str], cuts: list[int]) -> tuple[list[str], StopStrings]:
    matcher = StopStrings(stops)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    shown = [matcher.push(text[start:stop])[0] for start, stop in pairwise(edges)]
    return shown, matcher


@settings(max_examples=1000, deadline=None)
@given(LETTERS, STOPS, st.lists(st.integers(0, 24), max_size=24))
def test_a_text_split_anyhow_ends_where_the_first_stop_string_begins(text, stops, cuts):
    shown, matcher = streamed(text, stops, cuts)
    assert ("".join(shown) + matcher.finish(), matcher.hit) == expected(text, stops)


@settings(max_examples=1000, deadline=None)
@given(LETTERS, STOPS, LETTERS)
def test_what_is_shown_stands_whatever_comes_next(text, stops, later):
    matcher = StopStrings(stops)
    shown, _ = matcher.push(text)
    assert expected(text + later, stops)[0].startswith(shown)


@settings(max_examples=300, deadline=None)
@given(LETTERS, STOPS)
def test_nothing_is_held_back_that_cannot_begin_a_stop_string(text, stops):
    matcher = StopStrings(stops)
    shown, hit = matcher.push(text)
    if not hit:
        held = text[len(shown) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_after_a_find_nothing_more_is_shown():
    matcher = StopStrings(["END"])
    assert matcher.push("one EN") == ("one ", False)
    assert matcher.push("D two") == ("", True)
    assert matcher.push("three") == ("", True)
    assert (matcher.finish(), matcher.hit) == ("", "END")


def test_an_empty_stop_string_is_refused():
    with pytest.raises(BadRequest) as refusal:
        StopStrings(["a", ""])
    assert refusal.value.param == "stop"
