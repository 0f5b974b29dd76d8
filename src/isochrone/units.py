"""Durations, sizes and amounts as people write them: `300ms`, `5.1 GB`, `0.002usd`.  Inside there are only numbers.

Parsing and printing happen at the edges alone (flags, settings, environment, tables).
"""

from __future__ import annotations

import re

from isochrone.errors import BadConfig

_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµμ]*)\s*")

_SECONDS: dict[str, float] = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3,
    "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
_BYTES: dict[str, int] = {
    "": 1, "b": 1,
    "k": 1000, "kb": 1000, "m": 1000**2, "mb": 1000**2, "g": 1000**3, "gb": 1000**3, "t": 1000**4, "tb": 1000**4,
    "ki": 1024, "kib": 1024, "mi": 1024**2, "mib": 1024**2,
    "gi": 1024**3, "gib": 1024**3, "ti": 1024**4, "tib": 1024**4,
}  # fmt: skip


def parse_duration(text: str) -> float:
    """Seconds in `300ms`, `1.5 s`, `2min`, `1h`.  A unit is required: nobody guesses whether 30 is s or ms.

    Raises BadConfig when the text is not a number and a unit of time.
    """
    number, unit = _split(text, "a duration", "Write a number and a unit, such as 300ms, 1.5s, 2min or 1h.")
    if unit not in _SECONDS:
        problem = f"{unit!r} is not a unit of time" if unit else "it has no unit"
        raise BadConfig(
            f"{text!r} is not a duration: {problem}.",
            fix="Write a number and a unit, such as 300ms, 1.5s, 2min or 1h.",
        )
    return number * _SECONDS[unit]


def parse_bytes(text: str) -> int:
    """Bytes in `5.1 GB`, `512 MiB`, `4096`.  GB counts in thousands, GiB in 1,024s, as the standards say.

    Raises BadConfig when the text is not a size.
    """
    number, unit = _split(text, "a size", "Write a number and a unit, such as 512MB, 5.1 GB or 2GiB.")
    factor = _BYTES.get(unit.lower())
    if factor is None:
        raise BadConfig(
            f"{text!r} is not a size: {unit!r} is not a unit of memory.",
            fix="Write a number and a unit, such as 512MB, 5.1 GB or 2GiB.",
        )
    return round(number * factor)


def parse_usd(text: str) -> float:
    """US dollars in `0.002usd`, `0.002 USD` or `$0.002`.

    Raises BadConfig when the text is not an amount in dollars.
    """
    fix = "Write a number and its currency, such as 0.002usd."
    is_marked = text.lstrip().startswith("$")
    number, unit = _split(text.replace("$", "", 1) if is_marked else text, "an amount of money", fix)
    if unit.lower() != "usd" and (unit or not is_marked):
        problem = f"{unit!r} is no currency that is known here" if unit else "it has no currency"
        raise BadConfig(f"{text!r} is not an amount of money: {problem}.", fix=fix)
    return number


def format_duration(seconds: float) -> str:
    """The shortest form that keeps three digits: `0.42 ms`, `310 ms`, `4.1 s`, `2.5 min`, `1.2 h`."""
    magnitude = abs(seconds)
    for limit, unit, factor in (
        (0.9995e-3, "µs", 1e-6), (0.9995, "ms", 1e-3), (119.95, "s", 1.0), (7197.0, "min", 60.0),
    ):  # fmt: skip
        if magnitude < limit:
            return f"{_digits(seconds / factor)} {unit}"
    return f"{_digits(seconds / 3600.0)} h"


def format_bytes(num_bytes: int) -> str:
    """Bytes in thousands, three digits: `97 MB`, `5.1 GB`."""
    magnitude = abs(num_bytes)
    for limit, unit, factor in ((1e3, "B", 1.0), (999.5e3, "kB", 1e3), (999.5e6, "MB", 1e6), (999.5e9, "GB", 1e9)):
        if magnitude < limit:
            return f"{_digits(num_bytes / factor)} {unit}"
    return f"{_digits(num_bytes / 1e12)} TB"


def format_count(number: float, unit: str = "") -> str:
    """A plain number in thousands: `135 M`, `2.1 G FLOP`."""
    for limit, prefix, factor in ((999.5, "", 1.0), (999.5e3, "k", 1e3), (999.5e6, "M", 1e6), (999.5e9, "G", 1e9)):
        if abs(number) < limit:
            return f"{_digits(number / factor)} {prefix}{unit}".rstrip()
    return f"{_digits(number / 1e12)} T{unit}"


def _split(text: str, what: str, fix: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadConfig(f"{text!r} is not {what}.", fix=fix)
    return float(match[1]), match[2]


def _digits(value: float) -> str:
    """Three significant digits, without zeros that say nothing."""
    text = f"{value:.3g}"
    return text if "e" not in text else f"{value:.0f}"
