"""A Mastodon server's limits, and pictures on their way to it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from regie_networks.contract import Connector
from regie_networks.draft import Remote
from regie_networks.errors import FailureKind, NotSent, OutcomeUnknown, Refused
from regie_networks.mastodon.media import POLLS
from regie_networks.mastodon.testing.drafts import (
    StepClock,
    answering,
    discard,
    draft,
    instance,
)
from regie_networks.mastodon.testing.server import FakeMastodon

STATUSES = "/api/v1/statuses"
SOURCE = r"/api/v1/statuses/\d+/source"
OWN = "/api/v1/accounts/7/statuses"


def test_a_short_text_needs_none(mastodon: Connector) -> None:
    assert not mastodon.needs_preparation(draft("Hallo " * 80))


def test_a_text_that_is_short_only_by_its_links_needs_it(mastodon: Connector) -> None:
    assert mastodon.needs_preparation(draft("https://example.com/" + "x" * 500))


async def test_a_long_text_is_held_against_the_servers_own_limits(server: FakeMastodon, mastodon: Connector) -> None:
    server.instances["/api/v2/instance"] = instance(max_characters=600, characters_reserved_per_url=256)
    long = draft("x" * 600)
    assert mastodon.needs_preparation(long)
    await mastodon.prepare(long, discard)
    assert not mastodon.needs_preparation(long)
    for text in ("x" * 601, "x" * 500 + " https://example.com/"):
        with pytest.raises(Refused) as refused:
            await mastodon.prepare(draft(text), discard)
        assert refused.value.kind is FailureKind.CONTENT_REJECTED


async def test_limits_are_asked_for_once_and_again_after_a_while(
    server: FakeMastodon, mastodon: Connector, clock: StepClock
) -> None:
    server.instances["/api/v2/instance"] = instance(max_characters=600)
    for _ in range(3):
        await mastodon.prepare(draft("x" * 600), discard)
    assert len(server.calls) == 1
    clock.time += timedelta(minutes=10)
    await mastodon.prepare(draft("x" * 600), discard)
    assert len(server.calls) == 2


async def test_a_draft_that_was_found_to_fit_is_not_judged_again(
    server: FakeMastodon, mastodon: Connector, clock: StepClock
) -> None:
    server.instances["/api/v2/instance"] = instance(max_characters=600)
    long = draft("x" * 600)
    await mastodon.prepare(long, discard)
    server.instances["/api/v2/instance"] = instance(max_characters=500)
    clock.time += timedelta(hours=1)
    await mastodon.prepare(long, discard)
    assert len(server.calls) == 1


async def test_an_older_server_is_asked_in_the_older_way(server: FakeMastodon, mastodon: Connector) -> None:
    server.instances["/api/v1/instance"] = {
        "uri": "social.example",
        "configuration": {"statuses": {"max_characters": 900}},
    }
    await mastodon.prepare(draft("x" * 900), discard)
    assert [call.url.path for call in server.calls] == ["/api/v2/instance", "/api/v1/instance"]


@pytest.mark.parametrize(
    "said", [None, {}, {"configuration": None}, instance(max_characters=0), instance(max_media_attachments=9)]
)
async def test_what_a_server_leaves_out_is_mastodons_default(
    server: FakeMastodon, mastodon: Connector, said: dict[str, object] | None
) -> None:
    server.watch = lambda _request, _response: None  # some of these are what no description allows
    if said is not None:
        server.instances["/api/v2/instance"] = said
    await mastodon.prepare(draft("x" * 476 + " https://example.com/much/longer/than/its/count"), discard)
    with pytest.raises(Refused):
        await mastodon.prepare(draft("x" * 501), discard)


async def test_more_pictures_than_the_server_takes_are_refused_before_any_upload(
    server: FakeMastodon, mastodon: Connector
) -> None:
    with pytest.raises(Refused) as refused:
        await mastodon.prepare(draft("Bilder", pictures=5), discard)
    assert refused.value.kind is FailureKind.MEDIA_REJECTED
    assert server.asked("POST", ".*") == []


async def test_a_type_or_a_size_that_the_server_does_not_take_is_refused(
    server: FakeMastodon, mastodon: Connector, clock: StepClock
) -> None:
    for limit in (
        {"supported_mime_types": ["image/jpeg"]},
        {"image_size_limit": 17},
        {"image_matrix_limit": 11},
        {"description_limit": 5},
    ):
        server.instances["/api/v2/instance"] = {"configuration": {"media_attachments": limit}}
        with pytest.raises(Refused):
            await mastodon.prepare(draft("Bild", pictures=1), discard)
        clock.time += timedelta(hours=1)


async def test_pictures_are_uploaded_with_their_alternative_text_and_sent_in_order(
    server: FakeMastodon, mastodon: Connector
) -> None:
    saved: dict[str, str] = {}

    async def save(name: str, value: str) -> None:
        saved[name] = value

    pictured = draft("eins", pictures=2)
    assert mastodon.needs_preparation(pictured)
    await mastodon.prepare(pictured, save)
    assert not mastodon.needs_preparation(draft("eins", pictures=2, handles=saved))
    await mastodon.publish(draft("eins", pictures=2, handles=saved), 0)
    descriptions = [attachment["description"] for attachment in server.statuses[0]["media_attachments"]]  # type: ignore[attr-defined]
    assert descriptions == ["Bild 0: ein Café", "Bild 1: ein Café"]


async def test_a_picture_is_uploaded_once_however_often_a_draft_is_prepared(
    server: FakeMastodon, mastodon: Connector
) -> None:
    pictured = draft("eins", "zwei", pictures=1)
    for _ in range(2):
        await mastodon.prepare(pictured, discard)
    assert len(server.asked("POST", "/api/v2/media")) == 2


async def test_a_picture_that_is_still_processed_is_waited_for(server: FakeMastodon, mastodon: Connector) -> None:
    server.media_polls = 3
    pictured = draft("eins", pictures=1)
    await mastodon.prepare(pictured, discard)
    assert not mastodon.needs_preparation(pictured)
    assert len(server.asked("GET", "/api/v1/media/500")) == 4


async def test_a_picture_that_takes_too_long_is_tried_again_without_a_second_upload(
    server: FakeMastodon, mastodon: Connector
) -> None:
    server.media_polls = POLLS + 1
    pictured = draft("eins", pictures=1)
    with pytest.raises(NotSent):
        await mastodon.prepare(pictured, discard)
    with pytest.raises(NotSent):
        await mastodon.publish(pictured, 0)
    assert mastodon.needs_preparation(pictured)
    await mastodon.prepare(pictured, discard)
    assert len(server.asked("POST", "/api/v2/media")) == 1
    assert isinstance(await mastodon.publish(pictured, 0), Remote)


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v2/media"), ("GET", "/api/v1/media/500")])
async def test_a_picture_that_the_server_cannot_use_is_the_medias_fault(
    server: FakeMastodon, mastodon: Connector, method: str, path: str
) -> None:
    server.media_polls = 1
    server.fail(method, path, answering(422, json={"error": "ファイル形式が無効です"}))
    with pytest.raises(Refused) as refused:
        await mastodon.prepare(draft("Bild", pictures=1), discard)
    assert refused.value.kind is FailureKind.MEDIA_REJECTED


async def test_a_page_in_place_of_the_limits_is_no_limit(server: FakeMastodon, mastodon: Connector) -> None:
    for version in ("v1", "v2"):
        server.fail("GET", f"/api/{version}/instance", answering(200, html="<h1>Back soon</h1>"))
    with pytest.raises(OutcomeUnknown):
        await mastodon.prepare(draft("x" * 501), discard)
    server.instances["/api/v2/instance"] = instance(max_characters=1000)
    await mastodon.prepare(draft("x" * 501), discard)
