"""The publisher's settings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict
from regie_chassis.process.settings import MediaStoreSettings
from regie_networks.egress import read_place

from regie_publisher.channels.sealing import check_master_key


class PublisherSettings(MediaStoreSettings):
    """The publisher's settings, prefixed `PUBLISHER_`."""

    model_config = SettingsConfigDict(env_prefix="PUBLISHER_", populate_by_name=True, extra="ignore")

    master_key: SecretStr
    """base64url of 32 bytes; wraps the data keys of all channels' credentials."""
    old_master_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Comma separated; they still decrypt the data keys that they have wrapped, until those are rewrapped."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma separated `host:port` that may be private and plain http, as a laptop's sandbox; turns the sandbox on."""
    sandbox_url: str = ""
    """The sandbox network of channels that are connected without a `server_url`; empty means its usual address."""
    in_flight: int = Field(default=250, ge=1, le=2000)
    """Deliveries in flight in this process. One workspace gets at most four fifths of them, and so does one host."""
    channel_in_flight: int = Field(default=8, ge=1, le=1000)
    """Deliveries in flight of one channel: servers of networks are small, and some hang under more."""

    delivery_life_days: int = Field(default=400, ge=60, le=3650)
    """Days for which ended deliveries are kept after their last change. They make a post once, so that they outlive the
    streams of events, the inbox and a backup of 30 days."""
    upload_life_hours: int = Field(default=24, ge=6, le=24 * 30)
    """Hours after which an upload that a killed process has left is removed; the slowest upload takes five."""
    quiet_seconds: float = Field(default=120.0, gt=0, le=3600)
    """The time after a call without an answer in which it may still land: no post counts as absent before."""

    @field_validator("allowed_hosts", "old_master_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(read_place(host) for host in value)

    @field_validator("master_key")
    @classmethod
    def _master_key(cls, value: SecretStr) -> SecretStr:
        check_master_key(value.get_secret_value())
        return value

    @field_validator("old_master_keys")
    @classmethod
    def _old_master_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            check_master_key(key.get_secret_value())
        return value

    @property
    def sandbox_enabled(self) -> bool:
        """The sandbox is a network only where private hosts are allowed, which production never does."""
        return bool(self.allowed_hosts)
