"""Starts the whole of Régie on this machine and keeps it running until Ctrl-C or SIGTERM.

REGIE_PORT and REGIE_SANDBOX_PORT choose the ports, REGIE_FOLDER where the data lie (`.regie`).
"""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time

from regie_chassis.process.settings import WrongSetting
from regie_local.data_directory import AlreadyRunning, DataDirectory, folder_from_environment
from regie_local.environment import Ports
from regie_local.local_cluster import LocalCluster, StartAborted
from regie_local.processes import ProcessFailed
from regie_local.supervisor import Supervisor


def _print(line: str) -> None:
    print(line, flush=True)


def _introduce(cluster: LocalCluster, *, first: bool) -> None:
    at = cluster.addresses
    key_file = cluster.folder.api_key_file
    _print(f"""
  REST API   {at.gateway}/v1      description: {at.gateway}/openapi.json
  sandbox    {at.sandbox}         what was published, and knobs for faults
  traces     {at.traces}/traces/<trace id>
  logs       {cluster.folder.path / "logs"}
""")
    if first:
        _print(f"  API key    {cluster.api_key}\n             also kept in {key_file}, for this machine alone\n")
    else:
        _print(f"  API key    the one of the first start, in {key_file}\n")
    _print(f"""Try:

  export KEY=$(cat {shlex.quote(str(key_file))})

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
    began = time.monotonic()
    try:
        ports, folder = Ports.from_environment(), folder_from_environment()
        DataDirectory(folder).check()
        cluster = LocalCluster(folder, ports=ports, report=lambda line: _print(f"  {line}"), stopping=stopping)
        first = not cluster.api_key
        _print("Starting Régie")
        cluster.start()
    except WrongSetting as error:
        print(f"setting {error}", file=sys.stderr)
        return 2
    except (AlreadyRunning, ProcessFailed, StartAborted) as problem:
        print(problem, file=sys.stderr)
        return 1
    try:
        if not stopping.is_set():
            _print(f"Ready in {time.monotonic() - began:.1f} s")
            _introduce(cluster, first=first)
        Supervisor(cluster, report=_print).run(stopping)
    finally:
        _print("Stopping")
        cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
