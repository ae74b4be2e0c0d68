"""Every table of the publisher, as the migrations leave them; alembic compares."""

from __future__ import annotations

from regie_publisher.tables import channels, deliveries, media, metrics

TABLES = (
    channels.channel,
    media.media,
    deliveries.delivery,
    deliveries.remote,
    deliveries.attempt,
    deliveries.delivery_change,
    deliveries.cancellation,
    metrics.scheduled_collection,
    metrics.engagement,
)
metadata = channels.channel.metadata
