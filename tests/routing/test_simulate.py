"""The simulator: deterministic, its books balance, and the choice beats the baselines where it is pressed."""

import math
import random
from itertools import pairwise

import pytest

from benchmarks.routing_chart import chart
from isochrone.routing.simulate.baselines import RoundRobin, StaticOrder
from isochrone.routing.simulate.clock import SimulatedClock
from isochrone.routing.simulate.cloud import CloudSpec
from isochrone.routing.simulate.fleets import clouds_fleet, edge_fleet
from isochrone.routing.simulate.measures import measure
from isochrone.routing.simulate.node import Job, Node, NodeSpec
from isochrone.routing.simulate.oracle import Oracle
from isochrone.routing.simulate.places import PlaceSpec
from isochrone.routing.simulate.policies import Isochrone
from isochrone.routing.simulate.trace import Arrival, at_rate, read_azure, read_mooncake, with_budgets, with_step
from isochrone.routing.simulate.world import World


def made_up(num=250, seed=1):
    draw, at_s, arrivals = random.Random(seed), 0.0, []
    for index in range(num):
        at_s += draw.expovariate(1.0)
        prompt = draw.randrange(100, 4000)
        blocks = tuple((index % 7) * 1000 + n for n in range(prompt // 512))
        arrivals.append(Arrival(at_s, prompt, draw.randrange(1, 300), blocks))
    return with_budgets(at_rate(arrivals, 9.0), seed)


def run(policy, fleet, *, down=(), arrivals=None, seed=1):
    world = World(fleet.places, arrivals or made_up(), policy, seed=seed, groups_down=down)
    if isinstance(policy, Oracle):
        policy.bind(world)
    return world, world.run()


def test_events_happen_in_order_of_time_and_then_of_asking():
    clock, seen = SimulatedClock(), []
    for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b")):
        clock.at(when, lambda name=name: seen.append((clock.now, name)))
    clock.run()
    assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "c")]


def test_a_lone_request_takes_what_the_node_says_and_a_full_node_makes_others_wait():
    spec = NodeSpec(prompt_per_s=1000.0, itl_s=0.01, slots=1, slope=0.0, mix=0.0)
    node = Node(spec)
    node.add(Job(1, 500.0, 101))
    node.add(Job(2, 500.0, 1))
    events = node.advance(math.inf)
    assert events == [
        (pytest.approx(0.5), True, 1), (pytest.approx(1.5), False, 1),
        (pytest.approx(2.0), True, 2), (pytest.approx(2.0), False, 2),
    ]  # fmt: skip


def test_a_copied_node_runs_ahead_and_leaves_the_real_one_where_it_was():
    node = Node(NodeSpec(1000.0, 0.01, 4))
    node.add(Job(1, 800.0, 50))
    twin = node.copy()
    twin.add(Job(2, 800.0, 50))
    assert len(twin.advance(math.inf)) == 4
    assert node.advance(math.inf) == [(pytest.approx(0.8), True, 1), (pytest.approx(1.29), False, 1)]


@pytest.mark.parametrize("fleet", [edge_fleet(), clouds_fleet()], ids=lambda fleet: fleet.name)
def test_the_same_seed_gives_the_same_run_and_nothing_is_left_in_flight(fleet):
    down = ((fleet.lost, 8.0, 15.0),)
    runs = []
    for _ in range(2):
        world, flights = run(Isochrone(fleet.places, seed=1), fleet, down=down)
        runs.append([(flight.first_at, flight.end_at, flight.cost_usd) for flight in flights])
        assert all(flight.is_over and not flight.live for flight in flights)
        for place in world.places:
            assert (place.num_in_flight, place.in_flight_prompt, place.num_silent, place.silent_prompt) == (0, 0, 0, 0)
            assert place.node is None or (place.node.num_running, len(place.node.waiting)) == (0, 0)
    assert runs[0] == runs[1]


def test_under_a_lost_site_the_choice_keeps_more_budgets_than_turns_or_a_list_and_nearly_the_oracles():
    fleet, arrivals = edge_fleet(), made_up(600)
    down = ((fleet.lost, 20.0, 40.0),)
    slots = {place.name: place.kind.slots for place in fleet.places if isinstance(place.kind, NodeSpec)}
    policies = (Isochrone(fleet.places, seed=1), RoundRobin(), StaticOrder(slots), Oracle("roomy"))
    good = [measure(p.name, run(p, fleet, down=down, arrivals=arrivals)[1]).goodput for p in policies]
    assert good[0] > max(good[1], good[2]) and good[0] >= 0.9 * good[3]


def test_where_every_place_is_let_alone_all_are_offered_to_every_policy_as_if_none_was():
    class Careful(RoundRobin):
        """Takes only who is said to be open, and counts its offers."""

        def __init__(self):
            super().__init__()
            self.num_open = []

        def pick(self, ask, candidates, now):
            self.num_open.append(sum(one.is_open for one in candidates))
            return super().pick(ask, [one for one in candidates if one.is_open], now)

    spec = CloudSpec(start_s=0.1, prompt_s=0.0, itl_s=0.01, failing_share=0.0, requests_per_min=8.0)
    place, policy = PlaceSpec("a", "a", 0.01, spec), Careful()
    arrivals = [Arrival(0.3 * index, 10, 2) for index in range(4)]
    world = World([place], arrivals, policy, seed=1)
    kinds = []
    policy.observe = lambda outcome: kinds.append(outcome.kind)
    world.run()
    assert kinds[:2] == ["answered"] * 2 and kinds.count("refused") > 1  # the bucket holds two
    assert min(policy.num_open) == 1


def test_a_load_step_squeezes_time_and_nothing_else():
    arrivals = made_up()
    stepped = with_step(arrivals, begin=0.3, end=0.6, factor=2.0)
    assert [one.num_prompt for one in stepped] == [one.num_prompt for one in arrivals]
    assert stepped[-1].at_s == pytest.approx(arrivals[-1].at_s * 0.85)
    assert all(a.at_s <= b.at_s for a, b in pairwise(stepped))


def test_traces_are_read_as_they_were_recorded(tmp_path):
    azure, mooncake = tmp_path / "a.csv", tmp_path / "m.jsonl"
    azure.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
                     "2023-11-16 18:17:04.4799600,3180,8\n")  # fmt: skip
    mooncake.write_text('{"timestamp": 3000, "input_length": 1024, "output_length": 6, "hash_ids": [7, 8]}\n')
    first, second = read_azure(azure, 10)
    assert (first.num_prompt, first.num_answer, second.at_s) == (4808, 10, pytest.approx(0.5))
    assert read_azure(azure, 1, sampling="opening") == [first] == read_azure(azure, 10, sampling="opening")[:1]
    assert {read_azure(azure, 1, seed=seed)[0].num_prompt for seed in range(20)} == {4808, 3180}
    (one,) = read_mooncake(mooncake, 10, shorten=8)
    assert (one.num_prompt, one.blocks, one.block_tokens) == (128, (7, 8), 64) and 3.0 <= one.at_s < 6.0


def test_the_chart_shows_each_cell_once():
    picture = chart([("t", "f", "s<", {"isochrone": 0.9, "oracle": 1.0, "other": 0.2})])
    assert picture.count("t, f, s&lt;") == 1 and 'class="ours"' in picture and "90.0%" in picture
