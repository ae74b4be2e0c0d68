"""Accounts and their numbers."""

from __future__ import annotations

from functools import partial

import httpx2
import pytest

from regie_networks.conformance.answers import calls
from regie_networks.conformance.harness import Harness
from regie_networks.conformance.transport import ANY_CALL
from regie_networks.errors import ConnectorError, FailureKind, Refused


class Accounts:
    """Tests of `connect` and `observe`, and of secrets."""

    async def test_good_credentials_name_the_same_account_each_time(self, harness: Harness) -> None:
        first, second = [
            await harness.connector().connect(harness.server_url, harness.credentials) for _time in range(2)
        ]
        assert (first.remote_id, first.server_url) == (harness.remote_id, harness.server_url)
        assert (first.remote_id, first.identity) == (second.remote_id, second.identity)
        assert set(harness.secrets) <= set(first.secrets)

    async def test_wrong_credentials_need_a_person(self, harness: Harness) -> None:
        for field in harness.network.credentials:
            if not field.is_required:
                continue
            for credentials in (
                {**harness.credentials, field.name: "wrong"},
                {name: value for name, value in harness.credentials.items() if name != field.name},
                {**harness.credentials, "unknown": "x"},
            ):
                with pytest.raises(Refused) as refused:
                    await harness.connector().connect(harness.server_url, credentials)
                assert refused.value.kind is FailureKind.AUTH_EXPIRED

    async def test_no_secret_stands_in_an_error_or_a_representation(self, harness: Harness) -> None:
        secrets = {*harness.secrets.values(), *harness.credentials.values()} - {harness.remote_id, harness.handle}
        connector, draft = harness.connector(), harness.draft()
        connection = await connector.connect(harness.server_url, harness.credentials)
        texts = [repr(connector), repr(draft), repr(connection)]
        for status in (200, *harness.failures):
            for verb in calls(harness, connector, draft):
                harness.server.spoil(ANY_CALL, partial(_echo, status))
                try:
                    await verb()
                except ConnectorError as error:
                    texts += [str(error), repr(error), repr(error.__cause__)]
        assert not [text for text in texts if any(secret in text for secret in secrets)]


def _echo(status: int, request: httpx2.Request) -> httpx2.Response:
    """Answers with everything that was sent, as a careless server does in its error page."""
    sent = f"{request.headers.get('authorization')} {request.content.decode('latin-1')}"
    return httpx2.Response(status, json={"error": sent, "message": sent})
