"""Sealed credentials open in their own place only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.boundary.ids import new_id
from regie_publisher.channels.sealing import BadMasterKey, DecryptionFailed, Keyring, SealContext, new_master_key

SECRETS = st.dictionaries(st.text(max_size=20), st.text(max_size=200), max_size=5)
KEYRING = Keyring(new_master_key())


def place(version: int = 1) -> SealContext:
    return SealContext(new_id(), new_id(), version)


@given(secrets=SECRETS)
def test_what_is_sealed_opens_in_its_place(secrets: dict[str, str]) -> None:
    here = place()
    assert KEYRING.open(KEYRING.seal(secrets, here), here) == secrets


@given(secrets=SECRETS)
def test_what_is_sealed_opens_nowhere_else(secrets: dict[str, str]) -> None:
    here = place()
    sealed = KEYRING.seal(secrets, here)
    for elsewhere in (
        replace(here, workspace_id=new_id()),
        replace(here, channel_id=new_id()),
        replace(here, version=2),
    ):
        with pytest.raises(DecryptionFailed):
            KEYRING.open(sealed, elsewhere)


@given(
    secrets=SECRETS, at=st.integers(min_value=0), bit=st.integers(0, 7), part=st.sampled_from(["data_key", "secrets"])
)
def test_one_changed_bit_is_noticed(secrets: dict[str, str], at: int, bit: int, part: str) -> None:
    here = place()
    sealed = KEYRING.seal(secrets, here)
    stored = bytearray(getattr(sealed, part))
    stored[at % len(stored)] ^= 1 << bit
    changed = replace(sealed, secrets=bytes(stored)) if part == "secrets" else replace(sealed, data_key=bytes(stored))
    with pytest.raises(DecryptionFailed):
        KEYRING.open(changed, here)


def test_parts_of_two_records_do_not_mix() -> None:
    here = place()
    one, two = KEYRING.seal({"token": "one"}, here), KEYRING.seal({"token": "two"}, here)
    with pytest.raises(DecryptionFailed):
        KEYRING.open(replace(one, secrets=two.secrets), here)


def test_an_old_master_key_still_opens_and_the_new_one_takes_over() -> None:
    old, new = new_master_key(), new_master_key()
    here = place()
    sealed = Keyring(old).seal({"token": "t"}, here)
    both = Keyring(new, [old])
    assert both.open(sealed, here) == {"token": "t"}
    rewrapped = both.rewrap(sealed, here)
    assert Keyring(new).open(rewrapped, here) == {"token": "t"}
    with pytest.raises(DecryptionFailed):
        Keyring(new).open(sealed, here)


def test_secrets_are_not_readable_in_what_is_stored() -> None:
    sealed = KEYRING.seal({"token": "plain to see"}, place())
    assert b"plain" not in sealed.secrets + sealed.data_key


@pytest.mark.parametrize("text", ["", "short", "=" * 44, "zX0fqBgptTtw2MHbsfG5PgxagWOFKrKlFN8w5BRM", "ü" * 43])
def test_a_bad_master_key_is_refused(text: str) -> None:
    with pytest.raises(BadMasterKey):
        Keyring(text)
