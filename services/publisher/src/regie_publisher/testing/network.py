"""A network in memory that plays a script of outcomes and remembers everything; ships for tests and benchmarks."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import uuid4

from regie_networks.absence import QUIET, Absence, Repeat
from regie_networks.contract import Connection, SaveHandle
from regie_networks.draft import Account, Draft, Processing, Remote
from regie_networks.errors import FailureKind, Inconclusive, NotNamed, NotSent, OutcomeUnknown, Refused
from regie_networks.lookup import Lookup
from regie_networks.observation import Observation, Unread


class Play(StrEnum):
    """The network's reaction to one publish."""

    OK = "ok"
    NOT_SENT = "not sent"
    LOST_BEFORE = "no effect, no answer"
    LOST_AFTER = "an effect, no answer"
    LATE = "no answer, an effect later"
    CRASH_BEFORE = "no effect, an error of ours"
    CRASH_AFTER = "an effect, an error of ours"
    REFUSE = "refused"
    LIMIT = "rate limited"
    EXPIRE = "token expired for good"
    PROCESS = "taken, and still working on it"


@dataclass(frozen=True, slots=True)
class Post:
    """A visible post."""

    id: str
    key: str
    text: str
    account: str
    reply_to: str


@dataclass(slots=True)
class FakeConnector:
    """Plays `script`, one entry for each publish, then only OK. `posts` are visible; nothing is idempotent."""

    network: str = "fake"
    quiet: timedelta = QUIET
    repeat: Repeat = Repeat.AFTER_QUIET
    """The network's protection against a second post; `AT_ONCE` and `UNDER_KEY` make it honour its keys."""
    script: deque[Play] = field(default_factory=deque)
    posts: list[Post] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Every call as (verb, key of the segment)."""
    finds: deque[Exception] = field(default_factory=deque)
    """Raised by the next finds, one each; then `find` answers."""
    looks: list[Lookup] = field(default_factory=list)
    """The look of each find."""
    answer: Remote | None = None
    """The answer to every publish, if it is set."""
    checks: int = 1
    """The number of checks that still answer that it is processing."""
    retry_after: timedelta = timedelta(seconds=30)
    prepares: bool = False
    prepare_errors: dict[str, Exception] = field(default_factory=dict)
    before_publish: Callable[[Draft, int], Awaitable[None]] | None = None
    """Runs at the beginning of each publish, before any effect."""
    after_publish: Callable[[Draft, int], Awaitable[None]] | None = None
    """Runs once the effect is there and before the answer is given."""
    review_error: Refused | None = None
    seen: list[Observation | Unread] = field(default_factory=list)
    observe_errors: deque[Exception] = field(default_factory=deque)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    lateness: deque[timedelta] = field(default_factory=deque)
    """The delays after which late calls take effect; then 100 s."""
    _on_the_way: list[tuple[datetime, Draft, int]] = field(default_factory=list)
    _processing: dict[str, list[object]] = field(default_factory=dict)

    def new_key(self, now: datetime) -> str:  # noqa: ARG002
        return uuid4().hex

    def review(self, draft: Draft) -> None:  # noqa: ARG002
        if self.review_error:
            raise self.review_error

    async def connect(self, server_url: str, credentials: Mapping[str, str]) -> Connection:
        token = credentials.get("access_token", "")
        if not token.startswith("fake-"):
            raise Refused(FailureKind.AUTH_EXPIRED, "unknown token")
        handle = token.removeprefix("fake-")
        return Connection(server_url or "https://fake.example", handle, handle, handle.title(), dict(credentials))

    def needs_preparation(self, draft: Draft) -> bool:
        return (self.prepares and "first" not in draft.handles) or (self.prepares and "second" not in draft.handles)

    async def prepare(self, draft: Draft, save_handle: SaveHandle) -> None:
        for name in ("first", "second"):
            if name in draft.handles:
                continue
            self.calls.append((f"prepare {name}", draft.segments[0].key))
            if name in self.prepare_errors:
                raise self.prepare_errors.pop(name)
            await save_handle(name, f"handle of {name}")
            draft.handles[name] = f"handle of {name}"

    async def publish(self, draft: Draft, index: int) -> Remote | Processing:
        key = draft.segments[index].key
        self.land()
        self.calls.append(("publish", key))
        if self.before_publish:
            await self.before_publish(draft, index)
        play = self.script.popleft() if self.script else Play.OK
        self._refuse(play)
        if play is Play.LATE:
            lateness = self.lateness.popleft() if self.lateness else timedelta(seconds=100)
            self._on_the_way.append((self.now() + lateness, replace(draft, remotes=list(draft.remotes)), index))
            raise OutcomeUnknown("504 from something in between")
        if play is Play.PROCESS:
            self._processing[key] = [self.checks, draft, index]
            return Processing(key, timedelta(seconds=1))
        remote = self._show(draft, index)
        if self.after_publish:
            await self.after_publish(draft, index)
        if play is Play.LOST_AFTER:
            raise OutcomeUnknown("the connection was dropped")
        if play is Play.CRASH_AFTER:
            raise RuntimeError("our own error")
        return self.answer or remote

    async def check(self, draft: Draft, index: int, handle: str) -> Remote | Processing:
        self.calls.append(("check", handle))
        entry = self._processing[handle]
        left = entry[0]
        assert isinstance(left, int)
        if left > 0:
            entry[0] = left - 1
            return Processing(handle, timedelta(seconds=1))
        del self._processing[handle]
        return self._show(draft, index)

    async def absence(self, account: Account) -> Absence:  # noqa: ARG002
        return Absence(self.repeat, quiet=self.quiet, settle=self.quiet / 4, key_life=timedelta(hours=1))

    async def find(self, draft: Draft, index: int, look: Lookup) -> Remote | None:
        key = draft.segments[index].key
        self.looks.append(look)
        self.land()
        self.calls.append(("find", key))
        if self.finds:
            raise self.finds.popleft()
        if key in self._processing:
            raise Inconclusive("still working on it")
        found = next((post for post in self.posts if post.key == key), None)
        return Remote(found.id, f"https://fake.example/{found.id}") if found else None

    async def named(self, draft: Draft, index: int, url: str, look: Lookup) -> Remote:  # noqa: ARG002
        self.land()
        if self.finds:
            raise self.finds.popleft()
        post = next((post for post in self.posts if url == f"https://fake.example/{post.id}"), None)
        if post is None or post.account != draft.account.remote_id:
            raise NotNamed("there is no post of this account at that address")
        if post.text != draft.segments[index].text:
            raise NotNamed("the post at that address has another text", remote_id=post.id)
        return Remote(post.id, url)

    async def observe(self, account: Account, remotes: Sequence[Remote]) -> list[Observation | Unread]:  # noqa: ARG002
        self.calls.append(("observe", ",".join(remote.id for remote in remotes)))
        if self.observe_errors:
            raise self.observe_errors.popleft()
        wanted = {remote.id for remote in remotes}
        return [one for one in self.seen if one.remote_id in wanted]

    def reset(self) -> None:
        """Forgets everything."""
        for memory in (
            self.script,
            self.posts,
            self.calls,
            self.finds,
            self.looks,
            self.lateness,
            self._on_the_way,
            self._processing,
        ):
            memory.clear()

    def published(self, verb: str = "publish") -> list[str]:
        """The keys of all calls of a verb, in order."""
        return [key for called, key in self.calls if called == verb]

    def _refuse(self, play: Play) -> None:
        match play:
            case Play.NOT_SENT:
                raise NotSent("no connection")
            case Play.LOST_BEFORE:
                raise OutcomeUnknown("the connection was dropped")
            case Play.CRASH_BEFORE:
                raise RuntimeError("our own error")
            case Play.REFUSE:
                raise Refused(FailureKind.CONTENT_REJECTED, "not with us")
            case Play.LIMIT:
                raise Refused(FailureKind.RATE_LIMITED, "slow down", retry_after=self.retry_after)
            case Play.EXPIRE:
                raise Refused(FailureKind.AUTH_EXPIRED, "token revoked")
            case _:
                return

    def land(self) -> None:
        """Makes the calls take effect whose time has come."""
        now = self.now()
        due = [call for call in self._on_the_way if call[0] <= now]
        self._on_the_way = [call for call in self._on_the_way if call[0] > now]
        for _, draft, index in due:
            self._show(draft, index)

    def _show(self, draft: Draft, index: int) -> Remote:
        segment = draft.segments[index]
        if self.repeat in (Repeat.AT_ONCE, Repeat.UNDER_KEY):
            known = next((post for post in self.posts if post.key == segment.key), None)
            if known is not None:
                return Remote(known.id, f"https://fake.example/{known.id}")
        post_id = str(len(self.posts) + 1)
        reply_to = draft.remotes[index - 1].id if index else ""
        self.posts.append(Post(post_id, segment.key, segment.text, draft.account.remote_id, reply_to))
        return Remote(post_id, f"https://fake.example/{post_id}")
