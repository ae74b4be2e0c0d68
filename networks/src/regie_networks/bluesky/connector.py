"""Publishing to Bluesky: idempotent writes under our own record keys (ADR 0004, network class 1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import unquote

import httpx2
from regie_chassis.process.clock import Clock, SystemClock

from regie_networks.absence import QUIET, Absence, Repeat
from regie_networks.bluesky.client import (
    DEFAULT_SERVER,
    BlueskyClient,
    error_name,
    home_server,
    server_address,
    session_secrets,
)
from regie_networks.bluesky.credentials import FIELDS, atproto_identifier, atproto_password
from regie_networks.bluesky.facets import mentioned_handles
from regie_networks.bluesky.media import load_rendition
from regie_networks.bluesky.metrics import account_observation, likers, observation
from regie_networks.bluesky.records import (
    COLLECTION,
    UploadedPicture,
    mention_handle,
    own_key,
    picture_handle,
    post_record,
    remote_post,
    strong_ref,
)
from regie_networks.bluesky.replies import thread_replies
from regie_networks.bluesky.rules import review
from regie_networks.bluesky.tids import TidClock
from regie_networks.bounds import MAX_HANDLE, is_id
from regie_networks.contract import Connection, SaveHandle
from regie_networks.credentials import check_credentials
from regie_networks.draft import Account, Draft, Picture, Processing, Remote
from regie_networks.errors import ConnectorError, FailureKind, NotNamed, OutcomeUnknown, Refused, Unacceptable
from regie_networks.lookup import Lookup
from regie_networks.observation import AccountObservation, Observation
from regie_networks.replies import ReplyPage, page_after

UPLOAD_TIMEOUT = 60.0
"""Seconds for a picture of two megabytes on a slow line."""
LIKERS_READ = 25
REPLY_DEPTH = 6
"""Generations of replies; the AppView's own default."""
_ADDRESS = re.compile(r"https://[^/]+/profile/(?P<name>[^/]+)/post/(?P<key>[A-Za-z0-9._~:-]{1,512})/?(?:[?#].*)?")


class BlueskyConnector:
    """A `Connector` for Bluesky.

    `connect` takes the credentials `identifier` (handle, e-mail or DID) and `app_password`, and keeps
    `access_jwt`, `refresh_jwt` and `did`. A Remote's id is `at-uri|cid`.
    """

    network = "bluesky"

    def __init__(
        self,
        client: httpx2.AsyncClient,
        *,
        clock: Clock | None = None,
        quiet: timedelta = QUIET,
        main_server: str = "",
    ) -> None:
        self.quiet = quiet
        self._main_server = main_server or DEFAULT_SERVER
        self._server = BlueskyClient(client, clock or SystemClock())
        self._tids = TidClock()

    def new_key(self, now: datetime) -> str:
        return self._tids.next_tid(now)

    def review(self, draft: Draft) -> None:
        review(draft)

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        asked_url = server_address(server_url, self._main_server)
        check_credentials(FIELDS, credentials)
        identifier = atproto_identifier(credentials.get("identifier", ""))
        password = atproto_password(credentials.get("app_password", ""))
        if not identifier or not password:
            raise Unacceptable(FailureKind.AUTH_EXPIRED, "Give `identifier` (the handle) and `app_password`")
        session = await self._server.open_session(asked_url, identifier, password)
        secrets = session_secrets(session)
        if session.get("active") is False:
            raise Refused(FailureKind.AUTH_EXPIRED, f"The account is {session.get('status', 'not active')}")
        did = secrets["did"]
        handle, home = session.get("handle"), home_server(session, asked_url)
        handle = handle if isinstance(handle, str) and handle else did
        name = await self._display_name(home, did)
        return Connection(home, did, handle, name or handle, secrets, identity=did)

    def needs_preparation(self, draft: Draft) -> bool:
        return bool(_pending_pictures(draft) or _pending_mentions(draft))

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None:
        for picture in _pending_pictures(draft):
            uploaded = await self._upload(draft.account, picture)
            await _keep(draft, save_handle, picture_handle(picture), uploaded.to_handle())
        for name in _pending_mentions(draft):
            did = await self._resolve(draft.account, name)
            await _keep(draft, save_handle, mention_handle(name), did)

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        """Writes the record. The same bytes under the same key, written again, are the same one post."""
        body = {
            "repo": draft.account.remote_id,
            "collection": COLLECTION,
            "rkey": draft.segments[index].key,
            "record": post_record(draft, index),
            "swapRecord": None,
        }
        response = await self._server.call_as(draft.account, "POST", "com.atproto.repo.putRecord", json=body)
        if error_name(response) == "InvalidSwap":
            message = f"Another post has the key {draft.segments[index].key}; it was left as it is"
            raise Refused(FailureKind.INTERNAL, f"{message} ({response.error_text()})")
        return _remote(self._server.accepted(response), draft.account, draft.segments[index].key)

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:  # the form
        """Returns where the post is; Bluesky publishes at once, so that nothing is ever processing."""
        remote = await self._read_record(draft, index)
        if remote is None:
            raise OutcomeUnknown("The post is not there")
        return remote

    async def absence(self, account: Account) -> Absence:
        """The record key is ours: the same bytes under it are the same post, however late a first call lands."""
        return Absence(Repeat.AT_ONCE, quiet=self.quiet)

    async def find(self, draft: Draft, index: int, look: Lookup) -> Remote | None:
        return await self._read_record(draft, index)

    async def _read_record(self, draft: Draft, index: int) -> Remote | None:
        query = {
            "repo": draft.account.remote_id,
            "collection": COLLECTION,
            "rkey": draft.segments[index].key,
        }
        response = await self._server.read(draft.account.server_url, "com.atproto.repo.getRecord", query)
        if response.status == HTTPStatus.BAD_REQUEST and error_name(response) == "RecordNotFound":
            return None
        return _remote(self._server.accepted(response), draft.account, draft.segments[index].key)

    async def named(self, draft: Draft, index: int, url: str, look: Lookup) -> Remote:
        """Takes the address as bsky.app and other clients show it."""
        account = draft.account
        names = (account.remote_id.casefold(), account.handle.casefold())
        match = _ADDRESS.fullmatch(unquote(url).strip())
        if match is None or match["name"].casefold() not in names:
            raise NotNamed(f"give the post's address as https://bsky.app/profile/{account.handle}/post/… shows it")
        query = {"repo": account.remote_id, "collection": COLLECTION, "rkey": match["key"]}
        response = await self._server.read(account.server_url, "com.atproto.repo.getRecord", query)
        if response.status == HTTPStatus.BAD_REQUEST and error_name(response) in ("RecordNotFound", "InvalidRequest"):
            raise NotNamed("the account has no post at this address")
        body = self._server.accepted(response)
        remote = _remote(body, account, match["key"])
        record, segment = body.get("value"), draft.segments[index]
        reply = record.get("reply") if isinstance(record, dict) else None
        parent = strong_ref(draft.remotes[index - 1])["uri"] if index else None
        answered = _text(_object(_object(reply).get("parent")).get("uri")) if reply else None
        if _text(_object(record).get("text")) != segment.text or answered != parent:
            message = "the post at this address is another: it has another text, or another place in a thread"
            raise NotNamed(message, remote_id=remote.id)
        return remote

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> list[Observation]:
        if not remotes:
            return []
        by_uri = {strong_ref(remote)["uri"]: remote for remote in remotes}
        body = await self._read_as(account, "app.bsky.feed.getPosts", {"uris": list(by_uri)})
        posts = body.get("posts")
        observations = []
        for post in posts if isinstance(posts, list) else []:
            remote = by_uri.get(str(post.get("uri"))) if isinstance(post, dict) else None
            if remote is not None:
                seen = observation(remote, post)
                observations.append(await self._with_likers(account, remote, seen))
        return observations

    async def delete(self, account: Account, remote: Remote) -> None:
        """Removes the record; the protocol counts a record that is gone as removed."""
        key = own_key(remote, account.remote_id)
        body = {"repo": account.remote_id, "collection": COLLECTION, "rkey": key}
        self._server.accepted(await self._server.call_as(account, "POST", "com.atproto.repo.deleteRecord", json=body))

    async def observe_account(self, account: Account) -> AccountObservation:
        return account_observation(
            await self._read_as(account, "app.bsky.actor.getProfile", {"actor": account.remote_id})
        )

    async def replies(self, account: Account, remote: Remote, *, page_token: str = "") -> ReplyPage:
        query = {"uri": strong_ref(remote)["uri"], "depth": str(REPLY_DEPTH), "parentHeight": "0"}
        response = await self._server.call_as(account, "GET", "app.bsky.feed.getPostThread", query=query)
        if response.status == HTTPStatus.BAD_REQUEST and error_name(response) == "NotFound":
            raise Refused(FailureKind.CONTENT_REJECTED, response.error_text())
        return page_after(thread_replies(self._server.accepted(response), remote), page_token)

    async def _with_likers(self, account: Account, remote: Remote, seen: Observation) -> Observation:
        if not seen.values.get("likes"):
            return seen
        query = {"uri": strong_ref(remote)["uri"], "limit": str(LIKERS_READ)}
        body = await self._read_as(account, "app.bsky.feed.getLikes", query)
        return Observation(seen.remote_id, seen.values, likers(body))

    async def _read_as(self, account: Account, name: str, query: Mapping[str, str | list[str]]) -> dict[str, object]:
        return self._server.accepted(await self._server.call_as(account, "GET", name, query=query))

    async def _upload(self, account: Account, picture: Picture) -> UploadedPicture:
        rendition = await load_rendition(picture)
        response = await self._server.call_as(
            account,
            "POST",
            "com.atproto.repo.uploadBlob",
            content=rendition.data,
            content_type=rendition.content_type,
            timeout=UPLOAD_TIMEOUT,
        )
        blob = self._server.accepted(response).get("blob")
        uploaded = UploadedPicture(blob if isinstance(blob, dict) else {}, rendition.width, rendition.height)
        if not uploaded.blob or len(uploaded.to_handle()) > MAX_HANDLE:
            raise OutcomeUnknown("The server took a picture and did not say where it is")
        return uploaded

    async def _resolve(self, account: Account, name: str) -> str:
        """Returns the DID of a handle, or an empty string where nobody has it."""
        query = {"handle": name}
        response = await self._server.call_as(account, "GET", "com.atproto.identity.resolveHandle", query=query)
        if response.status == HTTPStatus.BAD_REQUEST and error_name(response) in ("InvalidRequest", "HandleNotFound"):
            return ""
        did = self._server.accepted(response).get("did")
        return did if isinstance(did, str) and is_id(did) else ""

    async def _display_name(self, server_url: str, did: str) -> str:
        query = {"repo": did, "collection": "app.bsky.actor.profile", "rkey": "self"}
        try:
            response = await self._server.read(server_url, "com.atproto.repo.getRecord", query)
            profile = self._server.accepted(response).get("value")
        except ConnectorError:
            return ""  # an account without a profile is the normal case, and a name is no reason to log in again
        name = profile.get("displayName") if isinstance(profile, dict) else ""
        return name if isinstance(name, str) else ""


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _pending_pictures(draft: Draft) -> list[Picture]:
    pictures = {picture_handle(picture): picture for segment in draft.segments for picture in segment.pictures}
    return [picture for name, picture in pictures.items() if name not in draft.handles]


def _pending_mentions(draft: Draft) -> list[str]:
    names = dict.fromkeys(name for segment in draft.segments for name in mentioned_handles(segment.text))
    return [name for name in names if mention_handle(name) not in draft.handles]


async def _keep(draft: Draft, save_handle: SaveHandle, name: str, value: str) -> None:
    await save_handle(name, value)
    draft.handles[name] = value


def _remote(body: Mapping[str, object], account: Account, key: str) -> Remote:
    """Returns the post under our own key. A server that names another one is not believed."""
    uri, cid = body.get("uri"), body.get("cid")
    if not isinstance(uri, str) or not isinstance(cid, str) or not is_id(f"{uri}|{cid}"):
        raise OutcomeUnknown("The server did not say where the post is")
    if uri != f"at://{account.remote_id}/{COLLECTION}/{key}":
        raise OutcomeUnknown("The server named another post than the one that was sent")
    return remote_post(uri, cid, account.remote_id)
