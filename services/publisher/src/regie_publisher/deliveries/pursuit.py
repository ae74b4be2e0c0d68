"""Finds out what became of deliveries whose end is open: `processing` is checked, `unknown` is looked for.

Both only read at the network. Both go on where they can: a thread continues as a pending delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from opentelemetry.trace import SpanKind, StatusCode
from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.ids import DELIVERY, show_id
from regie_chassis.telemetry import context_of, current_traceparent, tracer

from regie_publisher.accounts import Accounts
from regie_publisher.connectors.connector import CannotTell, Connector, ConnectorError
from regie_publisher.deliveries import judging
from regie_publisher.deliveries.claims import claim_open, find_open
from regie_publisher.deliveries.delivery import NETWORK_TIMEOUT, Held, Note, Outcome, State
from regie_publisher.deliveries.drafts import draft_of
from regie_publisher.deliveries.ledger import Ledger
from regie_publisher.hosts import Hosts
from regie_publisher.media import Library
from regie_publisher.shares import Limits, Slots

LIMIT = 50
CHANNEL_LIMIT = 4

log = structlog.get_logger()
Ask = Callable[[Connector, Held], Awaitable[Outcome]]


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
        self.checks, self.finds = Slots(limits, hosts), Slots(limits, hosts)

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
        return await self._begin(State.PROCESSING, self._check, self.checks)

    async def begin_finds(self) -> int:
        """The same for what is being looked for."""
        return await self._begin(State.UNKNOWN, self._find, self.finds)

    async def _begin(self, state: State, ask: Ask, slots: Slots) -> int:
        if not slots.room:
            return 0
        now = self._clock.now()
        async with self._database.transaction() as session:
            choice = slots.share_out(await find_open(session, state=state, slots=slots, now=now), now)
            held = await claim_open(session, choice.taken, state=state, worker=self._worker, now=now)
        if held:
            await self._accounts.open([one.channel_id for one in held])
        by_id = {one.id: one for one in choice.taken}
        for one in held:
            slots.begin(by_id[one.id], self._settle(one, ask))
        return len(held)

    async def _settle(self, held: Held, ask: Ask) -> None:
        verb = "find" if held.state is State.UNKNOWN else "check"
        with tracer().start_as_current_span(
            f"{verb} {held.network}",
            context=context_of(held.traceparent),
            kind=SpanKind.CLIENT,
            attributes={"regie.delivery_id": show_id(DELIVERY, held.id), "regie.attempt": held.attempt},
        ) as span:
            version = self._accounts.version(held.channel_id)
            try:
                connector = self._connectors.get(held.network)
                if connector is None:
                    raise CannotTell(f"{held.network} is not a network here")
                async with asyncio.timeout(NETWORK_TIMEOUT.total_seconds()):
                    outcome = await ask(connector, held)
            except Exception as error:  # broad: no proof either way, whatever it is
                if not isinstance(error, ConnectorError | TimeoutError):
                    log.error("delivery.pursuit_failed", delivery=show_id(DELIVERY, held.id), exc_info=error)
                span.set_status(StatusCode.ERROR, type(error).__name__)
                judge = judging.after_find if held.state is State.UNKNOWN else judging.after_check
                outcome = judge(error, held, self._clock.now(), version=version)
            span.set_attribute("regie.outcome", outcome.state.value)
            note = Note(held, outcome, current_traceparent(), expected=(held.state,))
            if await self._ledger.record(note) and outcome.state is State.PENDING:
                self._wake()

    async def _check(self, connector: Connector, held: Held) -> Outcome:
        draft = await draft_of(held, accounts=self._accounts, library=self._library)
        done = len(held.remotes)
        answer = await connector.check(draft, done, held.processing_handle)
        return judging.out(answer, held, self._clock.now(), done=done, cause="check")

    async def _find(self, connector: Connector, held: Held) -> Outcome:
        draft = await draft_of(held, accounts=self._accounts, library=self._library)
        done = len(held.remotes)
        found = await connector.find(draft, done)
        if found is None:
            return judging.absent(held, self._clock.now())
        return judging.out(found, held, self._clock.now(), done=done, cause="find")
