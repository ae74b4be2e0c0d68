"""The scheduler's settings, as in `SCHEDULER_DATABASE_URL`."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from regie_chassis.settings import ServiceSettings


class SchedulerSettings(ServiceSettings):
    """What an operator may turn."""

    model_config = SettingsConfigDict(env_prefix="SCHEDULER_", populate_by_name=True, extra="ignore")

    due_batch: int = Field(default=500, ge=1, le=5000)
    """How many due posts one transaction claims."""
