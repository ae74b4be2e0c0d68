"""The business facts that the audience reports about itself, each declared once."""

from __future__ import annotations

from uuid import UUID

import structlog
from regie_chassis.telemetry import meter

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


def profiles_changed(count: int) -> None:
    """Profiles were created, or an attribute of theirs changed."""
    _changed.add(count)


def memberships_changed(*, entered: int, left: int) -> None:
    """Profiles entered and left segments."""
    _entered.add(entered)
    _left.add(left)


def segment_created(segment_id: UUID, members: int) -> None:
    """A segment exists and is filled."""
    _entered.add(members)
    log.info("audience.segment_created", segment_id=str(segment_id), members=members)
