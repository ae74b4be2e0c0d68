"""The rows of bench/scale.py, which the server makes itself: `n` numbers posts, deliveries and what belongs to them."""

from __future__ import annotations

from enum import IntEnum
from uuid import UUID

WORKSPACES = 100


class Kind(IntEnum):
    """The thing that an id of the bench belongs to."""

    WORKSPACE = 1
    POST = 2
    CHANNEL = 3
    DELIVERY = 4


def id_of(kind: Kind, number: int) -> UUID:
    """Returns an id in the order of its number, as a UUIDv7 is in the order of its time."""
    return UUID(f"0000000{kind:d}-0000-7000-8000-{number:012x}")


def _id(kind: Kind, number: str) -> str:
    return f"CAST('0000000{kind:d}-0000-7000-8000-' || lpad(to_hex({number}), 12, '0') AS uuid)"


_WORKSPACE, _CHANNEL = _id(Kind.WORKSPACE, f"n % {WORKSPACES}"), _id(Kind.CHANNEL, f"n % {WORKSPACES}")
_POST, _DELIVERY = _id(Kind.POST, "n"), _id(Kind.DELIVERY, "n")
# $1 and $2 bound the numbers, $3 is the time of the first, and $4 is true for what still has to go out.
_NUMBERS = "FROM generate_series($1::bigint, $2::bigint - 1) AS n"
_TIME = "$3::timestamptz + (n - $1) * interval '10 microseconds'"
_CONTENT = "convert_to(rpad('', 120, 'a post of the bench '), 'UTF8')"

POSTS = (
    f"""
    INSERT INTO post (id, workspace_id, title, state, publish_time, revision, create_time, update_time)
    SELECT {_POST}, {_WORKSPACE}, 'bench', CASE WHEN $4 THEN 'scheduled' ELSE 'published' END, {_TIME}, 1, now(), now()
    {_NUMBERS}
    """,
    f"""
    INSERT INTO variant (post_id, channel_id, position, content, state, state_time)
    SELECT {_POST}, {_CHANNEL}, 0, '', CASE WHEN $4 THEN 'planned' ELSE 'published' END, $3 {_NUMBERS}
    """,
    f"""
    INSERT INTO post_change (post_id, time, state, cause, detail, trace_id)
    SELECT {_POST}, $3, state, cause, '', '' {_NUMBERS}
    CROSS JOIN (VALUES ('dispatched', 'due'), ('published', 'publisher')) AS change (state, cause) WHERE NOT $4
    """,
)
DELIVERIES = (
    f"""
    INSERT INTO delivery (id, workspace_id, post_id, channel_id, revision, network, state, next_action_time, content,
        segment_keys, compose_time, due_time, miss_time, traceparent)
    SELECT {_DELIVERY}, {_WORKSPACE}, {_POST}, {_CHANNEL}, 1, 'sandbox',
        CASE WHEN $4 THEN 'pending' ELSE 'published' END, CASE WHEN $4 THEN {_TIME} END, {_CONTENT}, '{{key}}', $3, $3,
        $3 + interval '1 day', ''
    {_NUMBERS}
    """,
    f"""
    INSERT INTO delivery_change (delivery_id, time, state, cause, attempt_number, trace_id)
    SELECT {_DELIVERY}, $3, state, cause, 1, '' {_NUMBERS}
    CROSS JOIN (VALUES ('pending', 'PostDue'), ('claimed', 'worker'), ('publishing', 'worker'), ('published', 'worker'))
        AS change (state, cause) WHERE NOT $4
    """,
)
CHANNELS = f"""
    INSERT INTO channel (id, workspace_id, network, server_url, remote_id, handle, display_name, state, create_time,
        key_id, data_key, secrets, version, account)
    SELECT {_CHANNEL}, {_WORKSPACE}, 'sandbox', 'https://example.org', n, n, n, 'connected', now(), '', '', '', 1, n
    FROM generate_series(0, {WORKSPACES - 1}) AS n
"""
CLAIM_POSTS = "UPDATE post SET state = 'dispatched' WHERE state = 'scheduled' AND publish_time < $1"
CLAIM_DELIVERIES = """
    UPDATE delivery SET state = 'published', next_action_time = NULL WHERE state = 'pending' AND next_action_time < $1
"""
