"""The audience service's settings, prefixed AUDIENCE_."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from regie_chassis.process.settings import ServiceSettings


class AudienceSettings(ServiceSettings):
    """Settings of the audience."""

    model_config = SettingsConfigDict(env_prefix="AUDIENCE_", populate_by_name=True, extra="ignore")

    left_membership_life_days: int = Field(default=400, ge=0, le=36_500)
    """Of memberships after their end; 0 keeps them for ever."""

    @property
    def left_membership_life(self) -> timedelta:
        """The life of memberships that ended as a span; zero keeps them for ever."""
        return timedelta(days=self.left_membership_life_days)
