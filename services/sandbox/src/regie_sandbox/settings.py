"""The settings of the process, from its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """`data` is a folder for posts and the call log; without it they end with the process."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_")

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)
    data: Path | None = None
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma separated `host:port` that it is called by, beside those of the loopback."""

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
