"""What proves that a status is absent at Mastodon: keys it honours, clocks that agree, lists read to their end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime

import httpx2
import pytest
from regie_networks.absence import QUIET, Repeat
from regie_networks.contract import Connector
from regie_networks.draft import Remote
from regie_networks.errors import ConnectorError, Inconclusive, OutcomeUnknown
from regie_networks.mastodon.connector import MastodonConnector
from regie_networks.mastodon.testing.drafts import (
    answering,
    draft,
    dropping,
    unreachable,
)
from regie_networks.mastodon.testing.server import START, URL, FakeMastodon
from regie_networks.mastodon.timeline import MAX_PAGES, PAGE
from regie_networks.testing.fakes import alone

STATUSES = "/api/v1/statuses"
SOURCE = r"/api/v1/statuses/\d+/source"
OWN = "/api/v1/accounts/7/statuses"


@pytest.mark.parametrize(
    ("described", "repeat"),
    [
        ({"version": "4.3.0", "source_url": "https://github.com/mastodon/mastodon"}, Repeat.UNDER_KEY),
        ({"version": "0.6.4", "source_url": "https://github.com/fedify-dev/hollo"}, Repeat.UNDER_KEY),
        (
            {"version": "0.19.1", "source_url": "https://codeberg.org/superseriousbusiness/gotosocial"},
            Repeat.AFTER_QUIET,
        ),
        ({"version": "2.7.2 (compatible; Pleroma 2.6)"}, Repeat.AFTER_QUIET),
        (
            {"version": "4.3.0 (compatible; Other 1)", "source_url": "https://github.com/mastodon/mastodon"},
            Repeat.AFTER_QUIET,
        ),
        ({"version": "4.3.0", "source_url": "https://github.com/evil/mastodon"}, Repeat.AFTER_QUIET),
        ({}, Repeat.AFTER_QUIET),
        (None, Repeat.AFTER_QUIET),
    ],
)
async def test_only_a_server_that_is_known_to_honour_the_key_is_trusted_with_it(
    described: dict[str, object] | None, repeat: Repeat
) -> None:
    server = FakeMastodon()
    if described is not None:
        server.instances["/api/v2/instance"] = {"domain": "social.example", **described}
    absence = await MastodonConnector(server.client()).absence(draft("Hallo").account)
    assert absence.repeat is repeat
    assert absence.quiet == QUIET
    if repeat is Repeat.UNDER_KEY:
        assert timedelta(0) < absence.settle < absence.quiet
        assert absence.key_life < timedelta(hours=1)


async def test_a_server_that_does_not_describe_itself_is_trusted_with_nothing(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.fail("GET", "/api/v2/instance", answering(500, html="<h1>Error</h1>"))
    assert (await mastodon.absence(draft("Hallo").account)).repeat is Repeat.AFTER_QUIET


@pytest.mark.parametrize("status", [303, 408, 409, 500, 502, 504])
async def test_an_answer_that_may_follow_an_effect_is_no_refusal(
    server: FakeMastodon, mastodon: Connector, status: int
) -> None:
    server.fail("POST", STATUSES, answering(status, json={"error": "?"}), after_effect=True)
    with pytest.raises(OutcomeUnknown):
        await mastodon.publish(draft("Hallo"), 0)


async def test_an_equal_status_from_before_its_time_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.now = START - timedelta(minutes=5)
    server.write("Hallo")
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("Hallo"), 0, alone())


async def test_a_clock_that_is_a_little_behind_does_not_hide_the_status(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.now = START - timedelta(seconds=30)
    server.write("Hallo")
    assert await mastodon.find(draft("Hallo"), 0, alone()) is not None


async def test_a_clock_that_is_far_behind_and_says_so_does_not_hide_the_status(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.now = START - timedelta(minutes=20)
    written = server.write("Hallo")
    server.fail("GET", OWN, answering(200, headers={"Date": format_datetime(server.now, usegmt=True)}, json=[written]))
    assert await mastodon.find(draft("Hallo"), 0, alone()) == Remote("1000", f"{URL}/@ana/1000")


@pytest.mark.parametrize(
    "date",
    [
        "",
        "gestern",
        f"Sun, 01 Mar {'9' * 30} 12:00:00 GMT",
        f"Sun, 01 Mar 2026 12:00:00 +{'9' * 20}",
        "Mon, 01 Jan 0100 00:00:00 +2300",
        "Mon, 01 Jan 0100 00:00:00 -0000",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ],
)
async def test_a_date_that_is_none_or_absurd_hides_no_status(
    server: FakeMastodon, mastodon: Connector, date: str
) -> None:
    written = server.write("Hallo")
    server.fail("GET", OWN, answering(200, headers={"Date": date}, json=[written]))
    assert await mastodon.find(draft("Hallo"), 0, alone()) == Remote("1000", f"{URL}/@ana/1000")


async def test_a_status_edited_since_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Ganz anders", edited_at="2026-03-01T12:00:30.000Z")
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("Hallo"), 0, alone())


async def test_a_limited_accounts_unlisted_status_is_found(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo", visibility="unlisted")
    assert await mastodon.find(draft("Hallo", visibility="public"), 0, alone()) is not None


async def test_the_list_is_read_over_several_pages(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo")
    for number in range(PAGE * 2):
        server.write(f"Antwort {number}", in_reply_to_id="1000")
    assert await mastodon.find(draft("Hallo"), 0, alone()) == Remote("1000", f"{URL}/@ana/1000")
    assert len(server.asked("GET", OWN)) == 4


async def test_a_list_that_is_too_long_proves_no_absence(server: FakeMastodon, mastodon: Connector) -> None:
    for number in range(PAGE * MAX_PAGES + 1):
        server.write(f"Antwort {number}", in_reply_to_id="1000")
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("Hallo"), 0, alone())
    assert len(server.asked("GET", OWN)) == MAX_PAGES


async def test_a_list_that_repeats_itself_proves_no_absence(server: FakeMastodon, mastodon: Connector) -> None:
    status = server.write("Antwort", in_reply_to_id="1")
    for _ in range(2):
        server.fail("GET", OWN, answering(200, json=[status]))
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("Hallo"), 0, alone())


@pytest.mark.parametrize(
    "answer",
    [
        answering(401, json={"error": "無効"}),
        answering(404, html="<h1>Not found</h1>"),
        answering(429, json={"error": "Zu viele Anfragen"}),
        answering(503, html=""),
        answering(200, html="<h1>Hello</h1>"),
        answering(200, json=[{"id": "1", "created_at": "yesterday"}]),
        answering(200, json=["Hallo"]),
        dropping,
        unreachable,
    ],
)
async def test_a_list_that_cannot_be_read_proves_no_absence(
    server: FakeMastodon, mastodon: Connector, answer: Callable[..., httpx2.Response]
) -> None:
    server.fail("GET", OWN, answer)
    with pytest.raises(ConnectorError):
        await mastodon.find(draft("Hallo"), 0, alone())


async def test_a_source_that_cannot_be_read_now_proves_no_absence(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo")
    server.fail("GET", SOURCE, answering(503, html=""))
    with pytest.raises(ConnectorError):
        await mastodon.find(draft("Hallo"), 0, alone())


@pytest.mark.parametrize("visibility", ["private", "direct"])
async def test_absence_from_a_list_that_hides_its_kind_proves_nothing(
    server: FakeMastodon, mastodon: Connector, visibility: str
) -> None:
    server.shows_private = False
    server.write("Hallo", visibility=visibility)
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("Hallo", visibility=visibility), 0, alone())


async def test_absence_from_a_list_that_shows_its_kind_is_proven(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Etwas", visibility="private")
    assert await mastodon.find(draft("Hallo", visibility="private"), 0, alone()) is None
