"""Builds the draft of a claimed delivery, which its connector works on."""

from __future__ import annotations

from collections.abc import Mapping

from regie.ids.v1.prefixes import MEDIA
from regie.scheduler.events.v1.scheduler_events_pb2 import DueSegment, DueVariant
from regie_chassis.boundary.ids import InvalidId, parse_id
from regie_networks.draft import Draft, Picture, Segment
from regie_networks.errors import FailureKind, Unacceptable

from regie_publisher.channels.accounts import Accounts
from regie_publisher.deliveries.delivery import ClaimedDelivery
from regie_publisher.media.store import Media, MediaStore


async def build_draft(delivery: ClaimedDelivery, *, accounts: Accounts, media_store: MediaStore) -> Draft:
    """Returns the draft, the same in every attempt. Raises Unacceptable if the channel or a picture is gone.

    Also raises the database's error, which is no verdict on the delivery.
    """
    account = await accounts.account(delivery.channel_id)
    variant = DueVariant.FromString(delivery.content)
    media = await _find_media(delivery, variant, media_store)
    segments = [
        Segment(key, segment.text, _pictures(segment, media, media_store))
        for key, segment in zip(delivery.segment_keys, variant.segments, strict=True)
    ]
    return Draft(
        account=account,
        segments=segments,
        visibility=variant.visibility,
        language=variant.language,
        compose_time=delivery.compose_time,
        handles=dict(delivery.handles),
        remotes=list(delivery.remotes),
    )


def _pictures(segment: DueSegment, media: Mapping[str, Media], media_store: MediaStore) -> tuple[Picture, ...]:
    return tuple(media_store.picture(media[one.media_id], one.media_id, one.alt_text) for one in segment.attachments)


async def _find_media(delivery: ClaimedDelivery, variant: DueVariant, media_store: MediaStore) -> Mapping[str, Media]:
    media_ids = {attached.media_id for segment in variant.segments for attached in segment.attachments}
    if not media_ids:
        return {}
    try:
        ids = {text: parse_id(MEDIA, text) for text in media_ids}
    except InvalidId as error:
        raise Unacceptable(FailureKind.MEDIA_REJECTED, error.message) from error
    stored = await media_store.find(delivery.workspace_id, list(ids.values()))
    missing = sorted(text for text, id_ in ids.items() if id_ not in stored)
    if missing:
        raise Unacceptable(FailureKind.MEDIA_REJECTED, f"there is no picture {missing[0]} in this workspace")
    return {text: stored[id_] for text, id_ in ids.items()}
