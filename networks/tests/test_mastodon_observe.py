"""The numbers of statuses on Mastodon."""

from __future__ import annotations

from dataclasses import replace

import pytest
from regie_networks.contract import Connector
from regie_networks.draft import Remote
from regie_networks.errors import OutcomeUnknown, Refused
from regie_networks.mastodon.connector import MastodonConnector
from regie_networks.mastodon.testing.drafts import (
    StepClock,
    answering,
    draft,
)
from regie_networks.mastodon.testing.server import FakeMastodon
from regie_networks.observation import Engagement, Observation, Unread

STATUSES = "/api/v1/statuses"
SOURCE = r"/api/v1/statuses/\d+/source"
OWN = "/api/v1/accounts/7/statuses"


async def test_the_numbers_are_called_by_the_fields_names(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo", favourites_count=2, replies_count=1, reblogs_count=3, quotes_count=4)
    server.likers = [{"id": "8", "acct": "Ben"}, {"id": "9", "acct": "cy@far.example"}]
    (observation,) = await mastodon.observe(draft("").account, [Remote("1000", "")])
    assert isinstance(observation, Observation)
    assert observation.values == {"likes": 2, "replies": 1, "reposts": 3, "quotes": 4}
    assert observation.engagements == (
        Engagement("ben@social.example", "Ben@social.example", "like"),
        Engagement("cy@far.example", "cy@far.example", "like"),
    )


async def test_people_of_two_servers_with_the_same_number_are_two_people(
    server: FakeMastodon, clock: StepClock
) -> None:
    server.write("Hallo", favourites_count=1)
    server.likers = [{"id": "42", "acct": "ben"}]
    seen = set()
    for domain in ("social.example", "far.example"):
        account = replace(draft("").account, handle=f"ana@{domain}")
        (observation,) = await MastodonConnector(server.client(), clock=clock).observe(account, [Remote("1000", "")])
        assert isinstance(observation, Observation)
        seen |= {one.actor_id for one in observation.engagements}
    assert seen == {"ben@social.example", "ben@far.example"}


async def test_nobody_is_asked_who_liked_what_nobody_liked(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo")
    (observation,) = await mastodon.observe(draft("").account, [Remote("1000", "")])
    assert isinstance(observation, Observation)
    assert observation.values == {"likes": 0, "replies": 0, "reposts": 0}
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [404, 410])
async def test_a_status_that_is_gone_is_left_out(server: FakeMastodon, mastodon: Connector, status: int) -> None:
    server.write("Hallo")
    server.fail("GET", f"{STATUSES}/999", answering(status, html=""))
    observations = await mastodon.observe(draft("").account, [Remote("999", ""), Remote("1000", "")])
    assert [observation.remote_id for observation in observations] == ["1000"]


async def test_an_unreadable_answer_is_no_zero(server: FakeMastodon, mastodon: Connector) -> None:
    server.fail("GET", f"{STATUSES}/1000", answering(200, html="<h1>Hello</h1>"))
    server.write("Hallo")
    server.write("Hallo")
    unread, read = await mastodon.observe(draft("").account, [Remote("1000", ""), Remote("1001", "")])
    assert isinstance(unread, Unread)
    assert isinstance(unread.error, OutcomeUnknown)
    assert isinstance(read, Observation)
    assert read.remote_id == "1001"


async def test_a_refusal_in_the_middle_keeps_what_was_read_and_asks_no_further(
    server: FakeMastodon, mastodon: Connector
) -> None:
    for _ in range(3):
        server.write("Hallo")
    server.fail("GET", f"{STATUSES}/1001", answering(429, html=""))
    read, *rest = await mastodon.observe(draft("").account, [Remote(f"{1000 + at}", "") for at in range(3)])
    assert isinstance(read, Observation)
    assert [type(one.error) for one in rest if isinstance(one, Unread)] == [Refused, Refused]
    assert len(server.calls) == 2


@pytest.mark.parametrize("value", [2**63, 10**15 + 1, -1, True, 1.5, "7", [], None])
async def test_what_can_be_no_total_is_left_out(server: FakeMastodon, mastodon: Connector, value: object) -> None:
    server.fail("GET", f"{STATUSES}/1000", answering(200, json={"favourites_count": value, "replies_count": 4}))
    [observation] = await mastodon.observe(draft("").account, [Remote("1000", "")])
    assert isinstance(observation, Observation)
    assert observation.values == {"replies": 4}
    assert observation.left_out == (0 if value is None else 1)


async def test_people_are_a_page_of_those_who_can_be_profiles(server: FakeMastodon, mastodon: Connector) -> None:
    people = [
        {"id": "1", "acct": "long" * 150},
        {"id": "7", "acct": "turned\u202e"},
        *({"id": f"{number}", "acct": "a"} for number in range(25_000)),
    ]
    server.fail("GET", f"{STATUSES}/1000", answering(200, json={"favourites_count": 25_002}))
    server.fail("GET", f"{STATUSES}/1000/favourited_by", answering(200, json=people))
    [observation] = await mastodon.observe(draft("").account, [Remote("1000", "")])
    assert isinstance(observation, Observation)
    assert len(observation.engagements) == 80 - 2
    assert observation.left_out == 2


async def test_an_id_of_a_status_leads_nowhere_else(server: FakeMastodon, mastodon: Connector) -> None:
    server.fail("GET", f"{STATUSES}/.*", answering(404, html=""))
    await mastodon.observe(draft("").account, [Remote("../../admin?x=1#", "")])
    assert server.calls[0].url.raw_path == b"/api/v1/statuses/..%2F..%2Fadmin%3Fx%3D1%23"
