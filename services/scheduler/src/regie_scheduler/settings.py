"""The scheduler's settings, as in `SCHEDULER_DATABASE_URL`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict
from regie_chassis.process.settings import ServiceSettings

MIN_POST_LIFE_DAYS = 60  # a post outlives every restore and every late report on it


class SchedulerSettings(ServiceSettings):
    """Settings of the scheduler."""

    model_config = SettingsConfigDict(env_prefix="SCHEDULER_", populate_by_name=True, extra="ignore")

    due_batch: int = Field(default=500, ge=1, le=5000)
    """How many due posts one transaction claims."""
    request_life_days: int = Field(default=60, ge=31, le=3650)
    """Of request ids: longer than streams (7 days), inboxes and the oldest backup that is restored (30 days)."""
    post_life_days: int = Field(default=0, ge=0, le=36_500)
    """Of posts after their end, with their variants and changes; 0 keeps them for ever."""

    @field_validator("post_life_days")
    @classmethod
    def _outlives_a_restore(cls, days: int) -> int:
        if 0 < days < MIN_POST_LIFE_DAYS:
            raise ValueError(f"give at least {MIN_POST_LIFE_DAYS} days, or 0 to keep posts for ever")
        return days

    @property
    def request_life(self) -> timedelta:
        """The life of request ids as a span."""
        return timedelta(days=self.request_life_days)

    @property
    def post_life(self) -> timedelta:
        """The life of ended posts as a span; zero keeps them for ever."""
        return timedelta(days=self.post_life_days)
