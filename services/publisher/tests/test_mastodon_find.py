"""Reading back from Mastodon after an unknown outcome: found, proven absent, or nobody can tell."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from regie_publisher.connectors.connector import (
    CannotTell,
    Connector,
    OutcomeUnknown,
    Remote,
)
from regie_publisher.connectors.mastodon.connector import MastodonConnector
from regie_publisher.connectors.mastodon.readback import MAX_COMPARED, MAX_PAGES, PAGE
from regie_publisher.connectors.mastodon.testing.description import Description, load_description
from regie_publisher.connectors.mastodon.testing.drafts import (
    StepClock,
    answering,
    draft,
    dropping,
    unreachable,
)
from regie_publisher.connectors.mastodon.testing.server import START, URL, FakeMastodon

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


async def test_a_status_whose_answer_was_lost_is_found(server: FakeMastodon, mastodon: Connector) -> None:
    text = "Hallo @ben@far.example & <alle>:\n\nhttps://example.com/a/long/path/to/something#here #neu"
    server.write("Etwas anderes")
    server.fail("POST", STATUSES, dropping, after_effect=True)
    lost = draft(text)
    with pytest.raises(OutcomeUnknown):
        await mastodon.publish(lost, 0)
    server.write("Noch etwas")
    assert await mastodon.find(lost, 0) == Remote("1001", f"{URL}/@ana/1001")


async def test_a_status_that_never_arrived_is_proven_absent(server: FakeMastodon, mastodon: Connector) -> None:
    assert await mastodon.find(draft("Hallo"), 0) is None
    server.now = START - timedelta(days=1)
    server.write("Gestern")
    server.now = START
    server.write("Hallo Welt")
    assert await mastodon.find(draft("Hallo"), 0) is None


async def test_a_server_that_ignores_keys_gets_no_second_status(server: FakeMastodon, mastodon: Connector) -> None:
    server.ignores_keys = True
    lost = draft("Hallo")
    for after_effect in (False, True):
        server.fail("POST", STATUSES, dropping, after_effect=after_effect)
        with pytest.raises(OutcomeUnknown):
            await mastodon.publish(lost, 0)
        if await mastodon.find(lost, 0) is not None:
            break
    assert [status["id"] for status in server.statuses] == ["1000"]
    assert len(server.asked("POST", STATUSES)) == 2


async def test_without_a_source_the_html_is_recognised(server: FakeMastodon, mastodon: Connector) -> None:
    server.has_source = False
    text = "Hallo @ben@far.example:\nhttps://example.com/a/long/path/to/something/else"
    server.write(text)
    assert await mastodon.find(draft(text), 0) == Remote("1000", f"{URL}/@ana/1000")


async def test_without_a_source_other_html_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.has_source = False
    server.write("**Hallo**", content="<p><strong>Hallo</strong></p>")
    with pytest.raises(CannotTell):
        await mastodon.find(draft("**Hallo**"), 0)


async def test_a_text_that_differs_by_a_host_only_is_not_taken_for_it(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.write("Danke @ben@one.example")
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Danke @ben@two.example"), 0)


async def test_a_segment_is_told_from_equal_ones_by_what_it_replies_to(
    server: FakeMastodon, mastodon: Connector
) -> None:
    thread = draft("gleich", "gleich", "gleich")
    first = await mastodon.publish(thread, 0)
    assert isinstance(first, Remote)
    thread.remotes.append(first)
    assert await mastodon.find(thread, 1) is None
    second = await mastodon.publish(thread, 1)
    assert await mastodon.find(thread, 1) == second
    assert isinstance(second, Remote)
    thread.remotes.append(second)
    assert await mastodon.find(thread, 2) is None


async def test_a_segment_is_told_from_equal_ones_by_its_pictures(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Bild")
    assert await mastodon.find(draft("Bild", pictures=1), 0) is None


async def test_a_boost_is_not_taken_for_a_status(server: FakeMastodon, mastodon: Connector) -> None:
    boosted = server.write("Hallo", in_reply_to_id="1")
    server.write("Hallo", reblog=boosted)
    assert await mastodon.find(draft("Hallo"), 0) is None


async def test_a_source_that_is_html_is_recognised(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo & alle", content="<p>anders</p>")
    server.sources["1000"] = "<p>Hallo &amp; alle</p>"
    assert await mastodon.find(draft("Hallo & alle"), 0) == Remote("1000", f"{URL}/@ana/1000")


async def test_a_text_in_other_typography_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("„Hallo“, alle")
    with pytest.raises(CannotTell):
        await mastodon.find(draft('"Hallo", alle'), 0)


async def test_among_many_statuses_the_one_that_looks_alike_is_compared_first(
    server: FakeMastodon, mastodon: Connector
) -> None:
    for number in range(MAX_COMPARED):
        server.write(f"Nachricht {number}")
    assert await mastodon.find(draft("Hallo"), 0) is None
    server.write("Nachricht")
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Hallo"), 0)
    server.write("Hallo")
    asked = len(server.asked("GET", SOURCE))
    assert await mastodon.find(draft("Hallo"), 0) is not None
    assert len(server.asked("GET", SOURCE)) == asked + 1


async def test_an_equal_status_from_before_its_time_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.now = START - timedelta(minutes=5)
    server.write("Hallo")
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Hallo"), 0)


async def test_a_clock_that_is_a_little_behind_does_not_hide_the_status(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.now = START - timedelta(seconds=30)
    server.write("Hallo")
    assert await mastodon.find(draft("Hallo"), 0) is not None


async def test_a_status_edited_since_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Ganz anders", edited_at="2026-03-01T12:00:30.000Z")
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Hallo"), 0)


async def test_a_limited_accounts_unlisted_status_is_found(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo", visibility="unlisted")
    assert await mastodon.find(draft("Hallo", visibility="public"), 0) is not None


async def test_the_list_is_read_over_several_pages(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo")
    for number in range(PAGE * 2):
        server.write(f"Antwort {number}", in_reply_to_id="1000")
    assert await mastodon.find(draft("Hallo"), 0) == Remote("1000", f"{URL}/@ana/1000")
    assert len(server.asked("GET", OWN)) == 4


async def test_a_list_that_is_too_long_proves_no_absence(server: FakeMastodon, mastodon: Connector) -> None:
    for number in range(PAGE * MAX_PAGES + 1):
        server.write(f"Antwort {number}", in_reply_to_id="1000")
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Hallo"), 0)
    assert len(server.asked("GET", OWN)) == MAX_PAGES


async def test_a_list_that_repeats_itself_proves_no_absence(server: FakeMastodon, mastodon: Connector) -> None:
    status = server.write("Antwort", in_reply_to_id="1")
    for _ in range(2):
        server.fail("GET", OWN, answering(200, json=[status]))
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Hallo"), 0)


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
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Hallo"), 0)


async def test_a_source_that_cannot_be_read_now_proves_no_absence(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo")
    server.fail("GET", SOURCE, answering(503, html=""))
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Hallo"), 0)


@pytest.mark.parametrize("visibility", ["private", "direct"])
async def test_absence_from_a_list_that_hides_its_kind_proves_nothing(
    server: FakeMastodon, mastodon: Connector, visibility: str
) -> None:
    server.shows_private = False
    server.write("Hallo", visibility=visibility)
    with pytest.raises(CannotTell):
        await mastodon.find(draft("Hallo", visibility=visibility), 0)


async def test_absence_from_a_list_that_shows_its_kind_is_proven(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Etwas", visibility="private")
    assert await mastodon.find(draft("Hallo", visibility="private"), 0) is None
