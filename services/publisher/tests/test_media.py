"""Pictures stored and read back."""

from __future__ import annotations

from io import BytesIO

from obstore.store import MemoryStore
from PIL import Image
from regie.publisher.events.v1.publisher_events_pb2 import DeliveryFailed
from regie_chassis.ids import MEDIA, new_id, show_id
from regie_publisher.connectors.connector import Draft
from regie_publisher.media import Library
from regie_publisher.testing.desk import Desk


def png() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (4, 3), "teal").save(buffer, "PNG")
    return buffer.getvalue()


async def test_the_same_bytes_are_the_same_medium_within_a_workspace(desk: Desk) -> None:
    now = desk.clock.now()
    one = await desk.library.upload(png(), workspace_id=desk.workspace_id, now=now)
    again = await desk.library.upload(png(), workspace_id=desk.workspace_id, now=now)
    other = await desk.library.upload(png(), workspace_id=new_id(), now=now)
    assert one == again
    assert other.id != one.id


async def test_a_connector_reads_the_bytes_of_a_posts_picture(desk: Desk) -> None:
    stored = await desk.library.upload(png(), workspace_id=desk.workspace_id, now=desk.clock.now())
    seen: list[tuple[bytes, str, int]] = []

    async def read(draft: Draft, _index: int) -> None:
        [picture] = draft.segments[0].pictures
        seen.append((await picture.read(), picture.alt_text, picture.width))

    desk.connector.before_publish = read
    await desk.receive(desk.due(await desk.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await desk.work()
    assert seen == [(png(), "a picture", 4)]


async def test_another_workspaces_picture_is_not_published(desk: Desk) -> None:
    stored = await desk.library.upload(png(), workspace_id=new_id(), now=desk.clock.now())
    await desk.receive(desk.due(await desk.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await desk.work()
    assert desk.connector.calls == []
    [event] = await desk.said(DeliveryFailed)
    assert event.kind == "media_rejected"


async def test_a_picture_that_the_store_has_lost_delays_the_post_and_sends_nothing(desk: Desk) -> None:
    stored = await desk.library.upload(png(), workspace_id=desk.workspace_id, now=desk.clock.now())
    lost = Library(desk.database, MemoryStore())

    async def read(draft: Draft, _index: int) -> None:
        [picture] = draft.segments[0].pictures
        media = (await lost.find(desk.workspace_id, [stored.id]))[stored.id]
        await lost.picture(media, picture.media_id, "").read()

    desk.connector.before_publish = read
    await desk.receive(desk.due(await desk.channel(), attachments=(show_id(MEDIA, stored.id),)))
    await desk.work()
    assert desk.connector.posts == []
    assert await desk.states() == ["pending"]
