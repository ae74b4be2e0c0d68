"""Pictures and videos stored and read back."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from io import BytesIO

import obstore
import pytest
from obstore.store import MemoryStore
from PIL import Image
from regie.ids.v1.prefixes import MEDIA
from regie.publisher.events.v1.publisher_events_pb2 import FAILURE_KIND_MEDIA_REJECTED, DeliveryFailed
from regie_chassis.boundary.ids import new_id, show_id
from regie_networks.bluesky.rules import review
from regie_networks.draft import Account, Draft, Segment
from regie_networks.errors import FailureKind, Unacceptable
from regie_publisher.media.store import STREAM_CHUNK, MediaStore
from regie_publisher.media.uploads import InvalidMedia, MediaQueueFull, MediaTooCostly, MediaTooLarge
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.pictures import animation, many_scans, plain, telling_exif
from regie_publisher.testing.videos import mp4


def png() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (4, 3), "teal").save(buffer, "PNG")
    return buffer.getvalue()


async def test_the_same_bytes_are_the_same_medium_within_a_workspace(harness: PublisherHarness) -> None:
    one = await harness.upload(png())
    again = await harness.upload(png())
    other = await harness.upload(png(), workspace_id=new_id())
    assert one == again
    assert other.id != one.id


async def test_a_connector_reads_the_bytes_of_a_posts_picture(harness: PublisherHarness) -> None:
    stored = await harness.upload(png())
    seen: list[tuple[bytes, str, int]] = []

    async def read(draft: Draft, _index: int) -> None:
        [picture] = draft.segments[0].pictures
        seen.append((await picture.read(), picture.alt_text, picture.width))

    harness.connector.before_publish = read
    await harness.receive(harness.due(await harness.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await harness.work()
    assert seen == [(png(), "a picture", 4)]


async def test_another_workspaces_picture_is_not_published(harness: PublisherHarness) -> None:
    stored = await harness.upload(png(), workspace_id=new_id())
    await harness.receive(harness.due(await harness.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await harness.work()
    assert harness.connector.calls == []
    [event] = await harness.events(DeliveryFailed)
    assert event.kind == FAILURE_KIND_MEDIA_REJECTED


async def test_a_picture_that_the_store_has_lost_delays_the_post_and_sends_nothing(harness: PublisherHarness) -> None:
    stored = await harness.upload(png())
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
    stored = await harness.upload(data)
    assert (stored.width, stored.height, stored.frames) == (30, 40, 1)
    kept = await harness.media_store.picture(stored, "media_1", "").read()
    assert len(kept) == stored.size
    with Image.open(BytesIO(kept)) as image:
        assert image.size == (30, 40)


async def test_the_same_picture_is_the_same_medium_though_it_is_encoded_anew(harness: PublisherHarness) -> None:
    data = plain("JPEG", (40, 30), exif=telling_exif(6))
    one = await harness.upload(data)
    again = await harness.upload(data)
    kept = await harness.media_store.picture(one, "media_1", "").read()
    assert one == again == await harness.upload(kept)


async def test_an_animation_is_known_as_one_from_its_upload_on(harness: PublisherHarness) -> None:
    stored = await harness.upload(animation("GIF"))
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
            await harness.upload(data)
        assert (refused.value.field, refused.value.retryable) == ("upload_id", False)
    await harness.pictures.stop()
    with pytest.raises(MediaQueueFull) as full:
        await harness.upload(png())
    assert full.value.retryable


async def test_a_connector_streams_the_bytes_of_a_posts_video(harness: PublisherHarness) -> None:
    data = mp4(size=3_000_000)
    stored = await harness.upload(data, declared_type="application/octet-stream")
    assert (stored.content_type, stored.size, stored.sha256) == ("video/mp4", len(data), sha256(data).digest())
    assert (stored.width, stored.height, stored.frames, stored.duration) == (640, 360, 1, timedelta(seconds=2.5))
    seen: list[list[bytes]] = []

    async def read(draft: Draft, _index: int) -> None:
        [segment] = draft.segments
        assert segment.video is not None
        assert (segment.pictures, segment.video.alt_text, segment.video.duration) == ((), "a picture", stored.duration)
        seen.extend([[chunk async for chunk in segment.video.stream()] for _ in range(2)])

    harness.connector.before_publish = read
    await harness.receive(harness.due(await harness.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await harness.work()
    assert [b"".join(chunks) for chunks in seen] == [data, data]
    assert max(len(chunk) for chunk in seen[0]) <= STREAM_CHUNK


async def test_the_same_video_is_the_same_medium_within_a_workspace(harness: PublisherHarness) -> None:
    one = await harness.upload(mp4(size=10))
    assert await harness.upload(mp4(size=10)) == one
    assert (await harness.upload(mp4(size=10), workspace_id=new_id())).id != one.id
    assert (await harness.upload(mp4(size=11))).id != one.id


async def test_two_videos_in_a_part_are_refused_before_anything_is_sent(harness: PublisherHarness) -> None:
    stored = [await harness.upload(mp4(size=size)) for size in (1, 2)]
    attachments = tuple(show_id(MEDIA, one.id) for one in stored)
    await harness.receive(harness.due(await harness.channel(), attachments=attachments))
    await harness.work()
    assert harness.connector.calls == []
    [event] = await harness.events(DeliveryFailed)
    assert event.kind == FAILURE_KIND_MEDIA_REJECTED


async def test_a_video_on_a_network_that_takes_none_is_refused_with_the_rules_words(harness: PublisherHarness) -> None:
    stored = await harness.upload(mp4())
    video = harness.media_store.attachment(stored, "media_1", "")
    account = Account("https://bsky.example", "did:x", "ada", None)  # type: ignore[arg-type]  # nothing is sent
    draft = Draft(account, [Segment("key", "hello", video=video)], "", "en", harness.clock.now())  # type: ignore[arg-type]
    with pytest.raises(Unacceptable, match="Bluesky has no format video; choose one of text, image") as refused:
        review(draft)
    assert refused.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("data", "declared", "words"),
    [
        (b"no video", "video/mp4", "the content type says video, but the bytes are no MP4"),
        (mp4(size=100)[:-50], "", "no whole MP4 video"),
        (mp4(brand=b"qt  "), "video/quicktime", "QuickTime"),
    ],
)
async def test_a_video_that_is_none_is_refused_with_the_way_out(
    harness: PublisherHarness, data: bytes, declared: str, words: str
) -> None:
    with pytest.raises(InvalidMedia, match=words) as refused:
        await harness.upload(data, declared_type=declared)
    assert "save the video anew as MP4" in refused.value.message


async def test_an_upload_is_no_medium_and_its_writer_removes_it(harness: PublisherHarness) -> None:
    await harness.upload(mp4())
    paths = [one["path"] for page in obstore.list(harness.objects) for one in page]
    assert len(paths) == 1
    assert paths[0].startswith(f"{harness.workspace_id}/")
