"""Whose fault an error is, which decides whether another place is asked and whether this one is avoided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from isochrone.errors import (
    BadGrammar,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    DeadlineExceeded,
    IsochroneError,
    NotAllowed,
    NotFound,
    Overloaded,
    SpendingLimit,
    Unreachable,
    Unsupported,
)
from isochrone.routing.records import Target

Blame: TypeAlias = Literal["request", "elsewhere", "busy", "place"]
"""`request`: no place would answer it.  `elsewhere`: this place cannot, another may, and neither is at fault.
`busy`: the place takes no more for now.  `place`: it failed."""


def blame(error: IsochroneError) -> Blame:
    """Whose fault it is."""
    match error:
        case Overloaded():
            return "busy"
        case BadGrammar() | ContextTooLong() | NotFound() | Unsupported() | DeadlineExceeded():
            return "elsewhere"
        case BadRequest() | ContentFiltered() | NotAllowed() | SpendingLimit():
            return "request"
        case _:
            return "place"


def typed(error: Exception, target: Target) -> IsochroneError:
    """The error itself, or what a fault in the code of a place comes to for the request."""
    if isinstance(error, IsochroneError):
        return error
    fault = Unreachable(
        f"The place {target[0]} failed on this request ({type(error).__name__}).",
        fix="Ask again; when it goes on, report it with the log lines of this request.",
    )
    fault.__cause__ = error
    return fault


def broken_off(target: Target) -> Unreachable:
    """A stream that ended without an ending."""
    return Unreachable(
        f"The place {target[0]} ended its answer in the middle.", fix="Ask again, or look at that place's log."
    )


def silent(target: Target, seconds: float) -> Unreachable:
    """A stream that nothing comes from."""
    return Unreachable(
        f"The place {target[0]} said nothing for {seconds:.1f} s.", fix="Ask again, or look at that place's log."
    )


_TELLING: tuple[Blame, ...] = ("request", "busy", "elsewhere", "place")


def most_telling(errors: Sequence[IsochroneError]) -> IsochroneError:
    """Of several places' errors the one that helps the caller most: of busy places, that of the first to be free."""

    def rank(error: IsochroneError) -> tuple[int, float]:
        wait_s = error.retry_after_s if isinstance(error, Overloaded) else 0.0
        return _TELLING.index(blame(error)), wait_s

    return min(errors, key=rank)
