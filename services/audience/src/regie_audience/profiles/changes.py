"""Profiles are created or merged in bulk by external id, and segments follow in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import ImportedProfile, ProfilesImported, ProfileUpdated
from regie.ids.v1.prefixes import PROFILE
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import current_traceparent
from regie_chassis.data.bulk import Columns
from regie_chassis.events.outbox import stage
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

MAX_PROFILES = 1_000
MAX_ANSWER = 6 * 1024 * 1024  # bytes of attributes as JSON; the answer to an upsert has to pass gRPC
READ_AT_ONCE = 250  # profiles; each may have 64 KiB
MAX_SINGLE_EVENTS = 20  # of one change; more share one event
MAX_EVENT = 256 * 1024  # bytes, far below what NATS carries


@dataclass(frozen=True, slots=True)
class ProfileInput:
    """A person to create under `id`, or to merge into the profile with the external id. Null removes an attribute."""

    id: UUID
    external_id: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a person's attributes. An unknown person is created under `id`.

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
    if not 1 <= len(inputs) <= MAX_PROFILES:
        raise InvalidProfile(f"give 1 to {MAX_PROFILES:,} profiles at a time", field="profiles")
    seen: dict[str, int] = {}
    changes = []
    for index, given in enumerate(inputs):
        external_id = external_id_of(given.external_id, f"profiles[{index}].external_id")
        if (first := seen.setdefault(external_id, index)) != index:
            raise InvalidProfile(
                f"profiles[{first}] has the same external id; give each once", field=f"profiles[{index}].external_id"
            )
        place = f"profiles[{index}].attributes"
        changes.append(Change(given.id, external_id, _merge(patch_of(given.attributes, place), place)))
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

    Segments follow in the same transaction, and real changes are staged. Raises ProfileTooLarge when the
    profiles take more than `max_answer` bytes.
    """
    await mark_change(session, workspace_id)
    created = await _create(session, workspace_id, changes, now=now)
    external_ids = [change.external_id for change in changes]
    profiles = await _hold(session, workspace_id, external_ids, max_bytes=max_answer)
    outcomes = [_outcome(change, profiles[change.external_id], created, now=now) for change in changes]
    real = [outcome for outcome in outcomes if outcome.created or outcome.changed]
    await _save(session, [outcome.profile for outcome in real if not outcome.created])
    _stage(session, real, workspace_id=workspace_id, now=now)
    changed = [
        ChangedProfile(
            outcome.profile.id, outcome.profile.attributes, outcome.changed, outcome.created, outcome.traceparent
        )
        for outcome in real
    ]
    await reevaluate(session, workspace_id=workspace_id, changed=changed, now=now)
    telemetry.profiles_changed(len(real))
    return [outcome.profile for outcome in outcomes]


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
    """Stages the changes: one event for each profile, or one for as many as fit where one cause changed many."""
    by_cause: dict[str, list[_Outcome]] = {}
    for outcome in outcomes:
        by_cause.setdefault(outcome.traceparent, []).append(outcome)
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


def _updated(outcome: _Outcome) -> ProfileUpdated:
    return ProfileUpdated(
        profile_id=show_id(PROFILE, outcome.profile.id),
        external_id=outcome.profile.external_id,
        changed_attributes=outcome.changed,
        created=outcome.created,
    )


def _imported(outcomes: Sequence[_Outcome]) -> Iterator[ProfilesImported]:
    event, size = ProfilesImported(), 0
    for outcome in outcomes:
        profile = ImportedProfile(
            profile_id=show_id(PROFILE, outcome.profile.id),
            external_id=outcome.profile.external_id,
            changed_attributes=outcome.changed,
            created=outcome.created,
        )
        size += profile.ByteSize()
        if event.profiles and size > MAX_EVENT:
            yield event
            event, size = ProfilesImported(), profile.ByteSize()
        event.profile_id = event.profile_id or profile.profile_id
        event.profiles.append(profile)
    yield event


async def _create(session: AsyncSession, workspace_id: UUID, changes: Sequence[Change], *, now: datetime) -> set[UUID]:
    """Creates the missing profiles and returns their ids.

    Creating comes before any lock, and both in the order of external ids: callers at once wait for one another's
    new rows in that order, then for the old ones in that order, and never in a circle.
    """
    rows = await session.execute(
        _CREATE,
        {
            "workspace_id": workspace_id,
            "now": now,
            **_NEW.parameters((change.id, change.external_id, json.dumps(change.apply({}))) for change in changes),
        },
    )
    return set(rows.scalars())


async def _hold(
    session: AsyncSession, workspace_id: UUID, external_ids: Sequence[str], *, max_bytes: int | None
) -> dict[str, Profile]:
    profiles: dict[str, Profile] = {}
    size = 0
    in_order = sorted(external_ids)  # as the database sorts them: by code point
    for begin in range(0, len(in_order), READ_AT_ONCE):
        rows = await session.execute(
            _HOLD, {"workspace_id": workspace_id, "external_ids": in_order[begin : begin + READ_AT_ONCE]}
        )
        for row in rows:
            size += row.size
            profiles[row.external_id] = profile_of(row)
        if max_bytes is not None and size > max_bytes:
            raise ProfileTooLarge(
                f"these profiles take more than {max_bytes:,} bytes together; give fewer at a time", field="profiles"
            )
    return profiles


async def _save(session: AsyncSession, profiles: Sequence[Profile]) -> None:
    if profiles:
        rows = [(profile.id, json.dumps(profile.attributes), profile.update_time) for profile in profiles]
        await session.execute(_SAVE, _CHANGED.parameters(rows))


_NEW = Columns(id="uuid", external_id="text", attributes="text")

_CREATE = text(
    f"""
    INSERT INTO profile (id, workspace_id, external_id, attributes, create_time, update_time)
    SELECT id, :workspace_id, external_id, CAST(attributes AS jsonb), :now, :now
    FROM {_NEW.unnest}
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

_CHANGED = Columns(id="uuid", attributes="text", update_time="timestamptz")

_SAVE = text(
    f"""
    UPDATE profile SET attributes = CAST(given.attributes AS jsonb), update_time = given.update_time
    FROM {_CHANGED.unnest}
    WHERE profile.id = given.id
    """
)
