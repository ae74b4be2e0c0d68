"""Profiles are created or merged in bulk by external id, and segments follow in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import ImportedProfile, ProfilesImported, ProfileUpdated
from regie_chassis.ids import PROFILE, show_id
from regie_chassis.outbox import stage
from regie_chassis.telemetry import current_traceparent
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import telemetry
from regie_audience.attributes import (
    Attributes,
    InvalidProfile,
    ProfileTooLarge,
    Value,
    changed_names,
    external_id_of,
    merged,
    patch_of,
)
from regie_audience.memberships.changes import ChangedProfile, mark_change, reevaluate
from regie_audience.profiles.queries import COLUMNS, Profile, profile_of

MOST_AT_ONCE = 1_000
MAX_ANSWER = 6 * 1024 * 1024  # bytes of attributes as JSON; the answer to an upsert has to pass gRPC
READ_AT_ONCE = 250  # profiles; each may have 64 KiB
MAX_SINGLE_EVENTS = 20  # of one change; more are told of together
MAX_EVENT = 256 * 1024  # bytes, far below what NATS carries


@dataclass(frozen=True, slots=True)
class ProfileInput:
    """A person to create under `id`, or to merge into whoever has the external id. Null removes an attribute."""

    id: UUID
    external_id: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of the attributes of a person, who is created under `id` where there is none.

    `traceparent` is that of the cause, None for the current span: a batch of events has no span of its own.
    """

    id: UUID
    external_id: str
    apply: Callable[[Attributes], Mapping[str, Value]]
    traceparent: str | None = None


async def upsert_profiles(
    session: AsyncSession, *, workspace_id: UUID, inputs: Sequence[ProfileInput], now: datetime
) -> list[Profile]:
    """Creates or merges profiles and returns them in the order given. Repeatable.

    Raises InvalidProfile, and ProfileTooLarge for a profile or an answer that would take too many bytes.
    """
    if not 1 <= len(inputs) <= MOST_AT_ONCE:
        raise InvalidProfile(f"give 1 to {MOST_AT_ONCE:,} profiles at a time", field="profiles")
    seen: dict[str, int] = {}
    changes = []
    for index, one in enumerate(inputs):
        external_id = external_id_of(one.external_id, f"profiles[{index}].external_id")
        if (first := seen.setdefault(external_id, index)) != index:
            raise InvalidProfile(
                f"profiles[{first}] has the same external id; give each once", field=f"profiles[{index}].external_id"
            )
        place = f"profiles[{index}].attributes"
        changes.append(Change(one.id, external_id, _merge(patch_of(one.attributes, place), place)))
    return await change_profiles(session, workspace_id=workspace_id, changes=changes, now=now, max_answer=MAX_ANSWER)


async def change_profiles(
    session: AsyncSession,
    *,
    workspace_id: UUID,
    changes: Sequence[Change],
    now: datetime,
    max_answer: int | None = None,
) -> list[Profile]:
    """Applies changes, each external id once, and returns the profiles in the order given.

    Segments follow in the same transaction, and what really changed is staged. Raises ProfileTooLarge when the
    profiles take more than `max_answer` bytes.
    """
    await mark_change(session, workspace_id)
    created = await _create(session, workspace_id, changes, now=now)
    external_ids = [change.external_id for change in changes]
    found = await _hold(session, workspace_id, external_ids, max_bytes=max_answer)
    outcomes = [_outcome(change, found[change.external_id], created, now=now) for change in changes]
    real = [one for one in outcomes if one.created or one.changed]
    await _save(session, [one.profile for one in real if not one.created])
    _stage(session, real, workspace_id=workspace_id, now=now)
    changed = [
        ChangedProfile(one.profile.id, one.profile.attributes, one.changed, one.created, one.traceparent)
        for one in real
    ]
    await reevaluate(session, workspace_id=workspace_id, changed=changed, now=now)
    telemetry.profiles_changed(len(real))
    return [one.profile for one in outcomes]


def _merge(patch: Mapping[str, Value | None], place: str) -> Callable[[Attributes], Mapping[str, Value]]:
    return lambda old: merged(old, patch, place)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A profile after its change, and the names of the attributes that are different now."""

    profile: Profile
    changed: Sequence[str]
    created: bool
    traceparent: str


def _outcome(change: Change, before: Profile, created: set[UUID], *, now: datetime) -> _Outcome:
    traceparent = current_traceparent() if change.traceparent is None else change.traceparent
    if before.id in created:
        return _Outcome(before, sorted(before.attributes), True, traceparent)
    attributes = change.apply(before.attributes)
    changed = changed_names(before.attributes, attributes)
    after = replace(before, attributes=attributes, update_time=now) if changed else before
    return _Outcome(after, changed, False, traceparent)


def _stage(session: AsyncSession, outcomes: Sequence[_Outcome], *, workspace_id: UUID, now: datetime) -> None:
    """Stages what changed: one event for each profile, or one for as many as fit where one cause changed many."""
    by_cause: dict[str, list[_Outcome]] = {}
    for one in outcomes:
        by_cause.setdefault(one.traceparent, []).append(one)
    for traceparent, together in by_cause.items():
        messages = map(_updated, together) if len(together) <= MAX_SINGLE_EVENTS else _imported(together)
        for message in messages:
            stage(
                session,
                message,
                workspace_id=workspace_id,
                time=now,
                traceparent=traceparent,
            )


def _updated(one: _Outcome) -> ProfileUpdated:
    return ProfileUpdated(
        profile_id=show_id(PROFILE, one.profile.id),
        external_id=one.profile.external_id,
        changed_attributes=one.changed,
        created=one.created,
    )


def _imported(outcomes: Sequence[_Outcome]) -> Iterator[ProfilesImported]:
    event, size = ProfilesImported(), 0
    for one in outcomes:
        profile = ImportedProfile(
            profile_id=show_id(PROFILE, one.profile.id),
            external_id=one.profile.external_id,
            changed_attributes=one.changed,
            created=one.created,
        )
        size += profile.ByteSize()
        if event.profiles and size > MAX_EVENT:
            yield event
            event, size = ProfilesImported(), profile.ByteSize()
        event.profile_id = event.profile_id or profile.profile_id
        event.profiles.append(profile)
    yield event


async def _create(session: AsyncSession, workspace_id: UUID, changes: Sequence[Change], *, now: datetime) -> set[UUID]:
    """Creates those who are not there yet and returns their ids.

    Creating comes before any lock, and both in the order of external ids: callers at once wait for one another's
    new rows in that order, then for the old ones in that order, and never in a circle.
    """
    rows = await session.execute(
        _CREATE,
        {
            "workspace_id": workspace_id,
            "now": now,
            "ids": [change.id for change in changes],
            "external_ids": [change.external_id for change in changes],
            "attributes": [json.dumps(change.apply({})) for change in changes],
        },
    )
    return set(rows.scalars())


async def _hold(
    session: AsyncSession, workspace_id: UUID, external_ids: Sequence[str], *, max_bytes: int | None
) -> dict[str, Profile]:
    found: dict[str, Profile] = {}
    size = 0
    in_order = sorted(external_ids)  # as the database sorts them: by code point
    for begin in range(0, len(in_order), READ_AT_ONCE):
        rows = await session.execute(
            _HOLD, {"workspace_id": workspace_id, "external_ids": in_order[begin : begin + READ_AT_ONCE]}
        )
        for row in rows:
            size += row.size
            found[row.external_id] = profile_of(row)
        if max_bytes is not None and size > max_bytes:
            raise ProfileTooLarge(
                f"these profiles take more than {max_bytes:,} bytes together; give fewer at a time", field="profiles"
            )
    return found


async def _save(session: AsyncSession, profiles: Sequence[Profile]) -> None:
    if profiles:
        await session.execute(
            _SAVE,
            {
                "ids": [one.id for one in profiles],
                "attributes": [json.dumps(one.attributes) for one in profiles],
                "times": [one.update_time for one in profiles],
            },
        )


_CREATE = text(
    """
    INSERT INTO profile (id, workspace_id, external_id, attributes, create_time, update_time)
    SELECT id, :workspace_id, external_id, CAST(attributes AS jsonb), :now, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:external_ids AS text[]), CAST(:attributes AS text[]))
        AS given (id, external_id, attributes)
    ORDER BY external_id COLLATE "C"
    ON CONFLICT (workspace_id, external_id) DO NOTHING
    RETURNING id
    """
)

_HOLD = text(
    f"SELECT {COLUMNS}, octet_length(CAST(attributes AS text)) AS size FROM profile"
    " WHERE workspace_id = :workspace_id AND external_id = ANY(CAST(:external_ids AS text[]))"
    " ORDER BY external_id FOR NO KEY UPDATE"
)

_SAVE = text(
    """
    UPDATE profile SET attributes = CAST(given.attributes AS jsonb), update_time = given.update_time
    FROM unnest(CAST(:ids AS uuid[]), CAST(:attributes AS text[]), CAST(:times AS timestamptz[]))
        AS given (id, attributes, update_time)
    WHERE profile.id = given.id
    """
)
