"""Previews count and sample the profiles that a rule would match, without storing them.

A preview may read every profile of a workspace, so its time is bounded, and a workspace has one at a time: others of
it wait, and previews of other workspaces go first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from regie_chassis.boundary.errors import TooManyRequests, Unavailable
from regie_chassis.data.database import QUERY_CANCELED
from regie_chassis.data.paging import size_of
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience.profiles.queries import COLUMNS, Profile, profile_of
from regie_audience.rules.diagnostics import RuleWarning, warnings_of
from regie_audience.rules.model import Rule
from regie_audience.rules.sql import compile_sql
from regie_audience.turns import Turns

SAMPLE, MAX_SAMPLE = 10, 50  # profiles
STATEMENT_TIMEOUT = "4s"  # two of them fit into the deadline of a call
AT_ONCE = 4  # of all workspaces, of the ten connections that a process has
MAX_WAITING = 4  # of a workspace, beside the one at work


class TooManyPreviews(TooManyRequests):
    """The workspace has a preview at work and as many waiting as it may."""


class PreviewTooSlow(Unavailable):
    """The rule could not be counted within the time that a preview has."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The number of matching profiles, the newest of them, and warnings about the rule."""

    count: int
    sample: Sequence[Profile]
    warnings: Sequence[RuleWarning]


def preview_turns() -> Turns:
    """Returns the turns of this process's previews."""
    refusal = TooManyPreviews("other previews of this workspace are at work; try again in a moment")
    return Turns(of_one=1, of_all=AT_ONCE, max_waiting=MAX_WAITING, refusal=refusal)


async def preview_segment(
    session: AsyncSession, *, workspace_id: UUID, rule: Rule, sample_size: int, within: str = STATEMENT_TIMEOUT
) -> Preview:
    """Counts and samples the matching profiles. Needs a transaction. Raises PreviewTooSlow or InvalidPageSize."""
    size = size_of(sample_size, default=SAMPLE, most=MAX_SAMPLE, field="sample_size")
    condition, values = compile_sql(rule)
    where = f"FROM profile WHERE workspace_id = :workspace_id AND {condition}"
    values |= {"workspace_id": workspace_id}
    await session.execute(_SET_TIMEOUT, {"within": within})
    try:
        count = int((await session.execute(text(f"SELECT count(*) {where}"), values)).scalar_one())
        sample: list[Profile] = []
        if count:
            newest = text(f"SELECT {COLUMNS} {where} ORDER BY id DESC LIMIT :limit")
            sample = [profile_of(row) for row in await session.execute(newest, {**values, "limit": size})]
        return Preview(count, sample, await warnings_of(session, workspace_id=workspace_id, rule=rule))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != QUERY_CANCELED:
            raise
        raise PreviewTooSlow(
            f"the rule was not counted within {within}; give fewer conditions, or create the segment, which"
            " is filled without a limit on time"
        ) from error


_SET_TIMEOUT = text("SELECT set_config('statement_timeout', :within, true)")
