"""OAuth: a person lets an app into an account, and the app stays in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from regie_networks.conformance.answers import LOST, published
from regie_networks.conformance.harness import Harness
from regie_networks.conformance.transport import ANY_CALL, answering, raising
from regie_networks.draft import Account
from regie_networks.errors import ConnectorError, FailureKind, NotSent, OutcomeUnknown, Refused
from regie_networks.network import Verb
from regie_networks.oauth import OAuthApp, OAuthFlow, new_verifier
from regie_networks.testing.fakes import FakeCredentials

OLD = "token-1"
REDIRECT_URI = "https://regie.example/v1/oauth/callback"


@dataclass(slots=True)
class _Visit:
    """A person at the authorization address, and the parameters of their return."""

    flow: OAuthFlow
    app: OAuthApp
    verifier: str
    code: str


async def _visit(harness: Harness) -> _Visit:
    assert harness.network.oauth is not None
    assert harness.approve is not None
    flow = OAuthFlow(httpx2.AsyncClient(transport=harness.server), harness.network.oauth)
    app = await flow.register(harness.server_url, name="Regie", redirect_uri=REDIRECT_URI)
    verifier = new_verifier()
    url = flow.authorize_url(harness.server_url, app, state="state-1", verifier=verifier)
    assert verifier not in url
    assert parse_qs(urlsplit(url).query)["code_challenge_method"] == ["S256"]
    back = urlsplit(await harness.approve(url))
    query = parse_qs(back.query)
    assert (f"{back.scheme}://{back.netloc}{back.path}", query["state"]) == (REDIRECT_URI, ["state-1"])
    return _Visit(flow, app, verifier, query["code"][0])


class Authorization:
    """Tests of the descriptor's OAuth; they are skipped for a network without it."""

    async def test_a_person_lets_us_in_and_we_publish(self, harness: Harness) -> None:
        assert (harness.network.oauth is None) == (Verb.OAUTH not in harness.network.verbs)
        if harness.network.oauth is None:
            return
        visit = await _visit(harness)
        credentials = await visit.flow.exchange(harness.server_url, visit.app, code=visit.code, verifier=visit.verifier)
        connection = await harness.connector().connect(harness.server_url, credentials)
        assert connection.remote_id == harness.remote_id
        draft = harness.draft("let in")
        secrets = FakeCredentials(connection.secrets)
        draft.account = Account(connection.server_url, connection.remote_id, connection.handle, secrets)
        await published(harness.connector(), draft, 0)
        assert await harness.texts() == ["let in"]

    async def test_a_code_is_good_once_and_with_its_verifier(self, harness: Harness) -> None:
        if harness.network.oauth is None:
            return
        visit = await _visit(harness)
        for code, verifier in ((visit.code, new_verifier()), ("another", visit.verifier)):
            with pytest.raises(Refused) as refused:
                await visit.flow.exchange(harness.server_url, visit.app, code=code, verifier=verifier)
            assert refused.value.kind is FailureKind.AUTH_EXPIRED
        await visit.flow.exchange(harness.server_url, visit.app, code=visit.code, verifier=visit.verifier)
        with pytest.raises(Refused, match="connect the channel again"):
            await visit.flow.exchange(harness.server_url, visit.app, code=visit.code, verifier=visit.verifier)

    async def test_a_refresh_token_rotates_and_a_spent_one_needs_a_person(self, harness: Harness) -> None:
        if harness.network.oauth is None:
            return
        visit = await _visit(harness)
        first = await visit.flow.exchange(harness.server_url, visit.app, code=visit.code, verifier=visit.verifier)
        if "refresh_token" not in first:
            assert "refresh_token" not in harness.network.oauth.credentials
            return
        second = await visit.flow.refresh(harness.server_url, visit.app, refresh_token=first["refresh_token"])
        third = await visit.flow.refresh(harness.server_url, visit.app, refresh_token=second["refresh_token"])
        assert len({one["refresh_token"] for one in (first, second, third)}) == 3
        for spent in (first, third):  # the spent one ends the family, so that the newest is no longer good
            with pytest.raises(Refused) as refused:
                await visit.flow.refresh(harness.server_url, visit.app, refresh_token=spent["refresh_token"])
            assert refused.value.kind is FailureKind.AUTH_EXPIRED

    async def test_an_answer_without_tokens_is_unknown_and_a_page_proves_nothing(self, harness: Harness) -> None:
        if harness.network.oauth is None:
            return
        visit = await _visit(harness)
        unknown = [answering(status) for status in (200, 303, 408, 500, 502, 503)]
        unknown += [answering(200, b'{"access_token": "a\\nb"}'), *map(raising, LOST)]
        for respond in unknown:
            harness.server.spoil(ANY_CALL, respond)
            with pytest.raises(OutcomeUnknown):
                await visit.flow.refresh(harness.server_url, visit.app, refresh_token=OLD)
        for status in (400, 401, 403, 404):
            harness.server.spoil(ANY_CALL, answering(status, b"<html>Forbidden</html>"))
            with pytest.raises(NotSent):
                await visit.flow.refresh(harness.server_url, visit.app, refresh_token=OLD)

    async def test_no_secret_of_the_flow_stands_in_an_error(self, harness: Harness) -> None:
        if harness.network.oauth is None:
            return
        visit = await _visit(harness)
        shown = [repr(visit.app)]
        for status in (200, 400, 401, 500):
            harness.server.spoil(ANY_CALL, partial(_echo, status))
            with pytest.raises(ConnectorError) as raised:
                await visit.flow.exchange(harness.server_url, visit.app, code=visit.code, verifier=visit.verifier)
            shown += [str(raised.value), repr(raised.value)]
        secrets = {visit.code, visit.verifier, visit.app.client_secret} - {""}
        assert not [text for text in shown if any(secret in text for secret in secrets)]


def _echo(status: int, request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(status, content=request.content)
