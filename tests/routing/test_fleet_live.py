"""A fleet changes under its streams: who stays is the same object, who goes finishes first, nodes come and go."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadConfig, BadRequest, IsochroneError, NotAllowed, NotFound
from isochrone.places import located
from isochrone.places.place import Model, Status
from isochrone.routing.fleet import Door, Fleet, NodesInMemory, PlaceSpec, Watch, node_key, parse_fleet, specs_present
from isochrone.routing.fleet import nodes as joining
from isochrone.routing.geography import Geography

TOKEN = "a token of the fleet"


class Standing:
    """A place that only is there."""

    def __init__(self, spec):
        if spec.options.get("broken"):
            raise BadConfig("This place cannot be built.", fix="Mend it.")
        self.spec, self.is_closed = spec, False

    def status(self):
        return Status("ready", tuple(Model(one.id, None, 0) for one in self.spec.models) or (Model("own", None, 0),))

    async def close(self):
        self.is_closed = True


MORE = {"openai": Standing, "isochrone": Standing}


def text_of(*names, model="small", extra=""):
    return extra + "".join(
        f'[[place]]\nname = "{name}"\nkind = "openai"\nurl = "http://{name}:1"\nlocation = "site"\n'
        f'models = ["{model}"]\n'
        for name in names
    )


def file_of(text, tmp_path):
    return parse_fleet(tmp_path, located.parse(text, "fleet.toml"))


async def test_over_a_reload_who_stays_is_the_same_object_and_who_goes_finishes(tmp_path):
    fleet = Fleet(file_of(text_of("a", "b"), tmp_path), MORE, drain_s=30)
    a, b = fleet.members["a"].place, fleet.members["b"].place
    with fleet.members["b"].hold() as held:
        changes = fleet.reload(file_of("# moved by a line\n" + text_of("a", "c"), tmp_path), now=100.0)
        assert held is b and fleet.members["a"].place is a and set(fleet.members) == {"a", "c"}
        assert (changes.added, changes.kept, changes.leaving) == (("c",), ("a",), ("b",))
        assert await fleet.sweep(101.0) == () and not b.is_closed
    assert await fleet.sweep(101.0) == ("b",) and b.is_closed and not a.is_closed
    await fleet.close()
    assert a.is_closed


async def test_who_does_not_finish_in_its_time_is_closed_all_the_same(tmp_path):
    fleet = Fleet(file_of(text_of("a", "b"), tmp_path), MORE, drain_s=30)
    member = fleet.members["b"]
    with member.hold():
        fleet.reload(file_of(text_of("a"), tmp_path), now=100.0)
        assert await fleet.sweep(129.9) == () and await fleet.sweep(130.0) == ("b",)
    assert member.place.is_closed and fleet.leaving == ()


async def test_a_place_that_changed_is_another_object(tmp_path):
    fleet = Fleet(file_of(text_of("a"), tmp_path), MORE)
    before = fleet.members["a"].place
    fleet.reload(file_of(text_of("a", model="large"), tmp_path), now=0.0)
    assert fleet.members["a"].place is not before and fleet.leaving[0].place is before


async def test_a_reload_that_cannot_be_done_changes_nothing(tmp_path):
    fleet = Fleet(file_of(text_of("a"), tmp_path), MORE)
    before = dict(fleet.members)
    broken = text_of("b") + "options = { broken = true }\n"
    with pytest.raises(BadConfig, match="cannot be built"):
        fleet.reload(file_of(broken, tmp_path), now=0.0)
    assert dict(fleet.members) == before and fleet.leaving == ()


SETS = st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=6)


@given(SETS)
async def test_however_often_a_fleet_changes_every_place_is_either_live_or_closed_once(tmp_path_factory, steps):
    folder, built = tmp_path_factory.getbasetemp(), []

    def build(spec):
        built.append(Standing(spec))
        return built[-1]

    fleet = Fleet(file_of(text_of(*sorted(steps[0])), folder), {"openai": build})
    for now, names in enumerate(steps):
        fleet.reload(file_of(text_of(*sorted(names)), folder), float(now))
        await fleet.sweep(float(now))
        live = {id(member.place) for member in fleet.members.values()}
        assert {id(place) for place in built if not place.is_closed} == live
        assert set(fleet.members) == names


def test_a_name_stands_for_a_route_or_for_every_place_that_serves_it(tmp_path):
    route = '[[route]]\nname = "chat"\ntargets = ["b/small", "node:box/tiny"]\n'
    fleet = Fleet(file_of(text_of("a", "b") + route, tmp_path), MORE)
    assert fleet.targets("small") == (("a", "small"), ("b", "small"))
    assert fleet.targets("chat") == (("b", "small"),) and fleet.targets("nothing") == ()
    fleet.see([PlaceSpec("node:box", "isochrone", "http://box:1", location="site")], 0.0)
    assert fleet.targets("chat") == (("b", "small"), ("node:box", "tiny"))
    assert fleet.targets("own") == (("node:box", "own"),)
    assert fleet.models() == ("chat", "small", "own")


def test_a_place_says_how_far_it_is_and_whether_a_prompt_may_go_there(tmp_path):
    fleet = Fleet(file_of(text_of("a", extra='[gateway]\nhere = "eu-central-1"\n'), tmp_path), MORE)
    assert fleet.network("a").p50_s < 0.001
    for _ in range(8):
        fleet.members["a"].round_trips.observe(0.02)
    assert fleet.network("a").p50_s == 0.02
    assert not fleet.why_not("region:eu", ("a", "small")) and fleet.why_not("local", ("a", "small"))


def test_what_a_place_measures_of_the_way_there_goes_before_the_table(tmp_path):
    fleet = Fleet(file_of(text_of("a"), tmp_path), MORE)
    member = fleet.members["a"]
    member.measure()
    assert member.round_trips.num == 0
    for number in range(8):
        member.place.round_trip_s, member.place.connect_took_s = 0.02 + number / 1e6, 0.05
        member.measure()
        member.measure()  # nothing new
    assert member.round_trips.num == 8 and fleet.network("a").p50_s == pytest.approx(0.02, abs=1e-4)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def door(clock):
    nodes = NodesInMemory(clock)
    return nodes, Door(nodes, TOKEN, Geography("eu-central-1"))


async def post(door, action, token=TOKEN, **said):
    return await door.handle(action, f"Bearer {token}".encode(), json.dumps(said).encode())


BOX = {"name": "box", "url": "http://10.0.0.9:8400", "location": "site", "models": ["small"]}


async def test_a_node_joins_beats_drains_and_leaves(tmp_path):
    clock = Clock()
    nodes, entrance = door(clock)
    fleet = Fleet(file_of('[gateway]\ntoken_env = "T"\n', tmp_path), MORE)
    watch = Watch(fleet, nodes=nodes, token=TOKEN, tell=lambda event, facts: None, now=clock)
    said = await post(entrance, "join", **BOX)
    assert said["state"] == "live" and said["silent_s"] > 3 * said["beat_s"]
    await watch.step()
    place = fleet.members["node:box"].place
    assert place.spec.key() == node_key(TOKEN, "box") != TOKEN and TOKEN not in repr(place.spec)
    for _ in range(10):
        clock.now += said["beat_s"]
        await post(entrance, "join", **BOX)
        await watch.step()
    assert fleet.members["node:box"].place is place, "a beat builds nothing"
    await post(entrance, "drain", name="box")
    assert (await post(entrance, "join", **BOX))["state"] == "draining", "a late beat does not undo it"
    await watch.step()
    assert fleet.members == {} and place.is_closed
    await post(entrance, "leave", name="box")
    assert (await post(entrance, "join", **BOX))["state"] == "live"


async def test_who_falls_silent_is_gone_and_may_come_back(tmp_path):
    clock = Clock()
    nodes, entrance = door(clock)
    await post(entrance, "join", **BOX)
    clock.now = joining.SILENT_S + 0.1
    fleet = file_of('[gateway]\ntoken_env = "T"\n', tmp_path)
    assert await specs_present(nodes, TOKEN, fleet.catalogue) == ()
    await post(entrance, "join", **{**BOX, "url": "http://10.0.0.10:8400"})
    (spec,) = await specs_present(nodes, TOKEN, fleet.catalogue)
    assert spec.url == "http://10.0.0.10:8400" and spec.models[0].id == "small"


async def test_two_gateways_over_one_ledger_see_one_fleet(tmp_path):
    clock = Clock()
    nodes, first = door(clock)
    second = Door(nodes, TOKEN, Geography("us-east-1"))
    file = file_of('[gateway]\ntoken_env = "T"\n', tmp_path)
    fleets = [Fleet(file, MORE), Fleet(file, MORE)]
    watches = [Watch(fleet, nodes=nodes, token=TOKEN, tell=lambda *_: None, now=clock) for fleet in fleets]
    await post(first, "join", **BOX)
    await post(second, "join", **{**BOX, "name": "barn", "url": "http://10.0.0.10:8400"})
    for watch in watches:
        await watch.step()
    assert [set(fleet.members) for fleet in fleets] == [{"node:box", "node:barn"}] * 2
    await post(second, "drain", name="box")
    for watch in watches:
        await watch.step()
    assert [set(fleet.members) for fleet in fleets] == [{"node:barn"}] * 2


@pytest.mark.parametrize(
    ("action", "said", "error", "words"),
    [
        ("join", {**BOX, "name": "a b"}, BadRequest, "name"),
        ("join", {**BOX, "url": "ftp://x"}, BadRequest, "no address"),
        ("join", {**BOX, "location": "mars"}, BadRequest, "no region"),
        ("join", {**BOX, "location": "local"}, BadRequest, "cannot stand"),
        ("join", {**BOX, "location": "eu"}, BadRequest, "cannot stand"),
        ("join", {**BOX, "max_in_flight": 0}, BadRequest, "below 1"),
        ("join", {**BOX, "more": 1}, BadRequest, "more"),
        ("join", {"name": "box"}, BadRequest, "url"),
        ("drain", {"name": "box"}, NotFound, "no node"),
        ("leave", {"name": "box"}, NotFound, "no node"),
        ("dance", {"name": "box"}, NotFound, "dance"),
    ],
)
async def test_what_no_node_says_is_refused(action, said, error, words):
    _, entrance = door(Clock())
    with pytest.raises(error) as caught:
        await post(entrance, action, **said)
    assert words in str(caught.value) and caught.value.fix


@pytest.mark.parametrize("authorization", [b"", b"Bearer wrong", b"Basic " + TOKEN.encode(), b"Bearer", b"Bearer \xff"])
async def test_without_the_token_nobody_joins(authorization):
    nodes, entrance = door(Clock())
    with pytest.raises(NotAllowed):
        await entrance.handle("join", authorization, json.dumps(BOX).encode())
    assert await nodes.present(1e9) == []


async def test_two_nodes_cannot_have_one_name():
    _, entrance = door(Clock())
    await post(entrance, "join", **BOX)
    with pytest.raises(BadRequest, match=r"10\.0\.0\.9"):
        await post(entrance, "join", **{**BOX, "url": "http://10.0.0.66:8400"})


async def test_a_changed_file_is_taken_and_a_broken_one_is_told_once(tmp_path):
    path, told = tmp_path / "fleet.toml", []
    path.write_text(text_of("a"))
    fleet = Fleet(file_of(text_of("a"), tmp_path), MORE)
    watch = Watch(fleet, file=path, tell=lambda event, facts: told.append((event, facts)), now=Clock())
    kept = fleet.members["a"].place
    await watch.step()
    assert told == []
    path.write_text(text_of("a", "bb"))
    await watch.step()
    assert set(fleet.members) == {"a", "bb"} and told == [("place.added", {"place": "bb"})]
    path.write_text(text_of("a") + "\n[nonsense]\n")
    for _ in range(3):
        await watch.reload()
    assert set(fleet.members) == {"a", "bb"} and fleet.members["a"].place is kept
    (_, (event, facts)) = told
    assert event == "fleet.unchanged" and "line 8" in facts["error"] and facts["fix"]


async def test_a_ledger_out_of_reach_leaves_the_fleet_as_it_is(tmp_path):
    class Away(NodesInMemory):
        async def present(self, within_s):
            raise IsochroneError("The ledger is away.", fix="Wait.")

    clock, told = Clock(), []
    fleet = Fleet(file_of(text_of("a"), tmp_path), MORE)
    fleet.see([PlaceSpec("node:box", "isochrone", "http://box:1", location="site")], 0.0)
    watch = Watch(fleet, nodes=Away(clock), token=TOKEN, tell=lambda *event: told.append(event), now=clock)
    await watch.step()
    await watch.step()
    assert set(fleet.members) == {"a", "node:box"} and len(told) == 1
