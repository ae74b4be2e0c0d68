"""Guessing API keys."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.boundary.ids import new_id
from regie_gateway.access import api_keys
from regie_gateway.access.authentication import Authenticator, InvalidApiKey
from regie_gateway.access.wrong_keys import BURST, MAX_REMEMBERED, TooManyWrongKeys, WrongKeys
from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from regie_local.testing.clock import START, FakeClock

FRESH = timedelta(seconds=3)
PER_MINUTE = 10


def wrong() -> str:
    return f"Bearer {api_keys.show_token(new_id(), '0' * 64)}"


async def test_an_address_that_guesses_is_slowed_down_and_others_are_not(
    make_world: MakeHarness, clock: FakeClock
) -> None:
    world = await make_world(clock, wrong_keys_per_minute=PER_MINUTE)
    good = {"Authorization": f"Bearer {world.token}"}
    async with world.client(token="") as client:
        for _ in range(PER_MINUTE * BURST):
            assert (await client.get("/v1/workspace", headers={"Authorization": wrong()})).status_code == 401
        answer = await client.get("/v1/workspace", headers={"Authorization": wrong()})
        assert (answer.status_code, answer.json()["reason"]) == (429, "TOO_MANY_WRONG_KEYS")
        assert answer.headers["retry-after"] == "6"
        # Not even a right key that nobody uses here is looked for: it might be the next guess.
        assert (await client.get("/v1/workspace", headers=good)).status_code == 429
        await clock.advance(timedelta(seconds=6))
        assert (await client.get("/v1/workspace", headers=good)).status_code == 200
        assert (await client.get("/v1/workspace", headers={"Authorization": wrong()})).status_code == 401
        assert (await client.get("/v1/workspace", headers={"Authorization": wrong()})).status_code == 429
        assert (await client.get("/v1/workspace", headers=good)).status_code == 200  # it is in use


async def test_a_right_key_that_begins_with_many_requests_is_no_guess(
    make_world: MakeHarness, clock: FakeClock
) -> None:
    world = await make_world(clock, wrong_keys_per_minute=PER_MINUTE)
    authenticator = Authenticator(world.database, clock, wrong_keys_per_minute=PER_MINUTE)
    together = [authenticator.authenticate(f"Bearer {world.token}") for _ in range(PER_MINUTE * BURST * 3)]
    assert len({key.id for key in await asyncio.gather(*together)}) == 1
    # Other tokens at once are guesses, whatever their number.
    guesses = [authenticator.authenticate(wrong()) for _ in range(PER_MINUTE * BURST * 3)]
    refusals = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(refusal, InvalidApiKey) for refusal in refusals) == PER_MINUTE * BURST
    assert sum(isinstance(refusal, TooManyWrongKeys) for refusal in refusals) == PER_MINUTE * BURST * 2


async def test_an_id_that_is_nobodys_is_looked_for_once(world: GatewayHarness, clock: FakeClock) -> None:
    authenticator = Authenticator(world.database, clock, wrong_keys_per_minute=1000)
    token, created = wrong(), await world.key("posts:read")
    with pytest.raises(InvalidApiKey):
        await authenticator.authenticate(token)
    await world.database.close()
    with pytest.raises(InvalidApiKey):
        await authenticator.authenticate(token)  # the closed database would raise another error
    assert created


@given(st.lists(st.floats(0, 30), max_size=200))
def test_no_more_than_the_burst_and_what_time_gives_gets_through(pauses: list[float]) -> None:
    keys = WrongKeys(per_minute=PER_MINUTE, fresh=FRESH)
    now, through = START, 0
    for pause in pauses:
        now += timedelta(seconds=pause)
        with suppress(TooManyWrongKeys):
            keys.take("192.0.2.1", now=now)
            through += 1
    assert through <= PER_MINUTE * BURST + sum(pauses) * PER_MINUTE / 60 + 0.001
    keys.take("192.0.2.2", now=now)


def test_the_addresses_of_one_ipv6_customer_count_together() -> None:
    keys = WrongKeys(per_minute=1, fresh=FRESH)
    keys.take("2001:db8::1", now=START)
    keys.take("2001:db8::2", now=START)
    with pytest.raises(TooManyWrongKeys):
        keys.take("2001:db8::ffff:1", now=START)
    keys.take("2001:db8:0:1::1", now=START)
    keys.take("::ffff:192.0.2.1", now=START)
    keys.take("192.0.2.1", now=START)
    with pytest.raises(TooManyWrongKeys):
        keys.take("192.0.2.1", now=START)


def test_what_is_remembered_is_bounded_and_a_right_key_costs_nothing() -> None:
    keys = WrongKeys(per_minute=1, fresh=FRESH)
    for number in range(MAX_REMEMBERED + 10):
        keys.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", now=START)
        keys.note_unknown(new_id(), now=START)
    assert len(keys._buckets) == len(keys._unknown) == MAX_REMEMBERED
    for _ in range(10):
        keys.take("192.0.2.9", now=START)
        keys.give_back("192.0.2.9", now=START)
