"""Reading back from Mastodon after an unknown outcome: found, proven absent, or inconclusive."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from regie_networks.contract import Connector
from regie_networks.draft import Remote
from regie_networks.errors import FailureKind, Inconclusive, OutcomeUnknown, Refused
from regie_networks.lookup import Rival
from regie_networks.mastodon.connector import MastodonConnector
from regie_networks.mastodon.lookup import MAX_COMPARED
from regie_networks.mastodon.testing.drafts import (
    answering,
    discard,
    draft,
    dropping,
)
from regie_networks.mastodon.testing.server import START, URL, FakeMastodon
from regie_networks.testing.fakes import alone

NEWS = [
    "der Zug nach Ulm fährt heute später ab",
    "im Museum gibt es ab Juni neue Bilder zu sehen",
    "wir suchen jemanden für die Buchhaltung",
    "danke an alle, die gestern geholfen haben",
]
MASTODON: dict[str, object] = {
    "domain": "social.example",
    "version": "4.3.0",
    "source_url": "https://github.com/mastodon/mastodon",
}
STATUSES = "/api/v1/statuses"
SOURCE = r"/api/v1/statuses/\d+/source"
OWN = "/api/v1/accounts/7/statuses"


async def test_a_status_whose_answer_was_lost_is_found(server: FakeMastodon, mastodon: Connector) -> None:
    text = "Hallo @ben@far.example & <alle>:\n\nhttps://example.com/a/long/path/to/something#here #neu"
    server.write("Etwas anderes")
    server.fail("POST", STATUSES, dropping, after_effect=True)
    lost = draft(text)
    with pytest.raises(OutcomeUnknown):
        await mastodon.publish(lost, 0)
    server.write("Noch etwas")
    assert await mastodon.find(lost, 0, alone()) == Remote("1001", f"{URL}/@ana/1001")


async def test_a_status_that_never_arrived_is_proven_absent(server: FakeMastodon, mastodon: Connector) -> None:
    assert await mastodon.find(draft("Hallo"), 0, alone()) is None
    server.now = START - timedelta(days=1)
    server.write("Gestern")
    server.now = START
    server.write("Hallo Welt")
    assert await mastodon.find(draft("Hallo"), 0, alone()) is None


async def test_a_server_that_ignores_keys_gets_no_second_status(server: FakeMastodon, mastodon: Connector) -> None:
    server.ignores_keys = True
    lost = draft("Hallo")
    for after_effect in (False, True):
        server.fail("POST", STATUSES, dropping, after_effect=after_effect)
        with pytest.raises(OutcomeUnknown):
            await mastodon.publish(lost, 0)
        if await mastodon.find(lost, 0, alone()) is not None:
            break
    assert [status["id"] for status in server.statuses] == ["1000"]
    assert len(server.asked("POST", STATUSES)) == 2


async def test_without_a_source_the_html_is_recognised(server: FakeMastodon, mastodon: Connector) -> None:
    server.has_source = False
    text = "Hallo @ben@far.example:\nhttps://example.com/a/long/path/to/something/else"
    server.write(text)
    assert await mastodon.find(draft(text), 0, alone()) == Remote("1000", f"{URL}/@ana/1000")


async def test_without_a_source_other_html_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.has_source = False
    server.write("**Hallo**", content="<p><strong>Hallo</strong></p>")
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("**Hallo**"), 0, alone())


async def test_a_text_that_differs_by_a_host_only_is_not_taken_for_it(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.write("Danke @ben@one.example")
    with pytest.raises(Inconclusive, match=f"{URL}/@ana/1000"):
        await mastodon.find(draft("Danke @ben@two.example"), 0, alone())


async def test_a_segment_is_told_from_equal_ones_by_what_it_replies_to(
    server: FakeMastodon, mastodon: Connector
) -> None:
    thread = draft("gleich", "gleich", "gleich")
    first = await mastodon.publish(thread, 0)
    assert isinstance(first, Remote)
    thread.remotes.append(first)
    assert await mastodon.find(thread, 1, alone()) is None
    second = await mastodon.publish(thread, 1)
    assert await mastodon.find(thread, 1, alone()) == second
    assert isinstance(second, Remote)
    thread.remotes.append(second)
    assert await mastodon.find(thread, 2, alone()) is None


async def test_a_segment_is_told_from_equal_ones_by_its_pictures(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Bild")
    assert await mastodon.find(draft("Bild", pictures=1, handles={"ready/key-0/0": "500"}), 0, alone()) is None


async def test_a_boost_is_not_taken_for_a_status(server: FakeMastodon, mastodon: Connector) -> None:
    boosted = server.write("Hallo", in_reply_to_id="1")
    server.write("Hallo", reblog=boosted)
    assert await mastodon.find(draft("Hallo"), 0, alone()) is None


async def test_a_source_that_is_html_is_recognised(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo & alle", content="<p>Hallo &amp;amp; <em>alle</em></p>")
    server.sources["1000"] = "<p>Hallo &amp; alle</p>"
    assert await mastodon.find(draft("Hallo & alle"), 0, alone()) == Remote("1000", f"{URL}/@ana/1000")


async def test_other_white_space_is_another_text_or_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("the bakery is nowhere")
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("the bakery is now here"), 0, alone())
    server.write("the bakery is  now here")
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("the bakery is now here"), 0, alone())
    server.write("the bakery is now here\n")
    found = await mastodon.find(draft("the bakery is now here"), 0, alone())
    assert found == Remote("1002", f"{URL}/@ana/1002")


async def test_without_a_source_white_space_still_parts_words(server: FakeMastodon, mastodon: Connector) -> None:
    server.has_source = False
    server.write("the bakery is nowhere")
    with pytest.raises(Inconclusive):
        await mastodon.find(draft("the bakery is now here"), 0, alone())


async def test_an_open_delivery_whose_text_differs_in_white_space_is_no_rival(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.write("Hallo\nalle")
    rival = Rival("another", "Hallo\n\nalle", "", (), {})
    assert await mastodon.find(draft("Hallo\nalle"), 0, alone(rivals=[rival])) is not None


async def test_a_text_in_other_typography_proves_nothing(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("„Hallo“, alle")
    with pytest.raises(Inconclusive):
        await mastodon.find(draft('"Hallo", alle'), 0, alone())


async def test_among_many_alike_statuses_the_likest_is_compared_first(
    server: FakeMastodon, mastodon: Connector
) -> None:
    for number in range(MAX_COMPARED):
        server.write(f"Angebot {number} von heute")
    server.write("Angebot 99 von heute")
    assert await mastodon.find(draft("Angebot 99 von heute"), 0, alone()) == Remote("1040", f"{URL}/@ana/1040")
    assert len(server.asked("GET", SOURCE)) == 1


async def test_a_look_compares_so_many_alike_statuses_and_the_next_one_goes_on(
    server: FakeMastodon, mastodon: Connector
) -> None:
    for number in range(MAX_COMPARED + 1):
        server.write(f"Angebot {number} von heute")
    with pytest.raises(Inconclusive, match="goes on"):
        await mastodon.find(draft("Angebot 99 von heute"), 0, alone())
    assert await mastodon.find(draft("Angebot 99 von heute"), 0, alone()) is None
    assert len(server.asked("GET", SOURCE)) == MAX_COMPARED + 1


async def test_a_busy_account_is_read_without_a_call_for_each_status(server: FakeMastodon, mastodon: Connector) -> None:
    for number in range(300):
        server.write(f"Nachricht {number}: {NEWS[number % len(NEWS)]}")
    assert await mastodon.find(draft("Heute um acht beginnt das Konzert im Park"), 0, alone()) is None
    assert server.asked("GET", SOURCE) == []


async def test_one_reading_serves_all_open_deliveries_of_a_look(server: FakeMastodon, mastodon: Connector) -> None:
    texts = ["Eins von vielen", "Zwei von vielen", "Drei von vielen"]
    for text in texts:
        server.write(text)
    look = alone()
    found = [await mastodon.find(draft(text), 0, look) for text in texts]
    assert [remote.id for remote in found if remote] == ["1000", "1001", "1002"]
    assert len(server.asked("GET", OWN)) == 2


async def test_what_another_delivery_holds_is_not_taken(server: FakeMastodon, mastodon: Connector) -> None:
    server.write("Hallo")
    assert await mastodon.find(draft("Hallo"), 0, alone(taken=["1000"])) is None
    assert await mastodon.find(draft("Hallo"), 0, alone(taken=[f"{URL}/@ana/1000"])) is None
    server.write("Hallo")
    assert await mastodon.find(draft("Hallo"), 0, alone(taken=["1000"])) == Remote("1001", f"{URL}/@ana/1001")


async def test_one_status_and_two_deliveries_that_it_may_be_of_prove_nothing(
    server: FakeMastodon, mastodon: Connector
) -> None:
    rival = Rival("another", "Hallo", "", (), {})
    assert await mastodon.find(draft("Hallo"), 0, alone(rivals=[rival])) is None, "there is none: neither is out"
    server.write("Hallo")
    with pytest.raises(Inconclusive, match=f"{URL}/@ana/1000 .*same content"):
        await mastodon.find(draft("Hallo"), 0, alone(rivals=[rival]))
    others = [replace(rival, text="Hallo!"), replace(rival, reply_to="7"), replace(rival, alt_texts=("Bild",))]
    assert await mastodon.find(draft("Hallo"), 0, alone(rivals=others)) is not None
    server.has_source = False
    server.statuses.clear()
    server.write("Hallo")
    fresh = MastodonConnector(server.client())
    with pytest.raises(Inconclusive, match="same content"):
        await fresh.find(draft("Hallo"), 0, alone(rivals=[replace(rival, text="„Hallo“")]))


async def test_two_posts_of_other_pictures_are_told_apart_by_the_pictures_ids(
    server: FakeMastodon, mastodon: Connector
) -> None:
    first = draft("", pictures=1)
    await mastodon.prepare(first, discard)
    lost = draft("", pictures=1)
    await mastodon.prepare(lost, discard)
    remote = await mastodon.publish(first, 0)
    rival = Rival("another", "", "", ("Bild 0: ein Café",), {})
    assert await mastodon.find(first, 0, alone(rivals=[rival])) == remote, "its picture is its own"
    with pytest.raises(Inconclusive):
        await mastodon.find(lost, 0, alone(rivals=[rival]))
    server.instances["/api/v2/instance"] = MASTODON
    known = MastodonConnector(server.client())
    assert await known.find(lost, 0, alone(rivals=[rival])) is None, "on this server another id is another picture"


async def test_a_picture_without_a_description_proves_nothing_where_ids_may_change(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.write("", media_attachments=[{"id": "77", "type": "image", "url": f"{URL}/m/77", "description": None}])
    lost = draft("", pictures=1, handles={"ready/key-0/0": "500"})
    silent = replace(lost.segments[0], pictures=(replace(lost.segments[0].pictures[0], alt_text=""),))
    lost.segments = [silent]
    with pytest.raises(Inconclusive):
        await mastodon.find(lost, 0, alone())


async def test_pages_that_overlap_are_read_on(server: FakeMastodon, mastodon: Connector) -> None:
    overlapping = server.write("Nachricht")
    server.write("Hallo")
    server.fail("GET", OWN, answering(200, json=[server.statuses[1]]))
    server.fail("GET", OWN, answering(200, json=[server.statuses[1], overlapping]))
    assert await mastodon.find(draft("Hallo"), 0, alone()) == Remote("1001", f"{URL}/@ana/1001")
    assert len(server.asked("GET", OWN)) == 3


async def test_a_look_hears_how_long_to_wait_and_that_the_token_is_gone(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.fail("GET", OWN, answering(429, headers={"Retry-After": "300"}, json={"error": "Zu viele Anfragen"}))
    with pytest.raises(Refused) as limited:
        await mastodon.find(draft("Hallo"), 0, alone())
    assert limited.value.retry_after == timedelta(minutes=5)
    server.fail("GET", OWN, answering(401, json={"error": "無効"}))
    with pytest.raises(Refused) as revoked:
        await mastodon.find(draft("Hallo"), 0, alone())
    assert revoked.value.kind is FailureKind.AUTH_EXPIRED
