"""Settles open deliveries at their network: `processing` ones are checked, `unknown` ones are looked up.

Both only read at the network. A thread continues afterwards as a pending delivery. The due deliveries of one channel
share one look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from regie.ids.v1.prefixes import DELIVERY
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import context_of, current_traceparent, tracer
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock
from regie_networks.absence import QUIET, Repeat
from regie_networks.contract import Connector
from regie_networks.errors import ConnectorError, Inconclusive
from regie_networks.lookup import Lookup
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels.accounts import Accounts
from regie_publisher.deliveries import decisions, lookup_decisions
from regie_publisher.deliveries.claims import claim_companions, claim_open, find_open
from regie_publisher.deliveries.delivery import NETWORK_TIMEOUT, Cause, ClaimedDelivery, Outcome, RecordedOutcome, State
from regie_publisher.deliveries.drafts import build_draft
from regie_publisher.deliveries.outcome_writer import OutcomeWriter
from regie_publisher.deliveries.rivals import look_at
from regie_publisher.fairness.hosts import Hosts
from regie_publisher.fairness.sharing import Limits
from regie_publisher.fairness.slots import Slots
from regie_publisher.media.store import MediaStore

LIMIT = 50
CHANNEL_LIMIT = 4
COMPANIONS = 50
"""Deliveries of a channel that are looked up together with the first, in the same slot and with the same reading."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _TimedLook:
    """A look and its beginning: a post that it does not show was not public at that time."""

    time: datetime
    look: Lookup


Ask = Callable[[Connector, ClaimedDelivery, _TimedLook], Awaitable[Outcome]]


class Reconciler:
    """Checks and looks up open deliveries. Any number of replicas."""

    def __init__(
        self,
        database: Database,
        *,
        connectors: Mapping[str, Connector],
        accounts: Accounts,
        media_store: MediaStore,
        writer: OutcomeWriter,
        clock: Clock,
        worker: str,
        wake: Callable[[], None],
        hosts: Hosts,
    ) -> None:
        self._database = database
        self._connectors = connectors
        self._accounts = accounts
        self._media_store = media_store
        self._writer = writer
        self._clock = clock
        self._worker = worker
        self._wake = wake
        limits = Limits(LIMIT, CHANNEL_LIMIT, host_part=0.25)  # what people wait for comes first
        self.check_slots, self.lookup_slots = Slots(limits, hosts), Slots(replace(limits, per_channel=1), hosts)

    async def check_processing(self) -> int:
        """Checks processing deliveries whose next check is due, and waits for the results. Returns their number."""
        started = await self.start_checks()
        await self.check_slots.finish()
        return started

    async def find_unknown(self) -> int:
        """Looks up unknown deliveries whose next lookup is due, and waits for the results. Returns their number."""
        started = await self.start_lookups()
        await self.lookup_slots.finish()
        return started

    async def start_checks(self) -> int:
        """Starts due checks, as many as there are free slots: none waits for the slowest of the others."""
        return await self._start(State.PROCESSING, self.check_slots)

    async def start_lookups(self) -> int:
        """Starts due lookups, likewise."""
        return await self._start(State.UNKNOWN, self.lookup_slots)

    async def _start(self, state: State, slots: Slots) -> int:
        if not slots.room:
            return 0
        now = self._clock.now()
        async with self._database.transaction() as session:
            choice = slots.share_out(await find_open(session, state=state, slots=slots, now=now), now)
            claimed = await claim_open(session, choice.taken, state=state, worker=self._worker, now=now)
            companions = await self._companions(session, claimed, now) if state is State.UNKNOWN and claimed else []
        if claimed:
            await self._accounts.open([delivery.channel_id for delivery in claimed])
        by_id, looks = {one.id: one for one in choice.taken}, self._looks([*claimed, *companions])
        for delivery in claimed:
            group = [delivery, *(other for other in companions if other.channel_id == delivery.channel_id)]
            slots.start(by_id[delivery.id], self._settle_group(group, looks[delivery.channel_id]))
        return len(claimed) + len(companions)

    async def _companions(
        self, session: AsyncSession, claimed: Sequence[ClaimedDelivery], now: datetime
    ) -> list[ClaimedDelivery]:
        channel_ids = [delivery.channel_id for delivery in claimed]
        return await claim_companions(session, channel_ids, worker=self._worker, limit=COMPANIONS, now=now)

    async def _settle_group(self, group: Sequence[ClaimedDelivery], look: _TimedLook) -> None:
        results = await asyncio.gather(*(self._settle(delivery, look) for delivery in group), return_exceptions=True)
        for delivery, error in zip(group, results, strict=True):
            if isinstance(error, Exception):  # one delivery must not stop the others; its lease expires
                log.error("delivery.lookup_not_recorded", delivery=show_id(DELIVERY, delivery.id), exc_info=error)

    def _looks(self, claimed: Sequence[ClaimedDelivery]) -> dict[UUID, _TimedLook]:
        """Returns one look for each channel. Its time is before the first reading of the network."""
        since: dict[UUID, datetime] = {}
        for delivery in claimed:
            compose_time, channel_id = delivery.compose_time, delivery.channel_id
            since[channel_id] = min(compose_time, since.get(channel_id, compose_time))
        now = self._clock.now()
        return {
            channel_id: _TimedLook(now, look_at(self._database, channel_id, since=oldest))
            for channel_id, oldest in since.items()
        }

    async def _settle(self, delivery: ClaimedDelivery, look: _TimedLook) -> None:
        ask: Ask = self._find if delivery.state is State.UNKNOWN else self._check
        verb = "find" if delivery.state is State.UNKNOWN else "check"
        with tracer().start_as_current_span(
            f"{verb} {delivery.network}",
            context=context_of(delivery.traceparent),
            kind=SpanKind.CLIENT,
            attributes={"regie.delivery_id": show_id(DELIVERY, delivery.id), "regie.attempt": delivery.attempt_number},
        ) as span:
            version = self._accounts.version(delivery.channel_id)
            connector = self._connectors.get(delivery.network)
            try:
                if connector is None:
                    raise Inconclusive(f"{delivery.network} is not a network here")
                async with asyncio.timeout(NETWORK_TIMEOUT.total_seconds()):
                    outcome = await ask(connector, delivery, look)
            except Exception as error:  # broad: no proof either way, whatever the error is
                if not isinstance(error, ConnectorError | TimeoutError):
                    log.error("delivery.lookup_failed", delivery=show_id(DELIVERY, delivery.id), exc_info=error)
                span.set_status(StatusCode.ERROR, type(error).__name__)
                now = self._clock.now()
                if delivery.state is State.UNKNOWN:
                    outcome = lookup_decisions.decide_find_error(error, delivery, now, version=version)
                else:
                    quiet = connector.quiet if connector else QUIET
                    outcome = decisions.decide_check_error(error, delivery, now, version=version, quiet=quiet)
            span.set_attribute("regie.outcome", outcome.state.value)
            recorded = RecordedOutcome(delivery, outcome, current_traceparent(), expected=(delivery.state,))
            if await self._writer.record(recorded) and outcome.state is State.PENDING:
                self._wake()

    async def _check(self, connector: Connector, delivery: ClaimedDelivery, _look: _TimedLook) -> Outcome:
        draft = await build_draft(delivery, accounts=self._accounts, media_store=self._media_store)
        done = len(delivery.remotes)
        answer = await connector.check(draft, done, delivery.processing_handle)
        return decisions.decide_published(
            answer, delivery, self._clock.now(), done=done, cause=Cause.CHECK, quiet=connector.quiet
        )

    async def _find(self, connector: Connector, delivery: ClaimedDelivery, look: _TimedLook) -> Outcome:
        draft = await build_draft(delivery, accounts=self._accounts, media_store=self._media_store)
        absence = await connector.absence(draft.account)
        if absence.repeat is Repeat.BY_PERSON:
            return lookup_decisions.decide_absent(delivery, absence, look.time)
        done = len(delivery.remotes)
        try:
            remote = await connector.find(draft, done, look.look)
        except Inconclusive as error:
            outcome = lookup_decisions.decide_inconclusive(error, delivery, absence, look.time)
            if outcome is None:
                raise
            return outcome
        if remote is None:
            return lookup_decisions.decide_absent(delivery, absence, look.time)
        return decisions.decide_published(
            remote, delivery, self._clock.now(), done=done, cause=Cause.FIND, quiet=absence.quiet
        )
