"""Makes of a held delivery what its connector works on."""

from __future__ import annotations

from collections.abc import Mapping

from regie.scheduler.events.v1.scheduler_events_pb2 import DueSegment, DueVariant
from regie_chassis.ids import MEDIA, InvalidId, parse_id
from regie_networks.draft import Draft, Picture, Segment
from regie_networks.errors import FailureKind, Unacceptable

from regie_publisher.accounts import Accounts
from regie_publisher.deliveries.delivery import Held
from regie_publisher.media import Library, Media


async def draft_of(held: Held, *, accounts: Accounts, library: Library) -> Draft:
    """Returns the draft, the same in every attempt. Raises Unacceptable where the channel or a picture is gone.

    Raises the database's error, too, which is no verdict on the delivery.
    """
    account = await accounts.account(held.channel_id)
    variant = DueVariant.FromString(held.content)
    found = await _find_media(held, variant, library)
    segments = [
        Segment(key, segment.text, _pictures(segment, found, library))
        for key, segment in zip(held.segment_keys, variant.segments, strict=True)
    ]
    return Draft(
        account=account,
        segments=segments,
        visibility=variant.visibility,
        language=variant.language,
        compose_time=held.compose_time,
        handles=dict(held.handles),
        remotes=list(held.remotes),
    )


def _pictures(segment: DueSegment, found: Mapping[str, Media], library: Library) -> tuple[Picture, ...]:
    return tuple(library.picture(found[one.media_id], one.media_id, one.alt_text) for one in segment.attachments)


async def _find_media(held: Held, variant: DueVariant, library: Library) -> Mapping[str, Media]:
    wanted = {attached.media_id for segment in variant.segments for attached in segment.attachments}
    if not wanted:
        return {}
    try:
        ids = {text: parse_id(MEDIA, text) for text in wanted}
    except InvalidId as error:
        raise Unacceptable(FailureKind.MEDIA_REJECTED, error.message) from error
    stored = await library.find(held.workspace_id, list(ids.values()))
    missing = sorted(text for text, id_ in ids.items() if id_ not in stored)
    if missing:
        raise Unacceptable(FailureKind.MEDIA_REJECTED, f"there is no picture {missing[0]} in this workspace")
    return {text: stored[id_] for text, id_ in ids.items()}
