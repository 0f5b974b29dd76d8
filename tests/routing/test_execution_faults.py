"""Any places, any faults at any instant, any caller: an answer that is the scripted text, or a typed error."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.budget import Budget
from isochrone.errors import (
    BadRequest,
    BrokenOff,
    CannotMeet,
    ContentFiltered,
    ContextTooLong,
    IsochroneError,
    Throttled,
    Unreachable,
)
from isochrone.places.place import Price, Request
from isochrone.routing.execute import Settings
from isochrone.testing.places import ScriptedPlace, Turn, scripted_error
from isochrone.testing.virtual_loop import run
from tests.routing.guiding import answer, request

MANY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = ["Über", " den", " Wol", "ken", " ", "muss", " die", "\n", "Frei", "heit"]
TEXT = "".join(WORDS)

seconds = st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5, 1.0, 4.0, 40.0])
positions = st.none() | st.integers(0, len(WORDS))
errors = st.sampled_from(
    [
        scripted_error(Unreachable),
        scripted_error(Throttled, retry_after_s=0.5),
        scripted_error(CannotMeet, retry_after_s=5.0),
        scripted_error(ContextTooLong),
        scripted_error(BadRequest),
        scripted_error(ContentFiltered),
        ValueError("a fault in the adapter"),
    ]
)
turns = st.builds(
    Turn,
    first_s=seconds,
    gap_s=st.sampled_from([0.0, 0.01, 0.1, 3.0]),
    num_empty=st.integers(0, 2),
    error=st.none() | st.none() | errors,
    die_after=positions,
    late_error=st.none() | errors,
    end_after=positions,
    stall_after=positions,
    stall_s=seconds | st.just(1e6),
    hold_every=st.integers(0, 3),
    close_s=st.sampled_from([0.0, 0.0, 0.3, 5.0]),
)
specs = st.fixed_dictionaries(
    {
        "turns": st.lists(turns, min_size=1, max_size=3),
        "same_as": st.sampled_from(["", "x", "x", "y"]),
        "abilities": st.sampled_from([("prefill",), ()]),
        "continues": st.sampled_from(["exactly", "roughly", "no"]),
        "price": st.just(Price(1.0, 2.0)),
        "counts_usage": st.booleans(),
    }
)
budgets = st.builds(
    Budget,
    ttft_s=st.none() | st.sampled_from([0.1, 0.5, 2.0]),
    itl_s=st.none() | st.sampled_from([0.02, 0.2]),
    total_s=st.none() | st.sampled_from([0.3, 3.0, 30.0]),
)


def chance(target: object, within_s: float, silent_s: float) -> float:
    return min(1.0, within_s / (0.2 + silent_s))


@MANY
@given(
    st.lists(specs, max_size=4),
    budgets,
    st.booleans(),
    st.none() | st.integers(1, len(WORDS)),
    st.none() | st.integers(1, 12),
    st.integers(0, 2),
)
def test_every_request_ends_in_the_scripted_text_or_in_a_typed_error(
    specs: list[dict], budget: Budget, is_dated: bool, max_tokens: int | None, hang_up_after: int | None,
    num_hedges: int,
) -> None:  # fmt: skip
    places = [ScriptedPlace(f"p{number}", WORDS, **spec) for number, spec in enumerate(specs)]
    asked: Request = request(max_tokens=max_tokens, dated=is_dated and budget.total_s is not None)
    had, guide = run(
        answer(
            places, asked, budget if is_dated else Budget(budget.ttft_s, budget.itl_s), chances=chance,
            num_hedges=num_hedges, hang_up_after=hang_up_after, timeout_s=2.0, settings=Settings(patience_s=120.0),
        )
    )  # fmt: skip
    wanted = "".join(WORDS[:max_tokens])
    ends = [delta for delta in had.deltas if delta.finish_reason]
    assert wanted.startswith(had.text)
    assert len(ends) <= 1 and had.num_prompted <= 1
    if had.error is not None:
        assert isinstance(had.error, IsochroneError) and not ends
        assert not had.text or isinstance(had.error, BrokenOff | BadRequest | ContentFiltered)
    elif hang_up_after is None:
        assert ends == had.deltas[-1:]
        assert had.text == wanted or ends[0].ended_by == "deadline"
        assert ends[0].ended_by is None or asked.dated
    assert sum(sent.kind == "answered" for sent in guide.began) <= 1
    assert len(guide.began) <= Settings().attempts_max
    assert all(sent.cost_usd >= 0.0 for sent in guide.began)


@MANY
@given(st.lists(turns.filter(lambda turn: turn.error is None and turn.late_error is None), min_size=1, max_size=4))
def test_equal_models_lose_nothing_whatever_befalls_them_while_one_is_well(faults: list[Turn]) -> None:
    places = [ScriptedPlace(f"p{number}", WORDS, [turn], same_as="x") for number, turn in enumerate(faults)]
    had, _ = run(answer([*places, ScriptedPlace("well", WORDS, same_as="x")], timeout_s=2.0))
    assert (had.text, had.error) == (TEXT, None)


@MANY
@given(st.lists(specs, min_size=1, max_size=3), st.floats(0.0, 3.0))
def test_a_caller_who_is_cancelled_at_any_instant_leaves_nothing_open(specs: list[dict], after_s: float) -> None:
    import asyncio

    places = [ScriptedPlace(f"p{number}", WORDS, **spec) for number, spec in enumerate(specs)]

    async def cancelled() -> None:
        caller = asyncio.ensure_future(answer(places, chances=chance, num_hedges=2, budget=Budget(ttft_s=0.5)))
        await asyncio.sleep(after_s)
        caller.cancel()
        await asyncio.wait([caller])
        await asyncio.sleep(10.0)  # whoever is slow to close has closed
        assert all(place.num_open == 0 for place in places)

    run(cancelled())
