"""Publishes to JetStream, pipelined, by the wire protocol.

Not through nats-py's `publish_async`: a message that it cannot send costs it a future and a place in its semaphore
for good, and it knows the size of the payload only, while the server counts the headers as well (ADR 0019).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import count

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from regie_chassis.events.messaging import MSG_ID, Ack, Envelope, Unsendable, wire_size

# Errors of a stream that the same message meets each time: too large for the stream, headers too large.
NEVER_STORED = frozenset({10054, 10097})

# RuntimeError and AttributeError: what uvloop and nats-py make of a transport that went away under a write.
FAULTS = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError, RuntimeError, AttributeError)

log = structlog.get_logger()


class PublishFailed(Exception):
    """The stream did not store a message; another try may succeed."""


class AckInbox:
    """The acknowledgements of one client's messages, each under a subject of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = ""
        self._numbers = count()
        self._waiting: dict[str, asyncio.Future[Ack]] = {}

    async def open(self) -> None:
        """Subscribes; called once."""
        self._prefix = self._client.new_inbox()
        await self._client.subscribe(
            f"{self._prefix}.*", cb=self._on_ack, pending_msgs_limit=-1, pending_bytes_limit=-1
        )

    async def publish(self, envelopes: Sequence[Envelope], timeout: float) -> list[Ack]:
        """Sends messages in their order and waits for their acknowledgements, up to `timeout` seconds each way.

        A message that can never be sent is `Unsendable` and holds back no other; None stands for one without an
        acknowledgement.
        """
        acks: list[Ack] = [None] * len(envelopes)
        sent: dict[int, asyncio.Future[Ack]] = {}
        try:
            try:
                async with asyncio.timeout(timeout):
                    for index, envelope in enumerate(envelopes):
                        acks[index] = await self._send(index, envelope, sent)
            except FAULTS as error:
                log.warning("nats.publish_stalled", error=str(error) or type(error).__name__)
            if sent:
                await asyncio.wait(sent.values(), timeout=timeout)
            for index, future in sent.items():
                acks[index] = _outcome(future)
        finally:
            for future in sent.values():
                future.cancel()  # of no effect on one that is done
        return acks

    async def _send(self, index: int, envelope: Envelope, sent: dict[int, asyncio.Future[Ack]]) -> Unsendable | None:
        headers = {MSG_ID: envelope.id, **envelope.headers}
        size, limit = wire_size(envelope.payload, headers), self._client.max_payload
        if size > limit:
            return Unsendable(f"{size:,} bytes with its headers, and this NATS server takes {limit:,}")
        token = str(next(self._numbers))
        future: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: self._waiting.pop(token, None))
        self._waiting[token] = future
        # Kept before the send: it may leave although the wait for it is cut short.
        sent[index] = future
        try:
            # Without a wait of its own for each message, all of them leave in a few large writes.
            await self._client.publish(envelope.subject, envelope.payload, f"{self._prefix}.{token}", headers)
        except (nats.errors.BadSubjectError, nats.errors.BadHeaderError, UnicodeError) as error:
            del sent[index]
            future.cancel()
            return Unsendable(f"its subject or headers cannot be sent: {type(error).__name__}: {error}")
        return None

    async def _on_ack(self, message: Msg) -> None:
        future = self._waiting.get(message.subject.rpartition(".")[2])
        if future is None or future.done():
            return
        if (message.headers or {}).get("Status"):
            future.set_exception(PublishFailed("no stream takes this subject"))
            return
        answer = json.loads(message.data)
        error = answer.get("error")
        if error is None:
            future.set_result(int(answer["seq"]))
        elif error.get("err_code") in NEVER_STORED:
            future.set_result(Unsendable(str(error.get("description"))))
        else:
            future.set_exception(PublishFailed(f"{error.get('err_code')}: {error.get('description')}"))


def _outcome(future: asyncio.Future[Ack]) -> Ack:
    if not future.done() or future.cancelled():
        return None
    error = future.exception()
    if error is not None:
        log.warning("nats.not_acknowledged", error=str(error) or type(error).__name__)
        return None
    return future.result()
