"""Authenticates callers by `Authorization: Bearer`, and caches their keys for a few seconds."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from regie_chassis.boundary.errors import PermissionDenied, Unauthenticated
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock

from regie_gateway.access import api_keys
from regie_gateway.access.api_keys import ApiKey
from regie_gateway.access.wrong_keys import WrongKeys

FRESH = timedelta(seconds=3)
LAST = timedelta(seconds=5)  # a revoked key may be honoured this long by a replica that did not revoke it
MAX_REMEMBERED = 10_000
USE_EVERY = timedelta(minutes=1)


class MissingApiKey(Unauthenticated):
    """The request carries no key."""

    challenge = 'Bearer realm="regie"'


class InvalidApiKey(Unauthenticated):
    """The request carries no valid key: malformed, unknown, revoked or expired."""

    challenge = 'Bearer realm="regie", error="invalid_token"'


class MissingScope(PermissionDenied):
    """The key lacks the scope of the operation."""


Token = tuple[UUID, str]
"""The id of a key and the secret that came with it."""


@dataclass(slots=True)
class _Remembered:
    key: ApiKey
    load_time: datetime
    refreshing: bool = False


class Authenticator:
    """Finds the key behind a request. One database read every few seconds for each key in use."""

    def __init__(self, database: Database, clock: Clock, *, wrong_keys_per_minute: int = 0) -> None:
        self._database = database
        self._clock = clock
        self._wrong = WrongKeys(per_minute=wrong_keys_per_minute, fresh=FRESH)
        self._known: dict[UUID, _Remembered] = {}
        self._used: set[UUID] = set()
        self._proofs: dict[Token, asyncio.Future[ApiKey | None]] = {}

    async def authenticate(self, authorization: str, *, address: str = "") -> ApiKey:
        """Returns the key of an Authorization header. Raises MissingApiKey, InvalidApiKey or TooManyWrongKeys.

        An address that has guessed too much still comes in with keys that are in use; others behind it are not shut
        out with it.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise MissingApiKey("send your API key as `Authorization: Bearer regie_…`")
        read = api_keys.read_token(token.strip())
        now = self._clock.now()
        in_use = read is not None and read[0] in self._known
        key = await (self._prove(read) if in_use else self._prove_first(read, address, now))
        if key is None:
            if in_use:
                self._wrong.take(address, now=now)
            raise InvalidApiKey("this API key is not valid, has expired or was revoked; make another one")
        self._used.add(key.id)
        return key

    async def _prove(self, token: Token | None) -> ApiKey | None:
        """Returns the key that a token opens."""
        key = await self.find(token[0]) if token else None
        if token is None or key is None or not hmac.compare_digest(key.secret_hash, api_keys.hash_secret(token[1])):
            return None
        return key

    async def _prove_first(self, token: Token | None, address: str, now: datetime) -> ApiKey | None:
        """Proves a key that is not in use yet. It counts as a guess before the database is asked, so that many guesses
        at once gain nothing; requests with the same token wait for one another's answer, and count once.
        """
        if token is None:
            self._wrong.take(address, now=now)
            return None
        proof = self._proofs.get(token)
        if proof is None:
            self._wrong.take(address, now=now)
            proof = self._proofs[token] = asyncio.ensure_future(self._prove(token))
            proof.add_done_callback(partial(self._proved, token, address))
        return await asyncio.shield(proof)

    def _proved(self, token: Token, address: str, proof: asyncio.Future[ApiKey | None]) -> None:
        del self._proofs[token]
        # An outage of the database is no guess, either; its error is each waiting request's own.
        if proof.cancelled() or proof.exception() is not None or proof.result() is not None:
            self._wrong.give_back(address, now=self._clock.now())

    async def find(self, key_id: UUID) -> ApiKey | None:
        """Returns a key that is neither unknown, nor revoked, nor expired."""
        now = self._clock.now()
        entry = self._known.get(key_id)
        if entry and now - entry.load_time < (LAST if entry.refreshing else FRESH):
            return entry.key if entry.key.valid_at(now) else None
        if self._wrong.is_unknown(key_id, now=now):
            return None
        if entry:
            entry.refreshing = True  # the others go on with what is known, within LAST
        async with self._database.reading() as session:
            key = await api_keys.find_api_key(session, key_id=key_id)
        if key is None or not key.valid_at(now):
            self.forget(key_id)
            self._wrong.note_unknown(key_id, now=now)
            return None
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[key_id] = _Remembered(key, now)
        return key

    def forget(self, key_id: UUID) -> None:
        """Makes the next request read the key again."""
        self._known.pop(key_id, None)
        self._wrong.forget(key_id)

    async def write_use(self) -> None:
        """Records which keys were used since the last call; an outage of the database loses none."""
        if not self._used:
            return
        used = frozenset(self._used)
        async with self._database.transaction() as session:
            await api_keys.note_use(session, key_ids=used, now=self._clock.now())
        self._used -= used
