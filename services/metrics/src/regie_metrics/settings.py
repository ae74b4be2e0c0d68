"""The metrics service's settings, prefixed METRICS_."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict
from regie_chassis.settings import ServiceSettings


class MetricsSettings(ServiceSettings):
    """What an installation may choose about metrics."""

    model_config = SettingsConfigDict(env_prefix="METRICS_", populate_by_name=True, extra="ignore")

    retention_days: int = Field(default=90, ge=2, le=3650)
    """How long single observations are kept; roll-ups stay."""

    @property
    def retention(self) -> timedelta:
        """The retention as a span."""
        return timedelta(days=self.retention_days)
