"""The business facts that the audience reports about itself, each declared once."""

from __future__ import annotations

from uuid import UUID

import structlog
from regie_chassis.boundary.telemetry import meter

log = structlog.get_logger()
_changed = meter().create_counter(
    "regie.audience.profiles_changed", unit="{profile}", description="Profiles created or changed"
)
_entered = meter().create_counter(
    "regie.audience.segment_entered", unit="{profile}", description="Profiles that came to match a segment"
)
_left = meter().create_counter(
    "regie.audience.segment_left", unit="{profile}", description="Profiles that no longer match a segment"
)
_skipped = meter().create_counter(
    "regie.audience.engagements_skipped", unit="{engagement}", description="Engagements that cannot be of a person"
)


def profiles_changed(count: int) -> None:
    """Profiles were created, or an attribute of theirs changed."""
    _changed.add(count)


def memberships_changed(*, entered: int, left: int) -> None:
    """Profiles entered and left segments."""
    _entered.add(entered)
    _left.add(left)


def segment_filled(segment_id: UUID, members: int) -> None:
    """A new segment has all matching profiles."""
    log.info("audience.segment_filled", segment_id=str(segment_id), members=members)


def engagement_skipped(event_id: UUID, network: str, why: str) -> None:
    """An engagement was left out, and its neighbours went on."""
    _skipped.add(1, {"network": network[:40]})
    log.warning("audience.engagement_skipped", event_id=str(event_id), network=network[:40], why=why)
