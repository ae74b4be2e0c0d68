"""The permissions of an installation's NATS users, and the server's refusals."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js import api
from regie_chassis.events.messaging import BrokerUnavailable, ConsumerSpec, Envelope, stream_of, stream_spec
from regie_chassis.events.nats_access import STREAMS_USER, inbox_prefix
from regie_chassis.events.nats_broker import NatsBroker
from regie_local.nats import EmbeddedNats
from regie_local.nats_users import user_permissions
from regie_local.services import service_specs
from regie_local.testing.waiting import until

PASSWORDS = {user: f"password-of-{user}" for user in user_permissions()}
POST_DUE = "regie.scheduler.v1.post_due.ws_00000000000000000000000000"
SOON = timedelta(seconds=2)

LogIn = Callable[[str], Awaitable["User"]]


class User:
    """A logged-in user, and the server's refusals."""

    def __init__(self) -> None:
        self.client = Client()
        self.refused: list[str] = []

    async def on_error(self, error: Exception) -> None:
        self.refused.append(str(error).lower())

    async def is_refused(self, attempt: Awaitable[object], subject: str) -> bool:
        """True once the server has refused this subject."""
        try:
            await attempt
            await self.client.flush()
        except nats.errors.Error:
            return any(subject.lower() in one for one in self.refused)
        await until(self._heard, what=f"a refusal of {subject}")
        return any(subject.lower() in one for one in self.refused)

    async def _heard(self) -> bool:
        return bool(self.refused)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"), passwords=PASSWORDS)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def log_in(guarded: EmbeddedNats) -> AsyncIterator[LogIn]:
    users: list[User] = []

    async def connect(name: str) -> User:
        user = User()
        await user.client.connect(
            guarded.url, user=name, password=PASSWORDS[name], inbox_prefix=inbox_prefix(name), error_cb=user.on_error
        )
        users.append(user)
        return user

    yield connect
    for user in users:
        await user.client.close()


@pytest.mark.parametrize(("name", "password"), [("metrics", ""), ("metrics", "wrong"), ("sandbox", "x")])
async def test_nobody_comes_in_without_their_password(guarded: EmbeddedNats, name: str, password: str) -> None:
    broker = NatsBroker(guarded.url, name=name, password=password)
    with pytest.raises(BrokerUnavailable, match="Authorization Violation"):
        await broker.stream_state("regie_publisher")


def test_the_file_with_the_passwords_is_its_owners_alone(guarded: EmbeddedNats) -> None:
    assert stat.S_IMODE((guarded.folder / "nats.conf").stat().st_mode) == 0o600
    assert stat.S_IMODE(guarded.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("user", sorted(user_permissions()))
async def test_nobody_publishes_in_the_name_of_another(log_in: LogIn, user: str) -> None:
    someone = await log_in(user)
    for service in service_specs():
        if service != user:
            someone.refused.clear()
            subject = POST_DUE.replace("scheduler", service)
            assert await someone.is_refused(someone.client.publish(subject, b"forged"), subject)


@pytest.mark.parametrize("user", sorted(user_permissions()))
async def test_nobody_listens_to_events_or_to_the_inbox_of_another(log_in: LogIn, user: str) -> None:
    someone = await log_in(user)
    other = "scheduler" if user != "scheduler" else "publisher"
    for subject in ("regie.>", ">", "$JS.>", "_INBOX.>", f"{inbox_prefix(other)}.>"):
        someone.refused.clear()
        assert await someone.is_refused(someone.client.subscribe(subject), subject)


@pytest.mark.parametrize("user", sorted(service_specs()))
async def test_no_service_shapes_empties_or_deletes_a_stream_or_reads_as_another(log_in: LogIn, user: str) -> None:
    someone = await log_in(user)
    other = "publisher" if user != "publisher" else "audience"
    for stream in map(stream_of, service_specs()):
        for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT"):
            subject = f"$JS.API.STREAM.{verb}.{stream}"
            someone.refused.clear()
            assert await someone.is_refused(someone.client.publish(subject, b"{}", reply="_INBOX_x.1"), subject)
        for subject in (
            f"$JS.API.DIRECT.GET.{stream}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{other}",
            f"$JS.API.CONSUMER.DELETE.{stream}.{other}",
            f"$JS.API.CONSUMER.CREATE.{stream}.{other}",
            f"$JS.ACK.{stream}.{other}.1.1.1.1.1",
        ):
            someone.refused.clear()
            assert await someone.is_refused(someone.client.publish(subject, b"{}", reply="_INBOX_x.1"), subject)


async def test_a_service_cannot_have_its_own_events_copied_to_another_services_subjects(log_in: LogIn) -> None:
    audience = await log_in("audience")
    copying = api.StreamConfig(
        name="regie_audience",
        subjects=["regie.audience.>"],
        republish=api.RePublish(src="regie.audience.>", dest=POST_DUE),
    )
    change = audience.client.jetstream(timeout=0.5).update_stream(copying)
    assert await audience.is_refused(change, "$JS.API.STREAM.UPDATE.regie_audience")


async def test_the_maker_of_streams_reads_and_says_nothing(log_in: LogIn) -> None:
    maker = await log_in(STREAMS_USER)
    for subject in ("$JS.API.STREAM.MSG.GET.regie_scheduler", "$JS.API.CONSUMER.CREATE.regie_scheduler.streams"):
        maker.refused.clear()
        assert await maker.is_refused(maker.client.publish(subject, b"{}", reply="_INBOX_x.1"), subject)


@pytest.mark.parametrize(
    ("service", "source"), [(reader, one) for reader, spec in service_specs().items() for one in spec.reads]
)
async def test_every_service_reads_what_it_subscribes_to_and_settles_it(
    guarded: EmbeddedNats, service: str, source: str
) -> None:
    saying, reading = guarded.broker(source), guarded.broker(service)
    subject = f"regie.{source}.v1.something_{service}.ws_1"
    try:
        await saying.ensure_stream(stream_spec(source))
        assert (await saying.publish([Envelope(subject, f"{source}-{service}", b"x")]))[0]
        spec = ConsumerSpec(stream_of(source), service, (subject,))
        first = await reading.fetch(spec, 10, SOON)
        assert [one.envelope.payload for one in first] == [b"x"]
        await reading.nak(first, timedelta(0))
        again = await reading.fetch(spec, 10, SOON)
        assert [one.deliveries for one in again] == [2]
        await reading.ack(again)

        async def settled() -> bool:
            return await reading.pending(spec) == 0

        await until(settled, what="the ack")
    finally:
        await saying.close()
        await reading.close()


async def test_streams_are_there_again_after_their_files_were_lost(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path, passwords=PASSWORDS)
    await asyncio.to_thread(server.start)
    broker = server.broker("scheduler")
    try:
        first = await broker.stream_state("regie_scheduler")
        await asyncio.to_thread(server.stop)
        (tmp_path / "jetstream").rename(tmp_path / "lost")
        await asyncio.to_thread(server.start)

        async def made_anew() -> bool:
            try:
                return (await broker.stream_state("regie_scheduler")).create_time > first.create_time
            except BrokerUnavailable:
                return False

        await until(made_anew, what="the stream")
    finally:
        await broker.close()
        await asyncio.to_thread(server.stop)


def test_the_configuration_is_what_the_server_reads(guarded: EmbeddedNats) -> None:
    users = json.loads((guarded.folder / "nats.conf").read_text())["authorization"]["users"]
    assert {one["user"]: one["password"] for one in users} == PASSWORDS


async def test_streams_of_a_server_that_knew_no_users_are_kept(tmp_path: Path) -> None:
    before = EmbeddedNats(tmp_path)
    await asyncio.to_thread(before.start)
    anybody = NatsBroker(before.url, name="scheduler")
    await anybody.ensure_stream(stream_spec("scheduler"))
    await anybody.publish([Envelope(POST_DUE, "1", b"waiting")])
    await anybody.close()
    await asyncio.to_thread(before.stop)
    after = EmbeddedNats(tmp_path, passwords=PASSWORDS)
    await asyncio.to_thread(after.start)
    publisher = after.broker("publisher")
    try:
        found = await publisher.fetch(ConsumerSpec("regie_scheduler", "publisher", (POST_DUE,)), 10, SOON)
        assert [one.envelope.payload for one in found] == [b"waiting"]
    finally:
        await publisher.close()
        await asyncio.to_thread(after.stop)
