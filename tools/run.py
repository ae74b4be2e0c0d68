"""Starts the whole of Régie on this machine and keeps it running until Ctrl-C or SIGTERM.

REGIE_PORT and REGIE_SANDBOX_PORT choose the ports, REGIE_FOLDER where the data lie (`.regie`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from regie_chassis.embedded.children import ChildFailed
from regie_chassis.embedded.constellation import Constellation, StartAborted
from regie_chassis.embedded.environment import Ports, PortTaken
from regie_chassis.embedded.folder import AlreadyRunning
from regie_chassis.embedded.supervisor import Supervisor


def _say(line: str) -> None:
    print(line, flush=True)


def _introduce(constellation: Constellation, *, first: bool) -> None:
    at = constellation.addresses
    key_file = constellation.folder.api_key_file
    _say(f"""
  REST API   {at.gateway}/v1      description: {at.gateway}/openapi.json
  sandbox    {at.sandbox}         what was published, and knobs for faults
  traces     {at.traces}/traces/<trace id>
  logs       {constellation.folder.path / "logs"}
""")
    if first:
        _say(f"  API key    {constellation.api_key}\n             also kept in {key_file}, for this machine alone\n")
    else:
        _say(f"  API key    the one of the first start, in {key_file}\n")
    _say(f"""Try:

  export KEY=$(cat '{key_file}')

  CHANNEL=$(curl -s -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" {at.gateway}/v1/channels \\
    -d '{{"network": "sandbox", "server_url": "{at.sandbox}", "credentials": {{"access_token": "sandbox-you"}}}}' \\
    | grep -o 'chan_[0-9a-z]*' | head -n 1)

  curl -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" {at.gateway}/v1/posts \\
    -d '{{"title": "Hello", "variants": [{{"channel_id": "'$CHANNEL'", "text": "Hello from Régie"}}],
         "publish_at": {{"local_time": "'$(date -u -d '5 seconds' +%FT%T)'", "time_zone": "UTC"}}}}'

  curl -N -H "Authorization: Bearer $KEY" {at.gateway}/v1/events

Ctrl-C stops everything; the data stay.""")


def main() -> int:
    """Returns the process's exit status."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    folder = Path(os.environ.get("REGIE_FOLDER", ".regie"))
    began = time.monotonic()
    constellation = Constellation(
        folder, ports=Ports.from_environment(), told=lambda line: _say(f"  {line}"), stopping=stopping
    )
    first = not constellation.api_key
    _say("Starting Régie")
    try:
        constellation.start()
    except (AlreadyRunning, PortTaken, ChildFailed, StartAborted) as problem:
        print(problem, file=sys.stderr)
        return 1
    try:
        if not stopping.is_set():
            _say(f"Ready in {time.monotonic() - began:.1f} s")
            _introduce(constellation, first=first)
        Supervisor(constellation, told=_say).run(stopping)
    finally:
        _say("Stopping")
        constellation.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
