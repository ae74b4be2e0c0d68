"""Every network, on a stand-in of its server, held to the one suite."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import httpx2
import pytest
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from regie_networks.bluesky.testing.server import DID, HANDLE, PASSWORD, FakePds
from regie_networks.bluesky.testing.server import URL as PDS_URL
from regie_networks.conformance.harness import UNKNOWN, Harness
from regie_networks.conformance.suite import Conformance
from regie_networks.conformance.transport import CallPattern, FaultyTransport
from regie_networks.errors import FailureKind
from regie_networks.mastodon.testing.server import TOKEN, FakeMastodon
from regie_networks.mastodon.testing.server import URL as MASTODON_URL
from regie_networks.registry import NETWORKS
from regie_sandbox.app import build

AUTH, CONTENT, MEDIA = FailureKind.AUTH_EXPIRED, FailureKind.CONTENT_REJECTED, FailureKind.MEDIA_REJECTED
PLATFORM, LIMIT, UNSUPPORTED = FailureKind.PLATFORM_ERROR, FailureKind.RATE_LIMITED, FailureKind.UNSUPPORTED
EVERY_5XX = dict.fromkeys((500, 501, 502, 503, 504, 507, 599), UNKNOWN)


class Suite(Conformance):
    """The suite, with its checks of spans under the instrumentation of the publisher."""

    async def test_no_secret_stands_in_a_span(self, harness: Harness) -> None:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        client = httpx2.AsyncClient(transport=harness.server)
        HTTPX2ClientInstrumentor.instrument_client(client, tracer_provider=provider)
        connector = harness.network.connector(client, quiet=timedelta(seconds=120))
        connection = await connector.connect(harness.server_url, harness.credentials)
        await connector.publish(harness.draft(), 0)
        spans = [span.to_json() for span in exporter.get_finished_spans()]
        secrets = {*harness.credentials.values(), *connection.secrets.values()} - {harness.handle, harness.remote_id}
        assert len(spans) >= 2
        assert not [span for span in spans if any(secret in span for secret in secrets)]


class TestBluesky(Suite):
    """Bluesky, on a PDS in memory."""

    @pytest.fixture
    def harness(self) -> Harness:
        pds = FakePds()

        async def texts() -> list[str]:
            return pds.texts()

        return Harness(
            network=NETWORKS["bluesky"],
            server=FaultyTransport(pds.transport()),
            server_url=PDS_URL,
            remote_id=DID,
            handle=HANDLE,
            credentials={"identifier": HANDLE, "app_password": PASSWORD},
            secrets={"access_jwt": "access-1", "refresh_jwt": "refresh-1", "did": DID},
            publish_call=CallPattern("POST", "/xrpc/com.atproto.repo.putRecord"),
            find_call=CallPattern("GET", "/xrpc/com.atproto.repo.getRecord"),
            texts=texts,
            failures={
                302: PLATFORM,
                400: CONTENT,
                401: AUTH,
                403: AUTH,
                404: PLATFORM,
                408: UNKNOWN,
                413: MEDIA,
                422: PLATFORM,
                429: LIMIT,
                **EVERY_5XX,
            },
            error_body=b'{"error": "SomethingWrong", "message": "no"}',
            members=("uri", "cid", "error", "message", "posts", "likes", "blob", "did", "actor", "likeCount"),
            absent_id=f"at://{DID}/app.bsky.feed.post/3k2a4b6c8d2e4|bafyabsent",
            address=f"https://bsky.app/profile/{HANDLE}/post/3k2a4b6c8d2e4",
            approve=None,
        )


class TestMastodon(Suite):
    """Mastodon itself, which honours keys, on a server in memory."""

    @pytest.fixture
    def harness(self) -> Harness:
        mastodon = FakeMastodon()
        mastodon.instances["/api/v2/instance"] = {
            "domain": "social.example",
            "source_url": "https://github.com/mastodon/mastodon",
        }

        async def texts() -> list[str]:
            return [mastodon.sources[str(status["id"])] for status in mastodon.statuses]

        async def approve(url: str) -> str:
            return mastodon.approve(url)

        return Harness(
            network=NETWORKS["mastodon"],
            server=FaultyTransport(httpx2.MockTransport(mastodon.handle)),
            server_url=MASTODON_URL,
            remote_id="7",
            handle="ana@social.example",
            credentials={"access_token": TOKEN},
            secrets={"access_token": TOKEN},
            publish_call=CallPattern("POST", "/api/v1/statuses"),
            find_call=CallPattern("GET", "/api/v1/accounts/7/statuses"),
            texts=texts,
            failures={
                302: UNSUPPORTED,
                303: UNKNOWN,
                400: CONTENT,
                401: AUTH,
                403: AUTH,
                404: UNSUPPORTED,
                408: UNKNOWN,
                409: UNKNOWN,
                410: UNSUPPORTED,
                413: CONTENT,
                422: CONTENT,
                429: LIMIT,
                **EVERY_5XX,
            },
            error_body='{"error": "バリデーションに失敗しました"}'.encode(),
            members=("id", "url", "uri", "created_at", "content", "account", "media_attachments", "favourites_count"),
            absent_id="999",
            address=f"{MASTODON_URL}/@ana/999",
            approve=approve,
        )


class TestSandbox(Suite):
    """The sandbox network itself, in this process."""

    @pytest.fixture
    def harness(self) -> Harness:
        application = build()
        inner = httpx2.ASGITransport(app=application)

        async def texts() -> list[str]:
            async with httpx2.AsyncClient(transport=inner, base_url="http://127.0.0.1:8090") as client:
                posts = (await client.get("/admin/posts")).json()["posts"]
            return [str(post["text"]) for post in posts]

        async def approve(url: str) -> str:
            async with httpx2.AsyncClient(transport=inner) as browser:
                page = await browser.get(url)
                form = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', page.text))
                fields = {name: html.unescape(value) for name, value in form.items()}
                answer = await browser.post(str(page.url.copy_with(query=None)), data={**fields, "account": "ada"})
            return str(answer.headers["location"])

        return Harness(
            network=NETWORKS["sandbox"],
            server=FaultyTransport(inner),
            server_url="http://127.0.0.1:8090",
            remote_id="ada",
            handle="ada",
            credentials={"access_token": "sandbox-ada"},
            secrets={"access_token": "sandbox-ada"},
            publish_call=CallPattern("POST", "/api/v1/posts"),
            find_call=CallPattern("GET", "/api/v1/posts"),
            texts=texts,
            failures={
                302: UNKNOWN,
                400: PLATFORM,
                401: AUTH,
                403: PLATFORM,
                404: PLATFORM,
                408: UNKNOWN,
                409: UNKNOWN,
                413: MEDIA,
                415: MEDIA,
                422: CONTENT,
                429: LIMIT,
                **EVERY_5XX,
            },
            error_body=b'{"error": "refused", "message": "no"}',
            members=("id", "url", "posts", "processing", "metrics", "engagements", "handle", "key", "likes"),
            absent_id="999",
            address="http://127.0.0.1:8090/@ada/999",
            approve=approve,
        )
