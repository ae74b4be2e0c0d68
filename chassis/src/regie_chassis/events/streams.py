"""Creates the services' event streams, and creates lost ones again.

The one process that may shape streams (ADR 0020): `python -m regie_chassis.events.streams gateway scheduler …`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial

from regie_chassis.boundary.telemetry import configure_logs
from regie_chassis.events.messaging import Broker, stream_spec
from regie_chassis.events.nats_access import STREAMS_USER
from regie_chassis.events.nats_broker import open_nats
from regie_chassis.process.clock import Clock, SystemClock
from regie_chassis.process.command_line import load_settings
from regie_chassis.process.loops import PeriodicLoop
from regie_chassis.process.settings import NatsSettings

LOOK_EVERY = timedelta(seconds=5)


async def ensure_streams(broker: Broker, services: Iterable[str], *, replicas: int = 1) -> None:
    """Creates missing streams and updates the others. Raises BrokerUnavailable."""
    for service in services:
        await broker.ensure_stream(stream_spec(service, replicas=replicas))


async def keep_streams(
    broker: Broker, services: Sequence[str], stopping: asyncio.Event, *, clock: Clock, replicas: int = 1
) -> None:
    """Maintains the streams until `stopping` is set, through outages of the server."""
    act = partial(ensure_streams, broker, services, replicas=replicas)
    await PeriodicLoop("streams", act, idle=LOOK_EVERY, clock=clock).run(stopping)


async def _run(settings: NatsSettings, services: Sequence[str]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    broker = open_nats(settings, STREAMS_USER)
    try:
        await keep_streams(broker, services, stopping, clock=SystemClock(), replicas=settings.stream_replicas)
    finally:
        await broker.close()


def main() -> None:
    """Works until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("services", nargs="+", help="whose streams")
    services = parser.parse_args().services
    settings = load_settings(NatsSettings)
    configure_logs(STREAMS_USER, settings.log_level)
    asyncio.run(_run(settings, services))


if __name__ == "__main__":
    main()
