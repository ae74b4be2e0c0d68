"""Pictures stored and read back."""

from __future__ import annotations

from io import BytesIO

import pytest
from obstore.store import MemoryStore
from PIL import Image
from regie.ids.v1.prefixes import MEDIA
from regie.publisher.events.v1.publisher_events_pb2 import FAILURE_KIND_MEDIA_REJECTED, DeliveryFailed
from regie_chassis.boundary.ids import new_id, show_id
from regie_networks.draft import Draft
from regie_publisher.media.store import InvalidMedia, MediaQueueFull, MediaStore, MediaTooCostly, MediaTooLarge
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.pictures import animation, many_scans, plain, telling_exif


def png() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (4, 3), "teal").save(buffer, "PNG")
    return buffer.getvalue()


async def test_the_same_bytes_are_the_same_medium_within_a_workspace(harness: PublisherHarness) -> None:
    now = harness.clock.now()
    one = await harness.media_store.upload(png(), workspace_id=harness.workspace_id, now=now)
    again = await harness.media_store.upload(png(), workspace_id=harness.workspace_id, now=now)
    other = await harness.media_store.upload(png(), workspace_id=new_id(), now=now)
    assert one == again
    assert other.id != one.id


async def test_a_connector_reads_the_bytes_of_a_posts_picture(harness: PublisherHarness) -> None:
    stored = await harness.media_store.upload(png(), workspace_id=harness.workspace_id, now=harness.clock.now())
    seen: list[tuple[bytes, str, int]] = []

    async def read(draft: Draft, _index: int) -> None:
        [picture] = draft.segments[0].pictures
        seen.append((await picture.read(), picture.alt_text, picture.width))

    harness.connector.before_publish = read
    await harness.receive(harness.due(await harness.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await harness.work()
    assert seen == [(png(), "a picture", 4)]


async def test_another_workspaces_picture_is_not_published(harness: PublisherHarness) -> None:
    stored = await harness.media_store.upload(png(), workspace_id=new_id(), now=harness.clock.now())
    await harness.receive(harness.due(await harness.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await harness.work()
    assert harness.connector.calls == []
    [event] = await harness.events(DeliveryFailed)
    assert event.kind == FAILURE_KIND_MEDIA_REJECTED


async def test_a_picture_that_the_store_has_lost_delays_the_post_and_sends_nothing(harness: PublisherHarness) -> None:
    stored = await harness.media_store.upload(png(), workspace_id=harness.workspace_id, now=harness.clock.now())
    lost = MediaStore(harness.database, MemoryStore(), harness.pictures)

    async def read(draft: Draft, _index: int) -> None:
        [picture] = draft.segments[0].pictures
        media = (await lost.find(harness.workspace_id, [stored.id]))[stored.id]
        await lost.picture(media, picture.media_id, "").read()

    harness.connector.before_publish = read
    await harness.receive(harness.due(await harness.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await harness.work()
    assert harness.connector.posts == []
    assert await harness.states() == ["pending"]


async def test_what_is_stored_is_what_is_reported(harness: PublisherHarness) -> None:
    data = plain("JPEG", (40, 30), exif=telling_exif(6))
    stored = await harness.media_store.upload(data, workspace_id=harness.workspace_id, now=harness.clock.now())
    assert (stored.width, stored.height, stored.frames) == (30, 40, 1)
    kept = await harness.media_store.picture(stored, "media_1", "").read()
    assert len(kept) == stored.size
    with Image.open(BytesIO(kept)) as image:
        assert image.size == (30, 40)


async def test_the_same_picture_is_the_same_medium_though_it_is_encoded_anew(harness: PublisherHarness) -> None:
    data = plain("JPEG", (40, 30), exif=telling_exif(6))
    now = harness.clock.now()
    one = await harness.media_store.upload(data, workspace_id=harness.workspace_id, now=now)
    again = await harness.media_store.upload(data, workspace_id=harness.workspace_id, now=now)
    kept = await harness.media_store.picture(one, "media_1", "").read()
    assert one == again == await harness.media_store.upload(kept, workspace_id=harness.workspace_id, now=now)


async def test_an_animation_is_known_as_one_from_its_upload_on(harness: PublisherHarness) -> None:
    stored = await harness.media_store.upload(
        animation("GIF"), workspace_id=harness.workspace_id, now=harness.clock.now()
    )
    found = await harness.media_store.find(harness.workspace_id, [stored.id])
    assert (stored.frames, found[stored.id].frames) == (3, 3)
    assert harness.media_store.picture(stored, "media_1", "").frames == 3


async def test_every_refusal_says_what_to_do(harness: PublisherHarness) -> None:
    refusals = {
        b"<svg/>": (InvalidMedia, "PNG, JPEG, WebP, GIF, HEIC or AVIF"),
        plain("PNG", (10_000, 5_001)): (MediaTooLarge, "are allowed"),
        many_scans((4000, 4000), 200): (MediaTooCostly, "save it anew"),
    }
    for data, (kind, message) in refusals.items():
        with pytest.raises(kind, match=message) as refused:
            await harness.media_store.upload(data, workspace_id=harness.workspace_id, now=harness.clock.now())
        assert (refused.value.field, refused.value.retryable) == ("data", False)
    await harness.pictures.stop()
    with pytest.raises(MediaQueueFull) as full:
        await harness.media_store.upload(png(), workspace_id=harness.workspace_id, now=harness.clock.now())
    assert full.value.retryable
