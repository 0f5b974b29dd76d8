"""One answer out of several places, on a clock that jumps: failover, hedges, continuation, endings, hang-ups."""

from __future__ import annotations

from typing import Any

import pytest

from isochrone.budget import Budget
from isochrone.errors import (
    BadRequest,
    BrokenOff,
    CannotMeet,
    ContentFiltered,
    ContextTooLong,
    DeadlineExceeded,
    NoPlace,
    Throttled,
    Unreachable,
)
from isochrone.places.place import Format, Model, Price
from isochrone.routing.execute import Settings
from isochrone.testing.places import ScriptedPlace, Turn, scripted_error
from isochrone.testing.virtual_loop import run
from tests.routing.guiding import WORDS, Answer, FixedGuide, answer, request

TEXT = "".join(WORDS)
DOWN = Turn(error=Unreachable("Down.", fix="Wait."))


def place(name: str, *turns: Turn, **more: Any) -> ScriptedPlace:
    return ScriptedPlace(name, WORDS, turns, **more)


def go(places: list[ScriptedPlace], *args: Any, **more: Any) -> tuple[Answer, FixedGuide]:
    return run(answer(places, *args, **more))


def test_one_healthy_place_answers() -> None:
    had, guide = go([place("a")])
    assert (had.text, had.error, had.num_prompted) == (TEXT, None, 1)
    assert guide.kinds == [("a", "first", "answered")]
    assert had.deltas[-1].finish_reason == "stop"


def test_the_first_and_the_last_delta_say_the_way() -> None:
    had, _ = go([place("a")])
    routed = [at for at, delta in enumerate(had.deltas) if delta.route is not None]
    assert routed == [0, len(had.deltas) - 1]


@pytest.mark.parametrize(
    "turn",
    [
        DOWN,
        Turn(error=scripted_error(Throttled, retry_after_s=60.0)),
        Turn(error=scripted_error(CannotMeet, retry_after_s=60.0)),
        Turn(error=scripted_error(ContextTooLong)),
        Turn(error=ValueError("a fault in the adapter")),
        Turn(die_after=0),
        Turn(end_after=0),
        Turn(num_empty=3, die_after=0),
    ],
)
def test_before_the_first_words_another_place_answers_and_the_caller_sees_nothing(turn: Turn) -> None:
    had, guide = go([place("a", turn), place("b")])
    assert (had.text, had.error, had.num_prompted) == (TEXT, None, 1)
    assert [kind[:2] for kind in guide.kinds] == [("a", "first"), ("b", "failover")]
    assert guide.kinds[0][2] in ("refused", "failed") and guide.kinds[1][2] == "answered"


@pytest.mark.parametrize("kind", [BadRequest, ContentFiltered])
def test_what_no_place_would_answer_is_said_at_once(kind: Any) -> None:
    had, guide = go([place("a", Turn(error=scripted_error(kind))), place("b")])
    assert type(had.error) is kind and len(guide.began) == 1


def test_when_all_are_busy_the_caller_hears_when_the_first_will_be_free() -> None:
    busy = [Turn(error=scripted_error(Throttled, retry_after_s=seconds)) for seconds in (900.0, 300.0)]
    had, _ = go([place("a", busy[0]), place("b", DOWN), place("c", busy[1])])
    assert isinstance(had.error, Throttled) and had.error.retry_after_s == 300.0


def test_a_pause_that_a_place_asks_for_is_kept_where_it_fits_the_deadline() -> None:
    turns = [Turn(error=scripted_error(Throttled, retry_after_s=2.0)), Turn()]
    had, guide = go([place("a", *turns)], None, Budget(total_s=10.0))
    assert had.text == TEXT and guide.kinds == [("a", "first", "refused"), ("a", "retry", "answered")]
    assert 2.0 <= had.times[0] <= 2.5
    had, guide = go([place("a", *turns)], None, Budget(ttft_s=1.0, total_s=10.0))
    assert isinstance(had.error, Throttled) and len(guide.began) == 1


def test_nobody_to_ask_is_a_typed_refusal() -> None:
    had, guide = go([])
    assert isinstance(had.error, NoPlace) and guide.began == []


def test_a_place_that_is_too_slow_is_given_up_only_if_another_is_left() -> None:
    slow = Turn(first_s=50.0)
    had, guide = go([place("a", slow), place("b")], timeout_s=5.0)
    assert had.text == TEXT and guide.kinds == [("a", "first", "stalled"), ("b", "failover", "answered")]
    assert 5.0 <= had.times[0] <= 5.5
    had, guide = go([place("a", slow)], timeout_s=5.0)
    assert had.text == TEXT and had.times[0] == pytest.approx(50.0)


def test_a_place_without_an_allowance_for_retries_is_passed_over() -> None:
    had, guide = go([place("a", DOWN), place("b"), place("c")], without_retry={"b"})
    assert had.text == TEXT and [kind[0] for kind in guide.kinds] == ["a", "c"]
    had, guide = go([place("a", DOWN), place("b")], without_retry={"b"})
    assert isinstance(had.error, Unreachable) and len(guide.began) == 1


def test_attempts_are_bounded() -> None:
    had, guide = go([place(name, DOWN) for name in "abcdefgh"], settings=Settings(attempts_max=3))
    assert isinstance(had.error, Unreachable) and len(guide.began) == 3


def test_a_place_that_sends_events_without_end_and_without_a_word_is_hung_up_on() -> None:
    had, guide = go([place("a", Turn(num_empty=10_000)), place("b")])
    assert had.text == TEXT and guide.kinds == [("a", "first", "failed"), ("b", "failover", "answered")]


# hedging


def unlikely_once_silent(target: Any, within_s: float, silent_s: float) -> float:
    return 0.9 if silent_s < 0.2 and within_s > 0.1 else 0.05


def test_a_second_place_is_asked_beside_a_silent_first_and_the_loser_is_hung_up_on() -> None:
    had, guide = go(
        [place("a", Turn(first_s=30.0)), place("b")], None, Budget(ttft_s=1.0),
        chances=unlikely_once_silent, num_hedges=1,
    )  # fmt: skip
    assert had.text == TEXT and guide.kinds == [("a", "first", "hedged_out"), ("b", "hedge", "answered")]
    assert 0.2 <= had.times[0] < 0.5


def test_a_place_is_not_asked_beside_itself() -> None:
    one = place("a", Turn(first_s=3.0))
    one.models = (*one.models, Model("other", None, 0))
    _, guide = go([one], None, Budget(ttft_s=1.0), chances=unlikely_once_silent, num_hedges=1)
    assert guide.kinds == [("a", "first", "answered")]


def test_the_first_may_still_win() -> None:
    had, guide = go(
        [place("a", Turn(first_s=0.4)), place("b", Turn(first_s=5.0))], None, Budget(ttft_s=1.0),
        chances=unlikely_once_silent, num_hedges=1,
    )  # fmt: skip
    assert had.text == TEXT and guide.kinds == [("a", "first", "answered"), ("b", "hedge", "hedged_out")]


def test_the_losers_prompt_is_paid_for() -> None:
    _, guide = go(
        [place("a", Turn(first_s=30.0), price=Price(1.0, 2.0)), place("b")], None, Budget(ttft_s=1.0),
        chances=unlikely_once_silent, num_hedges=1,
    )  # fmt: skip
    assert guide.began[0].cost_usd == pytest.approx(10 * 1.0 / 1e6)


def test_without_an_allowance_or_a_stated_time_nothing_is_hedged() -> None:
    slow = Turn(first_s=3.0)
    for budget, num_hedges in [(Budget(ttft_s=1.0), 0), (Budget(), 5)]:
        _, guide = go(
            [place("a", slow), place("b")], None, budget, chances=unlikely_once_silent, num_hedges=num_hedges
        )
        assert guide.kinds == [("a", "first", "answered")]


def test_two_that_speak_at_once_give_one_answer() -> None:
    had, guide = go(
        [place("a", Turn(first_s=0.25 + 0.1)), place("b", Turn(first_s=0.1))], None, Budget(ttft_s=1.0),
        chances=lambda target, within_s, silent_s: 0.9 if silent_s < 0.25 else 0.05, num_hedges=1,
    )  # fmt: skip
    assert had.text == TEXT and sorted(kind[2] for kind in guide.kinds) == ["answered", "hedged_out"]


@pytest.mark.parametrize("refused_s", [0.0, 0.2])
def test_a_hedge_that_its_place_refuses_to_take_ends_no_answer_of_the_first(refused_s: float) -> None:
    """What the second place does not take (a field it has not, say), the first has already taken."""
    second = place("b", Turn(first_s=refused_s, error=scripted_error(BadRequest)))
    had, guide = go(
        [place("a", Turn(first_s=2.0)), second], budget=Budget(ttft_s=0.5), num_hedges=1,
        chances=lambda target, within_s, silent_s: 0.9 if target[0] == "b" else 0.0,
    )  # fmt: skip
    assert (had.text, had.error) == (TEXT, None)
    assert guide.kinds == [("a", "first", "answered"), ("b", "hedge", "refused")]


def test_what_no_place_would_answer_is_said_when_the_last_that_was_asked_has_refused_it() -> None:
    bad = Turn(first_s=1.0, error=scripted_error(BadRequest))
    had, guide = go(
        [place("a", bad), place("b", bad)], budget=Budget(ttft_s=0.5), num_hedges=1,
        chances=lambda target, within_s, silent_s: 0.9 if target[0] == "b" else 0.0,
    )  # fmt: skip
    assert isinstance(had.error, BadRequest) and len(guide.kinds) == 2


def test_a_place_that_cannot_even_be_asked_is_booked_and_passed_over() -> None:
    class Wordless(ScriptedPlace):
        def complete(self, request: Any, deadline: Any) -> Any:
            raise BadRequest("It has no words for this.", fix="Ask another.")

    had, guide = go([Wordless("a", WORDS), place("b")])
    assert (had.text, had.error) == (TEXT, None)
    assert guide.kinds == [("a", "first", "refused"), ("b", "failover", "answered")]
    had, guide = go([Wordless("a", WORDS)])
    assert isinstance(had.error, BadRequest) and guide.kinds == [("a", "first", "refused")]


def test_when_the_hedge_fails_the_first_goes_on() -> None:
    had, guide = go(
        [place("a", Turn(first_s=3.0)), place("b", DOWN)], None, Budget(ttft_s=1.0),
        chances=unlikely_once_silent, num_hedges=1,
    )  # fmt: skip
    assert had.text == TEXT and guide.kinds == [("a", "first", "answered"), ("b", "hedge", "failed")]


# after the first words

BREAKS = {
    "dies": Turn(die_after=3),
    "ends": Turn(end_after=3),
    "faults": Turn(die_after=3, late_error=ValueError("a fault")),
    "is overloaded": Turn(die_after=3, late_error=scripted_error(Throttled, retry_after_s=1.0)),
    "stalls": Turn(stall_after=3),
    "ends before its ending": Turn(end_after=6),
    "dies before its ending": Turn(die_after=6),
    "holds words back and dies": Turn(die_after=3, hold_every=3),
}


@pytest.mark.parametrize("same_as", ["x", ""])
@pytest.mark.parametrize("turn", BREAKS.values(), ids=BREAKS.keys())
def test_when_a_stream_breaks_another_place_goes_on_and_no_word_changes(turn: Turn, same_as: str) -> None:
    had, guide = go([place("a", turn, same_as=same_as), place("b", same_as=same_as)], None, Budget(itl_s=0.05))
    assert (had.text, had.error, had.num_prompted) == (TEXT, None, 1)
    assert [kind[:2] for kind in guide.kinds] == [("a", "first"), ("b", "continued")]
    assert guide.kinds[0][2] in ("failed", "stalled") and guide.kinds[1][2] == "answered"
    assert [delta.finish_reason for delta in had.deltas if delta.finish_reason] == ["stop"]


def test_equal_models_go_on_by_tokens_with_the_same_seed() -> None:
    first, second = place("a", Turn(die_after=3, hold_every=3), same_as="x"), place("b", same_as="x")
    go([first, second])
    assert first.requests[0].with_ids and first.requests[0].sampling.seed == 7
    partial = second.requests[0].partial
    assert partial is not None and partial.ids == (0, 1, 2) and partial.text == "One two"
    assert second.requests[0].sampling.seed == 7


def test_other_models_go_on_by_words_and_are_given_no_seed() -> None:
    second = place("b", same_as="")
    go([place("a", Turn(die_after=3), same_as="x"), second])
    partial = second.requests[0].partial
    assert partial is not None and partial.ids == () and partial.text == "One two three" and partial.num_tokens == 3
    assert second.requests[0].sampling.seed is None


def test_an_answer_of_which_not_all_tokens_are_known_is_gone_on_with_by_words() -> None:
    second = place("b", same_as="x")
    had, _ = go([place("a", Turn(die_after=4, ids_until=2), same_as="x"), second])
    partial = second.requests[0].partial
    assert had.text == TEXT and partial is not None and partial.ids == () and partial.text == "One two three four"


def test_a_continuation_has_no_first_words_to_be_in_time_for() -> None:
    second = place("b")
    go([place("a", Turn(die_after=3)), second], None, Budget(ttft_s=30.0, total_s=60.0))
    assert second.deadlines[0].ttft_at is None


def test_the_pause_of_a_stall_is_bounded_by_the_callers_tokens() -> None:
    had, _ = go([place("a", Turn(stall_after=3)), place("b")], None, Budget(itl_s=0.05))
    assert had.text == TEXT and had.longest_pause_s < 1.0


def test_a_stall_that_nobody_can_go_on_for_is_waited_out() -> None:
    had, guide = go([place("a", Turn(stall_after=3, stall_s=60.0)), place("b", abilities=())], None, Budget(itl_s=0.05))
    assert had.text == TEXT and guide.kinds == [("a", "first", "answered")] and had.longest_pause_s >= 60.0


def test_a_stream_that_is_silent_beyond_patience_is_given_up() -> None:
    had, guide = go([place("a", Turn(stall_after=3))])
    assert isinstance(had.error, BrokenOff) and guide.kinds == [("a", "first", "stalled")]


def test_a_chain_of_deaths_is_followed_to_the_end() -> None:
    places = [place(name, Turn(die_after=1), same_as="x") for name in "abcde"] + [place("f", same_as="x")]
    had, _ = go(places)
    assert had.text == TEXT and had.error is None


def test_a_place_that_refused_the_beginning_may_go_on_later() -> None:
    had, guide = go([place("a", Turn(error=scripted_error(ContextTooLong)), Turn()), place("b", Turn(die_after=3))])
    assert had.text == TEXT
    assert guide.kinds == [("a", "first", "refused"), ("b", "failover", "failed"), ("a", "continued", "answered")]


def test_an_answer_that_has_begun_goes_on_without_an_allowance() -> None:
    had, _ = go([place("a", Turn(die_after=2), same_as="x"), place("b", same_as="x")], without_retry={"b"})
    assert (had.text, had.error) == (TEXT, None)


def test_two_places_that_die_in_turn_go_on_with_each_others_answer() -> None:
    had, guide = go([place("a", Turn(die_after=2), Turn(), same_as="x"), place("b", Turn(die_after=2), same_as="x")])
    assert (had.text, had.error) == (TEXT, None)
    assert [kind[:2] for kind in guide.kinds] == [("a", "first"), ("b", "continued"), ("a", "continued")]


def test_a_continuation_that_fails_over_goes_on_too() -> None:
    had, guide = go([place("a", Turn(die_after=3)), place("b", DOWN), place("c")])
    assert had.text == TEXT
    assert guide.kinds == [("a", "first", "failed"), ("b", "continued", "failed"), ("c", "continued", "answered")]


@pytest.mark.parametrize(
    ("asked", "other"),
    [
        (request(), place("b", continues="no")),
        (request(), place("b", abilities=())),
        (request(n=2), place("b")),
        (request(format=Format("json_schema", "{}")), place("b")),
        (request(num_top=2), place("b")),
    ],
)
def test_what_nobody_can_go_on_with_ends_in_an_error_that_says_what_was_used(asked: Any, other: Any) -> None:
    had, guide = go([place("a", Turn(die_after=3), price=Price(1.0, 2.0)), other], asked)
    assert isinstance(had.error, BrokenOff)
    assert (had.error.num_prompt, had.error.num_answer) == (10, 3)
    assert had.error.cost_usd == pytest.approx((10 * 1.0 + 3 * 2.0) / 1e6)
    assert had.text == "One two three" and guide.kinds == [("a", "first", "failed")]


def test_who_cannot_go_on_with_these_words_leaves_it_to_the_next() -> None:
    dying, unable = place("a", Turn(die_after=2)), place("b", Turn(error=scripted_error(BadRequest)))
    had, guide = go([dying, unable, place("c")])
    assert (had.text, had.error) == (TEXT, None)
    assert [kind for _, _, kind in guide.kinds] == ["failed", "refused", "answered"]


def test_a_filter_in_the_middle_is_not_got_around() -> None:
    had, guide = go([place("a", Turn(die_after=3, late_error=scripted_error(ContentFiltered))), place("b")])
    assert isinstance(had.error, ContentFiltered) and len(guide.began) == 1


def test_an_answer_of_all_its_tokens_that_lost_only_its_ending_is_whole() -> None:
    had, guide = go([place("a", Turn(die_after=4))], request(max_tokens=4))
    assert had.text == "One two three four" and had.deltas[-1].finish_reason == "length" and had.error is None
    assert guide.kinds == [("a", "first", "failed")]


def test_a_death_after_the_ending_is_none() -> None:
    class Late(ScriptedPlace):
        async def complete(self, *args: Any) -> Any:
            async for event in super().complete(*args):
                yield event
            raise Unreachable("Too late to matter.", fix="None.")

    had, guide = go([Late("a", WORDS)])
    assert had.text == TEXT and had.error is None and guide.kinds == [("a", "first", "answered")]


def test_usage_of_a_continued_answer_counts_each_token_once() -> None:
    had, _ = go([place("a", Turn(die_after=3), same_as="x"), place("b", same_as="x", counts_usage=True)])
    usage = had.deltas[-1].usage
    assert usage is not None and (usage.num_prompt, usage.num_answer) == (10, 6)


# the caller's time, and the caller


def test_a_total_time_cuts_an_answer_that_its_place_does_not_cut() -> None:
    had, guide = go([place("a", Turn(stall_after=3))], request(dated=True), Budget(total_s=2.0))
    assert had.text == "One two three" and had.deltas[-1].ended_by == "deadline" and had.error is None
    assert had.times[-1] == pytest.approx(2.25)
    assert guide.kinds == [("a", "first", "cancelled")]


def test_a_place_that_stops_at_the_total_time_is_not_blamed_and_nobody_goes_on_for_it() -> None:
    late = scripted_error(DeadlineExceeded)
    places = [place("a", Turn(first_s=0.1, gap_s=0.5, die_after=2, late_error=late)), place("b")]
    had, guide = go(places, request(dated=True), Budget(total_s=1.0))
    assert (had.text, had.error, had.deltas[-1].ended_by) == ("One two", None, "deadline")
    assert guide.kinds == [("a", "first", "cancelled")]


def test_without_a_word_before_the_total_time_there_is_an_error() -> None:
    had, guide = go([place("a", Turn(first_s=30.0))], request(dated=True), Budget(total_s=2.0))
    assert isinstance(had.error, DeadlineExceeded) and guide.kinds == [("a", "first", "cancelled")]


def test_an_attempt_is_given_what_is_left_of_the_budget() -> None:
    second = place("b")
    first = place("a", Turn(first_s=2.0, num_empty=1, die_after=0), price=Price(100.0, 0.0))
    go([first, second], None, Budget(ttft_s=1.0, total_s=9.0, cost_usd=0.01))
    assert first.deadlines[0].ttft_at is not None and second.deadlines[0].ttft_at is None
    assert second.deadlines[0].total_at == first.deadlines[0].total_at
    assert second.deadlines[0].cost_usd == pytest.approx(0.01 - 10 * 100.0 / 1e6)


@pytest.mark.parametrize("hang_up_after", [1, 3])
def test_a_caller_who_leaves_leaves_nothing_running(hang_up_after: int) -> None:
    had, guide = go([place("a", Turn(close_s=0.5))], hang_up_after=hang_up_after)
    assert len(had.deltas) == hang_up_after and guide.kinds == [("a", "first", "cancelled")]


def test_a_loser_that_is_slow_to_close_holds_nobody_up() -> None:
    had, guide = go([place("a", Turn(first_s=50.0, close_s=300.0)), place("b")], timeout_s=1.0)
    assert had.text == TEXT and had.times[-1] < 3.0 and guide.kinds[0] == ("a", "first", "stalled")
