from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import Key, OctKey, OKPKey
from regie.ids.v1.prefixes import WORKSPACE
from regie_chassis.boundary.identity import (
    ALGORITHM,
    ISSUER,
    LEEWAY,
    LIFETIME,
    Caller,
    InvalidIdentity,
    Signer,
    Verifier,
    new_key,
)
from regie_chassis.boundary.ids import new_id, show_id
from regie_local.testing.clock import START

KEY = new_key()
CALLER = Caller(new_id(), "key_1")
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(OKPKey.import_key(KEY.as_dict(private=False)))


def token(key: Key = KEY, algorithm: str = ALGORITHM, **changes: Any) -> str:
    """A token as the gateway makes them, but for the changes; a claim that is None is left out."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": "publisher",
        "sub": "key_1",
        "ws": show_id(WORKSPACE, CALLER.workspace_id),
        "iat": int(START.timestamp()),
        "exp": int((START + LIFETIME).timestamp()),
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": algorithm}, claims, key, algorithms=[algorithm])


def unsigned(algorithm: str) -> str:
    """A token that declares itself unsigned."""
    _, claims, _ = token().split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()
    return f"{header}.{claims}."


def test_what_was_signed_is_verified(verifier: Verifier) -> None:
    signed = Signer(KEY).sign(CALLER, audience="publisher", now=START)
    assert verifier.verify(signed, audience="publisher", now=START) == CALLER


def test_a_token_is_used_again_for_half_of_its_life() -> None:
    signer = Signer(KEY)
    first = signer.sign(CALLER, audience="publisher", now=START)
    assert signer.sign(CALLER, audience="publisher", now=START + LIFETIME / 2 - MOMENT) == first
    assert signer.sign(CALLER, audience="publisher", now=START + LIFETIME / 2) != first
    assert signer.sign(Caller(CALLER.workspace_id, "key_2"), audience="publisher", now=START) != first


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "x",
        "a.b.c",
        token() + "x",
        token()[:-8],
        token(new_key()),
        token(OctKey.generate_key(256), "HS256"),
        token(OctKey.import_key(json.dumps(KEY.as_dict(private=False))), "HS256"),  # the public key as a secret
        unsigned("none"),
        unsigned(ALGORITHM),
        token(iss="someone"),
        token(aud="another"),
        token(aud="metrics"),
        token(aud=["publisher"]),
        token(ws="ws_1"),
        token(ws=1),
        token(ws=["ws_1"]),
        token(sub=1),
        token(ws=show_id("post", new_id())),
        token(ws=None),
        token(sub=None),
        token(iat=None),
        token(exp=None),
        token(exp="soon"),
        token(exp=10**30),
    ],
)
def test_a_forged_or_broken_token_is_refused(verifier: Verifier, forged: str) -> None:
    with pytest.raises(InvalidIdentity):
        verifier.verify(forged, audience="publisher", now=START)


def test_a_token_with_changed_claims_is_refused(verifier: Verifier) -> None:
    header, claims, signature = token().split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    decoded["ws"] = show_id(WORKSPACE, new_id())
    changed = base64.urlsafe_b64encode(json.dumps(decoded).encode()).rstrip(b"=").decode()
    with pytest.raises(InvalidIdentity):
        verifier.verify(f"{header}.{changed}.{signature}", audience="publisher", now=START)


def test_a_token_expires_after_its_life_and_the_leeway_even_when_it_is_remembered(verifier: Verifier) -> None:
    end = START + LIFETIME + LEEWAY
    assert verifier.verify(token(), audience="publisher", now=START) == CALLER
    assert verifier.verify(token(), audience="publisher", now=end - MOMENT) == CALLER
    with pytest.raises(InvalidIdentity, match="expired"):
        verifier.verify(token(), audience="publisher", now=end)


def test_a_fresh_verifier_refuses_an_expired_token(verifier: Verifier) -> None:
    with pytest.raises(InvalidIdentity, match="expired"):
        verifier.verify(token(), audience="publisher", now=START + LIFETIME + LEEWAY)


def test_a_token_from_the_future_is_refused_beyond_the_leeway(verifier: Verifier) -> None:
    with pytest.raises(InvalidIdentity):
        verifier.verify(token(), audience="publisher", now=START - LEEWAY - MOMENT)
    assert verifier.verify(token(), audience="publisher", now=START - LEEWAY) == CALLER


def test_a_refusal_does_not_repeat_the_token(verifier: Verifier) -> None:
    with pytest.raises(InvalidIdentity) as refused:
        verifier.verify(token(new_key()), audience="publisher", now=START)
    assert token().split(".")[1] not in str(refused.value)
    assert refused.value.reason == "INVALID_IDENTITY"


def test_a_token_that_one_service_was_shown_opens_no_other(verifier: Verifier) -> None:
    signer = Signer(KEY)
    shown = signer.sign(CALLER, audience="metrics", now=START)
    assert verifier.verify(shown, audience="metrics", now=START) == CALLER
    with pytest.raises(InvalidIdentity, match="another service"):
        verifier.verify(shown, audience="publisher", now=START)  # even where it is remembered
    assert signer.sign(CALLER, audience="publisher", now=START) != shown
