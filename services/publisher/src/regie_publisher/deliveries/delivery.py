"""A delivery as the loops hold it, and the spans of time that the protocol rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from regie_networks.draft import Remote
from regie_networks.errors import FailureKind

LEASE = timedelta(seconds=30)
NETWORK_TIMEOUT = timedelta(seconds=20)
"""A publish is cut off after this, whatever its connector does."""
MARGIN = timedelta(seconds=5)
"""For clocks that differ. LEASE - NETWORK_TIMEOUT - MARGIN is how long after its mark a call may still begin."""
PREPARE_TIMEOUT = timedelta(minutes=10)
"""Uploads; every saved handle renews the lease, so that it outlives them."""
FIND_DELAY = timedelta(seconds=2)
"""Before the first look, which finds most posts. That it finds none proves nothing yet (`absence.py`)."""
THREAD_GRACE = timedelta(hours=1)
"""A thread that has begun is finished up to this long after its miss time: half a thread is worse than a late one."""


class State(StrEnum):
    """Where a delivery stands (docs/architecture.md)."""

    PENDING = "pending"
    CLAIMED = "claimed"
    PUBLISHING = "publishing"
    PROCESSING = "processing"
    PUBLISHED = "published"
    FAILED = "failed"
    UNKNOWN = "unknown"
    MISSED = "missed"
    CANCELLED = "cancelled"


class Cause(StrEnum):
    """Why a delivery came to its state, as its timeline shows it (docs/api.md)."""

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
class Held:
    """A delivery in the hands of one worker: its fence is the highest, until the lease ends."""

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
    attempt: int
    tries: int
    finds: int
    """Looks since it became unknown; while the network is at work on it, how often it was asked."""
    handles: Mapping[str, str]
    remotes: tuple[Remote, ...]
    processing_handle: str
    call_end: datetime | None
    """The end of the last call that may still land; None when none may."""
    quiet_end: datetime | None
    """Until when it may, as far as is known of the network."""
    looks: int
    """Looks since `call_end` that came back empty."""
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to become of a held delivery.

    `act_time` is when a loop has to look again, None at the end of the way. `remote` is a segment that is out now.
    `tries` of None leaves the count as it is; a segment that is out sets it to zero. `announce` is False where the
    world already knows.
    `message` is the network's words, `detail` ours: they are kept apart, since a person acts on them differently.
    `expired_version` is the version of the credentials that the network called expired for good.
    `call_end` and `quiet_end` are set by a call that may still land; they stay until `proven` or a `remote` ends the
    doubt. `looks` of None leaves that count as it is.
    """

    state: State
    cause: Cause
    act_time: datetime | None = None
    message: str = ""
    detail: str = ""
    failure_kind: FailureKind | None = None
    remote: Remote | None = None
    processing_handle: str = ""
    tries: int | None = None
    finds: int = 0
    needs_person: bool = False
    announce: bool = True
    block_until: datetime | None = None
    expired_version: int | None = None
    call_end: datetime | None = None
    quiet_end: datetime | None = None
    looks: int | None = None
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """An outcome on its way to the database, with the delivery it belongs to and the trace it happened in."""

    held: Held
    outcome: Outcome
    traceparent: str
    expected: tuple[State, ...] = field(default=(State.CLAIMED, State.PUBLISHING))
