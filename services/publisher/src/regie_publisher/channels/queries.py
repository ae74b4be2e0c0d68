"""Reads channels, without their secrets."""

from __future__ import annotations

from uuid import UUID

from regie_chassis.data.paging import Page, page_of, read_token, size_of
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels.channel import Channel, ChannelNotFound, to_channel

LIST = "channels"
FRAME = 200  # bytes of a channel in an answer besides its texts


async def get_channel(session: AsyncSession, *, workspace_id: UUID, channel_id: UUID) -> Channel:
    """Returns a channel. Raises ChannelNotFound."""
    row = (await session.execute(_SELECT_CHANNEL, {"id": channel_id, "workspace_id": workspace_id})).one_or_none()
    if row is None:
        raise ChannelNotFound
    return to_channel(row, shared=row.shared)


async def list_channels(session: AsyncSession, *, workspace_id: UUID, page_size: int, page_token: str) -> Page[Channel]:
    """Returns a page of channels, the newest first. Raises InvalidPageToken or InvalidPageSize."""
    size = size_of(page_size)
    rows = await session.execute(
        _SELECT_PAGE, {"workspace_id": workspace_id, "before": read_token(LIST, page_token), "limit": size + 1}
    )
    channels = [to_channel(row, shared=row.shared) for row in rows]
    return page_of(channels, size=size, list_name=LIST, bytes_of=_bytes_of)


def _bytes_of(channel: Channel) -> int:
    texts = (channel.server_url, channel.remote_id, channel.handle, channel.display_name, channel.attention)
    return FRAME + 4 * sum(map(len, texts))


_SHARED = """EXISTS (
    SELECT FROM channel AS other WHERE other.network = channel.network AND other.account = channel.account
        AND other.server_url = channel.server_url
        AND other.workspace_id <> channel.workspace_id AND other.state <> 'disconnected'
        AND channel.state <> 'disconnected'
) AS shared"""

_SELECT_CHANNEL = text(f"SELECT *, {_SHARED} FROM channel WHERE id = :id AND workspace_id = :workspace_id")

_SELECT_PAGE = text(
    f"""
    SELECT *, {_SHARED} FROM channel
    WHERE workspace_id = :workspace_id AND id < :before ORDER BY id DESC LIMIT :limit
    """
)
