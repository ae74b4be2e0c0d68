"""Finds out what became of deliveries whose end is open: `processing` is checked, `unknown` is looked for.

Both only read at the network. Both go on where they can: a thread continues as a pending delivery. The deliveries of
one channel that are due together share one look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.ids import DELIVERY, show_id
from regie_chassis.telemetry import context_of, current_traceparent, tracer
from regie_networks.absence import QUIET, Repeat
from regie_networks.contract import Connector
from regie_networks.errors import ConnectorError, Inconclusive
from regie_networks.lookup import Lookup
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.accounts import Accounts
from regie_publisher.deliveries import judging
from regie_publisher.deliveries.claims import claim_companions, claim_open, find_open
from regie_publisher.deliveries.delivery import NETWORK_TIMEOUT, Cause, Held, Note, Outcome, State
from regie_publisher.deliveries.drafts import draft_of
from regie_publisher.deliveries.ledger import Ledger
from regie_publisher.deliveries.others import look_at
from regie_publisher.hosts import Hosts
from regie_publisher.media import Library
from regie_publisher.shares import Limits, Slots

LIMIT = 50
CHANNEL_LIMIT = 4
COMPANIONS = 50
"""Deliveries of a channel that are looked for together with the first: they share its place and its reading."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Pass:
    """A look, and when it began: what it does not show was not there at that time."""

    time: datetime
    look: Lookup


Ask = Callable[[Connector, Held, _Pass], Awaitable[Outcome]]


class Pursuit:
    """Asks networks about open deliveries. Any number of replicas."""

    def __init__(
        self,
        database: Database,
        *,
        connectors: Mapping[str, Connector],
        accounts: Accounts,
        library: Library,
        ledger: Ledger,
        clock: Clock,
        worker: str,
        wake: Callable[[], None],
        hosts: Hosts,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._accounts = accounts
        self._library = library
        self._ledger = ledger
        self._clock = clock
        self._worker = worker
        self._wake = wake
        limits = Limits(LIMIT, CHANNEL_LIMIT, host_part=0.25)  # what people wait for comes first
        self.checks, self.finds = Slots(limits, hosts), Slots(replace(limits, per_channel=1), hosts)

    async def check_processing(self) -> int:
        """Checks what networks are processing and is due, to the end. Returns how many."""
        begun = await self.begin_checks()
        await self.checks.finish()
        return begun

    async def find_unknown(self) -> int:
        """Looks for deliveries of which nobody knows, where it is time, to the end. Returns how many."""
        begun = await self.begin_finds()
        await self.finds.finish()
        return begun

    async def begin_checks(self) -> int:
        """Begins what is due of the checks, as many as there are places for: none waits for the slowest of others."""
        return await self._begin(State.PROCESSING, self.checks)

    async def begin_finds(self) -> int:
        """The same for what is being looked for."""
        return await self._begin(State.UNKNOWN, self.finds)

    async def _begin(self, state: State, slots: Slots) -> int:
        if not slots.room:
            return 0
        now = self._clock.now()
        async with self._database.transaction() as session:
            choice = slots.share_out(await find_open(session, state=state, slots=slots, now=now), now)
            held = await claim_open(session, choice.taken, state=state, worker=self._worker, now=now)
            companions = await self._companions(session, held, now) if state is State.UNKNOWN and held else []
        if held:
            await self._accounts.open([one.channel_id for one in held])
        by_id, looks = {one.id: one for one in choice.taken}, self._looks([*held, *companions])
        for one in held:
            together = [one, *(other for other in companions if other.channel_id == one.channel_id)]
            slots.begin(by_id[one.id], self._settle_together(together, looks[one.channel_id]))
        return len(held) + len(companions)

    async def _companions(self, session: AsyncSession, held: Sequence[Held], now: datetime) -> list[Held]:
        channel_ids = [one.channel_id for one in held]
        return await claim_companions(session, channel_ids, worker=self._worker, limit=COMPANIONS, now=now)

    async def _settle_together(self, held: Sequence[Held], look: _Pass) -> None:
        results = await asyncio.gather(*(self._settle(one, look) for one in held), return_exceptions=True)
        for one, error in zip(held, results, strict=True):
            if isinstance(error, Exception):  # one delivery must not stop the others; its lease brings it back
                log.error("delivery.pursuit_not_recorded", delivery=show_id(DELIVERY, one.id), exc_info=error)

    def _looks(self, held: Sequence[Held]) -> dict[UUID, _Pass]:
        """Returns one look for each channel. Its time is before the first reading that any delivery shares."""
        since: dict[UUID, datetime] = {}
        for one in held:
            since[one.channel_id] = min(one.compose_time, since.get(one.channel_id, one.compose_time))
        now = self._clock.now()
        return {
            channel_id: _Pass(now, look_at(self._database, channel_id, since=oldest))
            for channel_id, oldest in since.items()
        }

    async def _settle(self, held: Held, look: _Pass) -> None:
        ask: Ask = self._find if held.state is State.UNKNOWN else self._check
        verb = "find" if held.state is State.UNKNOWN else "check"
        with tracer().start_as_current_span(
            f"{verb} {held.network}",
            context=context_of(held.traceparent),
            kind=SpanKind.CLIENT,
            attributes={"regie.delivery_id": show_id(DELIVERY, held.id), "regie.attempt": held.attempt},
        ) as span:
            version = self._accounts.version(held.channel_id)
            connector = self._connectors.get(held.network)
            try:
                if connector is None:
                    raise Inconclusive(f"{held.network} is not a network here")
                async with asyncio.timeout(NETWORK_TIMEOUT.total_seconds()):
                    outcome = await ask(connector, held, look)
            except Exception as error:  # broad: no proof either way, whatever it is
                if not isinstance(error, ConnectorError | TimeoutError):
                    log.error("delivery.pursuit_failed", delivery=show_id(DELIVERY, held.id), exc_info=error)
                span.set_status(StatusCode.ERROR, type(error).__name__)
                now = self._clock.now()
                if held.state is State.UNKNOWN:
                    outcome = judging.after_find(error, held, now, version=version)
                else:
                    quiet = connector.quiet if connector else QUIET
                    outcome = judging.after_check(error, held, now, version=version, quiet=quiet)
            span.set_attribute("regie.outcome", outcome.state.value)
            note = Note(held, outcome, current_traceparent(), expected=(held.state,))
            if await self._ledger.record(note) and outcome.state is State.PENDING:
                self._wake()

    async def _check(self, connector: Connector, held: Held, _look: _Pass) -> Outcome:
        draft = await draft_of(held, accounts=self._accounts, library=self._library)
        done = len(held.remotes)
        answer = await connector.check(draft, done, held.processing_handle)
        return judging.out(answer, held, self._clock.now(), done=done, cause=Cause.CHECK, quiet=connector.quiet)

    async def _find(self, connector: Connector, held: Held, look: _Pass) -> Outcome:
        draft = await draft_of(held, accounts=self._accounts, library=self._library)
        absence = await connector.absence(draft.account)
        if absence.repeat is Repeat.BY_PERSON:
            return judging.absent(held, absence, look.time)
        done = len(held.remotes)
        try:
            remote = await connector.find(draft, done, look.look)
        except Inconclusive as error:
            outcome = judging.in_spite_of(error, held, absence, look.time)
            if outcome is None:
                raise
            return outcome
        if remote is None:
            return judging.absent(held, absence, look.time)
        return judging.out(remote, held, self._clock.now(), done=done, cause=Cause.FIND, quiet=absence.quiet)
