"""Publishes outbox rows in waves of one event an aggregate, so that a failed event holds back only its followers."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from opentelemetry.trace import SpanKind

from regie_chassis.boundary.telemetry import is_unsampled, start_child_span, traceparent_of
from regie_chassis.events.messaging import Broker, Envelope, Unsendable, headers_of, subject_of
from regie_chassis.events.turns import Row

log = structlog.get_logger()


async def publish_in_waves(broker: Broker, rows: Sequence[Row]) -> tuple[dict[int, int], dict[int, str]]:
    """Returns the sequences of the stored rows, and the reasons of the rows that can never be stored.

    A row in neither was not acknowledged; later rows of its aggregate were not sent. A row that can never be stored
    holds back no others.
    """
    sent: dict[int, int] = {}
    dead: dict[int, str] = {}
    held: set[str] = set()
    waiting = list(rows)
    while waiting:
        wave, waiting = _next_wave(waiting, held)
        envelopes = _envelopes(wave, dead)
        acks = await broker.publish([envelope for _, envelope in envelopes])
        for (row, _), ack in zip(envelopes, acks, strict=True):
            if ack is None:
                held.add(row.aggregate_id)
            elif isinstance(ack, Unsendable):
                dead[row.id] = ack.reason
            else:
                sent[row.id] = ack
    for row in rows:
        if row.id in dead:
            log.error("relay.event_dead", id=str(row.event_id), type=row.type, row=row.id, reason=dead[row.id])
    return sent, dead


def _next_wave(waiting: Sequence[Row], held: set[str]) -> tuple[list[Row], list[Row]]:
    """Returns the first row of each aggregate that is not held, and the rows after them."""
    wave: dict[str, Row] = {}
    later: list[Row] = []
    for row in waiting:
        if row.aggregate_id in held:
            continue
        if wave.setdefault(row.aggregate_id, row) is not row:
            later.append(row)
    return list(wave.values()), later


def _envelopes(wave: Sequence[Row], dead: dict[int, str]) -> list[tuple[Row, Envelope]]:
    """Returns the rows as messages; a row that makes none is recorded as dead."""
    envelopes: list[tuple[Row, Envelope]] = []
    for row in wave:
        try:
            envelopes.append((row, _envelope(row)))
        except ValueError as error:
            dead[row.id] = f"it makes no message: {error}"
    return envelopes


def _envelope(row: Row) -> Envelope:
    return Envelope(
        subject=subject_of(row.type, row.workspace_id),
        id=str(row.event_id),
        payload=row.payload,
        headers=headers_of(
            row.type,
            event_id=row.event_id,
            workspace_id=row.workspace_id,
            time=row.event_time,
            sequence=row.id,
            traceparent=row.traceparent if is_unsampled(row.traceparent) else _traced(row),
        ),
    )


def _traced(row: Row) -> str:
    """Records the publication in the trace of its cause, and returns the traceparent that the event carries."""
    span = start_child_span(
        f"publish {row.type.rsplit('.', 1)[-1]}",
        row.traceparent,
        kind=SpanKind.PRODUCER,
        attributes={"messaging.system": "nats", "messaging.message.id": str(row.event_id)},
    )
    span.end()
    return traceparent_of(span) or row.traceparent
