"""Attacks at the REST edge: heads, slow clients, pictures, segments, scopes."""

from __future__ import annotations

import asyncio
import io
import struct
from urllib.parse import urlsplit

import httpx2
from PIL import Image
from scene import ATTACKER_ADDRESS, Scene

HEAD = 80_000_000  # bytes
PIECE = 1_000_000  # bytes
SLOW_CLIENTS = 200
MAX_MEMORY = 1_000_000_000  # bytes of the publisher with its children
MARKER = b"POSITION-OF-A-PERSON"


async def endless_head(scene: Scene) -> list[str]:
    """M1: one header of 80 MB, without a key: refused, whether or not the rest is still read and thrown away."""
    reader, writer = await _connect(scene)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
        for _ in range(HEAD // PIECE):
            writer.write(b"a" * PIECE)
            await asyncio.wait_for(writer.drain(), 20)
    except (ConnectionError, TimeoutError):
        pass  # cut off in the middle
    try:
        answer = await asyncio.wait_for(reader.read(100), 20)
    except (ConnectionError, TimeoutError):
        answer = b""
    finally:
        writer.close()
    return [] if answer[:13] in (b"", b"HTTP/1.1 431 ") else [f"a head of {HEAD} bytes was answered with {answer!r}"]


async def slow_clients(scene: Scene) -> list[str]:
    """M1: 200 connections that send half a head and then nothing; the server ends them."""
    connections = [await _connect(scene) for _ in range(SLOW_CLIENTS)]
    for _, writer in connections:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    try:
        async with asyncio.timeout(20):
            await asyncio.gather(*(_read_to_end(reader) for reader, _ in connections))
    except TimeoutError:
        return ["connections with half a head are still open after 20 s"]
    finally:
        for _, writer in connections:
            writer.close()
    return []


async def costly_pictures(scene: Scene) -> list[str]:
    """H5: six progressive JPEGs of 355 KB with scans that take minutes, beside a small picture of the neighbour."""
    bomb = _many_scans()
    attacks = [asyncio.create_task(_upload(scene.attacker.http, bomb)) for _ in range(6)]
    await asyncio.sleep(0.5)
    problems: list[str] = []
    for _ in range(3):
        response = await _upload(scene.neighbour, _png())
        if response.status_code != 201:
            problems.append(f"the neighbour's picture: {response.status_code} {response.text[:100]}")
    for attack in attacks:
        response = await attack
        if response.status_code not in (422, 429, 503):
            problems.append(f"a costly picture: {response.status_code} {response.text[:100]}")
    if scene.peak_rss > MAX_MEMORY:
        problems.append(f"the publisher took {scene.peak_rss / 1e6:.0f} MB")
    return problems


async def pictures_that_tell(scene: Scene) -> list[str]:
    """M3: a comment, and bytes behind the end, of a JPEG, a PNG and a GIF; the oracle is the store's own bytes."""
    comment = b"\xff\xfe" + struct.pack(">H", len(MARKER) + 2) + MARKER
    jpeg, gif = _encoded("JPEG"), _encoded("GIF")
    inputs = {
        "image/jpeg": jpeg[:2] + comment + jpeg[2:] + MARKER,
        "image/png": _encoded("PNG") + MARKER,
        "image/gif": gif[:-1] + b"\x21\xfe" + bytes([len(MARKER)]) + MARKER + b"\x00\x3b" + MARKER,
    }
    problems: list[str] = []
    for content_type, data in inputs.items():
        response = await scene.attacker.call("POST", "/v1/media", content=data, headers={"Content-Type": content_type})
        if response.status_code != 201:
            problems.append(f"{content_type}: {response.status_code} {response.text[:100]}")
    stored = [path for path in (scene.installation.folder.path / "media").rglob("*") if path.is_file()]
    return problems + [f"{path.name} in the store has the marker" for path in stored if MARKER in path.read_bytes()]


async def many_segments(scene: Scene) -> list[str]:
    """M2: 400 segments of 97 conditions, then 1,000 profiles in one call."""
    rule = {"any": [{"attribute": "city", "operator": "contains", "value": f"x{number}"} for number in range(97)]}
    made = 0
    for number in range(400):
        body = {"name": f"segment {number}", "rule": rule}
        made += (await scene.attacker.call("POST", "/v1/segments", json=body)).status_code == 201
    profiles = [{"external_id": f"p{number}", "attributes": {"city": "Lyon"}} for number in range(1_000)]
    response = await scene.attacker.call("POST", "/v1/profiles", json={"profiles": profiles})
    problems = [] if made < 400 else ["400 segments were taken: there is no limit"]
    # 503 and 504 tell to come again and store nothing; what counts is what the neighbour saw meanwhile.
    if response.status_code not in (200, 201, 429, 503, 504):
        problems.append(f"1,000 profiles: {response.status_code} {response.text[:100]}")
    return problems


async def narrow_scopes(scene: Scene) -> list[str]:
    """M5: a key for segments reads no profiles, and a key for events no posts."""
    problems: list[str] = []
    async with _with_scopes(scene, await _key(scene, ["segments:read"])) as client:
        rule = {"attribute": "city", "operator": "present"}
        response = await client.post("/v1/segments/preview", json={"rule": rule})
        if response.status_code == 200 and response.json().get("sample"):
            problems.append("segments:read shows whole profiles")
    secret = "a text that events:read must not read"  # noqa: S105 - a post's text
    async with _with_scopes(scene, await _key(scene, ["events:read"])) as client:
        channels = (await scene.attacker.call("GET", "/v1/channels")).json()["channels"]
        reading = asyncio.create_task(_stream(client))
        await asyncio.sleep(1)
        await scene.attacker.publish([channels[0]["channel_id"]], secret)
        if secret in await reading:
            problems.append("events:read shows titles of posts")
    return problems


async def script_by_a_person(scene: Scene) -> list[str]:
    """M4: a person names a script as the address of a post; refused before the delivery is even looked for."""
    body = {"published": True, "remote_url": "javascript:alert(1)"}
    response = await scene.attacker.call("POST", "/v1/deliveries/dlv_00000000000000000000000000/resolve", json=body)
    return [] if response.status_code == 422 else [f"{response.status_code} {response.text[:100]}"]


async def _stream(client: httpx2.AsyncClient) -> str:
    """Reads the stream of events for five seconds."""
    text = ""
    try:
        async with asyncio.timeout(5), client.stream("GET", "/v1/events") as response:
            async for line in response.aiter_lines():
                text += line
    except TimeoutError:
        pass  # a stream has no end
    return text


async def _key(scene: Scene, scopes: list[str]) -> str:
    response = await scene.attacker.call("POST", "/v1/api-keys", json={"name": "narrow", "scopes": scopes})
    response.raise_for_status()
    return str(next(value for value in response.json().values() if str(value).startswith("regie_")))


def _with_scopes(scene: Scene, key: str) -> httpx2.AsyncClient:
    address = scene.installation.addresses.gateway
    return httpx2.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {key}"}, trust_env=False)


async def _connect(scene: Scene) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = urlsplit(scene.installation.addresses.gateway).port
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER_ADDRESS, 0))


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(4096):
            pass
    except ConnectionError:
        pass  # ended by the server, in its harder way


async def _upload(client: httpx2.AsyncClient, data: bytes) -> httpx2.Response:
    content_type = "image/png" if data[:4] == b"\x89PNG" else "image/jpeg"
    return await client.post("/v1/media", content=data, headers={"Content-Type": content_type})


def _many_scans() -> bytes:
    """Returns a progressive JPEG of 7,000 by 7,000 pixels with its last scan repeated 900 times."""
    stream = io.BytesIO()
    Image.new("RGB", (7_000, 7_000), (200, 30, 30)).save(stream, "JPEG", progressive=True, quality=10)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 900 + b"\xff\xd9"


def _png() -> bytes:
    return _encoded("PNG")


def _encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 200, 30)).save(stream, kind)
    return stream.getvalue()
