"""Uploads: streamed into the media store, handed on by reference, and gone when they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from regie.publisher.v1.media_service_pb2 import CompleteUploadRequest
from regie_chassis.process.clock import Clock
from regie_gateway.http.protocol import STALL_TIMEOUT
from regie_gateway.testing.harness import GatewayHarness, MakeHarness
from regie_local.testing.waiting import until

FTYP = b"\0\0\0\x20ftypisom"
MEGABYTE = 1024 * 1024
LARGE = 192 * MEGABYTE
MOST_MEMORY = 64 * MEGABYTE


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """The folder of the media store."""
    return tmp_path / "media"


def kept(media: Path) -> dict[str, bytes]:
    """Returns the files in the store by path, also those that are still written."""
    return {str(path): path.read_bytes() for path in media.rglob("*") if path.is_file()}


def asked(world: GatewayHarness) -> list[CompleteUploadRequest]:
    """Returns the references that reached the publisher."""
    received = world.backends.publisher.memory.received
    return [request for request in received if isinstance(request, CompleteUploadRequest)]


async def test_the_publisher_gets_a_reference_to_bytes_in_the_store(world: GatewayHarness, media: Path) -> None:
    world.backends.publisher.memory.hold = asyncio.Event()
    async with world.client() as client:
        upload = asyncio.create_task(
            client.post("/v1/media", content=b"a picture", headers={"Content-Type": "a/b; c=d"})
        )

        async def handed_on() -> list[CompleteUploadRequest]:
            return asked(world)

        [request] = await until(handed_on, what="the reference")
        stored = kept(media)
        world.backends.publisher.memory.hold.set()
        answer = await upload
    assert (answer.status_code, answer.json()["size"]) == (201, 9)
    assert list(stored.values()) == [b"a picture"]
    assert [name.split("/")[-1] for name in stored] == [request.upload_id]
    assert (request.size, request.sha256, request.declared_type) == (9, sha256(b"a picture").digest(), "a/b")
    assert kept(media) == {}


async def test_the_same_bytes_under_a_key_get_the_same_answer_and_others_none(
    world: GatewayHarness, media: Path
) -> None:
    headers = {"Idempotency-Key": "one"}
    async with world.client() as client:
        first = await client.post("/v1/media", content=b"a picture", headers=headers)
        again = await client.post("/v1/media", content=pieces(b"a pic", b"ture"), headers=headers)
        other = await client.post("/v1/media", content=b"b picture", headers=headers)
        wrong = await client.post("/v1/media", content=unread(), headers={"Idempotency-Key": "a b"})
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    assert (other.status_code, other.json()["reason"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (wrong.status_code, wrong.json()["reason"]) == (400, "INVALID_IDEMPOTENCY_KEY")
    assert len(asked(world)) == 1
    assert kept(media) == {}


async def test_a_lost_answer_is_repeated_under_the_same_request_id(world: GatewayHarness, media: Path) -> None:
    world.backends.publisher.memory.lose_answers = 1
    headers = {"Idempotency-Key": "one"}
    async with world.client() as client:
        lost = await client.post("/v1/media", content=b"a picture", headers=headers)
        assert (lost.status_code, kept(media)) == (503, {})
        again = await client.post("/v1/media", content=b"a picture", headers=headers)
    assert again.status_code == 201
    one, two = asked(world)
    assert one.request_id == two.request_id
    assert one.upload_id != two.upload_id


async def test_a_file_past_its_limit_leaves_nothing(make_world: MakeHarness, clock: Clock, media: Path) -> None:
    world = await make_world(clock, picture_limit=MEGABYTE, video_limit=2 * MEGABYTE)
    async with world.client() as client:
        for head, limit in ((b"\x89PNG\r\n\x1a\n", MEGABYTE), (FTYP, 2 * MEGABYTE)):
            fits = await client.post("/v1/media", content=pieces(head, bytes(limit - len(head))))
            over = await client.post("/v1/media", content=pieces(head, bytes(limit - len(head)), b"x"))
            assert (fits.status_code, over.status_code) == (201, 413), head
            assert over.json()["reason"] == "REQUEST_TOO_LARGE"
    assert len(asked(world)) == 2
    assert kept(media) == {}


async def test_a_client_that_breaks_off_leaves_nothing(world: GatewayHarness, media: Path) -> None:
    async with world.gateway.app:
        reader, writer = await connect(world, size=20 * MEGABYTE)
        writer.write(FTYP + bytes(12 * MEGABYTE))
        await writer.drain()

        async def coming() -> bool:
            return bool(kept(media))

        async def gone() -> bool:
            return not kept(media)

        await until(coming, what="the first part")
        writer.close()
        await until(gone, what="nothing left")
        assert await reader.read() == b""
    assert asked(world) == []


async def test_a_client_that_sends_no_more_is_given_up_and_leaves_nothing(world: GatewayHarness, media: Path) -> None:
    async with world.gateway.app:
        reader, writer = await connect(world, size=20 * MEGABYTE)
        writer.write(FTYP + bytes(12 * MEGABYTE))

        async def coming() -> bool:
            return bool(kept(media))

        await until(coming, what="the first part")
        answering = asyncio.create_task(reader.read())

        async def given_up() -> bool:
            world.gateway.http.look(asyncio.get_running_loop().time() + STALL_TIMEOUT + 1)
            return answering.done()

        await until(given_up, what="the refusal")
        assert answering.result().startswith(b"HTTP/1.1 408 ")
        writer.close()

        async def gone() -> bool:
            return not kept(media)

        await until(gone, what="nothing left")
    assert asked(world) == []


async def test_a_workspace_uploads_a_few_files_at_once_and_leaves_room_for_others(
    make_world: MakeHarness, clock: Clock, media: Path
) -> None:
    world = await make_world(clock, uploads=4, uploads_per_workspace=3)
    stranger = await world.workspace("second")
    go = asyncio.Event()
    async with world.client() as client, world.client(stranger) as other:
        slow = [asyncio.create_task(client.post("/v1/media", content=waits(go))) for _ in range(3)]

        async def all_come() -> bool:
            return len(kept(media)) == 3

        await until(all_come, what="three uploads")
        refused = await client.post("/v1/media", content=b"one more")
        passed = await other.post("/v1/media", content=b"the first")
        go.set()
        answers = [await one for one in slow]
        after = await client.post("/v1/media", content=b"one more")
    assert (refused.status_code, refused.json()["reason"], refused.headers["retry-after"]) == (
        429,
        "TOO_MANY_UPLOADS",
        "5",
    )
    assert [answer.status_code for answer in (passed, *answers, after)] == [201] * 5
    assert kept(media) == {}


async def test_a_store_that_does_not_answer_is_unavailable(world: GatewayHarness, media: Path) -> None:
    (media / "uploads").write_bytes(b"where the folder should be")
    async with world.client() as client:
        answer = await client.post("/v1/media", content=b"a picture")
    assert (answer.status_code, answer.json()["reason"]) == (503, "MEDIA_STORE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"
    assert asked(world) == []


async def test_a_large_file_takes_no_more_memory_than_a_few_parts(world: GatewayHarness, media: Path) -> None:
    process, peak = psutil.Process(), 0

    async def video() -> AsyncIterator[bytes]:
        nonlocal peak
        chunk = bytes(MEGABYTE)
        yield FTYP + chunk[len(FTYP) :]
        for _ in range(LARGE // MEGABYTE - 1):
            peak = max(peak, process.memory_info().rss)
            yield chunk

    async with world.gateway.app, world.network_client() as client:
        before = process.memory_info().rss
        answer = await client.post("/v1/media", content=video(), timeout=60)
    assert (answer.status_code, answer.json()["size"]) == (201, LARGE)
    assert peak - before < MOST_MEMORY
    assert kept(media) == {}


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def waits(go: asyncio.Event) -> AsyncIterator[bytes]:
    """Sends enough for a first part of the object, and the rest when it may."""
    yield FTYP + bytes(6 * MEGABYTE)
    await go.wait()
    yield b"the end"


async def unread() -> AsyncIterator[bytes]:
    raise AssertionError("the body is not asked for")
    yield b""


async def connect(world: GatewayHarness, *, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begins an upload below the level of a client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(world.gateway.http.url).port)
    head = (
        f"POST /v1/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.token}\r\nContent-Length: {size}\r\n\r\n"
    )
    writer.write(head.encode())
    return reader, writer
