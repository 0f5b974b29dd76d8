"""Nodes found on the network join only with a proof of the token that holds for what they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.errors import BadConfig
from isochrone.routing.fleet import Door, NodesInMemory
from isochrone.routing.fleet.mdns import Seen, address_of, joining_of, properties_of
from isochrone.routing.fleet.nodes import SILENT_S, Joining
from isochrone.routing.geography import Geography

TOKEN = "a token of the fleet"
BOX = Joining("box", "http://10.0.0.9:8400", "site")


def sent(properties):
    return {key.encode(): value.encode() for key, value in properties.items()}


def test_what_is_advertised_is_read_again():
    assert joining_of(sent(properties_of(BOX, TOKEN)), TOKEN) == BOX


@given(st.sampled_from(["name", "url", "location", "proof"]), st.text(max_size=20))
def test_what_was_altered_on_the_way_proves_nothing(key, text):
    properties = properties_of(BOX, TOKEN)
    if properties[key] != text:
        assert joining_of(sent({**properties, key: text}), TOKEN) is None


@pytest.mark.parametrize("properties", [{}, {b"name": b"box"}, {b"name": b"\xff", b"url": None}])
def test_what_says_nothing_of_use_is_ignored(properties):
    assert joining_of(properties, TOKEN) is None


def test_another_token_proves_nothing():
    assert joining_of(sent(properties_of(BOX, "another token")), TOKEN) is None


async def test_a_node_that_is_seen_joins_at_each_beat_and_is_forgotten_when_it_is_lost():
    now, told = [0.0], []
    nodes = NodesInMemory(lambda: now[0])
    seen = Seen(Door(nodes, TOKEN, Geography()), TOKEN, told.append)
    seen.found("box._isochrone", sent(properties_of(BOX, TOKEN)))
    seen.found("rogue._isochrone", sent(properties_of(Joining("rogue", "http://x", "site"), "guess")))
    for _ in range(10):
        await seen.beat()
        now[0] += 5.0
    assert [node.name for node in await nodes.present(SILENT_S)] == ["box"]
    seen.lost("box._isochrone")
    now[0] += SILENT_S
    await seen.beat()
    assert await nodes.present(SILENT_S) == [] and told == []


async def test_a_node_that_the_fleet_does_not_take_is_told_once():
    told = []
    seen = Seen(Door(NodesInMemory(), TOKEN, Geography()), TOKEN, told.append)
    seen.found("box", sent(properties_of(Joining("box", "http://10.0.0.9:1", "mars"), TOKEN)))
    await seen.beat()
    await seen.beat()
    assert len(told) == 1 and "mars" in told[0]


@pytest.mark.parametrize("url", ["http://localhost:8400", "http://127.0.0.1:8400", "http://box.lan:8400", "http://[::1]:1"])
def test_an_address_that_tells_nobody_where_the_node_is_is_refused(url):
    with pytest.raises(BadConfig, match=r"10\.0\.0\.7"):
        address_of(url)


def test_an_address_on_the_network_is_advertised_with_its_port():
    assert address_of("http://10.0.0.9:8400") == (bytes([10, 0, 0, 9]), 8400)
    assert address_of("https://10.0.0.9")[1] == 443
