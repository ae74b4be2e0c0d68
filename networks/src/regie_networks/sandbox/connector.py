"""The sandbox network: not idempotent, but it can be asked for a post by its key (services/sandbox/README.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Never, TypedDict, Unpack
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2

from regie_networks.absence import QUIET, Absence, Repeat
from regie_networks.bounds import MAX_PEOPLE, is_id, same_place
from regie_networks.contract import VISIBILITIES, Connection, SaveHandle
from regie_networks.credentials import token_of
from regie_networks.draft import Account, Draft, Picture, Processing, Remote, Segment
from regie_networks.errors import FailureKind, Inconclusive, NotNamed, NotSent, OutcomeUnknown, Refused, Unacceptable
from regie_networks.http import Response, call, retry_after
from regie_networks.lookup import Lookup
from regie_networks.observation import Engagement, Observation

MAIN_SERVER = "http://127.0.0.1:8090"
TEXT_LIMIT = 500
PICTURE_LIMIT = 4
PICTURE_BYTES_LIMIT = 10_000_000
ALT_TEXT_LIMIT = 1500
PICTURE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
FOUND_LIMIT = 20
_ADDRESS = re.compile(r"/@[^/]+/(?P<id>[^/]+)/?")
CHECK_AFTER = timedelta(seconds=1)
LONGEST_CHECK_AFTER = timedelta(minutes=1)
WAIT_WHEN_UNSAID = timedelta(seconds=60)
NUMBERS = ("likes", "replies", "reposts", "impressions")


class _Sent(TypedDict, total=False):
    """What goes along with a call."""

    headers: Mapping[str, str]
    json: object
    content: bytes
    params: Mapping[str, str]


class SandboxConnector:
    """Publishes to a sandbox network. A repeated post would be a second post, so only `find` settles an unknown."""

    network = "sandbox"

    def __init__(self, client: httpx2.AsyncClient, *, main_server: str = "", quiet: timedelta = QUIET) -> None:
        self.quiet = quiet
        self._client = client
        self._main_server = (main_server or MAIN_SERVER).rstrip("/")

    def new_key(self, now: datetime) -> str:
        """Keys sort by time, which helps a person who reads the network's log."""
        return f"{int(now.timestamp() * 1000):012x}-{uuid4().hex}"

    def review(self, draft: Draft) -> None:
        if not draft.segments:
            raise Unacceptable(FailureKind.CONTENT_REJECTED, "A post has at least one part.")
        if draft.visibility and draft.visibility not in VISIBILITIES:
            raise Unacceptable(FailureKind.UNSUPPORTED, f"Visibility is one of {', '.join(VISIBILITIES)}.")
        for segment in draft.segments:
            _review_segment(segment)

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        server = (server_url or self._main_server).rstrip("/")
        secrets = {"access_token": token_of(credentials, "access_token")}
        if credentials.get("refresh_token"):
            secrets["refresh_token"] = token_of(credentials, "refresh_token")
        response = await self._send(server, secrets, "GET", "/api/v1/account")
        if response.status == httpx2.codes.UNAUTHORIZED and secrets.get("refresh_token"):
            secrets.update(await self._renew(server, secrets))
            response = await self._send(server, secrets, "GET", "/api/v1/account")
        if response.status in (httpx2.codes.NOT_FOUND, httpx2.codes.METHOD_NOT_ALLOWED) or response.status // 100 == 3:
            raise Refused(FailureKind.UNSUPPORTED, response.error_text())
        account = _document(response)
        remote_id, handle = _text(account, "id"), _text(account, "handle")
        if not remote_id or not handle:
            raise OutcomeUnknown("The account came back without id or handle")
        kept = {"access_token": secrets["access_token"]}
        if refresh_token := secrets.get("refresh_token") or _text(account, "refresh_token"):
            kept["refresh_token"] = refresh_token
        return Connection(server, remote_id, handle, _text(account, "display_name") or handle, kept)

    def needs_preparation(self, draft: Draft) -> bool:
        return any(_handle_name(picture) not in draft.handles for _, picture in _pictures(draft))

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None:
        for _, picture in _pictures(draft):
            name = _handle_name(picture)
            if name in draft.handles:
                continue
            headers = {"Content-Type": picture.content_type}
            content = await picture.read()
            response = await self._ask(draft.account, "POST", "/api/v1/media", headers=headers, content=content)
            media_id = _text(_document(response, rejected=FailureKind.MEDIA_REJECTED), "id")
            if not is_id(media_id):
                raise OutcomeUnknown("The picture came back without an id")
            await save_handle(name, media_id)
            draft.handles[name] = media_id

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        response = await self._ask(draft.account, "POST", "/api/v1/posts", json=_post(draft, index))
        document = _document(response)
        if response.status == httpx2.codes.ACCEPTED and (handle := _text(document, "handle")):
            return Processing(handle, CHECK_AFTER)
        return _remote(document)

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:
        document = _document(await self._ask(draft.account, "GET", f"/api/v1/processing/{quote(handle, safe='')}"))
        if document.get("status") == "processing":
            return Processing(handle, _check_after(document.get("check_after")))
        if document.get("status") == "failed":
            raise Refused(FailureKind.CONTENT_REJECTED, _text(document, "message") or "Processing failed.")
        return _remote(document.get("post"))

    async def absence(self, account: Account) -> Absence:
        """The network's search proves presence only: a call that waits there, or before it, is in no list yet."""
        return Absence(Repeat.AFTER_QUIET, quiet=self.quiet)

    async def find(self, draft: Draft, index: int, look: Lookup) -> Remote | None:
        """Trusts the network's own search by key, which no other delivery's post has."""
        key = draft.segments[index].key
        params = {"key": key, "limit": str(FOUND_LIMIT)}
        document = _document(await self._ask(draft.account, "GET", "/api/v1/posts", params=params))
        posts, processing = document.get("posts"), document.get("processing", [])
        if posts == [] and processing == []:
            return None
        # The oldest, if there are several: the one that later parts of a thread may already hang on.
        own = [post for post in _objects(posts) if post.get("key") == key]
        if own:
            return _remote(own[-1])
        raise Inconclusive("The network is still working on the post, or did not search by its key")

    async def named(self, draft: Draft, index: int, url: str, look: Lookup) -> Remote:
        """Takes the address as the feed shows it, `/@<account>/<id>`."""
        found = _ADDRESS.fullmatch(urlsplit(url).path)
        if found is None or not same_place(url, draft.account.server_url):
            raise NotNamed("this is no address of a post here; give it as the feed shows it, /@<account>/<id>")
        response = await self._ask(draft.account, "GET", f"/api/v1/posts/{quote(found['id'], safe='')}")
        if response.status == httpx2.codes.NOT_FOUND:
            raise NotNamed("the network has no post at this address")
        post, segment = _document(response), draft.segments[index]
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
        document = _document(await self._ask(account, "GET", "/api/v1/posts/metrics", params=params))
        if not isinstance(document.get("metrics"), list):
            raise OutcomeUnknown("The numbers came back in an unknown form")
        wanted = {remote.id for remote in remotes}
        return [_observation(row) for row in _objects(document["metrics"]) if row.get("id") in wanted]

    async def _ask(self, account: Account, method: str, path: str, **sent: Unpack[_Sent]) -> Response:
        """Makes a call as the account; where its token has expired, renews it and makes the call once more.

        A 401 is an answer without an effect, so that even a publish may follow it.
        """

        async def renew(used: Mapping[str, str]) -> Mapping[str, str]:
            return await self._renew(account.server_url, used)

        secrets = account.credentials.secrets
        response = await self._send(account.server_url, secrets, method, path, **sent)
        if response.status == httpx2.codes.UNAUTHORIZED and secrets.get("refresh_token"):
            secrets = await account.credentials.refresh(secrets, renew)
            response = await self._send(account.server_url, secrets, method, path, **sent)
        return response

    async def _send(
        self, server_url: str, secrets: Mapping[str, str], method: str, path: str, **sent: Unpack[_Sent]
    ) -> Response:
        if not secrets.get("access_token"):
            raise Unacceptable(FailureKind.AUTH_EXPIRED, "There is no access_token; connect the channel again.")
        sent["headers"] = {"Authorization": f"Bearer {secrets['access_token']}", **sent.get("headers", {})}
        return await call(self._client, method, server_url.rstrip("/") + path, **sent)

    async def _renew(self, server_url: str, used: Mapping[str, str]) -> Mapping[str, str]:
        """Gets a new access token. The refresh token stays good, so that a lost renewal can be repeated."""
        sent = {"refresh_token": used["refresh_token"]}
        response = await call(self._client, "POST", server_url.rstrip("/") + "/api/v1/token/refresh", json=sent)
        try:
            document = _document(response)
        except Refused as error:
            if error.kind in (FailureKind.AUTH_EXPIRED, FailureKind.RATE_LIMITED):
                raise
            raise NotSent(f"The access token has expired and could not be renewed: {error}") from error
        if not (access_token := _text(document, "access_token")):
            raise OutcomeUnknown("The access token has expired, and no new one came back")
        return {
            "access_token": access_token,
            "refresh_token": _text(document, "refresh_token") or used["refresh_token"],
        }


def _review_segment(segment: Segment) -> None:
    if len(segment.text) > TEXT_LIMIT:
        message = f"The text has {len(segment.text)} characters; the network takes {TEXT_LIMIT}."
        raise Unacceptable(FailureKind.CONTENT_REJECTED, message)
    if not segment.text.strip() and not segment.pictures:
        raise Unacceptable(FailureKind.CONTENT_REJECTED, "A part needs a text or a picture.")
    if len(segment.pictures) > PICTURE_LIMIT:
        raise Unacceptable(FailureKind.MEDIA_REJECTED, f"A part takes {PICTURE_LIMIT} pictures at most.")
    for picture in segment.pictures:
        if picture.content_type not in PICTURE_TYPES:
            raise Unacceptable(FailureKind.MEDIA_REJECTED, f"The network takes no {picture.content_type}.")
        if picture.size > PICTURE_BYTES_LIMIT:
            raise Unacceptable(FailureKind.MEDIA_REJECTED, f"A picture has {PICTURE_BYTES_LIMIT} bytes at most.")
        if len(picture.alt_text) > ALT_TEXT_LIMIT:
            raise Unacceptable(FailureKind.MEDIA_REJECTED, f"An alt text has {ALT_TEXT_LIMIT} characters at most.")


def _pictures(draft: Draft) -> list[tuple[Segment, Picture]]:
    return [(segment, picture) for segment in draft.segments for picture in segment.pictures]


def _handle_name(picture: Picture) -> str:
    return f"media:{picture.media_id}"


def _post(draft: Draft, index: int) -> dict[str, object]:
    """The body of a segment: the same bytes in every attempt."""
    segment = draft.segments[index]
    missing = [picture.media_id for picture in segment.pictures if _handle_name(picture) not in draft.handles]
    if missing or len(draft.remotes) < index:
        raise Unacceptable(FailureKind.INTERNAL, "The pictures or the earlier parts of the post are not there yet.")
    return {
        "text": segment.text,
        "key": segment.key,
        "media": [
            {"id": draft.handles[_handle_name(picture)], "alt": picture.alt_text} for picture in segment.pictures
        ],
        "reply_to": draft.remotes[index - 1].id if index else None,
        "visibility": draft.visibility or "public",
        "language": draft.language,
        "created_at": draft.compose_time.isoformat(),
    }


def _document(response: Response, *, rejected: FailureKind = FailureKind.CONTENT_REJECTED) -> Mapping[str, object]:
    """Returns the JSON object of a 2xx answer and raises what any other answer means."""
    if not 200 <= response.status <= 299:
        _refuse(response, rejected)
    document = response.json()
    if not isinstance(document, dict):
        raise OutcomeUnknown(f"The answer {response.status} is not the JSON object that belongs there")
    return document


def _refuse(response: Response, rejected: FailureKind) -> Never:
    """A 5xx may come after the effect (and so may a proxy's 408, or a 409 about the first call): unknown."""
    words = response.error_text()
    match response.status:
        case 401:
            raise Refused(FailureKind.AUTH_EXPIRED, words)
        case 429:
            wait = retry_after(response.headers, datetime.now(UTC))
            raise Refused(FailureKind.RATE_LIMITED, words, retry_after=WAIT_WHEN_UNSAID if wait is None else wait)
        case 413 | 415:
            raise Refused(FailureKind.MEDIA_REJECTED, words)
        case 422:
            document = response.json()
            about_media = isinstance(document, dict) and _text(document, "error").startswith("media_")
            raise Refused(FailureKind.MEDIA_REJECTED if about_media else rejected, words)
        case status if 400 <= status <= 499 and status not in (408, 409):
            raise Refused(FailureKind.PLATFORM_ERROR, words)
        case status:
            raise OutcomeUnknown(f"The network answered {status}: {words}")


def _remote(document: object) -> Remote:
    remote_id = _text(document, "id")
    url = _text(document, "url")
    if not is_id(remote_id) or not url:
        raise OutcomeUnknown("The post came back without id or url")
    return Remote(remote_id, url)


def _text(document: object, name: str) -> str:
    value = document.get(name) if isinstance(document, Mapping) else None
    return value if isinstance(value, str) else ""


def _objects(rows: object) -> list[Mapping[str, object]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _check_after(said: object) -> timedelta:
    if isinstance(said, int | float) and 0 < said <= LONGEST_CHECK_AFTER.total_seconds():
        return timedelta(seconds=said)
    return CHECK_AFTER


def _observation(row: Mapping[str, object]) -> Observation:
    values: dict[str, Any] = {name: row[name] for name in NUMBERS if row.get(name) is not None}
    engagements = tuple(
        Engagement(_text(one, "actor_id"), _text(one, "actor_handle"), _text(one, "kind"))
        for one in _objects(row.get("engagements"))[:MAX_PEOPLE]
        if _text(one, "actor_id") and _text(one, "kind")
    )
    return Observation(_text(row, "id"), values, engagements)
