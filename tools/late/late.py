"""Posts to a stand-in of each class of network through a proxy that loses answers and delays calls (`make late`).

Compares Régie's states with each class's own table, prints the result, and fails on a broken promise. The second
round hands calls on long after the quiet time; it is reported as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import oracle
from fates import Fates
from joserfc.jwk import OKPKey
from PIL import Image
from proxy import Proxy
from regie.ids.v1.prefixes import API_KEY, CHANNEL, WORKSPACE
from regie.publisher.v1.channels_service_pb2 import ConnectChannelRequest
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceStub
from regie_chassis.boundary.identity import Caller, Signer
from regie_chassis.boundary.ids import new_id, parse_id, show_id
from regie_chassis.boundary.rpc import call, open_channel
from regie_local.local_cluster import LocalCluster
from standins import TOKENS, Bluesky, BusyMastodon, Opaque, Searchable, StandIn

ACCOUNTS = 4
"""For each class."""
SPREAD = 15.0  # seconds over which the posts are due
MARGIN = 1 / 12
"""Late calls land up to this share of the quiet time before its end: ten seconds of two minutes."""
CALL_TIMEOUT = 20.0  # seconds after which the publisher gives a call up
PATIENCE = 10  # looks without an open delivery, until no more are expected
LEASE = 30.0  # seconds, of a publisher that was killed
OPAQUE = "opaque"
CLASSES = {
    "a key of our own (Bluesky)": "bluesky",
    "a key that is honoured (Mastodon)": "honouring",
    "no key, readable (GoToSocial)": "mastodon",
    "no key, searchable (sandbox)": "sandbox",
    "nothing can be read": "opaque",
}


@dataclass(slots=True)
class Class:
    """One class of network in a round."""

    name: str
    kind: str
    fates: Fates
    proxies: list[Proxy] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)

    @property
    def network(self) -> str:
        return "mastodon" if self.kind == "honouring" else self.kind


class Client:
    """The REST gateway, as somebody with one key."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def call(self, path: str, **sent: Any) -> Any:
        answer = await self._http.post(path, **sent)
        if not answer.is_success:
            raise SystemExit(f"POST {path}: {answer.status_code} {answer.text}")
        return answer.json()

    async def connect(self, network: str, url: str) -> str:
        credentials = {"access_token": TOKENS.get(network, "")}
        if network == "bluesky":
            credentials = {"identifier": "late.example", "app_password": "late"}
        body = {"network": network, "server_url": url, "credentials": credentials}
        return str((await self.call("/v1/channels", json=body))["channel_id"])

    async def upload(self, number: int) -> str:
        picture = io.BytesIO()
        colour = (number % 256, number // 256 % 256, 99)
        Image.new("RGB", (32, 32), colour).save(picture, "PNG")
        headers = {"Content-Type": "image/png"}
        return str((await self.call("/v1/media", content=picture.getvalue(), headers=headers))["media_id"])

    async def schedule(self, channel: str, segment: dict[str, Any], at: float) -> str:
        local_time = datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
        body = {
            "title": "late",
            "variants": [{"channel_id": channel, "segments": [segment]}],
            "publish_at": {"local_time": local_time, "time_zone": "UTC"},
        }
        return str((await self.call("/v1/posts", json=body))["post_id"])


async def play(options: argparse.Namespace, *, beyond: bool) -> list[oracle.Tally]:
    """Plays one round on an installation of its own and returns the counts by class."""
    async with _networks(options, beyond=beyond) as classes:
        places = [url.removeprefix("http://") for one in classes for url in one.urls]
        env = {
            "PUBLISHER_ALLOWED_HOSTS": ",".join(places),
            "PUBLISHER_QUIET_SECONDS": str(options.quiet),
            "REGIE_LOG_LEVEL": "ERROR",
        }
        with tempfile.TemporaryDirectory(prefix="regie-late-") as folder:
            programs = {"publisher": [str(Path(__file__).with_name("publisher.py"))]}
            installation = LocalCluster(Path(folder), env={"publisher": env}, programs=programs, fsync=False)
            await asyncio.to_thread(installation.start)
            try:
                return await _play(installation, classes, options)
            finally:
                await asyncio.to_thread(installation.stop)


async def _play(installation: LocalCluster, classes: list[Class], options: argparse.Namespace) -> list[oracle.Tally]:
    http = httpx2.AsyncClient(
        base_url=installation.addresses.gateway,
        headers={"Authorization": f"Bearer {installation.api_key}"},
        timeout=30,
        trust_env=False,
    )
    async with http:
        client = Client(http)
        for one in classes:
            connect = partial(_connect_inside, installation, http) if one.network == OPAQUE else client.connect
            one.channels = [await connect(one.network, url) for url in one.urls]
        ids, end = await _plan(client, classes, options)
        await _wait(end - SPREAD / 2)
        await asyncio.to_thread(installation.kill, "publisher")
        await asyncio.to_thread(installation.restart, "publisher")
        await _wait(end + 2)
        await _cancel_some(http, random.Random(options.seed).sample(ids, len(ids) // 10))
        return await _until_ended(installation, classes, options)


async def _connect_inside(installation: LocalCluster, http: httpx2.AsyncClient, network: str, url: str) -> str:
    """Connects an account of a network that exists only here, past the gateway, which knows documented ones only."""
    workspace_id = parse_id(WORKSPACE, (await http.get("/v1/workspace")).json()["workspace_id"])
    key = OKPKey.import_key(installation.folder.secrets(installation.services).identity_private_key)
    caller = Caller(workspace_id, show_id(API_KEY, new_id()))
    identity = Signer(key).sign(caller, audience="publisher", now=datetime.now(UTC))
    request = ConnectChannelRequest(
        request_id=str(new_id()), network=network, server_url=url, credentials={"access_token": TOKENS[network]}
    )
    async with open_channel(installation.addresses.rpc["publisher"][0]) as channel:
        response = await call(ChannelsServiceStub(channel).ConnectChannel, request, identity=identity)
    return str(response.channel.channel_id)


async def _plan(client: Client, classes: list[Class], options: argparse.Namespace) -> tuple[list[str], float]:
    """Schedules the posts of all classes in turn: plain ones, identical pairs, and pictures without words.

    Returns their ids and when the last is due.
    """
    count = options.posts * len(classes)
    begin = time.time() + 3 + count / 15
    ids: list[str] = []
    for number in range(options.posts):
        for network in classes:
            at = begin + SPREAD * number / options.posts
            channel = network.channels[number // 2 % len(network.channels)]
            segment: dict[str, Any] = {"text": f"post number {number}: {_words(number)}"}
            if number % 10 in (2, 3):  # neighbours on one channel
                segment = {"text": f"the same words twice, in {number // 10}"}
            elif number % 10 in (6, 7) and network.network == "mastodon":
                attached = {"media_id": await client.upload(len(ids)), "alt_text": "a square"}
                segment = {"text": "", "attachments": [attached]}
            ids.append(await client.schedule(channel, segment, at))
    return ids, begin + SPREAD


async def _cancel_some(http: httpx2.AsyncClient, ids: list[str]) -> None:
    """Cancels posts with calls that may be on their way; a post that has ended refuses."""
    for post_id in ids:
        answer = await http.post(f"/v1/posts/{post_id}/cancel")
        if answer.status_code not in (httpx2.codes.OK, httpx2.codes.CONFLICT):
            raise SystemExit(f"cancel: {answer.status_code} {answer.text}")


async def _until_ended(
    installation: LocalCluster, classes: list[Class], options: argparse.Namespace
) -> list[oracle.Tally]:
    """Waits for the end of every delivery, at most for as long as two calls and their quiet times take."""
    of_class = {parse_id(CHANNEL, channel): one for one in classes for channel in one.channels}
    deadline = time.time() + LEASE + 2 * (CALL_TIMEOUT + options.quiet) + options.posts / 4 + SPREAD
    idle = 0
    while True:
        rows = await oracle.read_deliveries(installation.database_url("publisher"))
        deliveries = [one for one in rows if one["channel_id"] in of_class]
        still_open = sum(map(oracle.is_open, deliveries))
        print(f"\r  {len(deliveries)} deliveries, {still_open} open   ", end="", flush=True)
        idle = 0 if still_open else idle + 1
        if time.time() > deadline or idle > PATIENCE:
            break
        for proxy in (proxy for one in classes for proxy in one.proxies):
            if isinstance(proxy.server, BusyMastodon):
                proxy.server.write_foreign()
        await asyncio.sleep(1)
    for proxy in (proxy for one in classes for proxy in one.proxies):
        await proxy.until_landed()
    print()
    rows = await oracle.read_deliveries(installation.database_url("publisher"))
    tallies = []
    for one in classes:
        own = [delivery for delivery in rows if of_class.get(delivery["channel_id"]) is one]
        pairs = zip(one.channels, one.proxies, strict=True)
        tables = {parse_id(CHANNEL, channel): proxy.server.rows for channel, proxy in pairs}
        tallies.append(oracle.count(own, tables))
    return tallies


@asynccontextmanager
async def _networks(options: argparse.Namespace, *, beyond: bool) -> AsyncIterator[list[Class]]:
    classes = []
    for number, (name, kind) in enumerate(CLASSES.items()):
        quiet = options.quiet / 4 if kind == "honouring" else options.quiet
        limit = 3 * options.quiet if beyond else quiet * (1 - options.margin)
        one = Class(name, kind, Fates(options.seed + number, limit))
        one.proxies = [Proxy(_server(kind, account), one.fates) for account in range(ACCOUNTS)]
        one.urls = [await proxy.start() for proxy in one.proxies]
        classes.append(one)
    try:
        yield classes
    finally:
        for proxy in (proxy for one in classes for proxy in one.proxies):
            await proxy.stop()


def _server(kind: str, account: int) -> StandIn:
    match kind:
        case "bluesky":
            return Bluesky(f"did:plc:late{account}")
        case "honouring" | "mastodon":
            return BusyMastodon(honours=kind == "honouring")
        case "sandbox":
            return Searchable()
        case _:
            return Opaque()


def _words(number: int) -> str:
    return " ".join(random.Random(number).choices(("sun", "rain", "snow", "wind", "fog", "hail"), k=6))


async def _wait(until: float) -> None:
    await asyncio.sleep(max(until - time.time(), 0))


def _report(tallies: list[oracle.Tally]) -> None:
    names = ("posts", "once", "not there", "a person", "doubled", "lost", "another's", "denied but there")
    print(f"  {'':36}" + "".join(f"{name:>12}" for name in names[:-1]) + f"{names[-1]:>18}")
    for name, tally in zip(CLASSES, tallies, strict=True):
        counts = (tally.posts, tally.once, tally.not_there, tally.person, tally.doubled, tally.lost, tally.anothers)
        print(f"  {name:36}" + "".join(f"{number:>12}" for number in counts) + f"{tally.denied:>18}")
        for example in tally.examples[:5]:
            print(f"      {example}")


def main() -> int:
    """Returns 0 where every promise held within the quiet time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=200, help="for each class")
    parser.add_argument(
        "--quiet", type=float, default=120.0, help="PUBLISHER_QUIET_SECONDS, scaled down for a short run"
    )
    parser.add_argument("--margin", type=float, default=MARGIN, help="the share of it before its end that stays free")
    parser.add_argument("--seed", type=int, default=int(datetime.now(UTC).timestamp()) % 100_000)
    parser.add_argument("--beyond", action=argparse.BooleanOptionalAction, default=True, help="play the second round")
    options = parser.parse_args()
    print(f"{options.posts} posts for each class, quiet time {options.quiet:g} s, seed {options.seed}")
    broken = 0
    for beyond in (False, True) if options.beyond else (False,):
        began = time.monotonic()
        tallies = asyncio.run(play(options, beyond=beyond))
        took = timedelta(seconds=round(time.monotonic() - began))
        margin = options.quiet * options.margin
        when = "up to three quiet times after" if beyond else f"up to {margin:.3g} s before the quiet time's end"
        print(f"\nCalls land {when} ({took}):")
        _report(tallies)
        broken += 0 if beyond else sum(tally.broken for tally in tallies)
    print("\nEvery promise held within the quiet time." if not broken else f"\n{broken} promises were broken.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
