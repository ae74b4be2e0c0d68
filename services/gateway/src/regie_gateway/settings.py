"""The gateway's settings, as in `GATEWAY_HTTP_PORT`."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict
from regie_chassis.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Where the gateway listens, whom it calls, and where its limits stand."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", populate_by_name=True, extra="ignore")

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free port."""
    identity_private_key: SecretStr
    """An Ed25519 private key as a JWK; signs who calls. Its public half goes to every other service."""

    scheduler_target: str
    publisher_target: str
    audience_target: str
    metrics_target: str

    body_limit: int = Field(default=1024 * 1024, ge=1024)
    """Bytes of a request's body."""
    media_limit: int = Field(default=10 * 1024 * 1024, ge=1024)
    """Bytes of an uploaded picture."""
    rate_per_second: float = Field(default=100.0, ge=0)
    """Requests that one key may make in the long run; 0 sets no limit."""
    rate_burst: int = Field(default=200, ge=1)
    workspace_rate_per_second: float = Field(default=400.0, ge=0)
    """Requests that all keys of a workspace may make together in the long run; 0 sets no limit."""
    workspace_rate_burst: int = Field(default=800, ge=1)
    streams_per_key: int = Field(default=20, ge=1)
    """Event streams that one key may hold open on one replica."""
