"""Engagements: a person who reacted to a post has a profile, with the external id `<network>:<id on the network>`.

The id is one person on the whole network: a DID on Bluesky, the full handle (`ada@mastodon.example`) in Mastodon's
family, where each server numbers people in its own way.

This closes the way from a post to its audience: a reaction changes a profile, and segments follow.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from regie.publisher.events.v1.publisher_events_pb2 import EngagementObserved
from regie_chassis.boundary.text import storable
from regie_chassis.boundary.timestamps import read_timestamp
from regie_chassis.events.messaging import Event
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience import telemetry
from regie_audience.attributes import MAX_TEXT, Attributes, InvalidProfile, Value, engaged, external_id_of
from regie_audience.profiles.changes import Change, change_profiles

KINDS = frozenset({"like", "reply", "repost", "quote"})

NewId = Callable[[], UUID]


@dataclass(frozen=True, slots=True)
class _Reaction:
    external_id: str
    observe_time: datetime
    message: EngagementObserved
    traceparent: str


async def on_engagement_observed(
    session: AsyncSession, events: Sequence[Event[EngagementObserved]], *, new_id: NewId, now: datetime
) -> None:
    """Creates or updates the profiles of people who reacted; each engagement counts once.

    An engagement without a valid person is counted and left out: no other try could read it, and it must hold up
    neither its neighbours nor other workspaces.
    """
    by_workspace: dict[UUID, dict[str, list[_Reaction]]] = {}
    for event in events:
        reaction = _read(event)
        if isinstance(reaction, str):
            telemetry.engagement_skipped(event.id, event.message.network, reaction)
            continue
        people = by_workspace.setdefault(event.workspace_id, {})
        people.setdefault(reaction.external_id, []).append(reaction)
    # In order, since two batches may hold the same workspaces.
    for workspace_id in sorted(by_workspace):
        people = by_workspace[workspace_id]
        changes = [_change(new_id(), external_id, seen) for external_id, seen in people.items()]
        await change_profiles(session, workspace_id=workspace_id, changes=changes, now=now)


def _read(event: Event[EngagementObserved]) -> _Reaction | str:
    """Returns the reaction, or the reason why it cannot be read."""
    message = event.message
    if not message.network or not message.actor_id:
        return "it names no network or no person"
    if message.kind not in KINDS:
        return "its kind is unknown"
    try:
        external_id = external_id_of(f"{message.network}:{message.actor_id}", "actor_id")
    except InvalidProfile:
        return "the person's id is no external id"
    observe_time = read_timestamp(message.observe_time)
    if observe_time is None:
        return "its time is not a time"
    return _Reaction(external_id, observe_time, message, event.traceparent)


def _change(profile_id: UUID, external_id: str, seen: Sequence[_Reaction]) -> Change:
    return Change(profile_id, external_id, _engage(seen), traceparent=seen[-1].traceparent)


def _engage(seen: Sequence[_Reaction]) -> Callable[[Attributes], Mapping[str, Value]]:
    newest = max(seen, key=lambda one: one.observe_time)
    handle = unicodedata.normalize("NFC", storable(newest.message.actor_handle))
    return partial(
        engaged,
        network=newest.message.network,
        handle=handle[:MAX_TEXT],
        kind=newest.message.kind,
        observe_time=newest.observe_time,
        count=len(seen),
    )
