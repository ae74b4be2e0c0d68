"""The numbers of statuses on Mastodon."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from regie_publisher.connectors.connector import (
    Connector,
    Engagement,
    OutcomeUnknown,
    Remote,
)
from regie_publisher.connectors.mastodon.connector import MastodonConnector
from regie_publisher.connectors.mastodon.testing.description import Description, load_description
from regie_publisher.connectors.mastodon.testing.drafts import (
    StepClock,
    answering,
    draft,
)
from regie_publisher.connectors.mastodon.testing.server import FakeMastodon

STATUSES = "/api/v1/statuses"
SOURCE = r"/api/v1/statuses/\d+/source"
OWN = "/api/v1/accounts/7/statuses"


@pytest.fixture(scope="module")
def description() -> Description:
    return load_description(Path(__file__).parents[3])


@pytest.fixture
def server(description: Description) -> FakeMastodon:
    """A server whose every exchange is held against Mastodon's OpenAPI description."""
    return FakeMastodon(watch=description.check)


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
def mastodon(server: FakeMastodon, clock: StepClock) -> Connector:
    return MastodonConnector(server.client(), clock=clock)


async def test_the_numbers_are_called_by_the_fields_names(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo", favourites_count=2, replies_count=1, reblogs_count=3, quotes_count=4)
    server.likers = [{"id": "8", "acct": "Ben"}, {"id": "9", "acct": "cy@far.example"}]
    (observation,) = await mastodon.observe(draft("").account, [Remote("1000", "")])
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
        seen |= {one.actor_id for one in observation.engagements}
    assert seen == {"ben@social.example", "ben@far.example"}


async def test_nobody_is_asked_who_liked_what_nobody_liked(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo")
    (observation,) = await mastodon.observe(draft("").account, [Remote("1000", "")])
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
    with pytest.raises(OutcomeUnknown):
        await mastodon.observe(draft("").account, [Remote("1000", "")])
