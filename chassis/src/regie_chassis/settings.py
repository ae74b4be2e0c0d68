"""Settings that every service has. Code receives values; nothing but this reads the environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """The base of each service's settings. A service adds its prefix, as in `SCHEDULER_DATABASE_URL`.

    What all services of one installation share has no prefix, as in `NATS_URL`.
    """

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore")

    database_url: SecretStr
    database_pool_size: int = Field(default=10, ge=1, le=200)
    migrations: Path | None = None
    """The service's migrations folder; None finds it beside the sources."""
    rpc_host: str = "127.0.0.1"
    rpc_port: int = Field(default=0, ge=0, le=65535)
    """0 takes a free port."""
    drain_seconds: float = Field(default=20.0, gt=0)
    """How long a SIGTERM may take before what is left is aborted."""

    nats_url: str = Field(default="nats://127.0.0.1:4222", validation_alias="NATS_URL")
    nats_credentials: Path | None = Field(default=None, validation_alias="NATS_CREDENTIALS")
    stream_replicas: int = Field(default=1, ge=1, le=5, validation_alias="REGIE_STREAM_REPLICAS")
    identity_public_key: SecretStr = Field(default=SecretStr(""), validation_alias="REGIE_IDENTITY_PUBLIC_KEY")
    """The gateway's Ed25519 public key as a JWK; verifies who calls."""
    otlp_endpoint: str = Field(default="", validation_alias="REGIE_OTLP_ENDPOINT")
    """host:port of an OTLP/gRPC receiver; empty sends nothing."""
    trace_sample_ratio: float = Field(default=1.0, ge=0, le=1, validation_alias="REGIE_TRACE_SAMPLE_RATIO")
    log_level: str = Field(
        default="INFO", validation_alias="REGIE_LOG_LEVEL", pattern="(?i)^(debug|info|warning|error|critical)$"
    )

    @property
    def drain(self) -> timedelta:
        """The drain deadline as a span."""
        return timedelta(seconds=self.drain_seconds)
