"""Seals credentials: AES-256-GCM under a data key of the record's own, which a rotating master key wraps.

Sealed secrets are bound to their context (workspace, channel, version): they cannot be decrypted in another row, or
under another version of the same row.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
_WRAPPING = b"regie data key|"


class DecryptionFailed(Exception):
    """The sealed secrets were changed or moved, or their master key is not among the settings."""


class BadMasterKey(ValueError):
    """A master key is not 32 bytes in base64url."""


@dataclass(frozen=True, slots=True)
class SealContext:
    """The context that sealed secrets are bound to."""

    workspace_id: UUID
    channel_id: UUID
    version: int

    def bind(self) -> bytes:
        """Returns the associated data of the secrets."""
        return f"{self.workspace_id}|{self.channel_id}|{self.version}".encode()

    def bind_key(self) -> bytes:
        """Returns the associated data of the data key; it differs so that neither is ever taken for the other."""
        return _WRAPPING + self.bind()


@dataclass(frozen=True, slots=True)
class Sealed:
    """Sealed secrets in their stored form: both parts begin with their nonce."""

    key_id: str
    data_key: bytes
    secrets: bytes


class Keyring:
    """The master keys: the current one seals and opens, the old ones only open."""

    def __init__(self, current: str, old: Sequence[str] = ()) -> None:
        keys = [_read_key(text) for text in (current, *old)]
        self.current_id = _id_of(keys[0])
        self._keys = {_id_of(key): AESGCM(key) for key in keys}

    def seal(self, secrets: Mapping[str, str], context: SealContext) -> Sealed:
        """Seals secrets under a fresh data key."""
        data_key = AESGCM.generate_key(bit_length=256)
        plain = json.dumps(dict(secrets), sort_keys=True).encode()
        return Sealed(
            self.current_id,
            _encrypt(self._keys[self.current_id], data_key, context.bind_key()),
            _encrypt(AESGCM(data_key), plain, context.bind()),
        )

    def open(self, sealed: Sealed, context: SealContext) -> dict[str, str]:
        """Returns the secrets. Raises DecryptionFailed."""
        plain = _decrypt(AESGCM(self._unwrap(sealed, context)), sealed.secrets, context.bind())
        secrets: dict[str, str] = json.loads(plain)
        return secrets

    def rewrap(self, sealed: Sealed, context: SealContext) -> Sealed:
        """Wraps the data key under the current master key; the secrets do not change. Raises DecryptionFailed."""
        data_key = self._unwrap(sealed, context)
        wrapped = _encrypt(self._keys[self.current_id], data_key, context.bind_key())
        return Sealed(self.current_id, wrapped, sealed.secrets)

    def _unwrap(self, sealed: Sealed, context: SealContext) -> bytes:
        master = self._keys.get(sealed.key_id)
        if master is None:
            raise DecryptionFailed(f"master key {sealed.key_id} is not known here; add it to the old master keys")
        return _decrypt(master, sealed.data_key, context.bind_key())


def new_master_key() -> str:
    """Returns a fresh master key in the form of the setting."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def check_master_key(text: str) -> None:
    """Raises BadMasterKey for a text that is not a key, or a key that is not random."""
    if len(set(_read_key(text))) == 1:
        raise BadMasterKey("this master key is one byte repeated; make a random one (docs/operations.md)")


def _read_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise BadMasterKey("a master key is 32 random bytes in base64url")
    return key


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"regie master key id|" + key).hexdigest()[:16]


def _encrypt(cipher: AESGCM, plain: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, bound)


def _decrypt(cipher: AESGCM, stored: bytes, bound: bytes) -> bytes:
    try:
        return cipher.decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError) as error:
        raise DecryptionFailed("sealed secrets were changed or belong elsewhere") from error
