"""The Mastodon connector: the steps of the delivery protocol on Mastodon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

import httpx2
from regie_chassis.process.clock import Clock, SystemClock

from regie_networks.absence import QUIET, Absence, Repeat
from regie_networks.addresses import AddressRefused, origin_of, plain_server_url
from regie_networks.bounds import is_id
from regie_networks.contract import Connection, SaveHandle
from regie_networks.credentials import check_credentials, token_of
from regie_networks.draft import Account, Draft, Processing, Remote
from regie_networks.errors import ConnectorError, FailureKind, OutcomeUnknown, Refused, Unacceptable
from regie_networks.lookup import Lookup
from regie_networks.mastodon.addresses import named_status
from regie_networks.mastodon.client import MastodonClient, host_of, server_origin, text_of
from regie_networks.mastodon.credentials import FIELDS
from regie_networks.mastodon.instance import (
    HONOURS_KEYS,
    KEEPS_MEDIA_IDS,
    KEY_LIFE,
    InstanceCache,
)
from regie_networks.mastodon.lookup import SourceCache, find_segment
from regie_networks.mastodon.media import media_ids, missing_attachments, prepare_attachments
from regie_networks.mastodon.metrics import observe_account, observe_statuses
from regie_networks.mastodon.replies import delete_status, read_replies
from regie_networks.mastodon.rules import RULES, fits_everywhere
from regie_networks.observation import AccountObservation, Observation, Unread
from regie_networks.replies import ReplyPage
from regie_networks.review import check_segment, review_draft

PUBLISH_TIMEOUT = 30.0
"""Seconds."""
_CHECKED = "limits"


class MastodonConnector:
    """Speaks to any server of the family. Keeps nothing between calls but the servers' descriptions of themselves."""

    network = "mastodon"

    def __init__(
        self, client: httpx2.AsyncClient, *, clock: Clock | None = None, quiet: timedelta = QUIET, main_server: str = ""
    ) -> None:
        self.quiet = quiet
        self._main_server = main_server
        self._client = client
        self._clock = clock or SystemClock()
        self._instances = InstanceCache()
        self._sources = SourceCache()

    def new_key(self, now: datetime) -> str:
        """Any string is a key there, so it is a random one."""
        return str(uuid4())

    def review(self, draft: Draft) -> None:
        review_draft(RULES, draft)

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        """Takes `access_token`, with the scopes read, write:statuses and write:media."""
        check_credentials(FIELDS, credentials)
        token = token_of(credentials, "access_token")
        server = MastodonClient(self._client, self._clock, server_origin(server_url or self._main_server), token)
        body = (await server.verify()).json()
        remote_id, username = text_of(body, "id"), text_of(body, "username")
        if not remote_id or not username:
            raise Refused(FailureKind.UNSUPPORTED, "This server does not speak Mastodon's API")
        server = await self._known_as(server, remote_id, text_of(body, "url"))
        domain = await self._domain(server)
        return Connection(
            server_url=server.url,
            remote_id=remote_id,
            handle=f"{username}@{domain}",
            display_name=text_of(body, "display_name") or username,
            secrets={"access_token": token},
            identity=f"{server.url}#{remote_id}",
        )

    async def _known_as(self, server: MastodonClient, remote_id: str, account_url: str) -> MastodonClient:
        """Returns the server at the address in its accounts' own URLs, where that is proven to be the same one.

        A server reached as `www.` or by another of its names is still one server. Its word alone is no proof, or it
        could claim another's accounts; that the same token names the same account there is.
        """
        try:
            named = origin_of(plain_server_url(account_url, (host_of(server.url),)))
        except AddressRefused:
            return server
        if named == server.url or not named.startswith("https://"):
            return server
        candidate = replace(server, url=named)
        try:
            body = (await candidate.verify()).json()
        except ConnectorError:
            return server
        return candidate if text_of(body, "id") == remote_id and text_of(body, "url") == account_url else server

    async def _domain(self, server: MastodonClient) -> str:
        """Returns the domain in the names of the server's accounts. The account is proven already, so that a server
        that cannot describe itself costs no more than this.
        """
        try:
            domain = (await self._instances.read(server)).domain
        except ConnectorError:
            domain = ""
        return domain or host_of(server.url)

    def needs_preparation(self, draft: Draft) -> bool:
        """Short texts go out without asking for the server's limits: nothing may stand between them and their time."""
        unchecked = _CHECKED not in draft.handles and not all(
            fits_everywhere(segment.text) for segment in draft.segments
        )
        return unchecked or missing_attachments(draft)

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None:
        server = self._server(draft.account)
        if _CHECKED not in draft.handles:
            rules = (await self._instances.read(server)).rules
            for segment in draft.segments:
                check_segment(rules, segment)
            checked = f"{rules.text[0].maximum}/{rules.max_attachments}"
            await save_handle(_CHECKED, checked)
            draft.handles[_CHECKED] = checked
        await prepare_attachments(server, draft, save_handle)

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        segment = draft.segments[index]
        # Visibility is always said, or it would be whatever the account's default is. `scheduled_at` never is: some
        # servers ignore it and publish at once.
        status: dict[str, object] = {"visibility": draft.visibility or "public"}
        if segment.text.strip():  # Hollo refuses an empty one, and all take a picture without
            status["status"] = segment.text
        if segment.attachments:
            status["media_ids"] = media_ids(draft, segment)
        if index > 0:
            status["in_reply_to_id"] = draft.remotes[index - 1].id
        if draft.language:
            status["language"] = draft.language
        response = await self._server(draft.account).ask(
            "POST",
            "/api/v1/statuses",
            headers={"Idempotency-Key": segment.key},
            json=status,
            rejected=FailureKind.CONTENT_REJECTED,
            absent=_kind_of_absence(status),
            timeout=PUBLISH_TIMEOUT,
        )
        body = response.json()
        remote_id, url = text_of(body, "id"), text_of(body, "url") or text_of(body, "uri")
        if not is_id(remote_id) or not url:  # what was scheduled has an id and no address
            raise OutcomeUnknown("The server took the status and its answer cannot be read")
        return Remote(remote_id, url)

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:
        raise Unacceptable(FailureKind.INTERNAL, "Mastodon publishes at once: there is nothing to check")

    async def absence(self, account: Account) -> Absence:
        """Trusts a key only where the server is known to honour it, and then not for two calls at the same time."""
        if await self._software(account) in HONOURS_KEYS:
            return Absence(Repeat.UNDER_KEY, quiet=self.quiet, settle=self.quiet / 4, key_life=KEY_LIFE)
        return Absence(Repeat.AFTER_QUIET, quiet=self.quiet)

    async def find(self, draft: Draft, index: int, look: Lookup) -> Remote | None:
        return await find_segment(
            self._server(draft.account),
            draft,
            index,
            look,
            sources=self._sources,
            keeps_media_ids=await self._software(draft.account) in KEEPS_MEDIA_IDS,
        )

    async def named(self, draft: Draft, index: int, url: str, look: Lookup) -> Remote:
        return await named_status(self._server(draft.account), draft, index, url, look, sources=self._sources)

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> Sequence[Observation | Unread]:
        return await observe_statuses(self._server(account), account, remotes)

    async def delete(self, account: Account, remote: Remote) -> None:
        await delete_status(self._server(account), remote)

    async def observe_account(self, account: Account) -> AccountObservation:
        return await observe_account(self._server(account), account)

    async def replies(self, account: Account, remote: Remote, *, page_token: str = "") -> ReplyPage:
        return await read_replies(self._server(account), account, remote, page_token)

    async def _software(self, account: Account) -> str:
        try:
            return (await self._instances.read(self._server(account))).software
        except ConnectorError:
            # A server that does not describe itself is as one that honours nothing: that is only slower.
            return ""

    def _server(self, account: Account) -> MastodonClient:
        # Tokens last until they are revoked, so `Credentials.refresh` has no use here.
        token = account.credentials.secrets.get("access_token", "")
        return MastodonClient(self._client, self._clock, account.server_url.rstrip("/"), token)


def _kind_of_absence(status: Mapping[str, object]) -> FailureKind:
    """Returns the subject of a 404: the status replied to, a lost picture, or an unknown address on this server."""
    if "in_reply_to_id" in status:
        return FailureKind.CONTENT_REJECTED
    return FailureKind.MEDIA_REJECTED if "media_ids" in status else FailureKind.UNSUPPORTED
