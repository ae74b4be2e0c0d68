"""Settings of every service. Code receives values; only this module reads the environment.

A validator's message tells the operator how to correct the setting and never repeats the value, which may be a secret.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

KEY_CURVE = "Ed25519"
ENDPOINT = re.compile(r"[^\s/:]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
MEDIA_SCHEMES = {"file", "s3", "gs", "az"}


class WrongSetting(Exception):
    """A setting has an unusable value. The message names it and tells the operator how to correct it."""


@dataclass(frozen=True, slots=True)
class Lives:
    """How long rows of the chassis' tables are kept."""

    outbox: timedelta
    """Of events after their acknowledgement."""
    inbox: timedelta
    """Of notes that an event was handled."""
    dead: timedelta
    """Of dead letters, and of events that can never be sent."""


class NatsSettings(BaseSettings):
    """How a process reaches NATS, and how it logs; the same for all of an installation, so without a prefix."""

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore")

    nats_url: str = Field(default="nats://127.0.0.1:4222", validation_alias="NATS_URL")
    nats_password: SecretStr = Field(default=SecretStr(""), validation_alias="NATS_PASSWORD")
    """The password of the NATS user who is named as the service; empty logs nobody in."""
    nats_credentials: Path | None = Field(default=None, validation_alias="NATS_CREDENTIALS")
    stream_replicas: int = Field(default=1, ge=1, le=5, validation_alias="REGIE_STREAM_REPLICAS")
    log_level: LogLevel = Field(default="INFO", validation_alias="REGIE_LOG_LEVEL")

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("nats_url")
    @classmethod
    def _servers(cls, value: str) -> str:
        for server in value.split(","):
            parts = urlsplit(server.strip())
            if parts.scheme not in {"nats", "tls", "ws", "wss"} or not parts.hostname or not _has_port(parts):
                raise ValueError("give nats://host:port, several servers separated by commas")
            if parts.username is not None or parts.password is not None:
                raise ValueError("put the password into NATS_PASSWORD, where no log repeats it")
        return value

    @field_validator("nats_credentials")
    @classmethod
    def _credentials(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("there is no such file; give the path of a NATS credentials file")
        return value


class ServiceSettings(NatsSettings):
    """The base of each service's settings. A service adds its prefix, as in `SCHEDULER_DATABASE_URL`.

    A setting that all services of an installation share has no prefix, as in `NATS_URL`.
    """

    database_url: SecretStr
    database_pool_size: int = Field(default=10, ge=1, le=200)
    migrations: Path | None = None
    """The service's migrations folder; None finds it beside the sources."""
    rpc_host: str = "127.0.0.1"
    rpc_port: int = Field(default=0, ge=0, le=65535)
    """0 takes a free port."""
    drain_seconds: float = Field(default=20.0, gt=0, le=3600)
    """How long a SIGTERM may take before the remaining work is aborted."""

    outbox_life_minutes: int = Field(default=15, ge=15, le=7 * 24 * 60)
    """Life of events after their acknowledgement; events that NATS loses in a power cut are replayed from them."""
    inbox_life_days: int = Field(default=14, ge=8, le=30)
    """Of notes that an event was handled: longer than streams keep it, shorter than keys that make something once."""
    dead_life_days: int = Field(default=90, ge=1, le=3650)
    """Of dead letters, and of events that can never be sent."""

    identity_public_key: SecretStr = Field(default=SecretStr(""), validation_alias="REGIE_IDENTITY_PUBLIC_KEY")
    """The gateway's Ed25519 public key as a JWK; verifies who calls."""
    otlp_endpoint: str = Field(default="", validation_alias="REGIE_OTLP_ENDPOINT")
    """host:port of an OTLP/gRPC receiver; empty sends nothing."""
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1, validation_alias="REGIE_TRACE_SAMPLE_RATIO")

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: SecretStr) -> SecretStr:
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            url = None
        if url is None or url.drivername != "postgresql+asyncpg" or not url.host or not url.database:
            raise ValueError("give postgresql+asyncpg://role:password@host:5432/database")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value and not ENDPOINT.fullmatch(value):
            raise ValueError("give host:port, as in 127.0.0.1:4317, or leave it empty")
        return value

    @field_validator("identity_public_key")
    @classmethod
    def _public_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and read_key(value).is_private:
            raise ValueError("give the public half only, the JWK without `d`; the private one is the gateway's alone")
        return value

    @property
    def lives(self) -> Lives:
        """How long rows of the chassis' tables are kept."""
        return Lives(
            outbox=timedelta(minutes=self.outbox_life_minutes),
            inbox=timedelta(days=self.inbox_life_days),
            dead=timedelta(days=self.dead_life_days),
        )

    @property
    def drain(self) -> timedelta:
        """The drain deadline as a span."""
        return timedelta(seconds=self.drain_seconds)


class MediaStoreSettings(ServiceSettings):
    """The base of the services that share the media store."""

    media_url: str = Field(default="file:///var/lib/regie/media", validation_alias="REGIE_MEDIA_URL")
    """The object store of media: file://, s3://, gs:// or az://. Credentials come from the provider's variables."""

    @field_validator("media_url")
    @classmethod
    def _media_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in MEDIA_SCHEMES or not (parts.path.strip("/") if parts.scheme == "file" else parts.netloc):
            raise ValueError("give file:///folder, s3://bucket, gs://bucket or az://container")
        if parts.username is not None or parts.query:
            raise ValueError("put the credentials into the provider's variables, as AWS_ACCESS_KEY_ID, and not here")
        return value


def read_key(value: SecretStr) -> OKPKey:
    """Returns an Ed25519 key from its JWK. Raises ValueError without its content."""
    try:
        parsed: Any = json.loads(value.get_secret_value())
        key = OKPKey.import_key(parsed) if isinstance(parsed, dict) else None
    except (ValueError, TypeError, KeyError, JoseError):
        key = None
    if key is None or key.curve_name != KEY_CURVE:
        raise ValueError("give an Ed25519 key as a JWK; docs/operations.md has the command that makes one") from None
    if key.is_private and len(set(key.raw_value.private_bytes_raw())) == 1:  # type: ignore[union-attr]
        raise ValueError("this key is one byte repeated; make a random one")
    return key


def check_target(value: str) -> str:
    """Returns a gRPC target. Raises ValueError for anything else."""
    places = value.split(":", 1)[1].split(",") if value.startswith(("ipv4:", "ipv6:")) else [value]
    if value.startswith("dns:"):
        places = [value.rsplit("/", 1)[-1]]
    for place in places:
        host, _, port = place.rpartition(":")
        if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError("give host:port")
    return value


def _has_port(parts: Any) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False
