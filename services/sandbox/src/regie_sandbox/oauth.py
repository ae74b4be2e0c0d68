"""A small OAuth 2.0 server (RFC 6749, RFC 7591): public apps with PKCE (RFC 7636), refresh tokens that rotate.

A refresh token is valid once. A spent token that comes back was stolen or its answer was lost, so that the whole
family of its grant ends (RFC 9700, section 4.14.2).
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit

from regie_sandbox.calls import Call, Reply, refusal
from regie_sandbox.grants import Grant
from regie_sandbox.network import Network
from regie_sandbox.tokens import renewed_token

CODE_LIFE = 60.0
"""Seconds."""
MAX_URIS = 10
MAX_URI_LENGTH = 2000
_ACCOUNT = re.compile(r"[A-Za-z0-9_-]{1,40}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


def register_app(_network: Network, call: Call) -> Reply:
    """Registers an app with its redirect URIs; every request gets one."""
    sent = call.document.get("redirect_uris") if isinstance(call.document, dict) else None
    uris = sent if isinstance(sent, list) else []
    if not 1 <= len(uris) <= MAX_URIS or not all(_is_redirect_uri(uri) for uri in uris):
        return refusal(400, "invalid_redirect_uri", "Send redirect_uris, a list of http or https addresses.")
    client_id = f"app-{secrets.token_hex(8)}"
    document = {"client_id": client_id, "redirect_uris": uris, "token_endpoint_auth_method": "none"}
    return Reply(201, document, change={"app": client_id, "redirect_uris": uris})


def authorize(network: Network, call: Call) -> Reply:
    """Lets an app into the account that the person names, and sends them back with a code."""
    form = dict(parse_qsl(call.body.decode("utf-8", "replace")))
    redirect_uri = form.get("redirect_uri", "")
    if redirect_uri not in network.grants.redirect_uris(form.get("client_id", "")):
        return refusal(400, "invalid_request", "This app is not known, or not under this redirect_uri.")
    is_pkce = form.get("code_challenge_method") == "S256" and _CHALLENGE.fullmatch(form.get("code_challenge", ""))
    if form.get("response_type") != "code" or not is_pkce:
        return _back(redirect_uri, form, error="invalid_request")
    if not _ACCOUNT.fullmatch(form.get("account", "")):
        return _back(redirect_uri, form, error="access_denied")
    code = secrets.token_urlsafe(24)
    grant = Grant(form["client_id"], form["account"], redirect_uri, form["code_challenge"], call.arrived + CODE_LIFE)
    reply = _back(redirect_uri, form, code=code)
    return Reply(reply.status, None, change={"code": code, "grant": grant}, headers=reply.headers)


def give_token(network: Network, call: Call) -> Reply:
    """Redeems a code, or a refresh token."""
    form = dict(parse_qsl(call.body.decode("utf-8", "replace")))
    match form.get("grant_type"):
        case "authorization_code":
            return _redeem(network, call, form)
        case "refresh_token":
            return _rotate(network, call, form)
    return refusal(400, "unsupported_grant_type", "grant_type is authorization_code or refresh_token.")


def _redeem(network: Network, call: Call, form: dict[str, str]) -> Reply:
    code = form.get("code", "")
    grant = network.grants.grant_of_code(code)
    if grant is None or call.arrived > grant.expires:
        return _invalid_grant("The code is not known, spent or too old.")
    if (form.get("client_id"), form.get("redirect_uri")) != (grant.client_id, grant.redirect_uri):
        return _invalid_grant("The code was given to another app, or for another redirect_uri.")
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    if base64.urlsafe_b64encode(digest).decode().rstrip("=") != grant.challenge:
        return _invalid_grant("The code_verifier is not that of the code_challenge.")
    call.account = grant.account
    token = f"refresh.{secrets.token_urlsafe(24)}"
    return _tokens(network, grant.account, token, {"redeemed": code, "refresh": token, "family": token})


def _rotate(network: Network, call: Call, form: dict[str, str]) -> Reply:
    spent = form.get("refresh_token", "")
    family = network.grants.family_of(spent)
    grant = network.grants.grant_of_family(family)
    if family is None or grant is None or form.get("client_id") != grant.client_id:
        return _invalid_grant("The refresh token is not known, or another app's.")
    if not network.grants.is_newest(spent):
        reply = _invalid_grant("The refresh token was used before: the app is let out of the account.")
        return Reply(reply.status, reply.document, change={"ended": family})
    call.account = grant.account
    token = f"refresh.{secrets.token_urlsafe(24)}"
    return _tokens(network, grant.account, token, {"rotated": spent, "refresh": token})


def _tokens(network: Network, account: str, refresh_token: str, change: dict[str, str]) -> Reply:
    document = {
        "access_token": renewed_token(account, network.next_id),
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": refresh_token,
    }
    return Reply(200, document, change=change, headers={"cache-control": "no-store"})


def _invalid_grant(message: str) -> Reply:
    return refusal(400, "invalid_grant", message)


def _back(redirect_uri: str, form: dict[str, str], **answer: str) -> Reply:
    state = {"state": form["state"]} if "state" in form else {}
    joint = "&" if urlsplit(redirect_uri).query else "?"
    return Reply(302, None, headers={"location": f"{redirect_uri}{joint}{urlencode({**answer, **state})}"})


def _is_redirect_uri(uri: object) -> bool:
    if not isinstance(uri, str) or len(uri) > MAX_URI_LENGTH or not uri.isascii() or not uri.isprintable():
        return False
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.fragment
