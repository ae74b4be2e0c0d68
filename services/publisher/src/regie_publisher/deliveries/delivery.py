"""A delivery as the loops hold it, its outcome, and the time spans of the protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from regie_networks.draft import Remote
from regie_networks.errors import FailureKind

LEASE = timedelta(seconds=30)
NETWORK_TIMEOUT = timedelta(seconds=20)
"""The limit of one publish, enforced outside of its connector."""
MARGIN = timedelta(seconds=5)
"""For clocks that differ. A call may still begin for LEASE - NETWORK_TIMEOUT - MARGIN after its mark."""
PREPARE_TIMEOUT = timedelta(minutes=10)
"""The limit of uploads, which outlives the lease; every saved handle renews the lease."""
FIND_DELAY = timedelta(seconds=2)
"""The delay of the first lookup, which finds most posts. An empty first lookup proves nothing yet (`absence.py`)."""
THREAD_GRACE = timedelta(hours=1)
"""The time after the miss time in which a thread that has begun is finished: half a thread is worse than a late one."""


class State(StrEnum):
    """The state of a delivery (docs/architecture.md)."""

    PENDING = "pending"
    CLAIMED = "claimed"
    PUBLISHING = "publishing"
    PROCESSING = "processing"
    PUBLISHED = "published"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MISSED = "missed"
    CANCELLED = "cancelled"
    REMOVED = "removed"
    """Only in the timeline: the network no longer has the published post."""


ENDED = frozenset({State.PUBLISHED, State.FAILED, State.MISSED, State.CANCELLED})
"""States that only a person leaves, by another revision of the post."""


class Cause(StrEnum):
    """The cause of a change of state, as the timeline shows it (docs/api.md)."""

    POST_DUE = "PostDue"
    POST_CANCELLED = "PostCancelled"
    WORKER = "worker"
    REVIEW = "review"
    PREPARE = "prepare"
    NOT_SENT = "not_sent"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    NO_ANSWER = "no_answer"
    INTERNAL = "internal"
    CHECK = "check"
    FIND = "find"
    PERSON = "person"
    OBSERVE = "observe"
    BLOCKED = "blocked"
    HOST_SILENT = "host_silent"
    TOO_LATE = "too_late"
    CALL_MAY_LAND = "call_may_land"
    LEASE_EXPIRED = "lease_expired"
    LEASE_SHORT = "lease_short"
    DATABASE_OUTAGE = "database_outage"


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that one worker holds: no fence is higher than its own, until the lease ends."""

    id: UUID
    workspace_id: UUID
    post_id: UUID
    channel_id: UUID
    revision: int
    network: str
    state: State
    content: bytes
    segment_keys: tuple[str, ...]
    compose_time: datetime
    due_time: datetime
    miss_time: datetime
    traceparent: str
    fence: int
    attempt_number: int
    consecutive_attempts: int
    """Attempts since the last progress."""
    lookups: int
    """Lookups since it became unknown; checks while the network processes it."""
    handles: Mapping[str, str]
    remotes: tuple[Remote, ...]
    processing_handle: str
    call_end: datetime | None
    """The end of the last call that may still land; None if none may."""
    quiet_end: datetime | None
    """The latest time at which that call may land."""
    empty_lookups: int
    """Lookups since `call_end` that found nothing."""
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The next state of a claimed delivery, and the values that are recorded with it.

    `next_action_time` is when a loop acts next, None in an ended state. `remote` is a segment that is public now.
    `consecutive_attempts` of None leaves the count unchanged; a public segment sets it to zero. `announce` is False
    for an outcome without an event, since the last event still holds.
    `message` is the network's text, `detail` is ours: a person acts on them differently.
    `expired_version` is the version of the credentials that the network called expired for good.
    A call that may still land sets `call_end` and `quiet_end`; they stay until `proven` or a `remote` ends the doubt.
    `empty_lookups` of None leaves the count unchanged.
    """

    state: State
    cause: Cause
    next_action_time: datetime | None = None
    message: str = ""
    detail: str = ""
    failure_kind: FailureKind | None = None
    remote: Remote | None = None
    processing_handle: str = ""
    consecutive_attempts: int | None = None
    lookups: int = 0
    needs_person: bool = False
    announce: bool = True
    block_until: datetime | None = None
    expired_version: int | None = None
    call_end: datetime | None = None
    quiet_end: datetime | None = None
    empty_lookups: int | None = None
    proven: bool = False


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """An outcome to be recorded, with its delivery, the trace it happened in, and the states it may replace."""

    delivery: ClaimedDelivery
    outcome: Outcome
    traceparent: str
    expected: tuple[State, ...] = field(default=(State.CLAIMED, State.PUBLISHING))


def to_claimed_delivery(row: Any) -> ClaimedDelivery:
    """Returns a row of `delivery`, with `handles_text`, as a claimed delivery."""
    return ClaimedDelivery(
        id=row.id,
        workspace_id=row.workspace_id,
        post_id=row.post_id,
        channel_id=row.channel_id,
        revision=row.revision,
        network=row.network,
        state=State(row.state),
        content=row.content,
        segment_keys=tuple(row.segment_keys),
        compose_time=row.compose_time,
        due_time=row.due_time,
        miss_time=row.miss_time,
        traceparent=row.traceparent,
        fence=row.fence,
        attempt_number=row.attempt_number,
        consecutive_attempts=row.consecutive_attempts,
        lookups=row.lookups,
        handles=json.loads(row.handles_text),
        remotes=remotes_of(row),
        processing_handle=row.processing_handle,
        call_end=row.call_end_time,
        quiet_end=row.quiet_end_time,
        empty_lookups=row.empty_lookups,
    )


def remotes_of(row: Any) -> tuple[Remote, ...]:
    """Returns the public segments of a row of `delivery`, in order."""
    return tuple(Remote(*pair) for pair in zip(row.remote_ids, row.remote_urls, strict=True))
