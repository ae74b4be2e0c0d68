"""People, as far as a workspace knows: created or merged in bulk by external id, read one by one and in pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import ImportedProfile, ProfilesImported, ProfileUpdated
from regie_chassis.errors import NotFound
from regie_chassis.ids import PROFILE, show_id
from regie_chassis.outbox import stage
from regie_chassis.paging import Page, page_of, read_token
from regie_chassis.telemetry import current_traceparent
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import memberships, telemetry
from regie_audience.attributes import (
    Attributes,
    InvalidProfile,
    ProfileTooLarge,
    Value,
    changed_names,
    external_id_of,
    merged,
    patch_of,
    stored,
)

MOST_AT_ONCE = 1_000
MAX_ANSWER = 6 * 1024 * 1024  # bytes of attributes as JSON; the answer to an upsert has to pass gRPC
READ_AT_ONCE = 250  # profiles; each may have 64 KiB
MAX_SINGLE_EVENTS = 20  # of one change; more are told of together
MAX_EVENT = 256 * 1024  # bytes, far below what NATS carries
LIST = "profiles"
FRAME = 300  # bytes of a profile in an answer besides its texts


class ProfileNotFound(NotFound):
    """There is no such profile in the caller's workspace."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A person."""

    id: UUID
    external_id: str
    attributes: Attributes
    create_time: datetime
    update_time: datetime


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
    await memberships.mark_change(session, workspace_id)
    created = await _create(session, workspace_id, changes, now=now)
    external_ids = [change.external_id for change in changes]
    found = await _hold(session, workspace_id, external_ids, max_bytes=max_answer)
    outcomes = [_outcome(change, found[change.external_id], created, now=now) for change in changes]
    real = [one for one in outcomes if one.created or one.changed]
    await _save(session, [one.profile for one in real if not one.created])
    _stage(session, real, workspace_id=workspace_id, now=now)
    changed = [
        memberships.ChangedProfile(one.profile.id, one.profile.attributes, one.changed, one.created, one.traceparent)
        for one in real
    ]
    await memberships.reevaluate(session, workspace_id=workspace_id, changed=changed, now=now)
    telemetry.profiles_changed(len(real))
    return [one.profile for one in outcomes]


async def get_profile(session: AsyncSession, *, workspace_id: UUID, profile_id: UUID) -> Profile:
    """Returns one profile. Raises ProfileNotFound."""
    rows = await session.execute(_SELECT_PROFILE, {"id": profile_id, "workspace_id": workspace_id})
    row = rows.one_or_none()
    if row is None:
        raise ProfileNotFound("there is no such profile; check the id", field="profile_id")
    return profile_of(row)


async def list_profiles(session: AsyncSession, *, workspace_id: UUID, size: int, token: str) -> Page[Profile]:
    """Returns a page of profiles, the newest first. Raises InvalidPageToken."""
    rows = await session.execute(
        _SELECT_PAGE, {"workspace_id": workspace_id, "before": read_token(LIST, token), "limit": size + 1}
    )
    return profiles_page([profile_of(row) for row in rows], size, LIST)


def profile_of(row: Row[Any]) -> Profile:
    """Returns the profile of a row of COLUMNS."""
    return Profile(row.id, row.external_id, stored(row.attributes), row.create_time, row.update_time)


def profiles_page(found: Sequence[Profile], size: int, list_name: str) -> Page[Profile]:
    """Returns a page of up to `size` of the profiles found; one more than `size` stands for a next page."""
    return page_of(found, size=size, list_name=list_name, bytes_of=bytes_of)


def bytes_of(profile: Profile) -> int:
    """Returns about how many bytes a profile takes in an answer."""
    return FRAME + 4 * len(profile.external_id) + len(json.dumps(profile.attributes, ensure_ascii=False).encode())


COLUMNS = "profile.id, profile.external_id, profile.attributes, profile.create_time, profile.update_time"


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


_SELECT_PROFILE = text(f"SELECT {COLUMNS} FROM profile WHERE id = :id AND workspace_id = :workspace_id")

_SELECT_PAGE = text(
    f"""
    SELECT {COLUMNS} FROM profile WHERE workspace_id = :workspace_id AND id < :before
    ORDER BY id DESC LIMIT :limit
    """
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
