"""Durations and sizes survive the trip to text and back, and nonsense gets a sentence and a way out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadConfig
from isochrone.units import format_bytes, format_count, format_duration, parse_bytes, parse_duration, parse_usd


@given(st.floats(1e-8, 1e6))
def test_a_duration_survives_printing_and_parsing_within_three_digits(seconds):
    assert math.isclose(parse_duration(format_duration(seconds)), seconds, rel_tol=6e-3)


@given(st.integers(0, 10**16))
def test_a_size_survives_printing_and_parsing_within_three_digits(num_bytes):
    assert math.isclose(parse_bytes(format_bytes(num_bytes)), num_bytes, rel_tol=6e-3)


@given(st.floats(0, 1e4), st.sampled_from(["ms", "s", "min", "h"]), st.sampled_from(["", " ", "  "]))
def test_spaces_between_number_and_unit_mean_nothing(number, unit, gap):
    assert parse_duration(f"{number:f}{gap}{unit}") == parse_duration(f"{number:f}{unit}")


@pytest.mark.parametrize(
    ("text", "seconds"), [("300ms", 0.3), ("1.5 s", 1.5), ("2min", 120), ("1h", 3600), ("20us", 2e-5), (".5s", 0.5)]
)
def test_durations_people_write(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("5.1 GB", 5_100_000_000), ("2GiB", 2 << 30), ("512 MB", 512_000_000), ("4096", 4096), ("1k", 1000)],
)
def test_sizes_people_write(text, num_bytes):
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize("text", ["", "fast", "30", "-3s", "1 parsec", "1e3s", "nan s", "3 s s"])
def test_what_is_no_duration_is_named_with_a_way_out(text):
    with pytest.raises(BadConfig) as caught:
        parse_duration(text)
    assert repr(text) in caught.value.message and "300ms" in caught.value.fix


@pytest.mark.parametrize("text", ["", "much", "-1 GB", "5 parsecs"])
def test_what_is_no_size_is_named_with_a_way_out(text):
    with pytest.raises(BadConfig) as caught:
        parse_bytes(text)
    assert repr(text) in caught.value.message and "GB" in caught.value.fix


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00042, "420 µs"), (0.31, "310 ms"), (4.1, "4.1 s"), (0.9999, "1 s"), (150, "2.5 min")]
)
def test_durations_are_short(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(98_362_432, "98.4 MB"), (5_100_000_000, "5.1 GB"), (17, "17 B"), (999_999, "1 MB")]
)
def test_sizes_are_short(num_bytes, text):
    assert format_bytes(num_bytes) == text


def test_counts_carry_a_prefix():
    assert format_count(134_515_008) == "135 M"
    assert format_count(2.1e9, "FLOP") == "2.1 GFLOP"


@pytest.mark.parametrize("text", ["0.002usd", "0.002 USD", "$0.002", " $ .002 "])
def test_an_amount_of_money_names_its_currency(text):
    assert parse_usd(text) == pytest.approx(0.002)


@pytest.mark.parametrize("text", ["0.002", "2 eur", "$2 eur", "usd", "-1usd", "$$1"])
def test_what_is_no_amount_in_dollars_says_what_to_write(text):
    with pytest.raises(BadConfig) as caught:
        parse_usd(text)
    assert "0.002usd" in caught.value.fix
