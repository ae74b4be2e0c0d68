"""The OAuth server: consent and codes, tokens for a code, and the life of refresh tokens."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from regie_sandbox.app import build
from regie_sandbox.calls import Call, Reply
from regie_sandbox.network import Network
from regie_sandbox.oauth import CODE_LIFE, authorize, give_token, register_app

CALLBACK = "https://app.example/callback?from=sandbox"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


def client(data: Path | None = None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=build(data)), base_url="http://127.0.0.1:8090")


async def registered(browser: httpx2.AsyncClient) -> str:
    made: str = (await browser.post("/oauth/register", json={"redirect_uris": [CALLBACK]})).json()["client_id"]
    return made


def asking(client_id: str, **members: str) -> dict[str, str]:
    pkce = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    form = {"response_type": "code", "client_id": client_id, "redirect_uri": CALLBACK, "state": "s", "account": "ada"}
    return {**form, **pkce, **members}


async def let_in(browser: httpx2.AsyncClient, client_id: str) -> dict[str, str]:
    """Goes the whole way, and returns the answer with the tokens."""
    answer = await browser.post("/oauth/authorize", data=asking(client_id))
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    grant = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
    tokens = await browser.post("/oauth/token", data={**grant, "client_id": client_id, "redirect_uri": CALLBACK})
    assert tokens.headers["cache-control"] == "no-store"
    made: dict[str, str] = tokens.json()
    return made


async def renewed(browser: httpx2.AsyncClient, client_id: str, token: str) -> httpx2.Response:
    form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": token}
    return await browser.post("/oauth/token", data=form)


@pytest.mark.parametrize("uris", [[], "https://app.example", ["javascript:alert(1)"], ["https://app.example/#x"], [7]])
async def test_an_app_without_a_usable_address_is_not_registered(uris: object) -> None:
    answer = await client().post("/oauth/register", json={"redirect_uris": uris})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_redirect_uri")


async def test_nobody_is_sent_to_an_address_that_is_not_the_apps() -> None:
    browser = client()
    client_id = await registered(browser)
    for form in (asking("app-unknown"), asking(client_id, redirect_uri="https://evil.example/")):
        answer = await browser.post("/oauth/authorize", data=form)
        assert (answer.status_code, "location" in answer.headers) == (400, False)


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"account": "no such name!"}, "access_denied"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "invalid_request"),
    ],
)
async def test_a_wrong_request_goes_back_to_the_app_with_its_state(members: dict[str, str], error: str) -> None:
    browser = client()
    answer = await browser.post("/oauth/authorize", data=asking(await registered(browser), **members))
    assert answer.headers["location"] == f"{CALLBACK}&error={error}&state=s"


async def test_the_page_hands_on_what_the_app_sent_and_may_lead_to_its_place_alone() -> None:
    page = await client().get("/oauth/authorize", params=asking("app-1", state='"><script>'))
    assert "&quot;&gt;&lt;script&gt;" in page.text
    assert "<script>" not in page.text
    assert "form-action 'self' https://app.example;" in page.headers["content-security-policy"]


def test_a_code_is_not_good_for_long() -> None:
    network = Network()

    def act(operation: Callable[[Network, Call], Reply], form: dict[str, str], arrived: float) -> Reply:
        document = {"redirect_uris": [CALLBACK]}
        reply = operation(network, Call("x", arrived, {}, {}, {}, urlencode(form).encode(), document))
        if reply.change is not None:
            network.apply(reply.change)
        return reply

    made = act(register_app, {}, 0).change
    assert made is not None
    location = act(authorize, asking(made["app"]), 0).headers["location"]
    code = parse_qs(urlsplit(location).query)["code"][0]
    grant = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
    form = {**grant, "client_id": made["app"], "redirect_uri": CALLBACK}
    assert act(give_token, form, CODE_LIFE + 1).status == 400
    assert act(give_token, form, CODE_LIFE - 1).status == 200


async def test_a_grant_outlives_the_process(tmp_path: Path) -> None:
    browser = client(tmp_path)
    client_id = await registered(browser)
    first = await let_in(browser, client_id)
    second = (await renewed(browser, client_id, first["refresh_token"])).json()
    restarted = client(tmp_path)
    assert (await renewed(restarted, client_id, second["refresh_token"])).status_code == 200
    assert (await renewed(restarted, client_id, first["refresh_token"])).json()["error"] == "invalid_grant"


async def test_a_refresh_token_is_good_for_its_app_alone() -> None:
    browser = client()
    tokens = await let_in(browser, await registered(browser))
    assert (await renewed(browser, await registered(browser), tokens["refresh_token"])).status_code == 400
