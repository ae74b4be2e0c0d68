"""Fixtures of the scheduler's tests: a migrated database, and a planner of posts."""

from __future__ import annotations

from uuid import UUID

import pytest
from regie_chassis.data.database import Database
from regie_local.testing.clock import FakeClock
from regie_scheduler.posts.wakeup import DueWakeup
from regie_scheduler.testing import Planner


@pytest.fixture
def wakeup() -> DueWakeup:
    """The wake-up of this process's due loop."""
    return DueWakeup()


@pytest.fixture
def planner(database: Database, clock: FakeClock, workspace_id: UUID, wakeup: DueWakeup) -> Planner:
    """Plans posts of the test's workspace."""
    return Planner(database, clock, workspace_id, wakeup)
