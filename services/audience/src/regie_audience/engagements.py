"""People who were seen to react to a post: they are profiles too, known as `<network>:<their id there>`.

The id is one person on the whole network: a DID on Bluesky, the full handle (`ada@mastodon.example`) in Mastodon's
family, where each server numbers people in its own way.

This closes the way from a post to its audience: a reaction changes a profile, and segments follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from regie.publisher.events.v1.publisher_events_pb2 import EngagementObserved
from regie_chassis.errors import Invalid
from regie_chassis.messaging import Event
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience.attributes import LONGEST_TEXT, Attributes, Value, check_external_id, engaged
from regie_audience.profiles import Change, change_profiles

KINDS = frozenset({"like", "reply", "repost", "quote"})

NewId = Callable[[], UUID]


class EngagementRefused(Invalid):
    """An engagement cannot be read: it has no person, no known kind, or no time. It ends in the dead letters."""


async def on_engagement_observed(
    session: AsyncSession, events: Sequence[Event[EngagementObserved]], *, new_id: NewId, now: datetime
) -> None:
    """Creates or updates the profiles of those who reacted; each engagement counts once."""
    by_workspace: dict[UUID, dict[str, list[Event[EngagementObserved]]]] = {}
    for event in events:
        people = by_workspace.setdefault(event.workspace_id, {})
        people.setdefault(_external_id(event.message), []).append(event)
    # In order, since two batches may hold the same workspaces.
    for workspace_id in sorted(by_workspace):
        people = by_workspace[workspace_id]
        changes = [_change(new_id(), external_id, seen) for external_id, seen in people.items()]
        await change_profiles(session, workspace_id=workspace_id, changes=changes, now=now)


def _external_id(message: EngagementObserved) -> str:
    if not message.network or not message.actor_id:
        raise EngagementRefused("the engagement names no network or no person")
    if message.kind not in KINDS:
        raise EngagementRefused(f"{message.kind[:80]!r} is no kind of engagement")
    external_id = f"{message.network}:{message.actor_id}"
    check_external_id(external_id, "actor_id")
    return external_id


def _change(profile_id: UUID, external_id: str, seen: Sequence[Event[EngagementObserved]]) -> Change:
    apply = _engage([event.message for event in seen])
    return Change(profile_id, external_id, apply, traceparent=seen[-1].traceparent)


def _engage(seen: Sequence[EngagementObserved]) -> Callable[[Attributes], Mapping[str, Value]]:
    newest = max(seen, key=lambda one: (one.observe_time.seconds, one.observe_time.nanos))
    return partial(
        engaged,
        network=newest.network,
        handle=newest.actor_handle.replace("\x00", "")[:LONGEST_TEXT],
        kind=newest.kind,
        observe_time=_time(newest),
        count=len(seen),
    )


def _time(message: EngagementObserved) -> datetime:
    try:
        return message.observe_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise EngagementRefused("the engagement's time is not a time") from error
