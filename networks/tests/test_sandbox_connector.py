"""The sandbox connector against a running sandbox, and against peers that answer nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import pytest
from regie_networks.contract import Connector
from regie_networks.draft import Account, Draft, Picture, Processing, Remote, Segment
from regie_networks.errors import ConnectorError, FailureKind, Inconclusive, NotNamed, NotSent, OutcomeUnknown, Refused
from regie_networks.oauth import OAuthFlow, new_verifier
from regie_networks.sandbox.connector import SandboxConnector
from regie_networks.sandbox.oauth import OAUTH
from regie_networks.testing.fakes import alone
from regie_sandbox.testing import RunningSandbox, running_sandbox

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n and the rest"
Handler = Callable[[httpx2.Request], httpx2.Response]


@dataclass
class MemoryCredentials:
    """Keeps secrets as the publisher would, and how often they were renewed."""

    secrets: Mapping[str, str] = field(
        default_factory=lambda: {"access_token": "sandbox-ada", "refresh_token": "refresh-ada"}
    )
    renewals: int = 0

    async def refresh(
        self,
        used: Mapping[str, str],
        renew: Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]],
    ) -> Mapping[str, str]:
        if used == self.secrets:
            try:
                self.secrets = await renew(used)
            except OutcomeUnknown as error:
                raise NotSent(str(error)) from error
            self.renewals += 1
        return self.secrets


async def png() -> bytes:
    return PNG


def picture(media_id: str = "media_1") -> Picture:
    return Picture(media_id, "A cat", "image/png", len(PNG), 1, 1, png)


def draft_to(url: str, *segments: Segment, credentials: MemoryCredentials | None = None) -> Draft:
    account = Account(url, "ada", "ada", credentials or MemoryCredentials())
    return Draft(account, segments or (Segment("key-1", "Hello"),), "public", "en", NOW)


async def keep_nothing(name: str, value: str) -> None:
    """Stands for the database; these tests read `Draft.handles`."""


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningSandbox]:
    async with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def connector() -> AsyncIterator[SandboxConnector]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield SandboxConnector(client)


def answering(status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> SandboxConnector:
    """A connector to a network with one answer to everything."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=content, headers=headers))
    return SandboxConnector(httpx2.AsyncClient(transport=transport))


async def test_it_is_a_connector(connector: SandboxConnector) -> None:
    as_declared: Connector = connector
    assert as_declared.network == "sandbox"
    keys = {connector.new_key(NOW) for _ in range(100)}
    assert len(keys) == 100
    assert connector.new_key(NOW) < connector.new_key(NOW + timedelta(seconds=1))


async def test_connecting_names_the_account_and_keeps_its_tokens(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    found = await connector.connect(sandbox.url + "/", {"access_token": "sandbox-ada"})
    assert (found.server_url, found.remote_id, found.handle) == (sandbox.url, "ada", "ada")
    assert found.secrets == {"access_token": "sandbox-ada", "refresh_token": "refresh-ada"}
    renewed = await connector.connect(sandbox.url, {"access_token": "expired-ada", "refresh_token": "refresh-ada"})
    assert renewed.secrets["access_token"].startswith("sandbox-ada.")


@pytest.mark.parametrize("credentials", [{"access_token": "wrong"}, {"access_token": "expired-ada"}, {}])
async def test_wrong_credentials_are_refused(
    connector: SandboxConnector, sandbox: RunningSandbox, credentials: dict[str, str]
) -> None:
    with pytest.raises(Refused) as refused:
        await connector.connect(sandbox.url, credentials)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED


async def test_a_post_is_published_found_and_observed(connector: SandboxConnector, sandbox: RunningSandbox) -> None:
    draft = draft_to(sandbox.url)
    assert await connector.find(draft, 0, alone()) is None
    remote = await connector.publish(draft, 0)
    assert isinstance(remote, Remote)
    assert await connector.find(draft, 0, alone()) == remote
    [post] = await sandbox.posts()
    assert (post["id"], post["key"], post["text"], post["language"]) == (remote.id, "key-1", "Hello", "en")
    assert post["created_at"] == "2026-03-01T12:00:00Z"
    [observation] = await connector.observe(draft.account, [remote, Remote("9", "gone")])
    assert observation.remote_id == remote.id
    assert set(observation.values) == {"likes", "replies", "reposts", "impressions"}
    assert await connector.observe(draft.account, []) == []


async def test_a_post_is_named_by_the_address_that_the_feed_shows(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    draft = draft_to(sandbox.url)
    remote = await connector.publish(draft, 0)
    assert isinstance(remote, Remote)
    for url in (remote.url, f"{remote.url}/", f"{remote.url}?x=1#y"):
        assert await connector.named(draft, 0, url, alone()) == remote
    for url, why in (
        (f"{sandbox.url}/@ada", "as the feed shows it"),
        (f"http://other.example/@ada/{remote.id}", "as the feed shows it"),
        (f"{sandbox.url}/@ada/{remote.id};p=1", "no post"),
        (f"{sandbox.url}/@ada/none", "no post"),
    ):
        with pytest.raises(NotNamed, match=why):
            await connector.named(draft, 0, url, alone())
    with pytest.raises(NotNamed, match="another text") as refused:
        await connector.named(draft_to(sandbox.url, Segment("key-2", "Hi")), 0, remote.url, alone())
    assert refused.value.remote_id == remote.id


async def test_numbers_and_people_come_in_within_seconds(connector: SandboxConnector, sandbox: RunningSandbox) -> None:
    draft = draft_to(sandbox.url)
    remote = await connector.publish(draft, 0)
    assert isinstance(remote, Remote)
    async with asyncio.timeout(10):
        while True:
            [observation] = await connector.observe(draft.account, [remote])
            if observation.values["likes"] and observation.engagements:
                break
    assert {one.kind for one in observation.engagements} <= {"like", "reply"}


async def test_a_thread_hangs_together_and_carries_its_pictures(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    parts = (Segment("a", "one", (picture(),)), Segment("b", "two"), Segment("c", "three", (picture(),)))
    draft = draft_to(sandbox.url, *parts)
    assert connector.needs_preparation(draft)
    await connector.prepare(draft, keep_nothing)
    assert not connector.needs_preparation(draft)
    await connector.prepare(draft, keep_nothing)
    assert len(await sandbox.log("media")) == 1
    for index in range(3):
        remote = await connector.publish(draft, index)
        assert isinstance(remote, Remote)
        draft.remotes.append(remote)
    posts = await sandbox.posts()
    assert [post["reply_to"] for post in posts] == [None, posts[0]["id"], posts[1]["id"]]
    assert [[one["alt"] for one in post["media"]] for post in posts] == [["A cat"], [], ["A cat"]]


async def test_a_part_is_not_published_before_what_it_needs(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    draft = draft_to(sandbox.url, Segment("a", "one", (picture(),)), Segment("b", "two"))
    for index in (0, 1):
        with pytest.raises(Refused) as refused:
            await connector.publish(draft, index)
        assert refused.value.kind is FailureKind.INTERNAL
    assert await sandbox.log() == []


async def test_processing_is_followed_to_the_post(connector: SandboxConnector, sandbox: RunningSandbox) -> None:
    await sandbox.set_faults([{"processing_polls": 2, "times": 1}])
    draft = draft_to(sandbox.url)
    processing = await connector.publish(draft, 0)
    assert isinstance(processing, Processing)
    with pytest.raises(Inconclusive):
        await connector.find(draft, 0, alone())
    again = await connector.check(draft, 0, processing.handle)
    assert again == processing
    remote = await connector.check(draft, 0, processing.handle)
    assert isinstance(remote, Remote)
    assert await connector.find(draft, 0, alone()) == remote


@pytest.mark.parametrize("fault", [{"fail_after": 503}, {"drop_after": True}])
async def test_after_a_lost_answer_the_post_is_found(
    connector: SandboxConnector, sandbox: RunningSandbox, fault: dict[str, object]
) -> None:
    await sandbox.set_faults([{"operation": "create_post", "times": 1, **fault}])
    draft = draft_to(sandbox.url)
    with pytest.raises(OutcomeUnknown):
        await connector.publish(draft, 0)
    [post] = await sandbox.posts()
    assert await connector.find(draft, 0, alone()) == Remote(post["id"], f"{sandbox.url}/@ada/{post['id']}")


@pytest.mark.parametrize(
    "fault", [{"fail_before": 500}, {"drop_before": True}, {"rate_limit": 3}, {"reject": "no"}, {"fail_before": 503}]
)
async def test_find_cannot_tell_when_the_network_does_not_answer_it(
    connector: SandboxConnector, sandbox: RunningSandbox, fault: dict[str, object]
) -> None:
    await sandbox.set_faults([{"operation": "find", **fault}])
    with pytest.raises(ConnectorError):
        await connector.find(draft_to(sandbox.url), 0, alone())


async def test_of_two_posts_with_the_key_the_older_is_found(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    draft = draft_to(sandbox.url)
    first = await connector.publish(draft, 0)
    await connector.publish(draft, 0)
    assert await sandbox.repeated_keys() == 1
    assert await connector.find(draft, 0, alone()) == first


async def test_an_expired_token_is_renewed_once_and_the_post_goes_out_once(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    await sandbox.set_faults([{"operation": "create_post", "expire_tokens": True, "times": 1}])
    credentials = MemoryCredentials()
    await connector.publish(draft_to(sandbox.url, credentials=credentials), 0)
    assert credentials.renewals == 1
    assert [call["answered"] for call in await sandbox.log("create_post")] == [401, 201]


async def test_a_token_that_stays_expired_is_refused_after_one_renewal(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    await sandbox.set_faults([{"operation": "create_post", "expire_tokens": True}])
    credentials = MemoryCredentials()
    with pytest.raises(Refused) as refused:
        await connector.publish(draft_to(sandbox.url, credentials=credentials), 0)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED
    assert credentials.renewals == 1


async def test_a_renewal_that_opens_another_account_publishes_nothing(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    await sandbox.set_faults([{"operation": "create_post", "expire_tokens": True, "times": 1}])
    credentials = MemoryCredentials({"access_token": "sandbox-ada", "refresh_token": "refresh-bob"})
    with pytest.raises(Refused) as refused:
        await connector.publish(draft_to(sandbox.url, credentials=credentials), 0)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED
    assert [call["answered"] for call in await sandbox.log("create_post")] == [401]


@pytest.mark.parametrize(
    "secrets", [{"access_token": "expired-ada"}, {"access_token": "expired-ada", "refresh_token": "wrong"}, {}]
)
async def test_without_a_way_to_renew_the_channel_needs_a_person(
    connector: SandboxConnector, sandbox: RunningSandbox, secrets: dict[str, str]
) -> None:
    with pytest.raises(Refused) as refused:
        await connector.publish(draft_to(sandbox.url, credentials=MemoryCredentials(secrets)), 0)
    assert (refused.value.kind, refused.value.retry_after) == (FailureKind.AUTH_EXPIRED, None)


@pytest.mark.parametrize("fault", [{"drop_after": True}, {"fail_before": 500}])
async def test_a_renewal_that_fails_for_now_means_the_post_was_not_sent(
    connector: SandboxConnector, sandbox: RunningSandbox, fault: dict[str, object]
) -> None:
    await sandbox.set_faults([{"operation": "refresh", **fault}])
    credentials = MemoryCredentials({"access_token": "expired-ada", "refresh_token": "refresh-ada"})
    with pytest.raises(NotSent):
        await connector.publish(draft_to(sandbox.url, credentials=credentials), 0)
    assert await sandbox.count() == 0


async def test_a_page_in_the_place_of_a_renewal_proves_nothing_of_the_token() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(404 if request.url.path.endswith("/refresh") else 401, json={"error": "token_expired"})

    connector = SandboxConnector(httpx2.AsyncClient(transport=httpx2.MockTransport(answer)))
    with pytest.raises(NotSent):
        await connector.publish(draft_to("http://127.0.0.1:1"), 0)


async def test_a_rejection_carries_the_networks_own_words(connector: SandboxConnector, sandbox: RunningSandbox) -> None:
    await sandbox.set_faults([{"reject": "Not with us."}])
    with pytest.raises(Refused) as refused:
        await connector.publish(draft_to(sandbox.url), 0)
    assert (refused.value.kind, refused.value.message) == (FailureKind.CONTENT_REJECTED, "rejected: Not with us.")
    assert refused.value.retry_after is None


async def test_a_refused_picture_is_called_that(connector: SandboxConnector, sandbox: RunningSandbox) -> None:
    async def text() -> bytes:
        return b"no picture"

    draft = draft_to(sandbox.url, Segment("a", "x", (replace(picture(), read=text),)))
    with pytest.raises(Refused) as refused:
        await connector.prepare(draft, keep_nothing)
    assert refused.value.kind is FailureKind.MEDIA_REJECTED


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"posts": {}}'),
        (200, b'{"posts": [{"id": "1", "url": "u", "key": "another"}]}'),
        (200, b'{"posts": [{"key": "key-1"}]}'),
        (200, b'{"posts": [], "processing": [{"handle": "h"}]}'),
        (404, b'{"posts": []}'),
    ],
)
async def test_only_an_empty_list_says_that_it_is_not_there(status: int, body: bytes) -> None:
    with pytest.raises(ConnectorError):
        await answering(status, body).find(draft_to("http://sandbox.test"), 0, alone())


async def test_a_token_of_oauth_is_renewed_by_a_refresh_token_that_rotates(
    connector: SandboxConnector, sandbox: RunningSandbox
) -> None:
    async with httpx2.AsyncClient() as client:
        flow, verifier = OAuthFlow(client, OAUTH), new_verifier()
        app = await flow.register(sandbox.url, name="Regie", redirect_uri="http://127.0.0.1:1/callback")
        url = urlsplit(flow.authorize_url(sandbox.url, app, state="s", verifier=verifier))
        form = {**dict(parse_qsl(url.query)), "account": "ada"}
        back = (await client.post(f"{sandbox.url}/oauth/authorize", data=form)).headers["location"]
        code = parse_qs(urlsplit(back).query)["code"][0]
        given = await flow.exchange(sandbox.url, app, code=code, verifier=verifier)
    connection = await connector.connect(sandbox.url, given)
    credentials = MemoryCredentials(dict(connection.secrets))
    for renewals in (1, 2):
        await sandbox.set_faults([{"operation": "create_post", "expire_tokens": True, "times": 1}])
        await connector.publish(draft_to(sandbox.url, credentials=credentials), 0)
        assert credentials.renewals == renewals
    assert credentials.secrets["refresh_token"] != connection.secrets["refresh_token"]
    assert await sandbox.count() == 2
