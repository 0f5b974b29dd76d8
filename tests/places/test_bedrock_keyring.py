"""Credentials are looked for once however many wait, and before they end."""

import asyncio
import threading

import pytest

from isochrone.errors import PlaceRefused
from isochrone.places.bedrock_credentials import RENEW_BEFORE_S, Keyring
from isochrone.places.bedrock_sign import Credentials
from isochrone.testing.runtime import SimulatedClock


class Issuer:
    """Gives out numbered credentials.  fails  it gives none;  go: it waits for that"""

    def __init__(self, clock, life_s=None):
        self.clock, self.life_s = clock, life_s
        self.num_given, self.fails = 0, False
        self.go = threading.Event()
        self.go.set()

    def find(self):
        assert self.go.wait(30)
        if self.fails:
            raise PlaceRefused("no network", fix="wait")
        self.num_given += 1
        ends = None if self.life_s is None else self.clock() + self.life_s
        return Credentials(f"AK{self.num_given}", "s", "t", ends)

    renew = find


async def test_a_hundred_requests_look_once():
    issuer = Issuer(SimulatedClock())
    issuer.go.clear()
    keyring = Keyring(issuer, issuer.clock)
    waiting = [asyncio.ensure_future(keyring.get()) for _ in range(100)]
    await asyncio.sleep(0)
    issuer.go.set()
    assert {held.access_key for held in await asyncio.gather(*waiting)} == {"AK1"}


async def test_credentials_are_renewed_in_their_last_minute():
    issuer = Issuer(SimulatedClock(), life_s=1000.0)
    keyring = Keyring(issuer, issuer.clock)
    await keyring.get()
    issuer.clock.advance(1000.0 - RENEW_BEFORE_S)
    assert (await keyring.get()).access_key == "AK1"
    issuer.clock.advance(1.0)
    assert (await keyring.get()).access_key == "AK2"


async def test_what_is_still_good_is_used_while_nothing_newer_is_had():
    issuer = Issuer(SimulatedClock(), life_s=1000.0)
    keyring = Keyring(issuer, issuer.clock)
    await keyring.get()
    issuer.fails = True
    issuer.clock.advance(950.0)
    assert (await keyring.get()).access_key == "AK1"
    issuer.clock.advance(50.0)
    with pytest.raises(PlaceRefused):
        await keyring.get()


async def test_refused_credentials_are_replaced_once_for_all_who_had_them():
    issuer = Issuer(SimulatedClock())
    keyring = Keyring(issuer, issuer.clock)
    old = await keyring.get()
    replaced = await asyncio.gather(*(keyring.replace(old) for _ in range(20)))
    assert {held.access_key for held in replaced} == {"AK2"}
    issuer.num_given = 1  # it has no others
    assert await keyring.replace(replaced[0]) is None
