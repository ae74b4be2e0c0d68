"""The contract of a connector: one interface to every network.

The delivery protocol (docs/architecture.md, ADR 0004) is written against these types. A connector keeps no state
between calls: lasting values go to `save_handle` or `Credentials.refresh`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from regie_networks import bounds
from regie_networks.absence import Absence
from regie_networks.draft import Account, Draft, Processing, Remote
from regie_networks.errors import FailureKind, Unacceptable
from regie_networks.lookup import Lookup
from regie_networks.observation import AccountObservation, Observation, Unread
from regie_networks.replies import ReplyPage


@dataclass(frozen=True, slots=True)
class Connection:
    """The account that `connect` found. `secrets` are sealed by the caller and never logged.

    `identity` is the network's lasting id of this one account, at any address; empty where the server and its id of
    the account identify it. Raises `Refused` where an id is too long to store: a part of an id identifies no account.
    """

    server_url: str
    remote_id: str
    handle: str
    display_name: str
    secrets: Mapping[str, str] = field(repr=False)
    identity: str = ""

    def __post_init__(self) -> None:
        if not bounds.is_id(self.remote_id):
            most = f"1 to {bounds.MAX_ID_BYTES} bytes of printable characters"
            raise Unacceptable(FailureKind.UNSUPPORTED, f"The server gives the account an id that is not {most}")
        object.__setattr__(self, "handle", bounds.visible(self.handle))
        object.__setattr__(self, "display_name", bounds.visible(self.display_name))
        for what, name in (("handle", self.handle), ("name", self.display_name)):
            if len(name) > bounds.MAX_NAME:
                raise Unacceptable(
                    FailureKind.UNSUPPORTED,
                    f"The server gives the account a {what} of {len(name)} characters; {bounds.MAX_NAME} is the most",
                )
        check_secrets(self.secrets)


def check_secrets(secrets: Mapping[str, str]) -> None:
    """Raises `Refused` for more, or longer, secrets than an account has."""
    longest = max((len(text) for pair in secrets.items() for text in pair), default=0)
    if len(secrets) > bounds.MAX_SECRETS or longest > bounds.MAX_SECRET:
        most = f"{bounds.MAX_SECRETS} tokens of {bounds.MAX_SECRET} characters"
        raise Unacceptable(FailureKind.UNSUPPORTED, f"The server gives more than {most}")


SaveHandle = Callable[[str, str], Awaitable[None]]
"""Persists one prepared handle by name, committed before it returns."""


class Connector(Protocol):
    """A network. Every method but `review` and `new_key` talks to it and is bounded in time.

    Only `publish` changes visible posts, and it is called at most once for each attempt. All methods raise
    `NotSent`, `Refused` or `OutcomeUnknown` and nothing else, whatever a network does; `OutcomeUnknown` from a method
    other than `publish` only means that the call can be repeated.
    """

    network: str
    quiet: timedelta
    """The longest `Absence.quiet` of any server of the network, for where the server cannot be asked."""

    def new_key(self, now: datetime) -> str:
        """Returns a fresh key for one segment, in the form that the network wants."""

    def review(self, draft: Draft) -> None:
        """Raises `Refused` where the content breaks a limit known without asking. Makes no call."""

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        """Proves the credentials, which a person pasted or `OAuthFlow.exchange` returned, and names the account.

        Raises `Refused(AUTH_EXPIRED)` for wrong ones and `Refused(UNSUPPORTED)` where the address is no server of the
        network; `Unacceptable` with the same kinds for values that cannot be sent at all.
        """

    def needs_preparation(self, draft: Draft) -> bool:
        """True when `prepare` has something to do."""

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None:
        """Uploads the media for `publish`. Idempotent: skips the uploads in `draft.handles`."""

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        """Makes segment `index` visible: the one mutation."""

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:
        """Asks about a segment that is being processed. Reads only."""

    async def absence(self, account: Account) -> Absence:
        """Returns the proof of an absence on the account's server. May read the server's description."""

    async def find(self, draft: Draft, index: int, look: Lookup) -> Remote | None:
        """Looks for segment `index` on the network after an unknown outcome. Reads only.

        Returns where it is, or None when it is not there now, which alone proves nothing: see `Absence`. Raises
        `Inconclusive` where neither is certain. Never returns the post of another delivery.
        """

    async def named(self, draft: Draft, index: int, url: str, look: Lookup) -> Remote:
        """Returns the post that a person names by its address, as the network itself names it. Reads only.

        Raises `NotNamed` unless the network shows at that address a post of the account that may be segment `index`,
        and is not as likely that of another open delivery with another text. Of two with the same text either may be
        meant. A post's id is never guessed from an address. Raises `Inconclusive` where the network does not answer.
        """

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> Sequence[Observation | Unread]:
        """Reads the numbers of up to 25 posts, without the posts that are gone.

        Where each post is a call of its own, a failed call becomes `Unread` and does not fail the others.
        """


class NetworkConnector(Connector, Protocol):
    """A connector with every verb; those of the registry are such. A verb's errors are those of `Connector`."""

    async def delete(self, account: Account, remote: Remote) -> None:
        """Removes a post of the account. A post that is already gone counts as removed.

        Repeatable: after `OutcomeUnknown` the call may be made again.
        """

    async def observe_account(self, account: Account) -> AccountObservation:
        """Reads the numbers of the account itself."""

    async def replies(self, account: Account, remote: Remote, *, page_token: str = "") -> ReplyPage:
        """Lists replies to a post in pages; the empty token gives the first.

        Raises `Refused(CONTENT_REJECTED)` where the post is gone.
        """
