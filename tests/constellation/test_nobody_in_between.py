"""A running installation opens its data to its owner only, and its listeners to permitted callers only."""

from __future__ import annotations

import stat
from pathlib import Path

import asyncpg
import grpc
import httpx2
import pytest
from regie.publisher.v1 import channels_service_pb2 as pb
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceStub
from regie.scheduler.events.v1.scheduler_events_pb2 import PostDue
from regie_chassis.boundary.rpc import RemoteError, call, open_channel
from regie_chassis.events.messaging import BrokerUnavailable, Envelope, subject_of
from regie_chassis.events.nats_broker import NatsBroker
from regie_local.local_cluster import LocalCluster
from regie_local.testing.user import User

pytestmark = pytest.mark.processes


def open_to_others(folder: Path) -> list[str]:
    """Returns the files that other users may read, write or enter."""
    found = [folder, *folder.rglob("*")]
    return [str(path) for path in found if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & 0o077]


async def test_nothing_in_the_folder_is_open_to_other_users(installation: LocalCluster, user: User) -> None:
    await user.connect("private")
    assert open_to_others(installation.folder.path) == []


async def test_nats_takes_nobody_without_a_password_and_no_service_in_anothers_name(
    installation: LocalCluster,
) -> None:
    url = installation.addresses.nats
    assert "@" not in url
    nobody = NatsBroker(url, name="nobody")
    with pytest.raises(BrokerUnavailable, match="Authorization Violation"):
        await nobody.stream_state("regie_scheduler")
    metrics = installation.nats.broker("metrics")
    subject = subject_of(PostDue.DESCRIPTOR.full_name, None).replace("*", "ws_00000000000000000000000000")
    try:
        assert await metrics.publish([Envelope(subject, "forged", b"x")]) == [None]
    finally:
        await metrics.close()


async def test_a_service_answers_no_call_without_an_identity(installation: LocalCluster) -> None:
    async with open_channel(installation.addresses.rpc["publisher"][0]) as channel:
        with pytest.raises(RemoteError) as refused:
            await call(ChannelsServiceStub(channel).ListChannels, pb.ListChannelsRequest(), identity="")
    assert refused.value.grpc_code is grpc.StatusCode.UNAUTHENTICATED


async def test_postgresql_takes_nobody_without_a_password(installation: LocalCluster) -> None:
    url = installation.database_url("publisher").replace("+asyncpg", "")
    without = url.replace(url[url.index("publisher:") + len("publisher:") : url.index("@")], "wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(without, timeout=10)


async def test_a_key_reaches_no_port_of_this_machine_but_the_sandboxes(installation: LocalCluster, user: User) -> None:
    for port in (installation.postgres.port, installation.nats.port, httpx2.URL(installation.addresses.traces).port):
        for scheme in ("http", "https"):
            body = {
                "network": "sandbox",
                "server_url": f"{scheme}://127.0.0.1:{port}",
                "credentials": {"access_token": "sandbox-x"},
            }
            refused = await user.call("POST", "/v1/channels", status=422, json=body)
            assert refused["reason"] == "ADDRESS_REFUSED"


async def test_pages_of_other_origins_reach_neither_the_sandbox_nor_the_traces(user: User) -> None:
    for client in (user.sandbox, user.traces):
        assert (await client.get("/healthz", headers={"Host": "attacker.example"})).status_code == 421
