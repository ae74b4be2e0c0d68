"""The settings of the process, from its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MAX_PORT = 65535


class WrongSetting(Exception):
    """A setting has an unusable value. The message names it and tells the operator how to correct it."""


class Settings(BaseSettings):
    """`data` is a folder for posts and the call log; without it they end with the process."""

    model_config = SettingsConfigDict(env_prefix="SANDBOX_")

    host: str = "127.0.0.1"
    port: int = 8090
    data: Path | None = None
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma separated `host:port` that it is called by, beside those of the loopback."""

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place in value:
            host, _, port = place.rpartition(":")
            bare = host.removeprefix("[").removesuffix("]")
            if not bare or (":" in bare) != (bare != host) or not {"/", "@"}.isdisjoint(bare) or not _is_port(port):
                raise ValueError("name each host with its port, as in 127.0.0.1:8090")
        return value

    @field_validator("port", mode="before")
    @classmethod
    def _port(cls, value: object) -> object:
        if not _is_port(str(value), least=0):
            raise ValueError(f"give a port from 1 to {MAX_PORT}, or 0 for a free one")
        return value


def _is_port(text: str, *, least: int = 1) -> bool:
    return text.isascii() and text.isdigit() and least <= int(text[:6]) <= MAX_PORT
