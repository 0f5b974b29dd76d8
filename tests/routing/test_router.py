"""Many places as one: chosen by prediction, kept by execution, and everything that happened told and learned."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isochrone.budget import Budget, Deadline
from isochrone.errors import ContextTooLong, IsochroneError, NoPlace, NotFound, Throttled, Unreachable, Unsupported
from isochrone.places.place import Chat, Load, Message, Pace, Price, Prompted, Request, Tool
from isochrone.places.route import Route
from isochrone.predict.blackbox import Prior
from isochrone.routing.breaker import Answered, Failed
from isochrone.routing.execute import Sent, Settings
from isochrone.routing.execute.exchange import Tally
from isochrone.routing.journal import Routed
from isochrone.routing.members import FixedFleet, FixedMember
from isochrone.routing.outlook import Outlook
from isochrone.routing.records import Outcome
from isochrone.routing.router import Router
from isochrone.routing.runs import Past, Runs
from isochrone.routing.traffic import Traffic
from isochrone.testing.places import ScriptedPlace, Turn, scripted_error
from isochrone.testing.virtual_loop import now, run
from tests.routing.guiding import WORDS, Answer, request

TEXT = "".join(WORDS)
DOWN = Turn(error=Unreachable("Down.", fix="Wait."))


class Kept(list[Routed]):
    """Fulfils `Journal`."""

    def record(self, routed: Routed) -> None:
        self.append(routed)


class Listening(Outlook):
    """Keeps the outcomes that it learns from."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[Outcome] = []

    def observe(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        super().observe(outcome)


def place(name: str, *turns: Turn, **more: Any) -> ScriptedPlace:
    return ScriptedPlace(name, WORDS, turns, **more)


def router_of(*places: Any, routes: Any = None, seed: int = 1, **more: Any) -> Router:
    return Router(
        FixedFleet(places, routes), Listening(), journal=Kept(), clock=now, random=random.Random(seed), **more
    )


async def ask(router: Router, asked: Request | None = None, budget: Budget | None = None, **more: Any) -> Answer:
    had = Answer()
    at = now()
    try:
        async with aclosing(router.complete(asked or request(), Deadline.start(budget or Budget(), at, **more))) as all:
            async for event in all:
                if isinstance(event, Prompted):
                    had.num_prompted += 1
                    continue
                had.text += event.text
                had.deltas.append(event)
                had.times.append(now() - at)
    except IsochroneError as error:
        had.error = error
    return had


def way(had: Answer) -> Route:
    """What the last delta says."""
    route = had.deltas[-1].route
    assert route is not None
    return route


def expect_nothing_in_flight(router: Router, *places: ScriptedPlace) -> None:
    for one in places:
        assert one.num_open == 0 and router.traffic.at_place(one.name) == 0
        assert router.traffic.at((one.name, "m")).num_silent == 0


def test_the_answer_says_where_it_comes_from_what_was_expected_and_what_it_cost() -> None:
    async def main() -> None:
        router = router_of(place("a", price=Price(1.0, 2.0)))
        had = await ask(router, request(dated=True), Budget(total_s=10.0, cost_usd=0.5))
        assert had.text == TEXT
        first, last = had.deltas[0].route, way(had)
        assert first is not None and first.attempts[0].kind == ""
        assert first.predicted_ttft_s is not None and last.p_within is not None
        assert last.cost_usd == pytest.approx((10 * 1.0 + 6 * 2.0) / 1e6)
        assert last.left_usd == pytest.approx(0.5 - last.cost_usd)
        assert last.left_s == pytest.approx(10.0 - had.times[-1])
        assert (last.place, last.model, last.num_hedges) == ("a", "m", 0)

    run(main())


def test_a_failover_is_told_and_learned_and_recorded_once() -> None:
    async def main() -> None:
        places = [place("a", DOWN), place("b", DOWN), place("c")]
        router = router_of(*places)
        had = await ask(router)
        assert had.text == TEXT
        route = way(had)
        assert route.place == "c" or len(route.attempts) == 1
        kinds = {attempt.place: attempt.kind for attempt in route.attempts if attempt.kind}
        assert all(kinds[name] == "failed" for name in kinds)
        outcomes = router.outlook.outcomes  # type: ignore[attr-defined]
        assert [outcome.target[0] for outcome in outcomes] == [attempt.place for attempt in route.attempts]
        (kept,) = router._journal  # type: ignore[misc, union-attr]
        assert [attempt.kind for attempt in kept.attempts] == [*["failed"] * (len(outcomes) - 1), "answered"]
        assert kept.decision.chosen is not None and {row.place for row in kept.decision.rows} == {"a", "b", "c"}
        expect_nothing_in_flight(router, *places)

    run(main())


def test_a_place_that_fails_is_let_alone_and_tried_again_later() -> None:
    async def main() -> None:
        ill = place("a", DOWN, DOWN, DOWN, Turn())
        router = router_of(ill)
        for _ in range(3):
            assert isinstance((await ask(router)).error, Unreachable)
        had = await ask(router)
        assert isinstance(had.error, Throttled) and len(ill.requests) == 3
        await asyncio.sleep(1.0)
        assert (await ask(router)).text == TEXT

    run(main())


def test_streams_that_die_in_the_middle_count_against_a_place() -> None:
    async def main() -> None:
        ill, well = place("a", Turn(die_after=2), same_as="x"), place("b", same_as="x")
        router = router_of(ill, well)
        for _ in range(30):
            assert (await ask(router)).text == TEXT
        assert not router.breakers.is_open_for(("a", "m"), now()) or len(ill.requests) <= 10

    run(main())


def test_a_busy_place_is_asked_again_when_it_said() -> None:
    async def main() -> None:
        busy = place("a", Turn(error=scripted_error(Throttled, retry_after_s=2.0)), Turn())
        router = router_of(busy)
        had = await ask(router, None, Budget(total_s=30.0))
        assert had.text == TEXT and 2.0 <= had.times[0] < 2.5
        assert [attempt.why for attempt in way(had).attempts] == ["first", "retry"]

    run(main())


@pytest.mark.parametrize(
    ("budget", "is_strict", "price"),
    [(Budget(cost_usd=1e-12), False, Price(1.0, 2.0)), (Budget(ttft_s=1e-3), True, Price())],
)
def test_a_pause_that_is_over_lets_nobody_ask_what_the_caller_does_not_allow(
    budget: Budget, is_strict: bool, price: Price
) -> None:
    async def main() -> None:
        once_busy = place("a", Turn(error=scripted_error(Throttled, retry_after_s=2.0)), Turn(), price=price)
        router = router_of(once_busy)
        assert (await ask(router, None, Budget(total_s=30.0))).text == TEXT
        await asyncio.sleep(5.0)
        had = await ask(router, None, budget, strict=is_strict)
        assert isinstance(had.error, NoPlace) and len(once_busy.requests) == 2

    run(main())


@pytest.mark.parametrize(
    ("asked", "budget", "error"),
    [
        (request(model="unknown"), Budget(), NotFound),
        (request(num_top=2), Budget(), Unsupported),
        (request(prompt=Chat((Message("user", "word " * 5000),))), Budget(), ContextTooLong),
        (request(), Budget(quality=0.9), NoPlace),
        (request(), Budget(cost_usd=1e-12), NoPlace),
    ],
)
def test_what_nobody_can_do_is_refused_with_the_reason(asked: Request, budget: Budget, error: type) -> None:
    async def main() -> None:
        router = router_of(place("a", abilities=("tools",), context=1000, price=Price(1.0, 1.0)))
        had = await ask(router, asked, budget)
        assert type(had.error) is error and had.deltas == []

    run(main())


def test_a_strict_caller_is_refused_what_is_unlikely() -> None:
    async def main() -> None:
        one = place("a")
        router = router_of(one)
        had = await ask(router, None, Budget(ttft_s=0.001), strict=True)
        assert isinstance(had.error, NoPlace) and one.requests == []
        assert (await ask(router, None, Budget(ttft_s=0.001))).text == TEXT

    run(main())


def test_a_dry_run_sends_nothing() -> None:
    async def main() -> None:
        one, other = place("a"), place("b")
        router = router_of(one, other)
        _, decision = router.decide(request(), Deadline.start(Budget(), now()))
        assert decision.chosen in (("a", "m"), ("b", "m")) and len(decision.rows) == 2
        assert one.requests == other.requests == []

    run(main())


def test_a_route_stands_for_several_models() -> None:
    async def main() -> None:
        small, large = place("a", DOWN, model="small"), place("b", model="large")
        router = router_of(small, large, routes={"any": [("a", "small"), ("b", "large")]})
        had = await ask(router, request(model="any"))
        assert had.text == TEXT and way(had).model == "large" and large.requests[0].model == "large"
        assert [model.id for model in router.status().models] == ["any", "small", "large"]

    run(main())


def test_a_place_with_as_much_as_it_may_have_is_passed_over() -> None:
    async def main() -> None:
        one = place("a")
        router = router_of(FixedMember(one, max_in_flight=1))
        async with aclosing(router.complete(request(), Deadline.start(Budget(), now()))) as first:
            await anext(first)
            refused = (await ask(router)).error
            assert isinstance(refused, Throttled) and refused.retry_after_s > 0 and "full: 1 requests" in str(refused)
            _, decision = router.decide(request(), Deadline.start(Budget(), now()))
            assert decision.chosen is None and decision.rows[0].verdict.startswith("full")
        assert (await ask(router)).text == TEXT
        expect_nothing_in_flight(router, one)

    run(main())


def test_no_more_are_at_a_place_than_it_may_have_whatever_fails_or_hedges_around_it() -> None:
    async def main() -> None:
        one, other = place("a"), place("b", *[DOWN, Turn()] * 6)
        router = router_of(FixedMember(one, max_in_flight=2), FixedMember(other, max_in_flight=2))
        at_once: list[int] = []
        count = router.traffic.sent

        def sent(one: Sent) -> None:
            count(one)
            at_once.append(router.traffic.at_place(one.target[0]))

        router.traffic.sent = sent  # type: ignore[method-assign]
        answers = await asyncio.gather(*(ask(router) for _ in range(12)))
        assert max(at_once) == 2
        errors = [had.error for had in answers if had.error is not None]
        assert any(isinstance(error, Throttled) for error in errors)
        expect_nothing_in_flight(router, one, other)

    run(main())


def test_models_of_one_name_are_the_same_only_if_all_places_agree() -> None:
    async def main() -> None:
        assert router_of(place("a", same_as="x"), place("b", same_as="x")).status().models[0].same_as == "x"
        assert router_of(place("a", same_as="x"), place("b", same_as="y")).status().models[0].same_as == ""
        assert router_of().status().state == "loading"

    run(main())


def test_a_place_that_answered_a_prompt_probably_holds_its_beginning() -> None:
    async def main() -> None:
        router = router_of(place("a", price=Price(10.0, 1.0, 1.0)), place("b", price=Price(10.0, 1.0, 1.0)))
        text = "word " * 2000
        had = await ask(router, request(prompt=Chat((Message("user", text),))))
        longer = request(prompt=Chat((Message("user", text + "and more"),)))
        _, decision = router.decide(longer, Deadline.start(Budget(), now()))
        costs = {row.place: row.cost_usd for row in decision.rows}
        other = "b" if way(had).place == "a" else "a"
        assert decision.chosen == (way(had).place, "m") and (costs[way(had).place] or 0.0) < (costs[other] or 0.0)

    run(main())


def test_how_long_a_prompt_is_in_tokens_is_learned_from_what_places_count() -> None:
    async def main() -> None:
        router = router_of(place("a", num_prompt=1004))
        asked = request(prompt=Chat((Message("user", "ab" * 1000),)))
        first, _ = router.decide(asked, Deadline.start(Budget(), now()))
        for _ in range(60):
            await ask(router, asked)
        later, _ = router.decide(asked, Deadline.start(Budget(), now()))
        assert first.num_prompt < 600 and later.num_prompt == pytest.approx(1004, rel=0.05)

    run(main())


def test_a_place_that_is_silent_longer_than_it_ever_was_is_hedged_with_what_was_learned() -> None:
    async def main() -> None:
        quick = place("a", *[Turn()] * 40, Turn(first_s=60.0))
        router = router_of(quick, place("b", price=Price(1.0, 1.0)))
        for _ in range(40):
            await ask(router, None, Budget(ttft_s=1.0))
        for _ in range(3):
            router.breakers.note(("a", "m"), Answered(), now())
        router.outlook.expect(("b", "m"), Prior(start_s=0.1, spread=0.2))
        had = await ask(router, None, Budget(ttft_s=1.0))
        assert had.text == TEXT and had.times[0] < 1.0
        assert [(one.place, one.why, one.kind) for one in way(had).attempts] == [
            ("a", "first", "hedged_out"),
            ("b", "hedge", ""),
        ]

    run(main())


def test_chances_count_from_the_sending() -> None:
    async def main() -> None:
        router = router_of(place("a"))
        _, journey = router.journey(request(), Deadline.start(Budget(ttft_s=1.0), now()))
        journey.decide()
        forecast = router.outlook.see(*_ask_and_field(router, journey), now=now())
        assert journey.chance(("a", "m"), 0.5, 0.2) == pytest.approx(forecast.p_first_by(0, 0.7, 0.2))

    run(main())


def _ask_and_field(router: Router, journey: Any) -> tuple[Any, Any]:
    return journey.decide()[0], router.scout.look("m", now(), {}).candidates


def test_a_place_is_held_while_it_is_asked_and_let_go_after() -> None:
    async def main() -> None:
        holds: list[int] = [0, 0]

        class Held(FixedMember):
            def hold(self) -> Any:
                @contextmanager
                def counted() -> Any:
                    holds[0] += 1
                    yield
                    holds[1] += 1

                return counted()

        router = router_of(Held(place("a", Turn(die_after=2), Turn())), Held(place("b")))
        async with aclosing(router.complete(request(), Deadline.start(Budget(), now()))) as events:
            await anext(events)
            assert holds == [1, 0]
        await ask(router)
        assert holds[0] == holds[1] >= 2

    run(main())


def test_places_that_fail_for_everybody_are_not_asked_again_and_again() -> None:
    async def main() -> None:
        first, second = place("a", DOWN), place("b", Turn(error=Unsupported("Not here.", fix="None.")))
        router = router_of(first, second, settings=Settings(retry_burst=2.0, retry_share=0.0))
        for _ in range(10):
            await ask(router)
            router.breakers.forget("a")
        assert len(first.requests) + len(second.requests) <= 10 + 4

    run(main())


def test_a_place_that_has_left_is_forgotten() -> None:
    async def main() -> None:
        router = router_of(place("a", DOWN), place("b"))
        for _ in range(3):
            router.breakers.note(("a", "m"), Failed(), now())
        assert not router.breakers.is_open_for(("a", "m"), now())
        router.forget("a")
        assert router.breakers.is_open_for(("a", "m"), now())

    run(main())


def test_the_books_of_traffic_close() -> None:
    async def main() -> None:
        one = place("a", num_prompt=50)
        router = router_of(one)
        async with aclosing(router.complete(request(), Deadline.start(Budget(), now()))) as events:
            await anext(events)
            count = router.traffic.at(("a", "m"))
            assert (count.num_in_flight, count.num_silent, count.silent_prompt) == (1, 0, 0)
            assert count.in_flight_prompt > 0
            again = asyncio.ensure_future(ask(router))
            await asyncio.sleep(0.05)
            assert (router.traffic.at(("a", "m")).num_in_flight, router.traffic.at(("a", "m")).num_silent) == (2, 1)
            again.cancel()
            await asyncio.wait([again])
            assert (router.traffic.at(("a", "m")).num_in_flight, router.traffic.at(("a", "m")).num_silent) == (1, 0)
        expect_nothing_in_flight(router, one)

    run(main())


def test_a_long_silence_is_news_and_is_learned_with_what_came_of_it() -> None:
    async def main() -> None:
        router = router_of(place("a", Turn(first_s=8.0), Turn(first_s=0.0)))
        slow = asyncio.ensure_future(ask(router))
        await asyncio.sleep(3.0)
        quick = asyncio.ensure_future(ask(router))
        await asyncio.sleep(1.0)
        assert quick.done()
        count = router.traffic.at(("a", "m"))
        assert count.num_silent == 1 and count.oldest_silent_s(now()) == pytest.approx(4.0)
        await asyncio.wait([slow])
        assert router.traffic.at(("a", "m")).oldest_silent_s(now()) == 0.0
        learned = [outcome.oldest_silent_s for outcome in router.outlook.outcomes]  # type: ignore[attr-defined]
        assert learned == [pytest.approx(3.0), 0.0]  # in the order of their ends

    run(main())


def test_the_oldest_silence_is_that_of_who_is_left() -> None:
    traffic = Traffic()
    first, second = (Sent(("a", "m"), "first", at, 10, Price(), Tally()) for at in (1.0, 2.0))
    for sent in (first, second):
        traffic.sent(sent)
    assert traffic.at(("a", "m")).oldest_silent_s(5.0) == 4.0
    first.first_at = 5.0
    traffic.spoke(first)
    assert traffic.at(("a", "m")).oldest_silent_s(5.0) == 3.0
    traffic.ended(second)  # without a word
    traffic.ended(first)
    assert traffic.at(("a", "m")).oldest_silent_s(9.0) == 0.0 and traffic.at(("a", "m")).num_silent == 0


def test_a_node_that_says_its_slots_is_expected_to_keep_more_than_those_waiting() -> None:
    async def main() -> None:
        ttft_s: dict[int, float] = {}
        for num_slots in (0, 2):
            one = place("a", *[Turn(first_s=5.0)] * 4)
            one.pace, one.load = Pace(0.01, 1e-4, 0.0, 0.0), Load(num_slots=num_slots)
            router = router_of(one)
            asked = [asyncio.ensure_future(ask(router)) for _ in range(2)]
            await asyncio.sleep(0.5)
            _, decision = router.decide(request(), Deadline.start(Budget(ttft_s=0.5), now()))
            assert decision.rows[0].ttft is not None
            ttft_s[num_slots] = decision.rows[0].ttft.p50_s
            await asyncio.wait(asked)
        assert ttft_s[2] > ttft_s[0] + 0.4  # both slots are taken, by requests that have been silent for half a second

    run(main())


def test_a_node_of_ours_is_expected_to_take_what_it_says_until_it_was_seen() -> None:
    async def main() -> None:
        slow, fast = place("a"), place("b")
        slow.pace, fast.pace = Pace(1.0, 0.01, 0.0, 0.0), Pace(0.01, 1e-4, 0.0, 0.0)
        router = router_of(slow, fast)
        _, decision = router.decide(request(), Deadline.start(Budget(ttft_s=0.5), now()))
        ttfts = {row.place: row.ttft.p50_s for row in decision.rows if row.ttft}
        assert decision.chosen == ("b", "m") and ttfts["a"] > 0.9 > 0.1 > ttfts["b"]
        slow.pace = Pace(0.1, 0.001, 0.0, 0.0)
        _, decision = router.decide(request(), Deadline.start(Budget(ttft_s=0.5), now()))
        assert {row.place: row.ttft.p50_s for row in decision.rows if row.ttft}["a"] < 0.2

    run(main())


def test_a_place_without_headroom_is_passed_over() -> None:
    async def main() -> None:
        full, free = place("a"), place("b", price=Price(1.0, 1.0))
        full.load = Load(headroom=0.0)
        assert way(await ask(router_of(full, free))).place == "b" and full.requests == []

    run(main())


@pytest.mark.parametrize("state", ["loading", "restarting"])
def test_a_place_that_is_not_ready_is_asked_only_when_no_other_is(state: Any) -> None:
    async def main() -> None:
        late, ready = place("a"), place("b", price=Price(1.0, 1.0))
        late.state = state
        assert way(await ask(router_of(late, ready))).place == "b"
        assert way(await ask(router_of(late))).place == "a"
        late.state = "failed"
        assert isinstance((await ask(router_of(late))).error, NoPlace)

    run(main())


# runs


def test_a_step_gets_its_share_and_is_told_what_is_left() -> None:
    async def main() -> None:
        runs = Runs(None, now)
        router = router_of(place("a", price=Price(100.0, 100.0)), runs=runs)
        opened = await runs.begin("t", "r", total_s=20.0, cost_usd=1.0)
        opened.past = [Past(4, 8.0)]
        for number in range(2):
            had = await ask(router, request(run="r"))
            left = way(had).run
            assert had.text == TEXT and left is not None and left.num_steps == number + 1
        assert left.cost_usd == pytest.approx(1.0 - 2 * 16 * 100 / 1e6)
        assert left.total_s == pytest.approx(20.0 - 2 * had.times[-1])
        assert left.steps_s == pytest.approx(2.0 * 1)
        asks = [kept.ask for kept in router._journal]  # type: ignore[union-attr]
        assert asks[0].total_s == pytest.approx(20.0 / 4)

    run(main())


def test_a_run_that_is_over_ends_its_step() -> None:
    async def main() -> None:
        runs = Runs(None, now)
        router = router_of(place("a", Turn(stall_after=2)), runs=runs)
        await runs.begin("t", "r", total_s=3.0)
        had = await ask(router, request(run="r"))
        assert had.text == "One two" and had.deltas[-1].ended_by == "deadline" and had.times[-1] < 3.5

    run(main())


# everything at once


faults = st.builds(
    Turn,
    first_s=st.sampled_from([0.01, 0.3, 5.0]),
    gap_s=st.sampled_from([0.01, 0.3]),
    error=st.none() | st.sampled_from([Unreachable("x", fix="y"), scripted_error(Throttled, retry_after_s=1.0)]),
    die_after=st.none() | st.integers(0, 6),
    stall_after=st.none() | st.integers(0, 6),
    stall_s=st.sampled_from([1.0, 1e6]),
    close_s=st.sampled_from([0.0, 2.0]),
)


ailing = st.tuples(st.lists(faults, min_size=1, max_size=4), st.sampled_from(["", "x", "x"]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(ailing, min_size=1, max_size=3),
    st.lists(st.tuples(st.floats(0.0, 20.0), st.none() | st.sampled_from([0.2, 1.0])), min_size=1, max_size=8),
    st.integers(0, 9),
)
def test_many_requests_over_ailing_places_each_end_well_or_typed_and_every_book_closes(
    specs: list[Any], arrivals: list[tuple[float, float | None]], seed: int
) -> None:
    async def main() -> None:
        places = [place(f"p{number}", *turns, same_as=same) for number, (turns, same) in enumerate(specs)]
        router = router_of(*places, seed=seed)

        async def one(number: int, at: float, ttft_s: float | None) -> Answer:
            await asyncio.sleep(at)
            return await ask(router, request(id=str(number), dated=True), Budget(ttft_s, 0.05, 60.0))

        answers = await asyncio.gather(*(one(number, *arrival) for number, arrival in enumerate(arrivals)))
        for had in answers:
            assert TEXT.startswith(had.text)
            is_cut = bool(had.deltas) and had.deltas[-1].ended_by == "deadline"
            assert (had.text == TEXT and had.deltas[-1].finish_reason == "stop") or had.error is not None or is_cut
        outcomes, journal = router.outlook.outcomes, router._journal  # type: ignore[attr-defined]
        assert len(journal) == len(arrivals) and len({kept.id for kept in journal}) == len(arrivals)
        assert len(outcomes) == sum(len(kept.attempts) for kept in journal)
        assert all(attempt.kind for kept in journal for attempt in kept.attempts)
        assert sum(len(one.requests) for one in places) <= len(outcomes)
        await router.close()
        await asyncio.sleep(5.0)
        expect_nothing_in_flight(router, *places)

    run(main())


def test_tools_are_asked_of_places_that_have_them() -> None:
    async def main() -> None:
        without, having = place("a", abilities=("text",)), place("b", abilities=("tools",))
        router = router_of(without, having)
        asked = request(prompt=Chat((Message("user", "Hi"),), tools=(Tool("f"),)))
        assert way(await ask(router, asked)).place == "b" and without.requests == []

    run(main())
