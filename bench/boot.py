"""Measures the time of a first start, and the memory of a whole installation.

From an empty folder until every service is ready: servers, migrations, five services, sandbox, trace store. Beside it
PostgreSQL and NATS alone, started from an empty folder in the same run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil
from regie_local.local_cluster import LocalCluster
from regie_local.nats import EmbeddedNats
from regie_local.postgres import EmbeddedPostgres
from results import result_line

MEGABYTE = 1024 * 1024


def main() -> None:
    """Starts both and prints their figures, the result last."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as folder:
        servers_seconds, servers_memory = start_servers(Path(folder) / "servers")
        begin = time.perf_counter()
        with LocalCluster(Path(folder) / "regie") as installation:
            seconds = time.perf_counter() - begin
            pids = {name: child.pid for name, child in installation.processes.items()}
            for name, server in (("PostgreSQL", installation.postgres), ("NATS", installation.nats)):
                pids[name] = server.child.pid if server.child else 0
            memory = {name: memory_of(pid) for name, pid in pids.items()}
    for name, megabytes in sorted(memory.items(), key=lambda item: -item[1]):
        print(f"{name}: {megabytes:.0f} MB")
    print(f"all: {sum(memory.values()):.0f} MB, ready in {seconds:.1f} s")
    params = {
        "reference": "PostgreSQL and NATS alone",
        "memory_mb": {name: round(megabytes) for name, megabytes in sorted(memory.items())},
        "memory_mb_all": round(sum(memory.values())),
        "reference_memory_mb": round(servers_memory),
    }
    print(result_line("boot", ours=seconds, reference=servers_seconds, unit="s", better="lower", params=params))


def start_servers(folder: Path) -> tuple[float, float]:
    """Returns the seconds until both servers take connections, and their memory in MB."""
    postgres, nats = EmbeddedPostgres(folder / "postgres"), EmbeddedNats(folder / "nats")
    begin = time.perf_counter()
    try:
        nats.start()
        postgres.start()
        seconds = time.perf_counter() - begin
        pids = [server.child.pid for server in (postgres, nats) if server.child]
        return seconds, sum(memory_of(pid) for pid in pids)
    finally:
        postgres.stop()
        nats.stop()


def memory_of(pid: int) -> float:
    """Returns the proportional memory of a process and its children in MB: shared pages count once."""
    process = psutil.Process(pid)
    return (process.memory_full_info().pss + sum(map(_pss_of, process.children(recursive=True)))) / MEGABYTE


def _pss_of(child: psutil.Process) -> int:
    try:
        pss: int = child.memory_full_info().pss
    except psutil.NoSuchProcess:  # a worker of PostgreSQL that has ended since it was listed
        return 0
    return pss


if __name__ == "__main__":
    main()
