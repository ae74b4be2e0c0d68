"""Builds the draft of a claimed delivery, which its connector works on."""

from __future__ import annotations

from collections.abc import Mapping

from regie.ids.v1.prefixes import MEDIA
from regie.scheduler.events.v1.scheduler_events_pb2 import DueSegment, DueVariant
from regie_chassis.boundary.ids import InvalidId, parse_id
from regie_networks.draft import Attachment, Draft, Picture, Segment, Video
from regie_networks.errors import FailureKind, Unacceptable

from regie_publisher.channels.accounts import Accounts
from regie_publisher.deliveries.delivery import ClaimedDelivery
from regie_publisher.media.media import Media
from regie_publisher.media.store import MediaStore


async def build_draft(delivery: ClaimedDelivery, *, accounts: Accounts, media_store: MediaStore) -> Draft:
    """Returns the draft, the same in every attempt. Raises Unacceptable if the channel or an attachment is gone.

    Also raises the database's error, which is no verdict on the delivery.
    """
    account = await accounts.account(delivery.channel_id)
    variant = DueVariant.FromString(delivery.content)
    media = await _find_media(delivery, variant, media_store)
    segments = [
        _segment(key, segment, media, media_store)
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


def _segment(key: str, segment: DueSegment, media: Mapping[str, Media], media_store: MediaStore) -> Segment:
    attachments: list[Attachment] = [
        media_store.attachment(media[one.media_id], one.media_id, one.alt_text) for one in segment.attachments
    ]
    videos = [one for one in attachments if isinstance(one, Video)]
    if len(videos) > 1:
        message = f"A part of the post has {len(videos)} videos: a video stands alone"
        raise Unacceptable(FailureKind.MEDIA_REJECTED, message)
    pictures = tuple(one for one in attachments if isinstance(one, Picture))
    return Segment(key, segment.text, pictures, videos[0] if videos else None)


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
        raise Unacceptable(FailureKind.MEDIA_REJECTED, f"there is no picture or video {missing[0]} in this workspace")
    return {text: stored[id_] for text, id_ in ids.items()}
