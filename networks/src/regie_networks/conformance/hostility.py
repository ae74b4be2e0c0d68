"""Servers that mean harm, or that are none."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regie_networks.conformance.answers import ODD_BODIES, calls
from regie_networks.conformance.harness import Harness
from regie_networks.conformance.transport import ANY_CALL, answering
from regie_networks.errors import ConnectorError


class Hostility:
    """Tests that no answer raises anything but the contract's errors, and that no server sends us elsewhere."""

    async def test_a_redirect_is_never_followed(self, harness: Harness) -> None:
        connector, draft = harness.connector(), harness.draft("@nobody.test", pictures=1)
        for status in (301, 302, 303, 307, 308):
            for verb in calls(harness, connector, draft):
                harness.server.spoil(ANY_CALL, answering(status, Location="http://169.254.169.254/secrets"))
                with suppress(ConnectorError):
                    await verb()
        assert {request.url.host for request in harness.server.requests} == {httpx2.URL(harness.server_url).host}

    @pytest.mark.parametrize("status", [200, 204, 301, 400, 401, 404, 418, 422, 429, 500, 503])
    async def test_no_odd_answer_raises_anything_but_the_contracts_errors(self, harness: Harness, status: int) -> None:
        for body in ODD_BODIES:
            transport = httpx2.MockTransport(answering(status, body))
            connector = harness.connector(transport)
            for verb in calls(harness, connector, harness.draft("@nobody.test", pictures=1)):
                with suppress(ConnectorError):
                    await verb()

    def test_no_made_up_answer_raises_anything_but_the_contracts_errors(self, harness: Harness) -> None:
        scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
        names = st.sampled_from(harness.members)
        bodies = st.recursive(
            scalars, lambda one: st.lists(one, max_size=3) | st.dictionaries(names, one, max_size=4), max_leaves=12
        )

        @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
        @given(st.integers(200, 599), bodies)
        def run(status: int, body: object) -> None:
            async def call_every_verb() -> None:
                transport = httpx2.MockTransport(lambda _request: httpx2.Response(status, json=body))
                connector = harness.connector(transport)
                for verb in calls(harness, connector, harness.draft("@nobody.test", pictures=1)):
                    with suppress(ConnectorError):
                        await verb()

            asyncio.run(call_every_verb())

        run()
