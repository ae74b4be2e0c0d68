"""The metrics service's settings, prefixed METRICS_."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict
from regie_chassis.process.settings import ServiceSettings


class MetricsSettings(ServiceSettings):
    """Settings of metrics."""

    model_config = SettingsConfigDict(env_prefix="METRICS_", populate_by_name=True, extra="ignore")

    observation_life_days: int = Field(default=90, ge=2, le=3650)
    """Of single observations; the numbers of hours and days live longer."""
    hourly_life_days: int = Field(default=400, ge=0, le=36_500)
    """Of a post's hourly numbers after the last of them; 0 keeps them for ever."""
    daily_life_days: int = Field(default=0, ge=0, le=36_500)
    """Of a post's daily and newest numbers after the last of them; 0 keeps them for ever."""

    @model_validator(mode="after")
    def _rollups_outlive_observations(self) -> Self:
        lives = (self.hourly_life_days, self.daily_life_days)
        if any(0 < life < self.observation_life_days for life in lives):
            raise ValueError("let hourly and daily numbers live as long as observations at least, or give 0")
        return self

    @property
    def observation_life(self) -> timedelta:
        """The life of observations as a span."""
        return timedelta(days=self.observation_life_days)

    @property
    def hourly_life(self) -> timedelta:
        """The life of hourly numbers as a span; zero keeps them for ever."""
        return timedelta(days=self.hourly_life_days)

    @property
    def daily_life(self) -> timedelta:
        """The life of daily and newest numbers as a span; zero keeps them for ever."""
        return timedelta(days=self.daily_life_days)
