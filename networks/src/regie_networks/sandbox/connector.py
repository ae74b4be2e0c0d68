"""The sandbox network: not idempotent, but it can be asked for a post by its key (services/sandbox/README.md)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2

from regie_networks.absence import QUIET, Absence, Repeat
from regie_networks.bounds import MAX_PEOPLE, is_id, same_place
from regie_networks.contract import Connection, SaveHandle
from regie_networks.credentials import check_credentials, token_of
from regie_networks.draft import Account, Attachment, Draft, Processing, Remote, Video
from regie_networks.errors import FailureKind, Inconclusive, NotNamed, OutcomeUnknown, Refused, Unacceptable
from regie_networks.lookup import Lookup
from regie_networks.observation import ACCOUNT_METRICS, AccountObservation, Engagement, Observation
from regie_networks.replies import PAGE_SIZE, Reply, ReplyPage
from regie_networks.review import review_draft
from regie_networks.sandbox.client import SandboxClient, document_of, objects_of, text_of
from regie_networks.sandbox.credentials import FIELDS
from regie_networks.sandbox.rules import RULES

MAIN_SERVER = "http://127.0.0.1:8090"
FOUND_LIMIT = 20
_ADDRESS = re.compile(r"/@[^/]+/(?P<id>[^/]+)/?")
CHECK_AFTER = timedelta(seconds=1)
MAX_CHECK_AFTER = timedelta(minutes=1)
METRICS = ("likes", "replies", "reposts", "impressions")


class SandboxConnector:
    """Publishes to a sandbox network. A repeated post would be a second post, so only `find` settles an unknown."""

    network = "sandbox"

    def __init__(self, client: httpx2.AsyncClient, *, main_server: str = "", quiet: timedelta = QUIET) -> None:
        self.quiet = quiet
        self._sandbox = SandboxClient(client)
        self._main_server = (main_server or MAIN_SERVER).rstrip("/")

    def new_key(self, now: datetime) -> str:
        """Keys sort by time, which helps a person who reads the network's log."""
        return f"{int(now.timestamp() * 1000):012x}-{uuid4().hex}"

    def review(self, draft: Draft) -> None:
        review_draft(RULES, draft)

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        server = (server_url or self._main_server).rstrip("/")
        check_credentials(FIELDS, credentials)
        secrets = {"access_token": token_of(credentials, "access_token")}
        for name in ("refresh_token", "client_id"):
            if credentials.get(name):
                secrets[name] = token_of(credentials, name)
        response = await self._sandbox.send(server, secrets, "GET", "/api/v1/account")
        if response.status == httpx2.codes.UNAUTHORIZED and secrets.get("refresh_token"):
            secrets.update(await self._sandbox.renew(server, secrets))
            response = await self._sandbox.send(server, secrets, "GET", "/api/v1/account")
        if response.status in (httpx2.codes.NOT_FOUND, httpx2.codes.METHOD_NOT_ALLOWED) or response.status // 100 == 3:
            raise Refused(FailureKind.UNSUPPORTED, response.error_text())
        account = document_of(response)
        remote_id, handle = text_of(account, "id"), text_of(account, "handle")
        if not remote_id or not handle:
            raise OutcomeUnknown("The account came back without id or handle")
        kept = {"access_token": secrets["access_token"]}
        if refresh_token := secrets.get("refresh_token") or text_of(account, "refresh_token"):
            kept["refresh_token"] = refresh_token
        if client_id := secrets.get("client_id"):
            kept["client_id"] = client_id
        return Connection(server, remote_id, handle, text_of(account, "display_name") or handle, kept)

    def needs_preparation(self, draft: Draft) -> bool:
        return any(_handle_name(attachment) not in draft.handles for attachment in _attachments(draft))

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None:
        for attachment in _attachments(draft):
            name = _handle_name(attachment)
            if name in draft.handles:
                continue
            headers = {"Content-Type": attachment.content_type}
            content: bytes | AsyncIterator[bytes]
            if isinstance(attachment, Video):
                headers["Content-Length"] = str(attachment.size)
                content = attachment.stream()
            else:
                content = await attachment.read()
            response = await self._sandbox.ask(draft.account, "POST", "/api/v1/media", headers=headers, content=content)
            media_id = text_of(document_of(response, rejected=FailureKind.MEDIA_REJECTED), "id")
            if not is_id(media_id):
                raise OutcomeUnknown("The attachment came back without an id")
            await save_handle(name, media_id)
            draft.handles[name] = media_id

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        response = await self._sandbox.ask(draft.account, "POST", "/api/v1/posts", json=_post(draft, index))
        document = document_of(response)
        if response.status == httpx2.codes.ACCEPTED and (handle := text_of(document, "handle")):
            return Processing(handle, CHECK_AFTER)
        return _remote(document)

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:
        path = f"/api/v1/processing/{quote(handle, safe='')}"
        document = document_of(await self._sandbox.ask(draft.account, "GET", path))
        if document.get("status") == "processing":
            return Processing(handle, _check_after(document.get("check_after")))
        if document.get("status") == "failed":
            raise Refused(FailureKind.CONTENT_REJECTED, text_of(document, "message") or "Processing failed.")
        return _remote(document.get("post"))

    async def absence(self, account: Account) -> Absence:
        """The network's search proves presence only: a call that waits there, or before it, is in no list yet."""
        return Absence(Repeat.AFTER_QUIET, quiet=self.quiet)

    async def find(self, draft: Draft, index: int, look: Lookup) -> Remote | None:
        """Trusts the network's own search by key, which no other delivery's post has."""
        key = draft.segments[index].key
        params = {"key": key, "limit": str(FOUND_LIMIT)}
        document = document_of(await self._sandbox.ask(draft.account, "GET", "/api/v1/posts", params=params))
        posts, processing = document.get("posts"), document.get("processing", [])
        if posts == [] and processing == []:
            return None
        # The oldest, if there are several: the one that later parts of a thread may already hang on.
        own = [post for post in objects_of(posts) if post.get("key") == key]
        if own:
            return _remote(own[-1])
        raise Inconclusive("The network is still working on the post, or did not search by its key")

    async def named(self, draft: Draft, index: int, url: str, look: Lookup) -> Remote:
        """Takes the address as the feed shows it, `/@<account>/<id>`."""
        found = _ADDRESS.fullmatch(urlsplit(url).path)
        if found is None or not same_place(url, draft.account.server_url):
            raise NotNamed("this is no address of a post here; give it as the feed shows it, /@<account>/<id>")
        response = await self._sandbox.ask(draft.account, "GET", f"/api/v1/posts/{quote(found['id'], safe='')}")
        if response.status == httpx2.codes.NOT_FOUND:
            raise NotNamed("the network has no post at this address")
        post, segment = document_of(response), draft.segments[index]
        if post.get("account") != draft.account.remote_id:
            raise NotNamed("the post at this address is another account's")
        if (post.get("text"), post.get("reply_to")) != (segment.text, draft.remotes[index - 1].id if index else None):
            message = "the post at this address is another: it has another text, or another place in a thread"
            raise NotNamed(message, remote_id=_remote(post).id)
        return _remote(post)

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> list[Observation]:
        if not remotes:
            return []
        params = {"ids": ",".join(remote.id for remote in remotes)}
        document = document_of(await self._sandbox.ask(account, "GET", "/api/v1/posts/metrics", params=params))
        if not isinstance(document.get("metrics"), list):
            raise OutcomeUnknown("The numbers came back in an unknown form")
        wanted = {remote.id for remote in remotes}
        return [_observation(row) for row in objects_of(document["metrics"]) if row.get("id") in wanted]

    async def delete(self, account: Account, remote: Remote) -> None:
        response = await self._sandbox.ask(account, "DELETE", f"/api/v1/posts/{quote(remote.id, safe='')}")
        is_gone = response.status == httpx2.codes.NOT_FOUND and text_of(response.json(), "error") == "not_found"
        if response.status != httpx2.codes.NO_CONTENT and not is_gone:
            document_of(response)

    async def observe_account(self, account: Account) -> AccountObservation:
        document = document_of(await self._sandbox.ask(account, "GET", "/api/v1/account/metrics"))
        values: dict[str, Any] = {name: document[name] for name in ACCOUNT_METRICS if name in document}
        return AccountObservation(values)

    async def replies(self, account: Account, remote: Remote, *, page_token: str = "") -> ReplyPage:
        path = f"/api/v1/posts/{quote(remote.id, safe='')}/replies"
        params = {"limit": str(PAGE_SIZE), **({"after": page_token} if page_token else {})}
        response = await self._sandbox.ask(account, "GET", path, params=params)
        if response.status == httpx2.codes.NOT_FOUND:
            raise Refused(FailureKind.CONTENT_REJECTED, response.error_text())
        document = document_of(response)
        if not isinstance(document.get("replies"), list):
            raise OutcomeUnknown("The replies came back in an unknown form")
        rows = objects_of(document["replies"])[:PAGE_SIZE]
        replies = tuple(reply for reply in map(_reply, rows) if reply.is_usable)
        token = text_of(document, "next")
        return ReplyPage(replies, token if is_id(token) else "", len(rows) - len(replies))


def _attachments(draft: Draft) -> list[Attachment]:
    return [attachment for segment in draft.segments for attachment in segment.attachments]


def _handle_name(attachment: Attachment) -> str:
    return f"media:{attachment.media_id}"


def _post(draft: Draft, index: int) -> dict[str, object]:
    """The body of a segment: the same bytes in every attempt."""
    segment = draft.segments[index]
    handles = [draft.handles.get(_handle_name(attachment)) for attachment in segment.attachments]
    if None in handles or len(draft.remotes) < index:
        raise Unacceptable(FailureKind.INTERNAL, "The attachments or the earlier parts of the post are not there yet.")
    return {
        "text": segment.text,
        "key": segment.key,
        "media": [
            {"id": handle, "alt": attachment.alt_text}
            for handle, attachment in zip(handles, segment.attachments, strict=True)
        ],
        "reply_to": draft.remotes[index - 1].id if index else None,
        "visibility": draft.visibility or "public",
        "language": draft.language,
        "created_at": draft.compose_time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }


def _remote(document: object) -> Remote:
    remote_id = text_of(document, "id")
    url = text_of(document, "url")
    if not is_id(remote_id) or not url:
        raise OutcomeUnknown("The post came back without id or url")
    return Remote(remote_id, url)


def _check_after(said: object) -> timedelta:
    if isinstance(said, int | float) and 0 < said <= MAX_CHECK_AFTER.total_seconds():
        return timedelta(seconds=said)
    return CHECK_AFTER


def _observation(row: Mapping[str, object]) -> Observation:
    values: dict[str, Any] = {name: row[name] for name in METRICS if row.get(name) is not None}
    engagements = tuple(
        Engagement(text_of(one, "actor_id"), text_of(one, "actor_handle"), text_of(one, "kind"))
        for one in objects_of(row.get("engagements"))[:MAX_PEOPLE]
        if text_of(one, "actor_id") and text_of(one, "kind")
    )
    return Observation(text_of(row, "id"), values, engagements)


def _reply(row: Mapping[str, object]) -> Reply:
    created: datetime | None
    try:
        created = datetime.fromisoformat(text_of(row, "published_at"))
    except ValueError:
        created = None
    account = text_of(row, "account")
    parent_id = text_of(row, "reply_to")
    return Reply(text_of(row, "id"), parent_id, account, account, text_of(row, "text"), created, text_of(row, "url"))
