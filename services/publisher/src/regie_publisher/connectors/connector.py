"""What a connector is: the form that every network is brought into.

The delivery protocol (docs/architecture.md, ADR 0004) is written against these types. A connector keeps no
state of its own between calls: what must last is handed to `save_handle` or `Credentials.refresh`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from regie_publisher.connectors import values as bounds
from regie_publisher.connectors.look import Look
from regie_publisher.media.images.picture import Bounds, Rendition

VISIBILITIES = ("public", "unlisted", "private", "direct")
"""Who may see a post; a draft has one of these, or none for the network's usual one. Few networks have all."""
ENGAGEMENT_KINDS = ("like", "reply", "repost", "quote")


class FailureKind(StrEnum):
    """Why a delivery failed: a closed list (docs/errors.md)."""

    AUTH_EXPIRED = "auth_expired"
    CONTENT_REJECTED = "content_rejected"
    DUPLICATE_CONTENT = "duplicate_content"
    MEDIA_REJECTED = "media_rejected"
    RATE_LIMITED = "rate_limited"
    NETWORK_UNREACHABLE = "network_unreachable"
    PLATFORM_ERROR = "platform_error"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"


class ConnectorError(Exception):
    """ConnectorError
    ├── NotSent          nothing reached the network; trying again is safe
    ├── Refused          the network answered, and the answer is no
    │   └── Unacceptable our own check says no before any call
    ├── OutcomeUnknown   the call left and no usable answer came back
    ├── CannotTell       `find` could neither find the post nor say that it is not there
    └── NotNamed         what a person gave is not the address of the delivery's post

    The message may hold the network's own words, so it is made one line of bounded length.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(bounds.sentence(message))


class NotSent(ConnectorError):
    """The call never left: no connection, or the local pool was full. Safe to try again."""


class OutcomeUnknown(ConnectorError):
    """The call left and no usable answer came back: timeout, dropped connection, 5xx, unreadable body."""


class CannotTell(ConnectorError):
    """`find` has no proof either way; asked again later, and at last by a person."""


class NotNamed(ConnectorError):
    """What a person gave to `named` is not the address of the segment's post; the message says why, to that person.

    `remote_id` is the post that is there, where there is one of the account.
    """

    def __init__(self, message: str, *, remote_id: str = "") -> None:
        super().__init__(message)
        self.remote_id = remote_id


class Refused(ConnectorError):
    """The network said no.

    `retry_after` is set when the same call may succeed later (rate limits, maintenance said before any effect);
    `None` means that trying again is useless until a person acts. `message` is the network's own words.
    """

    def __init__(self, kind: FailureKind, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = str(self)
        self.retry_after = None if retry_after is None else min(max(retry_after, bounds.MIN_WAIT), bounds.MAX_WAIT)


class Unacceptable(Refused):
    """Our own check says no before any call; `message` is our words, so they never stand as the network's."""


class Credentials(Protocol):
    """The opened secrets of one channel."""

    @property
    def secrets(self) -> Mapping[str, str]:
        """The newest secrets known to this process."""

    async def refresh(
        self,
        used: Mapping[str, str],
        renew: Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]],
    ) -> Mapping[str, str]:
        """Renews the secrets once, however many callers find them expired at the same time.

        `used` are the secrets that the network called expired. When somebody has renewed them since, those are
        returned and `renew` is not called; else `renew(used)` runs, and its result is sealed and committed
        before it is returned.

        `renew` raises `Refused(AUTH_EXPIRED)` only where the network itself proves that the secrets are useless, and
        `OutcomeUnknown` where its answer is lost: then the secrets may be spent, `NotSent` is raised here, and the
        same ones are offered again a few times, ever more rarely.
        """


@dataclass(frozen=True, slots=True)
class Account:
    """A connected account as a connector sees it."""

    server_url: str
    remote_id: str
    handle: str
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Connection:
    """What `connect` found out. `secrets` are sealed by the caller and never logged.

    `identity` is what the network guarantees to be this one account for ever, wherever it is reached; empty where
    that is the server and its id of the account.
    Raises `Refused` where the network says more than can be kept: an account is not known by a part of its id.
    """

    server_url: str
    remote_id: str
    handle: str
    display_name: str
    secrets: Mapping[str, str]
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


async def _fit_nothing(_bounds: Bounds) -> Rendition:
    raise Refused(FailureKind.MEDIA_REJECTED, "The picture cannot be made smaller here")


@dataclass(frozen=True, slots=True)
class Picture:
    """An attached picture: upright, sRGB, nothing in it but the picture (ADR 0022).

    `read` loads its bytes; `width` and `height` are pixels, `size` is bytes; `frames` is more than 1 for an animation.
    `fit` makes a still form within bounds, in `prepare` and under limits; it raises `Refused` or `NotSent`.
    """

    media_id: str
    alt_text: str
    content_type: str
    size: int
    width: int
    height: int
    read: Callable[[], Awaitable[bytes]]
    frames: int = 1
    fit: Callable[[Bounds], Awaitable[Rendition]] = _fit_nothing


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a thread. `key` is unique, chosen before the first attempt, and the same in every attempt."""

    key: str
    text: str
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Remote:
    """A segment on the network. `id` is what the network needs to reply to it, `url` what people open.

    Whoever makes one of a network's answer gives an id that is one (`values.is_id`). `url` is empty where the network,
    or a person, gave none that is safe to open.
    """

    id: str
    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", bounds.web_url(self.url))


@dataclass(frozen=True, slots=True)
class Processing:
    """The network took the segment and is still working on it; `check` asks again after `check_after`."""

    handle: str
    check_after: timedelta

    def __post_init__(self) -> None:
        if len(self.handle) > bounds.MAX_HANDLE:
            raise OutcomeUnknown("The server took the post and gave it a handle that is too long to keep")
        object.__setattr__(self, "check_after", min(max(self.check_after, bounds.MIN_WAIT), bounds.MAX_WAIT))


@dataclass(slots=True)
class Draft:
    """One delivery as a connector sees it.

    `compose_time` is fixed with the delivery (UTC), so that every attempt sends the same bytes. `handles` are what
    `prepare` saved; `remotes` are the segments that are out, in order: segment n replies to `remotes[n - 1]`.
    """

    account: Account
    segments: Sequence[Segment]
    visibility: str
    language: str
    compose_time: datetime
    handles: dict[str, str] = field(default_factory=dict)
    remotes: list[Remote] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Engagement:
    """A person seen to react; `kind` is one of ENGAGEMENT_KINDS."""

    actor_id: str
    actor_handle: str
    kind: str


@dataclass(frozen=True, slots=True)
class Observation:
    """Totals since publication, by the field's names (likes, replies, reposts, quotes, impressions).

    Values that can be no total and people that can be no profile are left out, and counted in `left_out`; of the
    people, as many as a first page has are kept.
    """

    remote_id: str
    values: Mapping[str, int]
    engagements: tuple[Engagement, ...] = ()
    left_out: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        values = {name: value for name, value in self.values.items() if bounds.is_total(value)}
        page = self.engagements[: bounds.MAX_PEOPLE]
        people = tuple(
            Engagement(one.actor_id, bounds.visible(one.actor_handle)[: bounds.MAX_NAME], one.kind)
            for one in page
            if bounds.is_actor_id(one.actor_id) and one.kind in bounds.REACTIONS
        )
        left_out = len(self.values) - len(values) + len(self.engagements) - len(people)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "engagements", people)
        object.__setattr__(self, "left_out", left_out)


@dataclass(frozen=True, slots=True)
class Unread:
    """A post whose numbers could not be read, while those of its neighbours in the same call could."""

    remote_id: str
    error: ConnectorError


def check_secrets(secrets: Mapping[str, str]) -> None:
    """Raises `Refused` for more, or longer, secrets than an account has."""
    longest = max((len(text) for pair in secrets.items() for text in pair), default=0)
    if len(secrets) > bounds.MAX_SECRETS or longest > bounds.MAX_SECRET:
        most = f"{bounds.MAX_SECRETS} tokens of {bounds.MAX_SECRET} characters"
        raise Unacceptable(FailureKind.UNSUPPORTED, f"The server gives more than {most}")


class Repeat(StrEnum):
    """When a call whose answer was lost may be made again, by class of network (ADR 0017)."""

    AT_ONCE = "at_once"
    """The key makes the write idempotent: the same bytes under the same key are one post, whenever they land."""
    UNDER_KEY = "under_key"
    """The server is known to honour the key for a while, but not for two calls that it handles at the same moment."""
    AFTER_QUIET = "after_quiet"
    """Nothing protects a second call, and the account can be read: only a proven absence permits one."""
    BY_PERSON = "by_person"
    """Nothing can be read: only a person can say that the post is not there."""


QUIET = timedelta(seconds=120)
"""Proxies and servers give a call up within 60 s as a rule, within 120 s but for rare ones."""


@dataclass(frozen=True, slots=True)
class Absence:
    """What proves, on one account's server, that a call had no effect and will have none.

    `quiet` is how long after the end of the last call anything on the way may still carry it to its effect. Absence
    is proven by at least `looks` looks that came back empty, the last of them begun after the quiet time.
    `settle` and `key_life` are for `Repeat.UNDER_KEY`: the time after a call's end in which a repeated call could
    meet it, and how long the server keeps a key.

    Networks whose commit has a state of its own (containers, upload sessions) are `AFTER_QUIET`: their `find` asks
    for the state of the saved handle, and answers None only where the network says that it was not committed.
    """

    repeat: Repeat
    quiet: timedelta = QUIET
    looks: int = 2
    settle: timedelta = timedelta(0)
    key_life: timedelta = timedelta(0)


SaveHandle = Callable[[str, str], Awaitable[None]]
"""Persists one prepared handle by name, committed before it returns."""


class Connector(Protocol):
    """A network. Every method but `review` and `new_key` talks to it and is bounded in time.

    Only `publish` changes what people see, and it is called at most once for each attempt. All methods raise
    `NotSent`, `Refused` or `OutcomeUnknown` and nothing else for what a network can do to us; a method other than
    `publish` raises `OutcomeUnknown` only to say that it does not know, and is then simply called again.
    """

    network: str
    quiet: timedelta
    """The longest `Absence.quiet` of any server of the network, for where the server cannot be asked."""

    def new_key(self, now: datetime) -> str:
        """Returns a fresh key for one segment, in the form that the network wants."""

    def review(self, draft: Draft) -> None:
        """Raises `Refused` where the content breaks a limit known without asking. Makes no call."""

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        """Proves the credentials and names the account.

        Raises `Refused(AUTH_EXPIRED)` for wrong ones and `Refused(UNSUPPORTED)` where the address is no server of the
        network; `Unacceptable` with the same kinds for what cannot be sent at all.
        """

    def needs_preparation(self, draft: Draft) -> bool:
        """True when `prepare` has something to do."""

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None:
        """Uploads what `publish` needs. Idempotent: skips what `draft.handles` already has."""

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        """Makes segment `index` visible: the one mutation."""

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:
        """Asks about a segment that is being processed. Reads only."""

    async def absence(self, account: Account) -> Absence:
        """Returns what proves an absence on the account's server. May ask the server what it is."""

    async def find(self, draft: Draft, index: int, look: Look) -> Remote | None:
        """Looks for segment `index` on the network after an unknown outcome. Reads only.

        Returns where it is, or None when it is not there now, which alone proves nothing: see `Absence`. Raises
        `CannotTell` where neither can be said. What another delivery holds is never returned.
        """

    async def named(self, draft: Draft, index: int, url: str, look: Look) -> Remote:
        """Returns the post that a person names by its address, as the network itself names it. Reads only.

        Raises `NotNamed` unless the network shows at that address a post of the account that may be segment `index`,
        and is not as likely that of another open delivery with another text. Of two with the same text either may be
        meant. No name of a post is ever guessed from an address. Raises `CannotTell` where the network does not say.
        """

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> Sequence[Observation | Unread]:
        """Reads the numbers of up to 25 posts; those that are gone are left out.

        Where each post is a call of its own, one that fails is `Unread` and does not fail the others.
        """
