"""People, as far as a workspace knows: created or merged in bulk by external id, read one by one and in pages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.audience.events.v1.audience_events_pb2 import ProfileUpdated
from regie_chassis import paging
from regie_chassis.errors import NotFound, TooLarge
from regie_chassis.ids import PROFILE, show_id
from regie_chassis.outbox import stage
from regie_chassis.paging import Page, read_token
from regie_chassis.rpc import MAX_MESSAGE
from regie_chassis.telemetry import current_traceparent
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import memberships, telemetry
from regie_audience.attributes import (
    Attributes,
    InvalidProfile,
    Value,
    changed_names,
    check_external_id,
    check_patch,
    merged,
)

MOST_AT_ONCE = 1_000
LIST = "profiles"
MAX_ANSWER = MAX_MESSAGE - 2 * 1024 * 1024  # bytes
FRAME = 300  # bytes of a profile in an answer besides its texts


class ProfileNotFound(NotFound):
    """There is no such profile in the caller's workspace."""


class ProfilesTooLarge(TooLarge):
    """The profiles of one call are together larger than its answer can be. Give fewer at a time."""


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
    """Creates or merges profiles and returns them in the order given. Repeatable. Raises InvalidProfile
    and ProfilesTooLarge.
    """
    if not 1 <= len(inputs) <= MOST_AT_ONCE:
        raise InvalidProfile(f"give 1 to {MOST_AT_ONCE:,} profiles at a time", field="profiles")
    seen: dict[str, int] = {}
    for index, one in enumerate(inputs):
        check_external_id(one.external_id, f"profiles[{index}].external_id")
        check_patch(one.attributes, f"profiles[{index}].attributes")
        if (first := seen.setdefault(one.external_id, index)) != index:
            raise InvalidProfile(
                f"profiles[{first}] has the same external id; give each once", field=f"profiles[{index}].external_id"
            )
    changes = [Change(one.id, one.external_id, _merge(one, index)) for index, one in enumerate(inputs)]
    profiles = await change_profiles(session, workspace_id=workspace_id, changes=changes, now=now)
    if sum(map(bytes_of, profiles)) > MAX_ANSWER:
        # Before the commit: an answer that gRPC refuses would come as an error although everything was stored.
        raise ProfilesTooLarge("these profiles are too large for one answer; give fewer at a time", field="profiles")
    return profiles


async def change_profiles(
    session: AsyncSession, *, workspace_id: UUID, changes: Sequence[Change], now: datetime
) -> list[Profile]:
    """Applies changes, each external id once, and returns the profiles in the order given.

    Segments follow in the same transaction, and what really changed is said.
    """
    await memberships.lock_for_change(session, workspace_id)
    created = await _create(session, workspace_id, changes, now=now)
    found = await _hold(session, workspace_id, [change.external_id for change in changes])
    outcomes = [_outcome(change, found[change.external_id], created, now=now) for change in changes]
    real = [one for one in outcomes if one.created or one.changed]
    await _save(session, [one.profile for one in real if not one.created])
    _say(session, real, workspace_id=workspace_id, now=now)
    changed = [
        memberships.ChangedProfile(one.profile.id, one.profile.attributes, one.created, one.traceparent) for one in real
    ]
    await memberships.reevaluate(session, workspace_id=workspace_id, changed=changed, now=now)
    telemetry.profiles_changed(len(real))
    return [one.profile for one in outcomes]


async def get_profile(session: AsyncSession, *, workspace_id: UUID, profile_id: UUID) -> Profile:
    """Returns one profile. Raises ProfileNotFound."""
    rows = await session.execute(
        text(f"SELECT {COLUMNS} FROM profile WHERE id = :id AND workspace_id = :workspace_id"),
        {"id": profile_id, "workspace_id": workspace_id},
    )
    row = rows.one_or_none()
    if row is None:
        raise ProfileNotFound("there is no such profile; check the id", field="profile_id")
    return Profile(*row)


async def list_profiles(session: AsyncSession, *, workspace_id: UUID, size: int, token: str) -> Page[Profile]:
    """Returns a page of profiles, the newest first. Raises InvalidPageToken."""
    rows = await session.execute(
        text(
            f"SELECT {COLUMNS} FROM profile WHERE workspace_id = :workspace_id AND id < :before"
            " ORDER BY id DESC LIMIT :limit"
        ),
        {"workspace_id": workspace_id, "before": read_token(LIST, token), "limit": size + 1},
    )
    return profiles_page([Profile(*row) for row in rows], size, LIST)


def profiles_page(found: Sequence[Profile], size: int, list_name: str) -> Page[Profile]:
    """Returns a page of up to `size` of the profiles found; one more than `size` stands for a next page."""
    return paging.page_of(found, size=size, list_name=list_name, bytes_of=bytes_of)


def bytes_of(profile: Profile) -> int:
    """Returns about how many bytes a profile takes in an answer."""
    return FRAME + 4 * len(profile.external_id) + len(json.dumps(profile.attributes, ensure_ascii=False).encode())


COLUMNS = "profile.id, profile.external_id, profile.attributes, profile.create_time, profile.update_time"


def _merge(one: ProfileInput, index: int) -> Callable[[Attributes], Mapping[str, Value]]:
    return lambda old: merged(old, one.attributes, f"profiles[{index}].attributes")


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


def _say(session: AsyncSession, outcomes: Sequence[_Outcome], *, workspace_id: UUID, now: datetime) -> None:
    for one in outcomes:
        shown = show_id(PROFILE, one.profile.id)
        message = ProfileUpdated(
            profile_id=shown,
            external_id=one.profile.external_id,
            changed_attributes=one.changed,
            created=one.created,
        )
        stage(
            session,
            message,
            workspace_id=workspace_id,
            aggregate_id=shown,
            time=now,
            traceparent=one.traceparent,
        )


async def _create(session: AsyncSession, workspace_id: UUID, changes: Sequence[Change], *, now: datetime) -> set[UUID]:
    """Creates those who are not there yet and returns their ids.

    Creating comes before any lock, and both in the order of external ids: callers at once wait for one another's
    new rows in that order, then for the old ones in that order, and never in a circle.
    """
    rows = await session.execute(
        text(
            """
            INSERT INTO profile (id, workspace_id, external_id, attributes, create_time, update_time)
            SELECT id, :workspace_id, external_id, CAST(attributes AS jsonb), :now, :now
            FROM unnest(CAST(:ids AS uuid[]), CAST(:external_ids AS text[]), CAST(:attributes AS text[]))
                AS given (id, external_id, attributes)
            ORDER BY external_id COLLATE "C"
            ON CONFLICT (workspace_id, external_id) DO NOTHING
            RETURNING id
            """
        ),
        {
            "workspace_id": workspace_id,
            "now": now,
            "ids": [change.id for change in changes],
            "external_ids": [change.external_id for change in changes],
            "attributes": [json.dumps(change.apply({})) for change in changes],
        },
    )
    return set(rows.scalars())


async def _hold(session: AsyncSession, workspace_id: UUID, external_ids: Sequence[str]) -> dict[str, Profile]:
    rows = await session.execute(
        text(
            f"SELECT {COLUMNS} FROM profile"
            " WHERE workspace_id = :workspace_id AND external_id = ANY(CAST(:external_ids AS text[]))"
            " ORDER BY external_id FOR NO KEY UPDATE"
        ),
        {"workspace_id": workspace_id, "external_ids": list(external_ids)},
    )
    return {row.external_id: Profile(*row) for row in rows}


async def _save(session: AsyncSession, profiles: Sequence[Profile]) -> None:
    if profiles:
        await session.execute(
            text(
                "UPDATE profile SET attributes = CAST(given.attributes AS jsonb), update_time = given.update_time"
                " FROM unnest(CAST(:ids AS uuid[]), CAST(:attributes AS text[]), CAST(:times AS timestamptz[]))"
                " AS given (id, attributes, update_time) WHERE profile.id = given.id"
            ),
            {
                "ids": [one.id for one in profiles],
                "attributes": [json.dumps(one.attributes) for one in profiles],
                "times": [one.update_time for one in profiles],
            },
        )
