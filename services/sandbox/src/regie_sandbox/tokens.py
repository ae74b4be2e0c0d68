"""Tokens that name their account: `sandbox-<handle>`, as many accounts as are asked for."""

from __future__ import annotations

import re

_ACCESS = re.compile(r"(?:sandbox|expired)-([A-Za-z0-9_-]{1,40})(?:\.[0-9]{1,20})?")
_REFRESH = re.compile(r"refresh-([A-Za-z0-9_-]{1,40})")


def account_of(token: str) -> str | None:
    """Returns the handle behind an access token, expired or not, or None for anything else."""
    match = _ACCESS.fullmatch(token)
    return match[1] if match else None


def account_to_renew(refresh_token: str) -> str | None:
    """Returns the handle behind `refresh-<handle>`, or None for anything else."""
    match = _REFRESH.fullmatch(refresh_token)
    return match[1] if match else None


def refresh_token_of(account: str) -> str:
    """Returns the one refresh token of an account."""
    return f"refresh-{account}"


def renewed_token(account: str, number: str) -> str:
    """Names an access token that was never given before, `number` being a fresh id of the network."""
    return f"sandbox-{account}.{number}"
