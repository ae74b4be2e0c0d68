"""States of a segment."""

from __future__ import annotations

from enum import StrEnum


class SegmentState(StrEnum):
    """State of a segment; a deleted one is `deleting` until its members are removed (ADR 0024)."""

    FILLING = "filling"
    ACTIVE = "active"
    DELETING = "deleting"
