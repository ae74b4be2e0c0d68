"""The gateway's settings, as in `GATEWAY_HTTP_PORT`."""

from __future__ import annotations

import json
import re
from ipaddress import ip_network
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict
from regie_chassis.process.settings import MediaStoreSettings, check_target, read_key

ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@*\s]+")


class GatewaySettings(MediaStoreSettings):
    """Addresses, keys and limits of the gateway."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", populate_by_name=True, extra="ignore")

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free port."""
    identity_private_key: SecretStr
    """An Ed25519 private key as a JWK; signs who calls. Its public half goes to every other service."""

    targets: Annotated[dict[str, str], NoDecode]
    """JSON: the gRPC target of each service, by the service's name."""

    body_limit: int = Field(default=1024 * 1024, ge=1024)
    """Bytes of a request's body."""
    picture_limit: int = Field(default=10 * 1024 * 1024, ge=1024)
    """Bytes of an uploaded picture."""
    video_limit: int = Field(default=1024**3, ge=1024, le=5 * 1024**3)
    """Bytes of an uploaded video; S3 copies no more at once."""
    uploads: int = Field(default=32, ge=4)
    """Files that one replica receives at once, each in some 20 MB of memory; a quarter is for workspaces with none."""
    uploads_per_workspace: int = Field(default=8, ge=1)
    """Of these, of one workspace."""
    rate_per_second: float = Field(default=100.0, ge=0)
    """Requests that one key may make in the long run; 0 sets no limit."""
    rate_burst: int = Field(default=200, ge=1)
    wrong_keys_per_minute: int = Field(default=60, ge=0)
    """Wrong API keys that one address may try in the long run; 0 sets no limit."""
    workspace_rate_per_second: float = Field(default=400.0, ge=0)
    """Requests that all keys of a workspace may make together in the long run; 0 sets no limit."""
    workspace_rate_burst: int = Field(default=800, ge=1)
    streams_per_key: int = Field(default=20, ge=1)
    """Event streams that one key may hold open on one replica."""
    streams_per_workspace: int = Field(default=100, ge=1)
    """Event streams that all keys of a workspace may hold open on one replica."""
    connections: int = Field(default=2000, ge=1)
    """Connections that are open at once; more are answered 503."""
    connections_per_address: int = Field(default=500, ge=1)
    """Of these, from one address; a trusted proxy's are not counted."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma separated networks of trusted proxies, which give a client's address in X-Forwarded-For."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma separated origins of pages that may call from a browser, as in https://app.example.org; `*` for all."""

    @field_validator("trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(str(ip_network(one)) for one in value)
        except ValueError:
            raise ValueError("give networks, as in 10.0.0.0/8,fd00::/8") from None

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value != ("*",) and not all(ORIGIN.fullmatch(origin) for origin in value):
            raise ValueError("give origins without a path, as in https://app.example.org,http://localhost:5173, or *")
        return tuple(origin.lower() for origin in value)

    @field_validator("identity_private_key")
    @classmethod
    def _private_key(cls, value: SecretStr) -> SecretStr:
        if not read_key(value).is_private:
            raise ValueError("give the private half, the JWK with `d`")
        return value

    @field_validator("targets", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ValueError('give JSON, as in {"scheduler": "scheduler:7001"}') from None

    @field_validator("targets")
    @classmethod
    def _target(cls, value: dict[str, str]) -> dict[str, str]:
        return {service: check_target(target) for service, target in value.items()}
