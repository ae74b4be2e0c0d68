"""The replies in a thread as an AppView shows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime

from regie_networks.bluesky.records import remote_post
from regie_networks.draft import Remote
from regie_networks.errors import OutcomeUnknown
from regie_networks.replies import Reply

MAX_READ = 2000
"""Replies that are looked at."""


def thread_replies(body: Mapping[str, object], remote: Remote) -> Iterator[Reply]:
    """Yields the replies of a `getPostThread` answer, each generation before the next.

    Posts that are deleted, blocked or hidden come without their content, and are skipped with their replies.
    """
    thread = body.get("thread")
    if not isinstance(thread, dict) or not isinstance(thread.get("post"), dict):
        raise OutcomeUnknown("The answer about the thread cannot be read")
    waiting = deque([(thread, remote.id)])
    seen = 0
    while waiting and seen < MAX_READ:
        node, parent_id = waiting.popleft()
        children = node.get("replies")
        for child in children if isinstance(children, list) else []:
            post = child.get("post") if isinstance(child, dict) else None
            if isinstance(post, dict):
                seen += 1
                reply = _reply(post, parent_id)
                waiting.append((child, reply.remote_id))
                yield reply


def _reply(post: Mapping[str, object], parent_id: str) -> Reply:
    author, record = post.get("author"), post.get("record")
    uri, cid, did = _text(post, "uri"), _text(post, "cid"), _text(author, "did")
    remote = remote_post(uri, cid, did)
    return Reply(
        remote_id=remote.id,
        parent_remote_id=parent_id,
        author_id=did,
        author_handle=_text(author, "handle"),
        text=_text(record, "text"),
        create_time=_moment(_text(post, "indexedAt")),
        url=remote.url,
    )


def _text(value: object, name: str) -> str:
    member = value.get(name) if isinstance(value, dict) else None
    return member if isinstance(member, str) else ""


def _moment(value: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None
