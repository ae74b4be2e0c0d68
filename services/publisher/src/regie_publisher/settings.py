"""The publisher's settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict
from regie_chassis.settings import ServiceSettings


class PublisherSettings(ServiceSettings):
    """What the publisher is told from outside, prefixed `PUBLISHER_`."""

    model_config = SettingsConfigDict(env_prefix="PUBLISHER_", populate_by_name=True, extra="ignore")

    master_key: SecretStr
    """base64url of 32 bytes; wraps the data keys of all channels' credentials."""
    old_master_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Comma separated; they still open what they sealed, until it is wrapped anew."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma separated hosts that may be private and plain http, as a laptop's sandbox; turns the sandbox on."""
    media_url: str = "file:///var/lib/regie/media"
    """Where pictures are kept: file://, s3://, gs:// or az://."""
    in_flight: int = Field(default=250, ge=1, le=2000)
    """Deliveries at work at once in this process. One workspace gets four fifths of them, so do those at one host."""
    channel_in_flight: int = Field(default=8, ge=1, le=1000)
    """Of these, at most so many for one channel: servers of networks are small, and some hang under more."""

    @field_validator("allowed_hosts", "old_master_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def sandbox_enabled(self) -> bool:
        """The sandbox is a network only where private hosts are allowed, which production never does."""
        return bool(self.allowed_hosts)
