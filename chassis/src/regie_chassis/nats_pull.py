"""Pulls messages of a JetStream consumer by the wire protocol.

Not through nats-py's `fetch`: that one waits for a full batch until its timeout, which would make a lone message late
by the timeout (ADR 0005).
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from regie_chassis.messaging import ConsumerSpec

PULL_BYTES = 16 * 1024 * 1024  # of the messages of one request; hundreds of the largest would fill the memory
PULL_EXPIRES = 2.0  # seconds; a pull request is lost with its connection, so none is long


class ConsumerGone(Exception):
    """The server no longer knows the consumer."""


class Pull:
    """The messages that the server was asked for; the next batch is asked for while the last one is handled."""

    def __init__(self, client: Client, spec: ConsumerSpec, inbox: str, subscription: Subscription) -> None:
        self.subscription = subscription
        self._client = client
        self._inbox = inbox
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}"
        self._owed = 0
        self._asked_until = 0.0
        self._taking = asyncio.Lock()

    @classmethod
    async def open(cls, client: Client, spec: ConsumerSpec) -> Pull:
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, pending_msgs_limit=-1, pending_bytes_limit=-1)
        return cls(client, spec, inbox, subscription)

    async def take(self, limit: int, timeout: float) -> list[Msg]:
        """Returns what is there as soon as something is; asks the server again when an earlier request is over.

        One at a time: of two that see the last message, one would wait for it in vain and lose what it holds.
        """
        async with self._taking:
            return await self._take(limit, timeout)

    async def _take(self, limit: int, timeout: float) -> list[Msg]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            found = await self.ready(limit)
            if self._owed <= 0 or loop.time() >= self._asked_until:
                await self._ask(limit)
            if found or loop.time() >= deadline:
                return found
            until = min(deadline, self._asked_until)
            with suppress(nats.errors.TimeoutError):
                message = await self.subscription.next_msg(timeout=max(until - loop.time(), 0.001))
                if self._is_message(message):
                    return [message, *await self.ready(limit - 1)]

    async def ready(self, limit: int) -> list[Msg]:
        """Returns what the server has already sent."""
        found: list[Msg] = []
        while len(found) < limit and self.subscription.pending_msgs:
            message = await self.subscription.next_msg(timeout=1)
            if self._is_message(message):
                found.append(message)
        return found

    async def _ask(self, limit: int) -> None:
        request = {"batch": limit, "expires": int(PULL_EXPIRES * 1e9), "max_bytes": PULL_BYTES}
        await self._client.publish(self._next, json.dumps(request).encode(), self._inbox)
        self._owed = limit
        self._asked_until = asyncio.get_running_loop().time() + PULL_EXPIRES + 0.1

    def _is_message(self, message: Msg) -> bool:
        """Tells messages from the server's own words about a request, which end that request."""
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None:
            self._owed -= 1
            return True
        self._owed = 0
        description = (message.headers or {}).get("Description", "")
        if status == "503" or (status == "409" and "consumer" in description.lower()):
            raise ConsumerGone
        return False
