"""Attacks through a hostile network server: by the content, the size and the speed of its responses."""

from __future__ import annotations

import asyncio
from dataclasses import fields

import httpx2
from scene import Scene, eventually
from server import HostileServer

TOO_MANY = 10**15 + 1
MAX_TEXT = 500
"""Characters of a handle that Régie keeps."""
FLOOD = 400
"""Posts, each on five channels."""
FLOOD_AHEAD = 20.0
"""Seconds over which the posts are planned."""
FIRST_PAGE = 80
"""People that Régie reads from one answer."""


async def oversized_account(scene: Scene) -> list[str]:
    """C1: names of 800,000 characters, in the two sizes that NATS refuses in its two ways."""
    problems: list[str] = []
    for username, domain in ((800_000, 800_000), (248_376, 800_000)):
        _reset(scene)
        scene.hostile.account = {"id": str(username), "username": "u" * username, "acct": "u", "display_name": "x"}
        scene.hostile.domain = "d" * domain
        response = await scene.attacker.connect(scene.hostile.url)
        problems += _unexpected(response, 201, 422)
        if response.status_code == 201 and len(response.json()["handle"]) > MAX_TEXT:
            problems.append(f"a handle of {len(response.json()['handle'])} characters was kept")
    return problems


async def oversized_status(scene: Scene) -> list[str]:
    """C1: the id and the address of a published status are each close to 1 MB; the outcome is recorded all the same."""
    channel_id = await _channel(scene, "oversized-status")
    scene.hostile.status = {"id": "9" * 400_000, "url": "https://hostile.example/" + "é" * 400_000}
    post_id = await scene.attacker.publish([channel_id], "oversized")
    return await _settles(scene, post_id)


async def absurd_people(scene: Scene) -> list[str]:
    """H1: 25 people with ids and names of 603 characters like a post."""
    people = [{"id": f"{number:03}" + "9" * 600, "acct": f"{number:03}" + "p" * 600} for number in range(25)]
    return await _observed(scene, "absurd-people", posts=1, counts={"favourites_count": 25}, likers=people)


async def absurd_numbers(scene: Scene) -> list[str]:
    """H1, H2: 24 posts with numbers past any bound, then 8 with numbers past 64 bits."""
    problems = await _observed(scene, "absurd-1", posts=24, counts={"favourites_count": TOO_MANY})
    return problems + await _observed(scene, "absurd-2", posts=8, counts={"favourites_count": 2**63})


async def endless_people(scene: Scene) -> list[str]:
    """M8: one answer names 25,000 people."""
    people = [{"id": f"m8-{number}", "acct": f"m8-{number}"} for number in range(25_000)]
    problems = await _observed(scene, "endless-people", posts=1, counts={"favourites_count": 25_000}, likers=people)
    count = 0
    page = ""
    while count <= FIRST_PAGE:
        response = await scene.attacker.call("GET", "/v1/profiles", params={"page_size": "200", "page_token": page})
        answer = response.json()
        count += sum("m8-" in profile["external_id"] for profile in answer["profiles"])
        page = answer["next_page_token"]
        if not page:
            return problems
    return [*problems, f"one answer made more than {FIRST_PAGE} profiles"]


async def hanging_server(scene: Scene) -> list[str]:
    """H4: 250 posts on five channels of a server that answers one byte a second."""
    channels = [await _channel(scene, f"hanging-{number}") for number in range(5)]
    scene.hostile.trickle = True
    await asyncio.gather(
        *(scene.attacker.publish([channels[number % 5]], f"hanging {number}", after=2) for number in range(250))
    )
    await asyncio.sleep(20)
    return []


async def flood(scene: Scene) -> list[str]:
    """H4: 2,000 calls due in the same instant, at a server that answers at once."""
    channels = [await _channel(scene, f"flood-{number}") for number in range(5)]
    clock = asyncio.get_running_loop()
    due = clock.time() + FLOOD_AHEAD

    async def plan(numbers: range) -> int:
        """Plans posts one after the other; returns how many were taken."""
        taken = 0
        for number in numbers:
            post_id = await scene.attacker.publish(channels, f"flood {number}", after=max(due - clock.time(), 1))
            taken += bool(post_id)
        return taken

    planned = len(channels) * sum(await asyncio.gather(*(plan(range(start, FLOOD, 20)) for start in range(20))))

    async def all_out() -> bool:
        return sum(text.startswith("flood") for text in scene.hostile.texts) >= planned

    if planned < FLOOD * len(channels) // 2:
        return [f"only {planned} calls could be planned, which is no flood"]
    return [] if await eventually(all_out, within=90) else ["the flood itself did not come out"]


async def one_byte_chunks(scene: Scene) -> list[str]:
    """H6: three answers of two million chunks of one byte, at once."""
    _reset(scene)
    scene.hostile.one_byte_chunks = 2_000_000
    responses = await asyncio.gather(*(scene.attacker.connect(scene.hostile.url) for _ in range(3)))
    return [problem for response in responses for problem in _unexpected(response, 409, 422, 429, 503, 504)]


async def script_address(scene: Scene) -> list[str]:
    """M4: the address of a published status is a script."""
    channel_id = await _channel(scene, "script")
    scene.hostile.status = {"url": "javascript:alert(document.domain)//"}
    post_id = await scene.attacker.publish([channel_id], "script")
    problems = await _settles(scene, post_id)
    shown = (await scene.attacker.call("GET", f"/v1/posts/{post_id}")).text
    shown += (await scene.attacker.call("GET", f"/v1/posts/{post_id}/timeline")).text
    return problems + (["the post shows a javascript: address"] if "javascript:" in shown else [])


async def long_account_id(scene: Scene) -> list[str]:
    """M9: the account's id has 4,000 characters of three bytes."""
    _reset(scene)
    number = "".join(chr(0x4E00 + (index * 7919) % 20_000) for index in range(4_000))
    scene.hostile.account = {"id": number, "username": "eve", "acct": "eve", "display_name": "Eve"}
    return _unexpected(await scene.attacker.connect(scene.hostile.url), 422)


async def loopback_ports(scene: Scene) -> list[str]:
    """M6: addresses of this machine that are no network's: a service, PostgreSQL, a closed port."""
    at = scene.installation.addresses
    problems: list[str] = []
    places = [f"127.0.0.1:{port}" for port in (at.gateway.rpartition(":")[2], at.postgres_port, 1)]
    for network in ("mastodon", "bluesky", "sandbox"):
        for server_url in (f"{scheme}://{place}" for scheme in ("http", "https") for place in places):
            credentials = {"access_token": "x"} if network != "bluesky" else {"identifier": "a.b", "app_password": "x"}
            body = {"network": network, "server_url": server_url, "credentials": credentials}
            response = await scene.attacker.call("POST", "/v1/channels", json=body)
            if "ADDRESS_REFUSED" not in response.text:
                problems.append(f"{network} at {server_url} was not refused: {response.text[:200]}")
    return problems


def _reset(scene: Scene) -> None:
    fresh = HostileServer()
    for each in fields(HostileServer):
        if not each.name.startswith("_"):
            setattr(scene.hostile, each.name, getattr(fresh, each.name))


async def _channel(scene: Scene, name: str) -> str:
    _reset(scene)
    scene.hostile.account = {"id": name, "username": name, "acct": name, "display_name": name}
    response = await scene.attacker.connect(scene.hostile.url)
    response.raise_for_status()
    return str(response.json()["channel_id"])


async def _observed(
    scene: Scene, name: str, *, posts: int, counts: dict[str, int], likers: list[dict[str, str]] | None = None
) -> list[str]:
    """Publishes and waits until the first numbers were read."""
    channel_id = await _channel(scene, name)
    scene.hostile.counts, scene.hostile.likers = dict(counts), list(likers or [])
    ids = [await scene.attacker.publish([channel_id], f"{name} {number}") for number in range(posts)]
    problems = [problem for post_id in ids for problem in await _settles(scene, post_id)]
    read = scene.hostile.requests

    async def was_read() -> bool:
        return scene.hostile.requests > read + posts

    if not await eventually(was_read):
        problems.append("the numbers of the attacker's posts were not read")
    await asyncio.sleep(3)  # what was read is on its way to the other services
    return problems


async def _settles(scene: Scene, post_id: str) -> list[str]:
    """Waits until the post of the attacker has an end or is known to be open for a person: its outcome was recorded."""

    async def state() -> bool:
        response = await scene.attacker.call("GET", f"/v1/posts/{post_id}")
        return any(
            variant["state"] in ("published", "failed", "unknown") for variant in response.json().get("variants", [])
        )

    if not post_id:
        return ["the attacker's post was not taken"]
    return [] if await eventually(state) else [f"no outcome was recorded of the attacker's {post_id}"]


def _unexpected(response: httpx2.Response, *expected: int) -> list[str]:
    if response.status_code in expected:
        return []
    return [f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text[:200]}"]
