"""Profiles as they are read: one by one and in pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from regie_chassis.boundary.errors import NotFound
from regie_chassis.data.paging import Page, page_of, read_token, size_of
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience.attributes import Attributes, stored

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


async def get_profile(session: AsyncSession, *, workspace_id: UUID, profile_id: UUID) -> Profile:
    """Returns one profile. Raises ProfileNotFound."""
    rows = await session.execute(_SELECT_PROFILE, {"id": profile_id, "workspace_id": workspace_id})
    row = rows.one_or_none()
    if row is None:
        raise ProfileNotFound("there is no such profile; check the id", field="profile_id")
    return profile_of(row)


async def list_profiles(session: AsyncSession, *, workspace_id: UUID, page_size: int, page_token: str) -> Page[Profile]:
    """Returns a page of profiles, the newest first. Raises InvalidPageToken or InvalidPageSize."""
    size = size_of(page_size)
    rows = await session.execute(
        _SELECT_PAGE, {"workspace_id": workspace_id, "before": read_token(LIST, page_token), "limit": size + 1}
    )
    return profiles_page([profile_of(row) for row in rows], size, LIST)


def profile_of(row: Row[Any]) -> Profile:
    """Returns the profile of a row of COLUMNS."""
    return Profile(row.id, row.external_id, stored(row.attributes), row.create_time, row.update_time)


def profiles_page(profiles: Sequence[Profile], size: int, list_name: str) -> Page[Profile]:
    """Returns a page of up to `size` of the profiles; one more than `size` stands for a next page."""
    return page_of(profiles, size=size, list_name=list_name, bytes_of=bytes_of)


def bytes_of(profile: Profile) -> int:
    """Returns about how many bytes a profile takes in an answer."""
    return FRAME + 4 * len(profile.external_id) + len(json.dumps(profile.attributes, ensure_ascii=False).encode())


COLUMNS = "profile.id, profile.external_id, profile.attributes, profile.create_time, profile.update_time"


_SELECT_PROFILE = text(f"SELECT {COLUMNS} FROM profile WHERE id = :id AND workspace_id = :workspace_id")

_SELECT_PAGE = text(
    f"""
    SELECT {COLUMNS} FROM profile WHERE workspace_id = :workspace_id AND id < :before
    ORDER BY id DESC LIMIT :limit
    """
)
