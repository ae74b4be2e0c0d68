"""The apps that the network knows, and the accounts that they were let into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Grant:
    """A person's consent to an app; `expires` is the end of its code, in seconds since the epoch."""

    client_id: str
    account: str
    redirect_uri: str
    challenge: str
    expires: float


class Grants:
    """A grant is a code first, then a family of refresh tokens; only the newest is valid."""

    def __init__(self) -> None:
        self._apps: dict[str, Sequence[str]] = {}
        self._codes: dict[str, Grant] = {}
        self._families: dict[str, Grant] = {}
        self._family_of: dict[str, str] = {}
        self._newest: dict[str, str] = {}

    def redirect_uris(self, client_id: str) -> Sequence[str]:
        """Returns the addresses of an app, none for an unknown app."""
        return self._apps.get(client_id, ())

    def grant_of_code(self, code: str) -> Grant | None:
        return self._codes.get(code)

    def family_of(self, refresh_token: str) -> str | None:
        return self._family_of.get(refresh_token)

    def grant_of_family(self, family: str | None) -> Grant | None:
        return None if family is None else self._families.get(family)

    def is_newest(self, refresh_token: str) -> bool:
        """True for the token that was not used yet."""
        return self._newest.get(self._family_of.get(refresh_token, "")) == refresh_token

    def apply(self, change: Mapping[str, Any]) -> bool:
        """Makes one change happen; False where it is none of grants."""
        match change:
            case {"app": client_id, "redirect_uris": redirect_uris}:
                self._apps[client_id] = tuple(redirect_uris)
            case {"code": code, "grant": grant}:
                self._codes[code] = grant if isinstance(grant, Grant) else Grant(**grant)
            case {"redeemed": code, "refresh": token, "family": family}:
                self._families[family] = self._codes.pop(code)
                self._take(token, family)
            case {"rotated": spent, "refresh": token}:
                self._take(token, self._family_of[spent])
            case {"ended": family}:
                self._families.pop(family, None)
            case _:
                return False
        return True

    def _take(self, token: str, family: str) -> None:
        self._family_of[token] = family
        self._newest[family] = token
