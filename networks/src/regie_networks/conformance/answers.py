"""Answers and failures that every network is tried with, and the verbs that get them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import httpx2

from regie_networks.conformance.harness import Harness
from regie_networks.contract import NetworkConnector
from regie_networks.draft import Draft, Remote
from regie_networks.http import MAX_BODY
from regie_networks.testing.fakes import MemoryHandles, alone

NEVER_LEFT = (httpx2.ConnectError("refused"), httpx2.ConnectTimeout("slow"), httpx2.PoolTimeout("full"))
LOST = (
    httpx2.ReadTimeout("slow"),
    httpx2.WriteTimeout("slow"),
    httpx2.ReadError("cut"),
    httpx2.RemoteProtocolError("no HTTP"),
)
ODD_BODIES = (
    b"",
    b"\xff\x00",
    b"<html><h1>Published</h1></html>",
    b"null",
    b"[]",
    b"{}",
    b'"id"',
    b'{"id": 7, "url": 7, "uri": 7, "cid": 7}',
    b'{"id": "", "url": "", "uri": "", "cid": ""}',
    b'{"id": "a\\u0000b", "url": "javascript:alert(1)", "uri": "at://x/y/z", "cid": "\\n"}',
    b'{"id": "' + b"1" * 5000 + b'", "url": "https://n.example/1", "uri": "' + b"u" * 5000 + b'", "cid": "c"}',
    b'{"id":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"id": "1"' + b" " * MAX_BODY + b"}",
    '{"id": "1"}'.encode("utf-16"),
)
EMPTY_ANSWERS = (b"[]", b'{"posts": []}', b'{"posts": [], "processing": []}')
"""A response about no post at all; not odd as the response to a look."""


def calls(harness: Harness, connector: NetworkConnector, draft: Draft) -> Sequence[Callable[[], Awaitable[object]]]:
    """Returns every verb of the contract that makes a call."""
    remote = Remote(harness.absent_id, "https://network.example/1")
    plain = replace(draft, segments=[replace(draft.segments[0], pictures=(), text="x")])
    return [
        lambda: connector.connect(harness.server_url, harness.credentials),
        lambda: connector.prepare(replace(draft, handles={}), MemoryHandles()),
        lambda: connector.publish(plain, 0),
        lambda: connector.check(plain, 0, "a/../handle"),
        lambda: connector.absence(draft.account),
        lambda: connector.find(plain, 0, alone()),
        lambda: connector.named(plain, 0, harness.address, alone()),
        lambda: connector.observe(draft.account, [remote]),
        lambda: connector.delete(draft.account, remote),
        lambda: connector.observe_account(draft.account),
        lambda: connector.replies(draft.account, remote),
    ]


async def published(connector: NetworkConnector, draft: Draft, index: int) -> Remote:
    """Publishes a segment and returns its place on the network."""
    remote = await connector.publish(draft, index)
    assert isinstance(remote, Remote), remote
    return remote
