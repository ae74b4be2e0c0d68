"""The audience service's settings, prefixed AUDIENCE_."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict
from regie_chassis.settings import ServiceSettings


class AudienceSettings(ServiceSettings):
    """What an installation may choose about the audience."""

    model_config = SettingsConfigDict(env_prefix="AUDIENCE_", populate_by_name=True, extra="ignore")
