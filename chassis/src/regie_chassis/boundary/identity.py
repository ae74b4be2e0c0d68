"""The caller's identity: a short-lived token that the gateway signs (EdDSA) and every service verifies."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from regie.ids.v1.prefixes import WORKSPACE

from regie_chassis.boundary.errors import RegieError, Unauthenticated
from regie_chassis.boundary.ids import parse_id, show_id

ISSUER = "regie-gateway"
ALGORITHM = "Ed25519"  # RFC 9864, in place of the ambiguous "EdDSA"
LIFETIME = timedelta(minutes=2)
LEEWAY = timedelta(seconds=10)
REMEMBERED = 10_000


class InvalidIdentity(Unauthenticated):
    """A call carries no identity, a forged one, or one that has expired."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified origin of a call: its workspace, and who in it (an API key's or a person's id)."""

    workspace_id: UUID
    subject: str


def new_key() -> OKPKey:
    """Returns a fresh Ed25519 key."""
    return OKPKey.generate_key("Ed25519")


class Signer:
    """Signs callers, each token for one service: a token sent to one service is refused by every other (ADR 0011).

    A token is used again for half of its life, since signing is expensive.
    """

    def __init__(self, private_key: OKPKey) -> None:
        self._key = private_key
        self._tokens: OrderedDict[tuple[Caller, str], tuple[str, datetime]] = OrderedDict()

    def sign(self, caller: Caller, *, audience: str, now: datetime) -> str:
        """Returns a token that the service `audience` takes for at least half of LIFETIME."""
        known = self._tokens.get((caller, audience))
        if known and now < known[1]:
            return known[0]
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "sub": caller.subject,
            "ws": show_id(WORKSPACE, caller.workspace_id),
            "iat": int(now.timestamp()),
            "exp": int((now + LIFETIME).timestamp()),
        }
        token = jwt.encode({"alg": ALGORITHM}, claims, self._key, algorithms=[ALGORITHM])
        self._tokens[caller, audience] = (token, now + LIFETIME / 2)
        if len(self._tokens) > REMEMBERED:
            self._tokens.popitem(last=False)
        return token


class Verifier:
    """Verifies tokens; a verified one is remembered until it expires."""

    def __init__(self, public_key: OKPKey) -> None:
        self._key = public_key
        self._known: OrderedDict[tuple[str, str], tuple[Caller, datetime]] = OrderedDict()

    def verify(self, token: str, *, audience: str, now: datetime) -> Caller:
        """Returns the caller of a token that was made for the service `audience`. Raises InvalidIdentity."""
        known = self._known.get((token, audience))
        if known and now < known[1]:
            return known[0]
        try:
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM]).claims
            expires = datetime.fromtimestamp(int(claims["exp"]), tz=now.tzinfo) + LEEWAY
            issued = datetime.fromtimestamp(int(claims["iat"]), tz=now.tzinfo) - LEEWAY
            workspace, subject = claims["ws"], claims["sub"]
            if not isinstance(workspace, str) or not isinstance(subject, str):
                raise TypeError("a claim is no text")
            caller = Caller(parse_id(WORKSPACE, workspace), subject)
            genuine = claims["iss"] == ISSUER and claims["aud"] == audience
        except (JoseError, KeyError, TypeError, ValueError, OverflowError, RegieError) as error:
            raise InvalidIdentity("the call's identity cannot be verified; call through the gateway") from error
        if not genuine or not issued <= now < expires:
            raise InvalidIdentity("the call's identity has expired or is meant for another service")
        self._known[token, audience] = (caller, expires)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return caller
