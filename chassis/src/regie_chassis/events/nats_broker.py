"""The broker on NATS JetStream.

Reads through `nats_pull` rather than nats-py's `fetch` (ADR 0005).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, timedelta
from pathlib import Path

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api

from regie_chassis.events.messaging import (
    MSG_ID,
    Ack,
    BrokerUnavailable,
    ConsumerSpec,
    Envelope,
    NoSuchStream,
    Received,
    StreamSpec,
    StreamState,
)
from regie_chassis.events.nats_access import inbox_prefix
from regie_chassis.events.nats_publish import FAULTS, AckInbox
from regie_chassis.events.nats_pull import ConsumerGone, Pull
from regie_chassis.process.settings import NatsSettings

CONNECT_TIMEOUT = 3.0  # seconds
REQUEST_TIMEOUT = 5.0  # seconds
PING_INTERVAL = 2  # seconds; two lost pings make a silent server a dead one in about six seconds
V1_ACK_PARTS = 9  # of an ack's subject; later forms name a domain and an account besides
LOST_FOR = 30.0  # seconds; a client that found no server for so long is replaced

log = structlog.get_logger()


class NatsBroker:
    """JetStream over one connection, which is opened at the first use and reopened for ever.

    `name` is also the user of the login where there is a password, and of the inbox for replies (`nats_access`).
    """

    def __init__(self, url: str, *, name: str, credentials: Path | None = None, password: str = "") -> None:
        self._url = url
        self._name = name
        self._credentials = credentials
        self._password = password
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
        self._acks: AckInbox | None = None
        self._lost_since: float | None = None
        self._pulls: dict[tuple[str, str], Pull] = {}
        self._connecting = asyncio.Lock()
        self._opening = asyncio.Lock()

    async def _jetstream(self) -> JetStreamContext:
        async with self._connecting:
            await self._drop_dead_client()
            if self._stream is None:
                client = Client()
                try:
                    # nats-py's own first connect would go on for ever, as its reconnects shall.
                    async with asyncio.timeout(CONNECT_TIMEOUT):
                        await client.connect(
                            servers=self._url.split(","),
                            name=self._name,
                            connect_timeout=2,
                            allow_reconnect=True,
                            reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds; fractions work
                            max_reconnect_attempts=-1,
                            ping_interval=PING_INTERVAL,
                            max_outstanding_pings=2,
                            error_cb=_on_error,
                            inbox_prefix=inbox_prefix(self._name),
                            user_credentials=str(self._credentials) if self._credentials else None,
                            user=self._name if self._password else None,
                            password=self._password or None,
                        )
                except FAULTS as error:
                    with suppress(*FAULTS):
                        await client.close()
                    raise BrokerUnavailable(
                        f"NATS does not answer at {self._url}: {client.last_error or error}"
                    ) from error
                self._client = client
                self._stream = client.jetstream(timeout=REQUEST_TIMEOUT)
        if self._client is None or not self._client.is_connected:
            raise BrokerUnavailable("NATS is not connected; reconnecting")
        return self._stream

    async def _drop_dead_client(self) -> None:
        """Lets go of a client that is closed or has been without a server for long; the next use connects anew.

        nats-py closes itself for good at any error of the server that it does not know, and after failures of its
        own reconnecting; nothing else would ever bring it back.
        """
        client, now = self._client, asyncio.get_running_loop().time()
        if client is None or client.is_connected:
            self._lost_since = None
            return
        if self._lost_since is None:
            self._lost_since = now
        if not client.is_closed and now - self._lost_since < LOST_FOR:
            return
        log.warning("nats.client_replaced", closed=client.is_closed, error=str(client.last_error or ""))
        self._client = self._stream = self._acks = self._lost_since = None
        self._pulls.clear()
        with suppress(*FAULTS):
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await client.close()

    def _connected(self) -> Client:
        if self._client is None:  # replaced by another task since
            raise BrokerUnavailable("NATS was lost; reconnecting")
        return self._client

    async def ensure_stream(self, spec: StreamSpec) -> None:
        config = api.StreamConfig(
            name=spec.name,
            subjects=list(spec.subjects),
            storage=api.StorageType.FILE,
            retention=api.RetentionPolicy.LIMITS,
            num_replicas=spec.replicas,
            max_age=spec.max_age.total_seconds(),
            duplicate_window=spec.duplicate_window.total_seconds(),
            allow_direct=True,
        )
        jetstream = await self._jetstream()
        try:
            try:
                existing = await jetstream.stream_info(spec.name)
            except nats.js.errors.NotFoundError:
                await jetstream.add_stream(config)
            else:
                # Most users may look at their stream and not shape it (`nats_access`).
                if _form_of(existing.config) != _form_of(config):
                    await jetstream.update_stream(config)
        except FAULTS as error:
            raise BrokerUnavailable(
                f"stream {spec.name} cannot be made: {error}; its maker is `python -m regie_chassis.events.streams`"
            ) from error

    async def stream_state(self, name: str) -> StreamState:
        info = await self._stream_info(name)
        created = info.created
        if created is None:
            raise BrokerUnavailable(f"stream {name} does not say when it was made")
        return StreamState(last_seq=info.state.last_seq, create_time=created.astimezone(UTC))

    async def _stream_info(self, name: str) -> api.StreamInfo:
        jetstream = await self._jetstream()
        try:
            return await jetstream.stream_info(name)
        except nats.js.errors.NotFoundError as error:
            raise NoSuchStream(f"stream {name} does not exist yet") from error
        except FAULTS as error:
            raise BrokerUnavailable(f"stream {name} cannot be asked: {error}") from error

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Ack]:
        await self._jetstream()
        return await (await self._ack_inbox()).publish(envelopes, REQUEST_TIMEOUT)

    async def _ack_inbox(self) -> AckInbox:
        async with self._opening:
            if self._acks is None:
                acks = AckInbox(self._connected())
                try:
                    await acks.open()
                except FAULTS as error:
                    raise BrokerUnavailable(f"NATS does not take a subscription: {error}") from error
                self._acks = acks
            return self._acks

    async def ensure_consumer(self, spec: ConsumerSpec) -> None:
        jetstream = await self._jetstream()
        config = api.ConsumerConfig(
            durable_name=spec.name,
            ack_policy=api.AckPolicy.EXPLICIT,
            deliver_policy=api.DeliverPolicy.ALL,
            ack_wait=spec.ack_wait.total_seconds(),
            max_ack_pending=spec.max_ack_pending,
            max_deliver=-1,
            filter_subjects=list(spec.subjects),
        )
        try:
            await jetstream.add_consumer(spec.stream, config)
        except nats.js.errors.NotFoundError as error:
            raise NoSuchStream(f"stream {spec.stream} does not exist yet") from error
        except FAULTS as error:
            raise BrokerUnavailable(f"consumer {spec.name} cannot be made: {error}") from error

    async def fetch(self, spec: ConsumerSpec, limit: int, timeout: timedelta) -> list[Received]:
        await self._jetstream()
        try:
            async with self._opening:
                pull = self._pulls.get((spec.stream, spec.name))
                if pull is None:
                    await self.ensure_consumer(spec)
                    pull = await Pull.open(self._connected(), spec)
                    self._pulls[spec.stream, spec.name] = pull
            messages = await pull.take(limit, timeout.total_seconds())
        except ConsumerGone:
            await self._forget(spec)
            return []
        except FAULTS as error:
            await self._forget(spec)
            raise BrokerUnavailable(f"consumer {spec.name} cannot be read: {error}") from error
        return [_received(message) for message in messages]

    async def _forget(self, spec: ConsumerSpec) -> None:
        pull = self._pulls.pop((spec.stream, spec.name), None)
        if pull:
            with suppress(*FAULTS):
                await pull.close()

    async def ack(self, received: Sequence[Received]) -> None:
        await self._settle(received, b"+ACK")

    async def nak(self, received: Sequence[Received], delay: timedelta) -> None:
        nanoseconds = int(delay.total_seconds() * 1e9)
        await self._settle(received, b"-NAK " + json.dumps({"delay": nanoseconds}).encode())

    async def _settle(self, received: Sequence[Received], word: bytes) -> None:
        await self._jetstream()
        client = self._connected()
        try:
            for one in received:
                await client.publish(str(one.token), word)
        except FAULTS as error:
            raise BrokerUnavailable(f"messages cannot be settled: {error}") from error

    async def pending(self, spec: ConsumerSpec) -> int:
        jetstream = await self._jetstream()
        try:
            info = await jetstream.consumer_info(spec.stream, spec.name)
        except nats.js.errors.NotFoundError:
            return 0
        except FAULTS as error:
            raise BrokerUnavailable(f"consumer {spec.name} cannot be asked: {error}") from error
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def close(self) -> None:
        client, self._client, self._stream, self._acks = self._client, None, None, None
        pulls, self._pulls = self._pulls, {}
        if client:
            with suppress(*FAULTS):
                for pull in pulls.values():
                    for message in await pull.drain():
                        await client.publish(message.reply, b"-NAK")  # asked for ahead, never handled
                await client.flush(timeout=2)  # what was acked leaves before the connection does
            await client.close()


def _form_of(config: api.StreamConfig) -> tuple[object, ...]:
    """Returns the settings that `ensure_stream` compares and sets."""
    return (
        sorted(config.subjects or ()),
        config.storage,
        config.retention,
        config.num_replicas,
        config.max_age,
        config.duplicate_window,
        config.allow_direct,
    )


def open_nats(settings: NatsSettings, name: str) -> NatsBroker:
    """Returns the broker that the settings describe; connects at the first use."""
    return NatsBroker(
        settings.nats_url,
        name=name,
        credentials=settings.nats_credentials,
        password=settings.nats_password.get_secret_value(),
    )


def _received(message: Msg) -> Received:
    deliveries, stream_seq = counts_of(message.reply)
    headers = message.headers or {}
    return Received(
        envelope=Envelope(message.subject, headers.get(MSG_ID, ""), message.data, headers),
        stream_seq=stream_seq,
        deliveries=deliveries,
        token=message.reply,
    )


def counts_of(reply: str) -> tuple[int, int]:
    """Returns the number of deliveries and the sequence in the stream, as the subject of the ack carries them.

    nats-py reads the whole subject into objects, for several times as long. See ADR-15 of NATS for both forms.
    """
    parts = reply.split(".")
    deliveries, stream_seq = parts[4:6] if len(parts) == V1_ACK_PARTS else parts[6:8]
    return int(deliveries), int(stream_seq)


async def _on_error(error: Exception) -> None:
    log.warning("nats.connection_error", error=str(error) or type(error).__name__)
